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

static __always_inline void cn_uncount(struct cn_sock *st)
{
	struct lb_load *load;

	if (__sync_val_compare_and_swap(&st->counted, 1, 0) != 1)
		return;
	load = lb_load_get(st->backend);
	if (load)
		__sync_fetch_and_add(&load->conns, (__u64)-1);
}

/* The socket is connected to no service any more. */
static __always_inline void cn_forget(struct cn_sock *st)
{
	cn_uncount(st);
	st->backend = LB_NONE;
}

static __always_inline void cn_client(struct bpf_sock_ops *ctx, struct lb_addr *ret)
{
	if (ctx->family == AF_INET) {
		ret->v6[2] = bpf_htonl(0xffff);
		ret->v6[3] = ctx->local_ip4;
		/* Or the compiler makes one load of both ends, through a pointer that the verifier refuses. */
		barrier();
	} else {
		ret->v6[0] = ctx->local_ip6[0];
		ret->v6[1] = ctx->local_ip6[1];
		ret->v6[2] = ctx->local_ip6[2];
		ret->v6[3] = ctx->local_ip6[3];
	}
}

/* A connect() that came to nothing: the backend is avoided for a while, and the health check told. */
static __always_inline void cn_failed(struct cn_sock *st, struct bpf_sock_ops *ctx, enum lb_event_kind kind)
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
	e->client_port = bpf_htons((__u16)ctx->local_port);
	cn_client(ctx, &e->client);
	bpf_ringbuf_submit(e, 0);
}

/*
 * Why a connection never came about, by sk_err, which is set before the state changes. A program that gives up on its
 * own leaves no error; it is the backend's fault if not even the second SYN was answered.
 */
static __always_inline void cn_judge(struct cn_sock *st, struct bpf_sock_ops *ctx, struct bpf_sock *skc)
{
	struct sock___cn *sk = (struct sock___cn *)bpf_skc_to_tcp_sock(skc);
	int error = 0;

	if (!sk)
		return;
	bpf_core_read(&error, sizeof(error), &sk->sk_err);
	if (error == ECONNREFUSED)
		cn_failed(st, ctx, LB_EVENT_REFUSED);
	else if (error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH ||
		 (error == 0 && ctx->total_retrans > 0))
		cn_failed(st, ctx, LB_EVENT_TIMED_OUT);
}

/* TCP's end, whatever it was: refused, reset, closed, dissolved. Under the socket's lock. */
static __always_inline void cn_state_change(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct cn_sock *st;

	if (ctx->args[1] != BPF_TCP_CLOSE || !sk)
		return;
	st = bpf_sk_storage_get(&cn_sk, sk, NULL, 0);
	if (!st || st->backend == LB_NONE)
		return;
	if (ctx->args[0] == BPF_TCP_SYN_SENT)
		cn_judge(st, ctx, sk);
	cn_forget(st);
}
