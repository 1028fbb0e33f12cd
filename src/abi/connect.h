/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the connect hook knows of a socket, in a map that is pinned and mapped: its layout is part of LB_ABI_VERSION
 * (abi/lb.h, whose words on byte order hold here too).
 */
#pragma once

#include "abi/lb.h"

/*
 * What is known of a socket that was given a backend, in a note or in the socket's storage (cn_note.bpf.h). While the
 * connection is in lb_load.conns a mark says so, and whoever takes it away takes the connection out, be it the end of the
 * connection, its socket's, or the next connect(): so each is counted down once. Until then `backend` does not change.
 */
struct cn_sock {
	struct lb_addr vip;  /* what the program asked for */
	struct lb_addr addr; /* the backend's */
	__be16 vip_port;
	__be16 port;
	__u32 service;
	__u32 backend; /* LB_NONE: connected to none */
	__u32 counted; /* the mark, in storage; that of a note is in its key */
	__u32 sends;   /* has sent to services without connect(): look into cn_flows */
	__u32 since;   /* us, CLOCK_MONOTONIC_COARSE, when connect() was called; 0: UDP, or established already */
};

/* Bits of a note's key, below the cookie. */
#define CN_NOTE_COUNTED 1ULL /* in lb_load.conns */
#define CN_NOTE_WRITTEN 2ULL /* what it says may be read */
#define CN_NOTE_SHIFT 2

/*
 * Notes, in buckets by the socket's cookie. The keys are a cache line, which is all that a socket without a note is
 * looked up in. Cookies are counted up, so that sockets spread evenly: room for 64 Ki of them.
 */
#define CN_NOTES 8	/* of a bucket */
#define CN_BUCKETS 8192 /* a power of two */

struct cn_bucket {
	__u64 key[CN_NOTES]; /* 0: the note is free */
	struct cn_sock of[CN_NOTES];
};

/* As many sockets that follow each other as have room share a bucket, and so its lines of the processor's cache. */
#define CN_BUCKET(cookie) ((__u32)((cookie) / CN_NOTES & (CN_BUCKETS - 1)))

/* A walk over sockets whose connect() has failed, set by user space (cn_settle.bpf.h). */
struct cn_settle_args {
	__u32 age_us;  /* connect() must have been called longer ago */
	__u32 settled; /* how many were found */
};
