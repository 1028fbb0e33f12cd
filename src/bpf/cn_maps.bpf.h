/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The connect hook's own maps. Pinned beside the shared ones, so that the next process knows the sockets of this one;
 * their structs are part of LB_ABI_VERSION.
 */
#pragma once

#include "abi/connect.h"
#include "bpf/kernel.bpf.h"
#include "bpf/lb_pick.bpf.h"

/* Written and read by all programs of the hook. Mapped memory begins at a page, and so each bucket at a cache line. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CN_BUCKETS);
	__type(key, __u32);
	__type(value, struct cn_bucket);
} cn_notes SEC(".maps");

/* Of sockets for which there is no note free. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct cn_sock);
} cn_sk SEC(".maps");

/*
 * Sockets of the daemon that are to reach the address they name, though it may be a service's: health checks. Put here by
 * user space; not pinned, for they die with their process.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} cn_direct SEC(".maps");

/*
 * The flows of sockets that send without connect(), both ways: to a service, the backend it has; from a backend, the
 * service its answers belong to. Two services with a backend in common, asked by one socket, are told apart no better
 * than by who was asked last. Not counted as connections, for nobody says when they end; an LRU for the same reason.
 */
enum cn_way {
	CN_TO,
	CN_FROM,
};

struct cn_flow_key {
	__u64 cookie;
	struct lb_addr addr;
	__be16 port;
	__u8 way; /* enum cn_way */
	__u8 pad[5];
};

struct cn_flow {
	struct lb_addr addr; /* CN_TO: the backend's; CN_FROM: the service's */
	__u64 last_ns;	     /* CN_TO: of the last datagram */
	__u32 service;
	__u32 backend;
	__u32 gen; /* the backend's: an id may be another's by now */
	__be16 port;
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct cn_flow_key);
	__type(value, struct cn_flow);
} cn_flows SEC(".maps");

/* How long connects took. Pinned, so that the counts go on; written by cn_state, read by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_took);
} cn_took SEC(".maps");
