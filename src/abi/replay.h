/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The contract between user space and the program that replays packets (src/bpf/replay.bpf.c). */
#pragma once

#include <linux/types.h>

#define RP_HEAD 80	      /* bytes of a frame that are written anew each time */
#define RP_LIST_MAX (1 << 19) /* entries of rp_list */

enum rp_prog {
	RP_STUB,   /* XDP_TX, and nothing else */
	RP_PACKET, /* the packet hook's */
	_RP_PROG_MAX,
};

/* What is run, and on what. Written by user space between runs. */
struct rp_state {
	__u8 head[RP_HEAD];
	__u32 len;     /* of the frame */
	__u32 mask;    /* flows - 1: they take turns */
	__u32 next;    /* whose turn it is; counted up by the program */
	__u32 first;   /* of the word at word_at, host order: flow i has first + i */
	__u32 word_at; /* offset, less than 64 */
	__u32 port_at; /* the same, for the list's ports */
	__u32 list;    /* 1: word and port are those of rp_list */
	__u32 prog;    /* enum rp_prog */
};

/* What flow i of a list has at word_at and port_at. */
struct rp_entry {
	__be32 word;
	__be16 port;
	__u16 pad;
};
