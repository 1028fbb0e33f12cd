/* SPDX-License-Identifier: GPL-2.0 */
/* What becomes of a socket's connection: how it is counted, when it failed, and what user space is told. */
#pragma once

#include "bpf/bits.bpf.h"
#include "bpf/cn_note.bpf.h"
#include "bpf/cn_pick.bpf.h"
#include "bpf/ring.bpf.h"

#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTUNREACH 113
#define ENETUNREACH 101

/* Fields that only the connect hook reads; relocated like those of kernel.bpf.h. */
struct sock_common___cn {
	unsigned char skc_ipv6only : 1;
} __attribute__((preserve_access_index));

struct sock___cn {
	struct sock_common___cn __sk_common;
	int sk_err;
} __attribute__((preserve_access_index));

struct inet_sock___cn {
	__be16 inet_sport;
} __attribute__((preserve_access_index));

struct tcp_sock___cn {
	__u32 srtt_us;
	__u32 total_retrans;
} __attribute__((preserve_access_index));

static __always_inline struct lb_event *cn_event_new(enum lb_event_kind kind, __u32 service, __u32 backend, __u8 proto)
{
	struct lb_event *e = bpf_ringbuf_reserve(&lb_events, sizeof(*e), 0);

	if (!e) {
		lb_count(LB_STAT_EVENT_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->at_ns = bpf_ktime_get_ns();
	e->kind = kind;
	e->service = service;
	e->backend = backend;
	e->proto = proto;
	return e;
}

/* An event of a call, which has a process. */
static __always_inline void cn_event_call(enum lb_event_kind kind, __u32 service, __u32 backend, __u8 proto)
{
	struct lb_ctl *ctl = lb_ctl_get();
	struct lb_event *e;

	if (!ctl || !(ctl->trace & (1U << kind)))
		return;
	e = cn_event_new(kind, service, backend, proto);
	if (!e)
		return;
	e->pid = (__u32)(bpf_get_current_pid_tgid() >> 32);
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, ring_wake(&lb_events, LB_EVENTS_BYTES, sizeof(*e), false));
}

static __always_inline void cn_client(struct sock *sk, struct lb_event *e)
{
	struct inet_sock___cn *inet = (struct inet_sock___cn *)sk;

	/* The port in skc_num has been given back by now. */
	e->client_port = BPF_CORE_READ(inet, inet_sport);
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		bpf_core_read(&e->client, sizeof(e->client), &sk->__sk_common.skc_v6_rcv_saddr);
	} else {
		e->client.v6[2] = bpf_htonl(0xffff);
		e->client.v6[3] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	}
}

/* A connect() that came to nothing: the backend is avoided for a while, and the health check told. */
static __always_inline void cn_failed(__u32 service, __u32 backend, struct sock *sk, enum lb_event_kind kind)
{
	struct lb_plan *plan = lb_plan_get(service);
	struct lb_load *load = lb_load_get(backend);
	struct lb_event *e;

	lb_count(kind == LB_EVENT_REFUSED ? LB_STAT_REFUSED : LB_STAT_TIMED_OUT);
	if (!load)
		return;
	__sync_fetch_and_add(&load->failures, 1);
	if (!plan || !(plan->flags & LB_PLAN_PASSIVE))
		return;
	*(volatile __u64 *)&load->avoid_until_ns = bpf_ktime_get_ns() + plan->passive_ms * 1000000ULL;
	e = cn_event_new(kind, service, backend, IPPROTO_TCP);
	if (!e)
		return;
	cn_client(sk, e);
	bpf_ringbuf_submit(e, ring_wake(&lb_events, LB_EVENTS_BYTES, sizeof(*e), true));
}

/*
 * Why a connection never came about, by sk_err, which is set before the state changes. A program that gives up on its
 * own leaves no error; it is the backend's fault if not even the second SYN was answered.
 */
static __always_inline void cn_judge(__u32 service, __u32 backend, struct sock *sk)
{
	struct tcp_sock___cn *tp = (struct tcp_sock___cn *)sk;
	struct sock___cn *skc = (struct sock___cn *)sk;
	int error = BPF_CORE_READ(skc, sk_err);

	if (error == ECONNREFUSED)
		cn_failed(service, backend, sk, LB_EVENT_REFUSED);
	else if (error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH ||
		 (error == 0 && BPF_CORE_READ(tp, total_retrans) > 0))
		cn_failed(service, backend, sk, LB_EVENT_TIMED_OUT);
}

/*
 * How long the handshake took. TCP has measured it, if nothing was sent again: by now the answer to the SYN is the one
 * sample of the round trip's time, in eighths of a microsecond. What was sent again took seconds, and `since` is good
 * enough for those.
 */
static __always_inline __u32 cn_took_us(struct sock *sk, __u32 since)
{
	struct tcp_sock___cn *tp = (void *)bpf_skc_to_tcp_sock(sk);

	return tp && tp->srtt_us && !tp->total_retrans ? tp->srtt_us >> 3 : (__u32)(bpf_ktime_get_ns() / 1000) - since;
}

/* The cookie of a socket that had one asked for, as every one has that this hook has seen; 0: not so. */
static __always_inline __u64 cn_cookie(const struct sock *sk)
{
	return sk->__sk_common.skc_cookie.counter;
}

/* The handshake is done. Under the socket's lock. */
static __always_inline void cn_established(struct sock *sk)
{
	__u32 zero = 0, us, i;
	struct lb_took *took;
	struct cn_known k;

	if (!cn_know(sk, cn_cookie(sk), &k) || k.of->backend == LB_NONE || !k.of->since)
		return;
	us = cn_took_us(sk, k.of->since);
	k.of->since = 0;
	took = bpf_map_lookup_elem(&cn_took, &zero);
	if (!took)
		return;
	i = bits_of(us);
	if (i >= LB_TOOK_BUCKETS)
		i = LB_TOOK_BUCKETS - 1;
	took->buckets[i]++;
	took->sum_us += us;
}

/* TCP's end, whatever it was: refused, reset, closed, dissolved. Under the socket's lock. */
static __always_inline void cn_end(struct sock *sk, int was)
{
	__u32 service, backend;
	struct cn_known k;
	bool taken;

	if (!cn_know(sk, cn_cookie(sk), &k) || k.of->backend == LB_NONE)
		return;
	/* Before it is another socket's. */
	service = *(volatile __u32 *)&k.of->service;
	backend = *(volatile __u32 *)&k.of->backend;
	if (k.key) {
		taken = cn_note_give_back(&k);
	} else {
		taken = cn_uncount(&k);
		k.of->backend = LB_NONE;
	}
	/* Whoever counts it down judges: while one program takes over from another, both are called. */
	if (taken && was == BPF_TCP_SYN_SENT)
		cn_judge(service, backend, sk);
}
