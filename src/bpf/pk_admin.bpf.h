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

/* Forgets a record that has ended. */
static long pk_sweep_one(__u32 i, struct pk_sweep *s)
{
	__u32 index = s->first * PK_WAYS + i;
	struct pk_at at;

	if (!pk_at_index(s->ctl, index, &at))
		return 1;
	if (at.conn->state == PK_STATE_FREE)
		return 0;
	s->live++;
	if (!pk_is_expired(index, s->now))
		return 0;
	/* The client believes in a connection, and has nothing to say: nobody else will tell of it. */
	if (at.conn->state == PK_STATE_NEW && at.conn->flags & PK_CONN_COOKIE)
		pk_count(PK_COOKIE_UNANSWERED);
	/* Taken and never published: whoever did that is gone. */
	if (at.conn->state == PK_STATE_TAKEN)
		at.conn->state = PK_STATE_FREE;
	else
		pk_remove(index);
	s->freed++;
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

		bpf_loop((ask.n < PK_SWEEP_MAX ? ask.n : PK_SWEEP_MAX) * PK_WAYS, pk_sweep_one, &s, 0);
		ask.freed = s.freed;
		ask.live = s.live;
	}
	__builtin_memcpy(a, &ask, sizeof(*a));
	return XDP_PASS;
}
