/* SPDX-License-Identifier: GPL-2.0 */
/* The maps of inbound redirection: shared by redirect.bpf.c, and the program in each network namespace (inbound.bpf.c). */
#pragma once

#include "abi/redirect.h"
#include "bpf/kernel.bpf.h"

/* Which ports of which namespaces. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct rd_in_port);
	__type(value, struct rd_in_entry);
} rd_in_ports SEC(".maps");

/* Who listens there. Written when they begin to, and by rd_in_walk; the kernel removes a socket that is closed. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1 << 12);
	__type(key, struct rd_in_to);
	__type(value, __u64);
} rd_in_socks SEC(".maps");

/* Made when a proxy connects, removed when it is connected, or has failed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct rd_own_key);
	__type(value, __u64);
} rd_own SEC(".maps");
