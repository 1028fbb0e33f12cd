/* SPDX-License-Identifier: GPL-2.0 */
/* The maps of the redirect hook and of policy, all of them. Pinned: they outlive the process. */
#pragma once

#include "abi/redirect.h"
#include "bpf/kernel.bpf.h"

/* Cgroups that entries name, and their classes. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct rd_group_key);
	__type(value, __u32);
} rd_groups SEC(".maps");

/* Every CIDR of every side. Written by user space; memory is taken as it fills. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, RD_CIDRS);
	__type(key, struct rd_net_key);
	__type(value, __u32);
} rd_nets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 14);
	__type(key, struct rd_user_key);
	__type(value, __u32);
} rd_users SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RD_SIDES *RD_PORT_BLOCKS);
	__type(key, __u32);
	__type(value, struct rd_port_block);
} rd_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RD_SIDES *RD_CLASSES);
	__type(key, __u32);
	__type(value, struct rd_bits);
} rd_bits SEC(".maps");

/* By side * RD_ENTRIES + bit. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RD_SIDES *RD_ENTRIES);
	__type(key, __u32);
	__type(value, struct rd_entry);
} rd_entries SEC(".maps");

/* How often each entry decided, since it came into force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RD_SIDES *RD_ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} rd_hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rd_ctl);
} rd_ctl SEC(".maps");

/* What is known of each redirected socket, at either end; dies with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct rd_sock);
} rd_sk SEC(".maps");

/*
 * Clients whose proxy has not been established yet. Made by the client when it is, taken by the proxy's socket a packet
 * later, and by the client's end where no proxy did: as many entries as there are such clients, and none is evicted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct rd_key);
	__type(value, struct rd_pend);
} rd_pend SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, _RD_STAT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} rd_stats SEC(".maps");

#define RD_EVENTS_BYTES (1 << 18)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RD_EVENTS_BYTES);
} rd_events SEC(".maps");

static __always_inline struct rd_ctl *rd_ctl_get(void)
{
	__u32 zero = 0;
	struct rd_ctl *ctl = bpf_map_lookup_elem(&rd_ctl, &zero);

	return ctl && ctl->on ? ctl : NULL;
}

static __always_inline void rd_count(enum rd_stat stat)
{
	__u32 i = stat;
	__u64 *n = bpf_map_lookup_elem(&rd_stats, &i);

	if (n)
		(*n)++;
}
