/* SPDX-License-Identifier: GPL-2.0 */
/* Which backend a new connection gets. The hash depends on configuration alone, so that several balancers agree. */
#pragma once

#include "bpf/pk_conn.bpf.h"

static __always_inline __u64 pk_pick_hash(const struct lb_plan *plan, const struct pk_pkt *p, bool port)
{
	__u64 h = lb_mix(plan->seed ^ ((__u64)bpf_ntohl(p->src.v6[0]) << 32 | bpf_ntohl(p->src.v6[1])));

	h = lb_mix(h ^ ((__u64)bpf_ntohl(p->src.v6[2]) << 32 | bpf_ntohl(p->src.v6[3])));
	return port ? lb_mix(h ^ ((__u64)bpf_ntohs(p->sport) << 8 | p->proto)) : h;
}

static __always_inline __u64 pk_pick_load(__u32 id)
{
	const struct lb_load *load = lb_load_get(id);

	return load ? lb_load_open(load) : 0;
}

/* The less loaded of two: nearly as even as the least of all, and no herd runs to whoever has just come. */
static __always_inline __u32 pk_pick_least(const struct lb_plan *plan)
{
	__u32 a = lb_ring_at(plan, lb_index((__u64)bpf_get_prandom_u32() << 32, plan->n));
	__u32 b = lb_ring_at(plan, lb_index((__u64)bpf_get_prandom_u32() << 32, plan->n));

	return pk_pick_load(b) < pk_pick_load(a) ? b : a;
}

/* The id of a backend; LB_NONE: there is none. */
static __always_inline __u32 pk_pick(const struct lb_plan *plan, const struct pk_pkt *p)
{
	if (!plan->n)
		return LB_NONE;
	switch (plan->scheduler) {
	case LB_MAGLEV:
		return lb_ring_at(plan, lb_index(pk_pick_hash(plan, p, true), plan->n));
	case LB_SOURCE:
		return lb_ring_at(plan, lb_index(pk_pick_hash(plan, p, false), plan->n));
	case LB_LEAST_CONN:
		return pk_pick_least(plan);
	case LB_RANDOM:
		return lb_ring_at(plan, lb_index((__u64)bpf_get_prandom_u32() << 32, plan->n));
	default:
		return lb_ring_at(plan, lb_index_next(plan->service, plan->n));
	}
}
