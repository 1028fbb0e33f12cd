/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the tables, as an XDP program that is attached nowhere and run by BPF_PROG_TEST_RUN: so the
 * hashes are written once, and a lock is never held by somebody who may be preempted. The packet is a struct pk_admin.
 */
#pragma once

#include "bpf/pk_conn.bpf.h"

#define PK_SWEEP_MAX 8192

struct pk_sweep {
	const struct pk_ctl *ctl;
	__u32 first, now, freed, live;
};

/* Forgets what has ended in one bucket. */
static long pk_sweep_bucket(__u32 i, struct pk_sweep *s)
{
	struct pk_bucket *b = pk_bucket_get(s->ctl, s->first + i);
	__u32 in_use = 0;

	if (!b)
		return 1;
	PK_UNROLL_NO
	for (__u32 way = 0; way < PK_WAYS; way++) {
		struct pk_conn *c = &b->conn[way];

		if (c->state == PK_STATE_FREE)
			continue;
		in_use++;
		if (!pk_conn_expired(s->ctl, c, s->now))
			continue;
		/* Taken and never published: whoever did that is gone. */
		if (c->state == PK_STATE_TAKEN)
			c->state = PK_STATE_FREE;
		else
			pk_remove((s->first + i) * PK_WAYS + way);
		s->freed++;
	}
	s->live += in_use;
	return 0;
}

static __always_inline void pk_admin_gate(const struct pk_admin *a)
{
	__u32 bit = pk_gate_bit(&a->addr, a->port, a->proto), index = bit >> 6;
	__u64 *word = bpf_map_lookup_elem(&pk_gate, &index);

	if (word)
		__sync_fetch_and_or(word, 1ULL << (bit & 63));
}

static __always_inline int pk_admin_run(struct pk_ctx *ctx)
{
	struct pk_admin *a = pk_at(ctx, 0, sizeof(*a));
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_admin ask;

	if (!a || !ctl)
		return XDP_ABORTED;
	__builtin_memcpy(&ask, a, sizeof(ask));
	ask.jiffies = bpf_jiffies64();
	ask.tick = (__u32)(ask.jiffies >> ctl->tick_shift);
	if (ask.op == PK_ADMIN_GATE) {
		pk_admin_gate(&ask);
	} else if (ask.op == PK_ADMIN_SWEEP) {
		struct pk_sweep s = { .ctl = ctl, .first = ask.first, .now = ask.tick };

		bpf_loop(ask.n < PK_SWEEP_MAX ? ask.n : PK_SWEEP_MAX, pk_sweep_bucket, &s, 0);
		ask.freed = s.freed;
		ask.live = s.live;
	}
	__builtin_memcpy(a, &ask, sizeof(*a));
	return XDP_PASS;
}
