/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The maps that every hook of the balancer shares (abi/lb.h): who writes, who reads, when entries die, why the size.
 * User space makes them once, pins them, and gives them to each object that it loads; the sizes here are the defaults.
 *
 * What user space writes is mapped into it: a change costs no system call, and one aligned store publishes it.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "abi/lb.h"

#define LB_SERVICES_DEFAULT 4096
#define LB_BACKENDS_DEFAULT 16384
#define LB_RING_DEFAULT (4 << 20)

/* Which service an address is. Written by user space when a service comes or goes; read for every connection. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LB_SERVICES_DEFAULT);
	__type(key, struct lb_vip);
	__type(value, __u32);
} lb_vips SEC(".maps");

/* By id of a service; written by user space in place. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_SERVICES_DEFAULT + 1);
	__type(key, __u32);
	__type(value, struct lb_service);
} lb_services SEC(".maps");

/* Immutable while a service points to it. Twice as many as services, so that all can be replaced at once. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * LB_SERVICES_DEFAULT + 1);
	__type(key, __u32);
	__type(value, struct lb_plan);
} lb_plans SEC(".maps");

/* By id; an entry is given to another backend when no ring, connection or program refers to it any more. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_BACKENDS_DEFAULT + 1);
	__type(key, __u32);
	__type(value, struct lb_backend);
} lb_backends SEC(".maps");

/* By id of a backend; written by the hooks, read by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_BACKENDS_DEFAULT + 1);
	__type(key, __u32);
	__type(value, struct lb_load);
} lb_load SEC(".maps");

/* By id of a service; written by the hooks. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_SERVICES_DEFAULT + 1);
	__type(key, __u32);
	__type(value, struct lb_cursor);
} lb_cursors SEC(".maps");

/* A value is a cache line of ids of backends. A plan's part is immutable while the plan is. */
struct lb_line {
	__u32 backend[LB_RING_LINE];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_RING_DEFAULT / LB_RING_LINE);
	__type(key, __u32);
	__type(value, struct lb_line);
} lb_ring SEC(".maps");

/* By id of a backend; written by the packet hook. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LB_BACKENDS_DEFAULT + 1);
	__type(key, __u32);
	__type(value, struct lb_traffic);
} lb_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, _LB_STAT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} lb_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_ctl);
} lb_ctl SEC(".maps");

/* Read by the daemon; without one it fills, and what does not fit is counted. */
#define LB_EVENTS_BYTES (1 << 16)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, LB_EVENTS_BYTES);
} lb_events SEC(".maps");
