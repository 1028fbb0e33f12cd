/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From an address to a backend, for every hook. The whole of a pick, and the count that it raises, must happen in one
 * run of a program: user space waits for such runs to end before it uses anything again.
 */
#pragma once

#include "bpf/lb_maps.bpf.h"

/* How many entries of a ring are looked at when those before were of no use. */
#define LB_TRIES 16

static __always_inline struct lb_ctl *lb_ctl_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&lb_ctl, &zero);
}

static __always_inline void lb_count(enum lb_stat stat)
{
	__u32 i = stat;
	__u64 *n = bpf_map_lookup_elem(&lb_stats, &i);

	if (n)
		(*n)++;
}

static __always_inline struct lb_backend *lb_backend_get(__u32 id)
{
	return bpf_map_lookup_elem(&lb_backends, &id);
}

static __always_inline struct lb_load *lb_load_get(__u32 id)
{
	return bpf_map_lookup_elem(&lb_load, &id);
}

/* Open now, by whatever way they came. Read while others count, so the difference may be off by what is under way. */
static __always_inline __u64 lb_load_open(const struct lb_load *load)
{
	__s64 packets = (__s64)(load->packet_conns - load->packet_closed);

	return load->conns + (packets > 0 ? (__u64)packets : 0);
}

/* The plan of a service as it is now; NULL: there is no such service (any more). */
static __always_inline struct lb_plan *lb_plan_get(__u32 service)
{
	struct lb_service *s = bpf_map_lookup_elem(&lb_services, &service);
	__u32 plan;

	if (!s)
		return NULL;
	/* Once: what is read twice may be two plans. What the plan says is older than this word. */
	plan = *(volatile __u32 *)&s->plan;
	if (plan == LB_NONE)
		return NULL;
	return bpf_map_lookup_elem(&lb_plans, &plan);
}

/* The id of the backend at an index of the ring, which must be less than plan->n. */
static __always_inline __u32 lb_ring_at(const struct lb_plan *plan, __u32 i)
{
	__u32 key = plan->ring + i / LB_RING_LINE;
	struct lb_line *line = bpf_map_lookup_elem(&lb_ring, &key);

	return line ? line->backend[i % LB_RING_LINE] : LB_NONE;
}

/* The finalizer of splitmix64, as in the making of the rings. */
static __always_inline __u64 lb_mix(__u64 x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* A hash as an index of the ring, without a division; n must not be 0. */
static __always_inline __u32 lb_index(__u64 hash, __u32 n)
{
	return (__u32)(((hash >> 32) * n) >> 32);
}

/* The next index of round-robin. */
static __always_inline __u32 lb_index_next(__u32 service, __u32 n)
{
	struct lb_cursor *cursor = bpf_map_lookup_elem(&lb_cursors, &service);

	return cursor && n ? (__u32)(__sync_fetch_and_add(&cursor->next, 1) % n) : 0;
}
