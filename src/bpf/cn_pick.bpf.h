/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which backend a socket gets. A client has no port yet, and often no address, so the schedulers that hash have other
 * things to hash than a packet has:
 *
 *   maglev   the socket's cookie: sockets spread evenly, and one that connects again comes to the same backend
 *   source   the network namespace's cookie and the address that the socket is bound to: a namespace is what a machine
 *            is to a packet, and its clients stay together
 */
#pragma once

#include "bpf/cn_maps.bpf.h"

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

/* Address families that a socket can talk to. */
#define CN_V4 1
#define CN_V6 2

/* How many entries are searched for a backend of the right family. */
#define CN_SCAN_MAX 4096

struct cn_search {
	__u32 ring, n, start;
	__u32 families;
	__u32 found;   /* LB_NONE: none yet */
	__u32 avoided; /* the first one that would do, had it not just refused */
};

static __always_inline bool cn_is_avoided(__u32 backend)
{
	struct lb_load *load = lb_load_get(backend);
	__u64 until_ns = load ? *(volatile __u64 *)&load->avoid_until_ns : 0;

	return until_ns && until_ns > bpf_ktime_get_coarse_ns();
}

/* Looks at the i-th entry from the start. Returns 1 when the search is over. */
static __noinline long cn_search_step(__u32 i, struct cn_search *s)
{
	__u32 index, key, id;
	struct lb_backend *b;
	struct lb_line *line;

	if (!s)
		return 1;
	index = s->start + i;
	if (index >= s->n)
		index -= s->n;
	key = s->ring + index / LB_RING_LINE;
	line = bpf_map_lookup_elem(&lb_ring, &key);
	id = line ? line->backend[index % LB_RING_LINE] : LB_NONE;
	b = lb_backend_get(id);
	if (!b || id == LB_NONE || !(s->families & (b->flags & LB_BACKEND_V4 ? CN_V4 : CN_V6)))
		return 0;
	if (!cn_is_avoided(id)) {
		s->found = id;
		return 1;
	}
	if (s->avoided == LB_NONE)
		s->avoided = id;
	/* By the index and not by a count of its own, which the verifier would follow through every value. */
	return i >= LB_TRIES;
}

static long cn_search_next(__u32 i, void *search)
{
	return cn_search_step(i + 1, search);
}

/* The first backend from an index on that will do; if all have just refused, the first of them. */
static __always_inline __u32 cn_search(const struct lb_plan *plan, __u32 start, __u32 families)
{
	struct cn_search s = {
		.ring = plan->ring,
		.n = plan->n,
		.start = start,
		.families = families,
	};

	if (!cn_search_step(0, &s))
		bpf_loop(s.n < CN_SCAN_MAX ? s.n - 1 : CN_SCAN_MAX, cn_search_next, &s, 0);
	if (s.avoided != LB_NONE)
		lb_count(LB_STAT_AVOIDED);
	return s.found != LB_NONE ? s.found : s.avoided;
}

static __always_inline __u64 cn_source(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u64 h = lb_mix(bpf_get_netns_cookie(ctx));

	if (sk) {
		h = lb_mix(h ^ sk->src_ip4);
		if (sk->family == AF_INET6)
			h = lb_mix(lb_mix(h ^ ((__u64)sk->src_ip6[0] << 32 | sk->src_ip6[1])) ^
				   ((__u64)sk->src_ip6[2] << 32 | sk->src_ip6[3]));
	}
	return h;
}

/* The less loaded of two, as their weights want it. */
static __always_inline __u32 cn_less_loaded(__u32 a, __u32 b)
{
	struct lb_backend *of_a = lb_backend_get(a), *of_b = lb_backend_get(b);
	struct lb_load *load_a = lb_load_get(a), *load_b = lb_load_get(b);

	if (a == LB_NONE)
		return b;
	if (b == LB_NONE || !of_a || !of_b || !load_a || !load_b)
		return a;
	return lb_load_open(load_b) * of_a->weight < lb_load_open(load_a) * of_b->weight ? b : a;
}

/* plan->n must not be 0. LB_NONE: there is no backend of these families. */
static __always_inline __u32 cn_pick(struct bpf_sock_addr *ctx, const struct lb_plan *plan, __u32 families)
{
	__u64 seed = lb_mix(plan->seed);
	__u32 n = plan->n, start, picked;

	switch (plan->scheduler) {
	case LB_MAGLEV:
		start = lb_index(lb_mix(bpf_get_socket_cookie(ctx) ^ seed), n);
		break;
	case LB_SOURCE:
		start = lb_index(lb_mix(cn_source(ctx) ^ seed), n);
		break;
	case LB_ROUND_ROBIN:
		start = lb_index_next(plan->service, n);
		break;
	default:
		start = lb_index((__u64)bpf_get_prandom_u32() << 32, n);
		break;
	}
	picked = cn_search(plan, start, families);
	if (plan->scheduler != LB_LEAST_CONN)
		return picked;
	start = lb_index((__u64)bpf_get_prandom_u32() << 32, n);
	return cn_less_loaded(picked, cn_search(plan, start, families));
}
