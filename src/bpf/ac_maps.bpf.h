/* SPDX-License-Identifier: GPL-2.0 */
/* The accelerator's maps, all of them: who writes, who reads, when entries die, why the size. */
#pragma once

#include "abi/accel.h"
#include "bpf/kernel.bpf.h"

/*
 * The joined sockets, by cookie: a cookie is never used twice while the machine is up, so an entry can
 * never stand for another socket. Written at ESTABLISHED and by ac_move; the kernel removes a socket when
 * it is closed. The size is set at load (--max-sockets).
 */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1 << 18);
	__type(key, __u64);
	__type(value, __u64);
} ac_socks SEC(".maps");

/* What is known of each socket with a local peer; dies with the socket. Written under the socket's lock. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct ac_sock);
} ac_sk SEC(".maps");

/* What is remembered of a socket that has no storage: see ac_note.bpf.h. */
struct ac_noted {
	__u64 cookie; /* 0: free, AC_NOTE_BUSY: somebody writes */
	__u32 writes; /* so many */
	__u32 born;   /* ac_tick() */
	struct ac_exe_key exe;
	struct ac_exe_key peer_exe; /* from here on: of a short connection alone */
	struct ac_key key;
	__u64 self; /* as in struct ac_sock */
	__u64 peer;
	__u64 peer_cookie;
	__u64 listener;
	__u64 st; /* address of its struct ac_sock, once it has one */
	__u8 why; /* enum ac_why: why it is not joined; NONE: not a short connection */
	__u8 is_server;
	__u8 pad[6];
};

/* Several seconds of the connections that a machine makes: as long as a short one may take to show that it lasts. */
#define AC_NOTES (1 << 16) /* a power of two */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, AC_NOTES);
	__type(key, __u32);
	__type(value, struct ac_noted);
} ac_notes SEC(".maps");

/*
 * Handshakes in flight, by sequence numbers: made before the SYN-ACK leaves, consumed when the server's
 * side is established. A client may never answer, so a new one takes the place of the oldest of its place; what is
 * lost by that is counted (pend_lost). See ac_pend.bpf.h.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, AC_PEND_PLACES);
	__type(key, __u32);
	__type(value, struct ac_pends);
} ac_pend SEC(".maps");

/* The server of a client that has not sent yet; the client's first send consumes it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, __u64);
	__type(value, struct ac_peer);
} ac_peers SEC(".maps");

/* The executable behind each listener, by cookie: from listen(2), and from a walk at start; and its habits. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, __u64);
	__type(value, struct ac_listener);
} ac_listen SEC(".maps");

/* What was learned of executables. Entries stay: user space keeps them across restarts. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 14);
	__type(key, struct ac_exe_key);
	__type(value, struct ac_exe);
} ac_exes SEC(".maps");

/*
 * Joined sockets that must not be sent to directly any more, by cookie, with the reason: they are to leave. Looked
 * at by senders only if ac_ctl.odd. Whoever takes a socket out deletes its entry.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 14);
	__type(key, __u64);
	__type(value, struct ac_odd);
} ac_odd SEC(".maps");

/*
 * Sockets that are to be joined late, by cookie, with enum ac_ready_state. User space removes AC_READY after each
 * walk; AC_READY_ALONE stays until the socket is joined, or nobody waits any more.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, __u64);
	__type(value, __u32);
} ac_ready SEC(".maps");

/*
 * Network namespaces in which sockets of ours were seen, by inode number: where walks of ac_move have to go. An
 * entry is made again by the next connection if it was evicted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 12);
	__type(key, __u32);
	__type(value, __u32);
} ac_spaces SEC(".maps");

/* AC_PORT_* by port number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, AC_PORTS);
	__type(key, __u32);
	__type(value, __u8);
} ac_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ac_ctl);
} ac_ctl SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, _AC_STAT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} ac_stats SEC(".maps");

#define AC_EVENTS_BYTES (1 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, AC_EVENTS_BYTES);
} ac_events SEC(".maps");

/*
 * Loads and stores before it are done before those after it: on x86 each kind is anyway, elsewhere a fetching atomic sees
 * to it.
 */
#ifdef __TARGET_ARCH_x86
#define ac_barrier() asm volatile("" ::: "memory")
#else
static __u64 ac_barrier_word;
#define ac_barrier() ((void)__sync_fetch_and_add(&ac_barrier_word, 1))
#endif

static __always_inline struct ac_ctl *ac_ctl_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ac_ctl, &zero);
}

static __always_inline void ac_count(enum ac_stat stat)
{
	__u32 i = stat;
	__u64 *n = bpf_map_lookup_elem(&ac_stats, &i);

	if (n)
		(*n)++;
}
