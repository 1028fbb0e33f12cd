/* SPDX-License-Identifier: GPL-2.0 */
/* Events for `waggle trace` and for the user-space half. Nothing is written while nobody listens. */
#pragma once

#include "bpf/ac_note.bpf.h"
#include "bpf/ring.bpf.h"

static __always_inline void ac_fill_addrs(__u64 sk_addr, __u32 *local, __u32 *remote, __u16 *local_port,
					  __u16 *remote_port, __u16 *family, __u32 *netns)
{
	struct sock *sk = (struct sock *)sk_addr;

	*family = BPF_CORE_READ(sk, __sk_common.skc_family);
	*local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	*remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	*netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (*family == AF_INET6) {
		bpf_core_read(local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(remote, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		local[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		remote[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	}
}

/* Sent by TCP, joined or not: what has gone straight into a queue is not among it. */
static __always_inline __u64 ac_tcp_bytes(__u64 sk_addr)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk_addr;

	return BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
}

static __always_inline struct ac_event *ac_event_new(enum ac_event_type type)
{
	struct ac_event *e = bpf_ringbuf_reserve(&ac_events, sizeof(*e), 0);

	if (!e) {
		ac_count(AC_STAT_EVENT_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->ns = bpf_ktime_get_ns();
	e->type = type;
	return e;
}

static __always_inline void ac_event_submit(struct ac_event *e, bool always)
{
	bpf_ringbuf_submit(e, ring_wake(&ac_events, AC_EVENTS_BYTES, sizeof(*e), always));
}

static __always_inline bool ac_is_traced(const struct ac_ctl *ctl, enum ac_event_type type)
{
	return ctl->trace & (1U << type);
}

static __always_inline void ac_event_comm(struct ac_event *e, struct ac_exe_key key)
{
	struct ac_exe *exe = bpf_map_lookup_elem(&ac_exes, &key);

	if (exe)
		__builtin_memcpy(e->comm, exe->comm, sizeof(e->comm));
}

/* An event about one socket; `always` is for those that user space has to act upon. */
static __always_inline void ac_event_sock(const struct ac_sock *st, enum ac_event_type type, enum ac_why why,
					  bool always)
{
	struct ac_ctl *ctl = ac_ctl_get();
	struct ac_event *e;

	if (!ctl || !(always || ac_is_traced(ctl, type)))
		return;
	e = ac_event_new(type);
	if (!e)
		return;
	ac_event_comm(e, st->exe);
	e->why = why;
	e->cookie = st->cookie;
	e->peer_cookie = st->peer_cookie;
	e->exe = st->exe;
	e->is_server = st->is_server;
	e->joined_bytes = st->joined_bytes;
	e->tcp_bytes = ac_tcp_bytes(st->self);
	ac_fill_addrs(st->self, e->local_addr, e->remote_addr, &e->local_port, &e->remote_port, &e->family, &e->netns);
	ac_event_submit(e, always);
}

/* The same of one of which there is but a note. */
static __always_inline void ac_event_noted(const struct ac_noted *of, enum ac_event_type type)
{
	struct ac_ctl *ctl = ac_ctl_get();
	struct ac_event *e = ctl && ac_is_traced(ctl, type) ? ac_event_new(type) : NULL;

	if (!e)
		return;
	ac_event_comm(e, of->exe);
	e->why = of->why;
	e->cookie = of->cookie;
	e->peer_cookie = of->peer_cookie;
	e->exe = of->exe;
	e->is_server = of->is_server;
	e->tcp_bytes = ac_tcp_bytes(of->self);
	ac_fill_addrs(of->self, e->local_addr, e->remote_addr, &e->local_port, &e->remote_port, &e->family, &e->netns);
	ac_event_submit(e, false);
}

static __always_inline void ac_event_learned(const struct ac_exe_key *key, const struct ac_exe *exe)
{
	struct ac_event *e = ac_event_new(AC_EVENT_LEARNED);

	if (!e)
		return;
	e->exe = *key;
	e->exe_state = exe->state;
	__builtin_memcpy(e->comm, exe->comm, sizeof(e->comm));
	ac_event_submit(e, true);
}
