/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets made of a template and run through the packet hook's XDP program, on its tables as they are, by
 * BPF_PROG_TEST_RUN: nothing is sent. Only for tables that no traffic depends on.
 */
#pragma once

#include "abi/replay.h"
#include "hook/packet.h"

struct replay;

struct replay_packet {
	uint8_t head[RP_HEAD]; /* the frame, of RP_HEAD bytes */
	uint32_t flows;	       /* a power of two: they take turns */
	uint32_t first;	       /* host order: flow i has first + i at word_at */
	uint32_t word_at;      /* offset, less than 64 */
	uint32_t port_at;      /* of the list's ports */
	bool list;	       /* flows of replay_list() */
};

/* In the network namespace of the call, to which the interface belongs that the packets seem to come in by. */
int replay_open(struct packet *p, uint32_t ifindex, struct replay **ret, struct err *err);

/*
 * Runs n packets, from flow start on. *ret_ns: how long one took, all in all; *ret_verdict: XDP's of the last one.
 * In the namespace of replay_open().
 */
int replay_run(struct replay *r, const struct replay_packet *packet, enum rp_prog prog, uint32_t start, uint32_t n,
	       uint32_t *ret_ns, uint32_t *ret_verdict, struct err *err);

/*
 * Makes the list: what backends of nat services would send to the connections of the table, in no order (IPv4).
 * Returns how many there are, repeated until there are flows.
 */
int replay_list(struct replay *r, uint32_t flows, struct err *err);

/* Forgets all connections at once. */
void replay_forget(struct replay *r);

/* How many records of a service are in a state. */
uint32_t replay_count(const struct replay *r, uint32_t service, enum pk_state state);

struct replay *replay_close(struct replay *r);
static inline void replay_closep(struct replay **r)
{
	(void)replay_close(*r);
}
