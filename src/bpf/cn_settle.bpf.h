/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A connect() may fail after a backend was picked and before TCP has begun: there is no route, or another program of the
 * cgroup refuses it. The kernel calls nobody then; the connection stays in the count until the socket is closed, or
 * connects again. Nothing is done about it at connect(): user space sees from the notes that a handshake takes long,
 * and has the sockets looked at.
 */
#pragma once

#include "bpf/cn_note.bpf.h"

/* Set by user space before each walk. */
struct cn_settle_args cn_settle_args SEC(".data.settle");

/*
 * Without the socket's lock, so that the program may call connect() at any time: who takes the mark away may have taken
 * that of the new connection, and `since` is another then. That one is not taken out of the count, for it is open, or
 * will not be counted down by anybody else: one too many is the lesser fault.
 */
static __always_inline bool cn_settle(struct cn_known *k, __u32 since)
{
	__u32 backend = *(volatile __u32 *)&k->of->backend;

	if (k->key && (!(k->is & CN_NOTE_COUNTED) ||
		       __sync_val_compare_and_swap(k->key, k->is, k->is & ~CN_NOTE_COUNTED) != k->is))
		return false;
	if (!k->key && __sync_val_compare_and_swap(&k->of->counted, 1, 0) != 1)
		return false;
	if (*(volatile __u32 *)&k->of->since != since)
		return false;
	cn_load_down(backend);
	return true;
}

/* A socket of some process. */
static __always_inline bool cn_settle_sock(struct sock *sk)
{
	__u32 since, now_us = (__u32)(bpf_ktime_get_ns() / 1000);
	struct cn_known k;

	if (sk->__sk_common.skc_state != BPF_TCP_CLOSE ||
	    (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6))
		return false;
	if (!cn_know(sk, sk->__sk_common.skc_cookie.counter, &k) || k.of->backend == LB_NONE)
		return false;
	since = *(volatile __u32 *)&k.of->since;
	/* A clock of microseconds in 32 bits: what is more than half an hour old seems to be yet to come. */
	if (!since || (__s32)(now_us - since) < (__s32)cn_settle_args.age_us)
		return false;
	return cn_settle(&k, since);
}
