/* SPDX-License-Identifier: GPL-2.0 */
/* What becomes of a socket's connection: how it is counted, when it failed, and what user space is told. */
#pragma once

#include "bpf/cn_pick.bpf.h"

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

/* An event of a call, which has a process; `always` is for those that user space acts upon. */
static __always_inline void cn_event_call(enum lb_event_kind kind, __u32 service, __u32 backend, __u8 proto)
{
	struct lb_ctl *ctl = lb_ctl_get();
	struct lb_event *e;

	if (!ctl || !ctl->trace)
		return;
	e = cn_event_new(kind, service, backend, proto);
	if (!e)
		return;
	e->pid = (__u32)(bpf_get_current_pid_tgid() >> 32);
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
}

/* Takes a connection out of the count; false: somebody has already. */
static __always_inline bool cn_uncount(struct cn_sock *st)
{
	struct lb_load *load;

	if (__sync_val_compare_and_swap(&st->counted, 1, 0) != 1)
		return false;
	load = lb_load_get(st->backend);
	if (load)
		__sync_fetch_and_add(&load->conns, (__u64)-1);
	return true;
}

/* The socket is connected to no service any more. */
static __always_inline void cn_forget(struct cn_sock *st)
{
	cn_uncount(st);
	st->backend = LB_NONE;
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
static __always_inline void cn_failed(struct cn_sock *st, struct sock *sk, enum lb_event_kind kind)
{
	struct lb_plan *plan = lb_plan_get(st->service);
	struct lb_load *load = lb_load_get(st->backend);
	struct lb_event *e;

	lb_count(kind == LB_EVENT_REFUSED ? LB_STAT_REFUSED : LB_STAT_TIMED_OUT);
	if (!load)
		return;
	__sync_fetch_and_add(&load->failures, 1);
	if (!plan || !(plan->flags & LB_PLAN_PASSIVE))
		return;
	*(volatile __u64 *)&load->avoid_until_ns = bpf_ktime_get_ns() + plan->passive_ms * 1000000ULL;
	e = cn_event_new(kind, st->service, st->backend, IPPROTO_TCP);
	if (!e)
		return;
	cn_client(sk, e);
	bpf_ringbuf_submit(e, 0);
}

/*
 * Why a connection never came about, by sk_err, which is set before the state changes. A program that gives up on its
 * own leaves no error; it is the backend's fault if not even the second SYN was answered.
 */
static __always_inline void cn_judge(struct cn_sock *st, struct sock *sk)
{
	struct tcp_sock___cn *tp = (struct tcp_sock___cn *)sk;
	struct sock___cn *skc = (struct sock___cn *)sk;
	int error = BPF_CORE_READ(skc, sk_err);

	if (error == ECONNREFUSED)
		cn_failed(st, sk, LB_EVENT_REFUSED);
	else if (error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH ||
		 (error == 0 && BPF_CORE_READ(tp, total_retrans) > 0))
		cn_failed(st, sk, LB_EVENT_TIMED_OUT);
}

/* How many bits a number has: 0 for 0, 5 for 16. */
static __always_inline __u32 cn_bits(__u32 v)
{
	__u32 n = 0;

	if (v >= 1 << 16) {
		n += 16;
		v >>= 16;
	}
	if (v >= 1 << 8) {
		n += 8;
		v >>= 8;
	}
	if (v >= 1 << 4) {
		n += 4;
		v >>= 4;
	}
	if (v >= 1 << 2) {
		n += 2;
		v >>= 2;
	}
	if (v >= 1 << 1) {
		n += 1;
		v >>= 1;
	}
	return n + v;
}

static __always_inline __u32 cn_now_us(void)
{
	return (__u32)(bpf_ktime_get_ns() / 1000);
}

/* The handshake is done: how long it took, with all that was sent again. Under the socket's lock. */
static __always_inline void cn_established(struct sock *sk)
{
	struct cn_sock *st = bpf_sk_storage_get(&cn_sk, sk, NULL, 0);
	__u32 zero = 0, us, i;
	struct lb_took *took;

	if (!st || st->backend == LB_NONE || !st->since)
		return;
	us = cn_now_us() - st->since;
	st->since = 0;
	took = bpf_map_lookup_elem(&cn_took, &zero);
	if (!took)
		return;
	i = cn_bits(us);
	if (i >= LB_TOOK_BUCKETS)
		i = LB_TOOK_BUCKETS - 1;
	took->buckets[i]++;
	took->sum_us += us;
}

/* TCP's end, whatever it was: refused, reset, closed, dissolved. Under the socket's lock. */
static __always_inline void cn_end(struct sock *sk, int was)
{
	struct cn_sock *st = bpf_sk_storage_get(&cn_sk, sk, NULL, 0);

	if (!st || st->backend == LB_NONE)
		return;
	/* Whoever counts it down judges: while one program takes over from another, both are called. */
	if (cn_uncount(st) && was == BPF_TCP_SYN_SENT)
		cn_judge(st, sk);
	st->backend = LB_NONE;
}
