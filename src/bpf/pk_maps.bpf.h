/* SPDX-License-Identifier: GPL-2.0 */
/* The packet hook's own maps, all of them: who writes, who reads, when entries die, why the size. */
#pragma once

#include "abi/packet.h"
#include "bpf/pk_ctx.bpf.h"

/*
 * The table of connections. Written by the programs under the lock of a bucket, and without it where a lost update
 * does no harm (seen, state). An array, because the verifier inlines its look-ups: a hash costs 30 ns a packet. The
 * size is set at load; the number of buckets is a power of two.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pk_bucket);
} pk_table SEC(".maps");

/* By backend: the next hop (written by the programs) and the address to send from (written by user space). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pk_far);
} pk_far SEC(".maps");

/*
 * Next hops towards clients: few, for most clients are behind a router. Entries never change once they are made,
 * but for their tick, because records refer to them by index; when the table is full, others are looked up for each packet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PK_HOPS);
	__type(key, __u32);
	__type(value, struct pk_hop);
} pk_hops SEC(".maps");

/* Own addresses. Written by user space; an entry is never given to another address while a record refers to it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PK_NATS);
	__type(key, __u32);
	__type(value, struct lb_addr);
} pk_nats SEC(".maps");

/*
 * A bit for each address, port and protocol that is a service's or a backend's: nearly all packets that are not ours
 * end here, for a nanosecond. Set through pk_admin, and never cleared: connections may outlive their service, and a bit
 * that is set without need costs some look-ups, no more.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << (PK_GATE_BITS - 6));
	__type(key, __u32);
	__type(value, __u64);
} pk_gate SEC(".maps");

/* By service. Sized like lb_services. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pk_use);
} pk_uses SEC(".maps");

/*
 * By number of a record: what connections made by a SYN cookie need, and nobody else looks at. Sized like the records,
 * so that an entry lives as long as its record.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* struct pk_seq */
} pk_seqs SEC(".maps");

/* Addresses that have services: whose pings are answered. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct lb_addr);
	__type(value, struct pk_addr);
} pk_addrs SEC(".maps");

/* VLAN devices and their parents. Written by user space, read when a next hop is looked up. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct pk_link_key);
	__type(value, struct pk_link);
} pk_links SEC(".maps");

/* Fragmented packets whose first fragment has passed. An LRU, because the rest may never come. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 14);
	__type(key, struct pk_frag_key);
	__type(value, struct pk_frag);
} pk_frags SEC(".maps");

/* Sources that may, or may not, make connections. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct pk_acl_key);
	__type(value, __u32);
} pk_acl SEC(".maps");

/* How many connections each source has made lately. An LRU: who was not seen for long has a full bucket anyway. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct lb_addr);
	__type(value, struct pk_source);
} pk_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pk_ctl);
} pk_ctl SEC(".maps");

/* By enum pk_reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, _PK_REASON_MAX);
	__type(key, __u32);
	__type(value, __u64);
} pk_stats SEC(".maps");

static __always_inline struct pk_ctl *pk_ctl_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pk_ctl, &zero);
}

static __always_inline void pk_count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&pk_stats, &reason);

	if (n)
		(*n)++;
}
