/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Live sockets come into the map and leave it: by ac_move, which user space starts and which has each socket's lock,
 * and by themselves. docs/sockmap-notes.md, "Joining and leaving late", says what must hold.
 */
#pragma once

#include "bpf/ac_iter.bpf.h"
#include "bpf/ac_pair.bpf.h"

/*
 * Which events of the socket sockops is called for: before Linux 6.12 the kernel has no way to change that from here
 * (commit 3882dccf48f9), and it stays as it was.
 */
#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008
#define ac_flags_put(ctx, value)                                                                  \
	do {                                                                                      \
		int _flags = (value);                                                             \
		bpf_setsockopt(ctx, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &_flags, sizeof(_flags)); \
	} while (0)

static __always_inline void ac_move_left(struct bpf_iter__tcp *ctx, struct ac_sock *st, enum ac_why why)
{
	struct ac_move_left left = { .cookie = st->cookie, .why = why };

	bpf_seq_write(ctx->meta->seq, &left, sizeof(left));
}

static __always_inline void ac_left(struct ac_sock *st, enum ac_why why)
{
	st->state = AC_SOCK_WATCHED;
	st->why = why;
	st->since_ms = (__u32)(bpf_ktime_get_ns() / 1000000);
	ac_count(AC_STAT_LEFT);
	ac_event_sock(st, AC_EVENT_LEFT, why, false);
}

/* Under the socket's lock, with nothing queued: from here on it is plain TCP. */
static __always_inline void ac_take_out(struct tcp_sock *tp, struct ac_sock *st, enum ac_why why)
{
	if (bpf_map_delete_elem(&ac_socks, &st->cookie))
		return;
	ac_lowat_set(tp, tp, 0);
	/* Each send would ask for header options, which nobody needs any more. */
	ac_flags_put(tp, BPF_SOCK_OPS_STATE_CB_FLAG);
	ac_left(st, why);
}

/* A peer's call that cannot be told from a send to us does not last so long. */
#define AC_IN_CALL_MS 1000

static __always_inline bool ac_odd_waits(const struct ac_sock *st, const struct ac_odd *odd)
{
	return ac_peer_in_call(st) && (__u32)(bpf_ktime_get_ns() / 1000000) - odd->ms < AC_IN_CALL_MS;
}

/*
 * A walk finds a socket whose reader is nearly always asleep in recv(2) awake by luck alone. But a reader that answers
 * is awake while it sends: here, where its answer becomes a packet, in its own call and under the lock. The call holds
 * the psock too, so the kernel drops it at the end of the call; the verdict program is switched off at once, so what
 * TCP receives meanwhile waits in its own queue.
 */
static __always_inline void ac_leave_self(struct bpf_sock_ops *ctx, struct tcp_sock *tp, struct ac_sock *st)
{
	struct ac_odd *odd = bpf_map_lookup_elem(&ac_odd, &st->cookie);
	struct sock *sk = (struct sock *)tp;
	enum ac_why why;

	if (!odd)
		return;
	/* In the call that ac_msg has seen, and not in one that is done on its way (retransmission, an option set). */
	if (st->task != bpf_get_current_task() || !BPF_CORE_READ(sk, sk_lock.owned))
		return;
	if (ac_has_queued(sk) || ac_psock_refs(sk) != 2 || ac_has_sleeper(sk) || ac_odd_waits(st, odd))
		return;
	why = odd->why;
	if (bpf_map_delete_elem(&ac_socks, &st->cookie))
		return;
	bpf_map_delete_elem(&ac_odd, &st->cookie);
	ac_lowat_set(ctx, (__u64)tp, 0);
	ac_flags_put(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	ac_left(st, why);
}

static __always_inline void ac_move_leave(struct bpf_iter__tcp *ctx, struct tcp_sock *tp, struct ac_sock *st)
{
	if (ac_has_queued((struct sock *)tp) || ac_psock_used((struct sock *)tp) ||
	    (!ac_move_args.impatient && ac_peer_in_call(st)))
		ac_move_left(ctx, st, AC_WHY_BACKLOG);
	else if (ac_has_sleeper((struct sock *)tp))
		ac_move_left(ctx, st, AC_WHY_SLEEPER);
	else
		ac_take_out(tp, st, AC_WHY_OFF);
}

/*
 * One that splices sleeps, if at all, in tcp_splice_read(), which is happy on plain TCP; bytes queued it cannot
 * reach, and reset is better than a wait without end. Any other reads its queue empty first.
 */
static __always_inline void ac_move_odd(struct bpf_iter__tcp *ctx, struct sock_common *skc, struct tcp_sock *tp,
					struct ac_sock *st)
{
	struct sock *sk = (struct sock *)tp;
	struct ac_odd *odd = bpf_map_lookup_elem(&ac_odd, &st->cookie);
	bool queued = ac_has_queued(sk);
	enum ac_why why;

	if (!odd)
		return;
	why = odd->why;
	if (!queued && !ac_psock_used(sk) && !ac_odd_waits(st, odd) && (why == AC_WHY_SPLICES || !ac_has_sleeper(sk))) {
		ac_take_out(tp, st, why);
	} else if (queued && why == AC_WHY_SPLICES && bpf_sock_destroy) {
		ac_count(AC_STAT_RESET);
		bpf_sock_destroy(skc);
	} else {
		ac_move_left(ctx, st, why);
		return;
	}
	bpf_map_delete_elem(&ac_odd, &st->cookie);
}

/*
 * One that streamed small writes may have other habits by now, which cannot be seen from outside. So it is tried
 * again: after two seconds, and each further time after twice as long. A try costs some hundred sends.
 */
#define AC_AGAIN_MS 2000
#define AC_AGAIN_MAX 7

static __always_inline bool ac_is_due(const struct ac_sock *st)
{
	__u32 again = st->again < AC_AGAIN_MAX ? st->again : AC_AGAIN_MAX;

	return (__u32)(bpf_ktime_get_ns() / 1000000) - st->since_ms >= (__u32)AC_AGAIN_MS << again;
}

/* May this socket be joined now, as far as it alone is concerned? */
static __always_inline bool ac_join_fit(struct tcp_sock *tp, const struct ac_sock *st)
{
	struct sock *sk = (struct sock *)tp;

	if (BPF_CORE_READ(sk, __sk_common.skc_state) != BPF_TCP_ESTABLISHED || BPF_CORE_READ(sk, sk_user_data) ||
	    BPF_CORE_READ(tp, inet_conn.icsk_ulp_ops))
		return false;
	/* What was half read would be moved to the other queue whole, and read twice (tcp_read_skb). */
	if (BPF_CORE_READ(sk, sk_receive_queue.qlen))
		return false;
	/*
	 * A call of recv(2) that has TCP's own function in hand and not yet asked for the lock cannot be seen from here. It
	 * finds nothing, and would sleep through joined bytes if it may sleep: only a program that was trusted by name does.
	 */
	if (ac_exe_forced(&st->exe) && !ac_is_nonblock(sk))
		return false;
	if (st->why == AC_WHY_BRIEF && !ac_lasts(ac_tick(st->born_ns), ac_tick(bpf_ktime_get_ns())))
		return false;
	if (st->why == AC_WHY_SMALL && !ac_is_due(st))
		return false;
	if (!ac_has_sleeper(sk))
		return true;
	(void)ac_learn_wait(&st->exe, sk);
	return false;
}

/* A socket that has lasted, of which there is only a note, gets its storage. */
static __always_inline struct ac_sock *ac_adopt(struct tcp_sock *tp)
{
	struct ac_noted of;
	struct ac_sock *st;

	if (!ac_note_get(BPF_CORE_READ((struct sock *)tp, __sk_common.skc_cookie.counter), &of) || !of.peer ||
	    !ac_lasts(of.born, ac_tick(bpf_ktime_get_ns())))
		return NULL;
	st = bpf_sk_storage_get(&ac_sk, tp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st) {
		ac_count(AC_STAT_MAP_FULL);
		return NULL;
	}
	ac_note_tell(st, &of);
	st->read_seq = of.is_server ? of.key.client_seq : of.key.server_seq;
	return st;
}

/* The first walk marks who is fit, and lets clients learn of their servers. */
static __always_inline void ac_join_mark(struct tcp_sock *tp, struct ac_sock *st)
{
	__u32 ready = AC_READY;

	if (!ac_join_fit(tp, st))
		return;
	if (!st->peer && !ac_way_meet(st))
		return;
	/* Ends that had no storage when they were paired learn here where the other's is. */
	if (!st->peer_st)
		ac_note_st(st->cookie, (__u64)st);
	bpf_map_update_elem(&ac_ready, &st->cookie, &ready, BPF_NOEXIST);
}

/* Puts the socket into the map. False: it has to wait. */
static __always_inline bool ac_join_put(struct tcp_sock *tp, struct ac_sock *st)
{
	long r = bpf_map_update_elem(&ac_socks, &st->cookie, tp, BPF_NOEXIST);

	if (r) {
		st->why = r == -7 /* E2BIG */ ? AC_WHY_FULL : AC_WHY_BUSY;
		ac_count(r == -7 ? AC_STAT_MAP_FULL : AC_STAT_BUSY);
		return true;
	}
	/*
	 * Whoever called recv(2) in between has taken TCP's own, and would sleep through joined bytes. Nothing was queued
	 * under this lock, so it can be undone.
	 */
	if (ac_lock_wanted((struct sock *)tp)) {
		bpf_map_delete_elem(&ac_socks, &st->cookie);
		return false;
	}
	ac_lowat_set(tp, tp, AC_LOWAT);
	ac_flags_put(tp, AC_JOIN_FLAGS);
	if (!st->peer_st)
		st->peer_st = ac_note_st_of(st->peer_cookie);
	if (st->why == AC_WHY_SMALL && st->again < AC_AGAIN_MAX)
		st->again++;
	st->small = 0;
	st->state = AC_SOCK_JOINED;
	st->why = AC_WHY_NONE;
	st->tx_why = AC_WHY_NO_PEER;
	st->peer_forced = ac_exe_forced(&st->peer_exe);
	ac_count(AC_STAT_JOINED_LATE);
	ac_event_sock(st, AC_EVENT_JOINED, AC_WHY_NONE, false);
	return true;
}

/* The second walk joins the pairs of which both are fit, and those whose peer was joined by an earlier one. */
static __always_inline void ac_join_commit(struct bpf_iter__tcp *ctx, struct tcp_sock *tp, struct ac_sock *st)
{
	__u32 *mine = bpf_map_lookup_elem(&ac_ready, &st->cookie), alone = AC_READY_ALONE;
	bool peer_is_in = mine && *mine == AC_READY_ALONE;

	if (!mine || !(peer_is_in || bpf_map_lookup_elem(&ac_ready, &st->peer_cookie)) || !ac_join_fit(tp, st) ||
	    !ac_join_put(tp, st)) {
		ac_move_left(ctx, st, AC_WHY_SLEEPER);
		return;
	}
	bpf_map_delete_elem(&ac_ready, &st->cookie);
	if (!peer_is_in)
		bpf_map_update_elem(&ac_ready, &st->peer_cookie, &alone, BPF_EXIST);
}

static __always_inline void ac_move_join(struct bpf_iter__tcp *ctx, struct tcp_sock *tp, struct ac_sock *st)
{
	if (st->state != AC_SOCK_WATCHED ||
	    (st->why != AC_WHY_LEARNING && st->why != AC_WHY_BRIEF && st->why != AC_WHY_SMALL))
		return;
	if (ac_exe_why(&st->exe) || ac_exe_why(&st->peer_exe))
		return;
	if (ac_move_args.commit)
		ac_join_commit(ctx, tp, st);
	else
		ac_join_mark(tp, st);
}
