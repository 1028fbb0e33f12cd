/* SPDX-License-Identifier: GPL-2.0 */
/* Walks started by user space: who listens, what is joined, and moving live sockets in and out of the map. */
#pragma once

#include "bpf/ac_learn.bpf.h"
#include "bpf/ac_wait.bpf.h"

/* Set by user space before each walk. */
struct ac_move_args ac_move_args SEC(".data.move");

/* Bytes that would be lost if the socket left the map now. Exact under the socket's lock. */
static __always_inline bool ac_has_queued(struct sock *sk)
{
	struct sk_psock *psock = (void *)((__u64)BPF_CORE_READ(sk, sk_user_data) & SK_USER_DATA_PTRMASK);
	struct list_head *head;

	if (!psock)
		return false;
	head = (void *)psock + bpf_core_field_offset(struct sk_psock, ingress_msg);
	return BPF_CORE_READ(head, next) != head || BPF_CORE_READ(psock, ingress_skb.qlen);
}

/* Who holds the socket's psock: the map, and everybody in the middle of a call that uses it. */
static __always_inline int ac_psock_refs(struct sock *sk)
{
	struct sk_psock *psock = (void *)((__u64)BPF_CORE_READ(sk, sk_user_data) & SK_USER_DATA_PTRMASK);

	return psock ? BPF_CORE_READ(psock, refcnt.refs.counter) : 0;
}

/*
 * Is somebody in the middle of a call that uses this socket? A redirect takes the target's psock, then waits for its
 * lock; left meanwhile, the psock would be freed with what it was given (tcp_bpf_sendmsg_redir, sk_psock_drop).
 */
static __always_inline bool ac_psock_used(struct sock *sk)
{
	return ac_psock_refs(sk) > 1;
}

/*
 * Is the peer in the middle of a call that may be a send to this socket? One that has been given the short way lets go
 * of its own lock before it takes the target's psock, and would be told EPIPE if there is none any more. Such a call
 * holds the psock of the peer, as do those that sleep in one: they ask for their way again when they wake. No later
 * call is given the short way, for whoever asks this has forbidden it before.
 */
static __always_inline bool ac_peer_in_call(const struct ac_sock *st)
{
	struct sock *peer = (struct sock *)st->peer;
	struct ac_waiters w;
	int refs;

	if (!peer || (__u64)BPF_CORE_READ(peer, __sk_common.skc_cookie.counter) != st->peer_cookie)
		return false;
	refs = ac_psock_refs(peer);
	if (refs <= 1)
		return false;
	ac_waiters_count((__u64)peer, &w);
	return w.many || refs > 1 + (int)w.asleep;
}

struct ac_sum {
	struct list_head *head, *pos;
	struct sock *sk;
	__u32 bytes;
};

static long ac_sum_step(__u32 i, void *data)
{
	struct ac_sum *sum = data;
	struct list_head *pos = sum->pos;
	struct sk_msg *msg;

	if (!pos || pos == sum->head)
		return 1;
	msg = (void *)pos - bpf_core_field_offset(struct sk_msg, list);
	if (BPF_CORE_READ(msg, sk) != sum->sk)
		sum->bytes += BPF_CORE_READ(msg, sg.size);
	sum->pos = BPF_CORE_READ(pos, next);
	return 0;
}

#define AC_SUM_MAX 65536

/* Bytes in the queue that did not come by TCP. Without the socket's lock: a second reader may blur it. */
static __always_inline __u32 ac_joined_queued(struct sock *sk)
{
	struct sk_psock *psock = (void *)((__u64)BPF_CORE_READ(sk, sk_user_data) & SK_USER_DATA_PTRMASK);
	struct ac_sum sum = { .sk = sk };
	struct list_head *head;

	if (!psock)
		return 0;
	head = (void *)psock + bpf_core_field_offset(struct sk_psock, ingress_msg);
	sum.head = head;
	sum.pos = BPF_CORE_READ(head, next);
	bpf_loop(AC_SUM_MAX, ac_sum_step, &sum, 0);
	return sum.bytes;
}
