/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The way of one send: straight into the peer's queue, or by TCP. Runs in sk_msg, under the sender's lock.
 *
 * Two rules keep the bytes in order and bounded.
 *
 * Order. A joined socket has one receive queue (psock->ingress_msg): what we redirect is appended there by
 * bpf_tcp_ingress() under the peer's lock, and what comes by TCP is appended there by the verdict program,
 * under the same lock, as soon as it is in sequence. So a send may be redirected once everything sent before
 * by TCP has got that far: the peer's rcv_nxt has reached our write_seq, and nothing waits in the peer's
 * sk_receive_queue (bytes that came before accept(2)) or psock->ingress_skb (a verdict that met ENOMEM). A socket
 * that is not accepted yet and was sent anything by TCP has to wait for accept(2), for only then are its bytes moved.
 * The test is made before the peer's lock is taken, and stays true until then: only our own sends could
 * undo it, and we are sending. At birth it holds trivially, so the first byte needs no case of its own.
 * The other direction of change, to TCP, is always in order: what was redirected is in the queue already.
 *
 * Backpressure. The kernel does not compare redirected bytes with the reader's buffer. We do: above the
 * limit the send goes by TCP, whose window closes, whose send buffer fills, and which then makes the
 * writer block or see EAGAIN, and wakes it when there is room.
 *
 * While TCP has bytes of ours, nothing may be redirected, so a writer that keeps TCP's send buffer filled would
 * never come back. A low TCP_NOTSENT_LOWAT on joined sockets prevents that: the writer sleeps, or sees EAGAIN,
 * while that much has not been sent yet; when the reader makes room TCP sends it all at once, and the queue is
 * the writer's again. (Streams of 64 KiB writes on one core: 1.7 times plain TCP with it, 0.5 times without.)
 * The mark is above two segments of the loopback, or Nagle's algorithm would make the writer wait for ACKs.
 * A reader that does not read at all must still find as much buffer before it as TCP has, or two programs that
 * write to each other before they read would stop: at TCP's first window probe the mark is lifted.
 *
 * The peer's tcp_sock is read through the address kept at pairing. Its slab is SLAB_TYPESAFE_BY_RCU, so it
 * may by now be another socket: the cookie tells, and a cookie is never used twice.
 */
#pragma once

#include "bpf/ac_event.bpf.h"
#include "bpf/ac_wait.bpf.h"

#define SOL_TCP 6
#define TCP_NOTSENT_LOWAT 25
#define AC_LOWAT 131072

/* Sets the mark, or takes ours back (value 0); a program's own choice stays. ctx: of sock_ops, or a socket. */
#define ac_lowat_set(ctx, addr, value)                                                            \
	do {                                                                                      \
		struct tcp_sock *_tp = (struct tcp_sock *)(addr);                                 \
		__u32 _has = BPF_CORE_READ(_tp, notsent_lowat);                                   \
		int _value = (value);                                                             \
		if (_has == (_value ? 0 : AC_LOWAT))                                              \
			bpf_setsockopt(ctx, SOL_TCP, TCP_NOTSENT_LOWAT, &_value, sizeof(_value)); \
	} while (0)

struct ac_peer_view {
	__u64 cookie;
	__u64 psock;
	__u64 socket; /* 0: not accepted yet, or closed */
	__u32 rcv_nxt;
	__u32 rcv_wup;
	__u32 rcv_wnd;
	__u32 rmem;
	__u32 rcvbuf;
	__u32 unread_tcp; /* buffers in sk_receive_queue */
	__u8 shutdown;
};

#define AC_CAST(type, addr) ((type *)bpf_rdonly_cast((void *)(addr), bpf_core_type_id_kernel(type)))

/* A plain load, and one through the helper, for the two ways of reading below. */
#define AC_LOAD(p, field) ((p)->field)

/*
 * The order matters: tcp_queue_rcv() raises rcv_nxt before it queues the buffer, and accept(2) sets sk_socket. Who
 * has seen the socket and then the new rcv_nxt sees the buffer, if it was left in sk_receive_queue.
 */
#define AC_VIEW_FILL(v, sk, tp, READ)                                              \
	do {                                                                       \
		(v)->cookie = READ(sk, __sk_common.skc_cookie.counter);            \
		(v)->socket = (__u64)READ(sk, sk_socket);                          \
		ac_barrier();                                                      \
		(v)->rcv_nxt = READ(tp, rcv_nxt);                                  \
		ac_barrier();                                                      \
		(v)->unread_tcp = READ(sk, sk_receive_queue.qlen);                 \
		(v)->psock = (__u64)READ(sk, sk_user_data) & SK_USER_DATA_PTRMASK; \
		(v)->rmem = READ(sk, sk_backlog.rmem_alloc.counter);               \
		(v)->rcvbuf = READ(sk, sk_rcvbuf);                                 \
		(v)->shutdown = READ(sk, sk_shutdown);                             \
		(v)->rcv_wup = READ(tp, rcv_wup);                                  \
		(v)->rcv_wnd = READ(tp, rcv_wnd);                                  \
	} while (0)

static __always_inline void ac_peer_look(__u64 addr, struct ac_peer_view *v)
{
	if (bpf_rdonly_cast) {
		struct tcp_sock *tp = AC_CAST(struct tcp_sock, addr);
		struct sock *sk = AC_CAST(struct sock, addr);

		AC_VIEW_FILL(v, sk, tp, AC_LOAD);
	} else {
		struct tcp_sock *tp = (struct tcp_sock *)addr;
		struct sock *sk = (struct sock *)addr;

		AC_VIEW_FILL(v, sk, tp, BPF_CORE_READ);
	}
}

static __always_inline __u32 ac_psock_backlog(__u64 psock)
{
	if (bpf_rdonly_cast)
		return AC_CAST(struct sk_psock, psock)->ingress_skb.qlen;
	return BPF_CORE_READ((struct sk_psock *)psock, ingress_skb.qlen);
}

static __always_inline void ac_self_look(__u64 addr, __u32 *write_seq, __u8 *shutdown)
{
	if (bpf_rdonly_cast) {
		*write_seq = AC_CAST(struct tcp_sock, addr)->write_seq;
		*shutdown = AC_CAST(struct sock, addr)->sk_shutdown;
	} else {
		*write_seq = BPF_CORE_READ((struct tcp_sock *)addr, write_seq);
		*shutdown = BPF_CORE_READ((struct sock *)addr, sk_shutdown);
	}
}

#define AC_GLANCE_MAX 4

static __always_inline __u64 ac_next(__u64 list)
{
	if (bpf_rdonly_cast)
		return (__u64)AC_CAST(struct list_head, list)->next;
	return (__u64)BPF_CORE_READ((struct list_head *)list, next);
}

static __always_inline __u64 ac_wait_func(__u64 entry)
{
	if (bpf_rdonly_cast)
		return (__u64)AC_CAST(struct wait_queue_entry, entry)->func;
	return (__u64)BPF_CORE_READ((struct wait_queue_entry *)entry, func);
}

/*
 * Does the peer's reader sleep in recv(2)? Asked at each direct send to a program that is trusted not to, so only a
 * glance: whoever fell asleep last is at the head, and what it misses the next one sees. See ac_wait.bpf.h.
 */
static __always_inline bool ac_peer_asleep(__u64 addr)
{
	__u64 off = bpf_core_field_offset(struct wait_queue_entry, entry), wq, head, pos;
	bool found = false;
	int i;

	if (!&woken_wake_function)
		return false;
	if (bpf_rdonly_cast)
		wq = (__u64)AC_CAST(struct sock, addr)->sk_wq;
	else
		wq = (__u64)BPF_CORE_READ((struct sock *)addr, sk_wq);
	if (!wq)
		return false;
	head = wq + bpf_core_field_offset(struct socket_wq, wait.head);
	pos = ac_next(head);
	for (i = 0; i < AC_GLANCE_MAX && pos && pos != head; i++) {
		if (ac_wait_func(pos - off) == (__u64)&woken_wake_function) {
			found = true;
			break;
		}
		pos = ac_next(pos);
	}
	if (!found)
		return false;
	/* Those that sleep in send(2) and connect(2) look the same from here. */
	return !BPF_CORE_READ((struct sock *)addr, sk_write_pending) &&
	       BPF_CORE_READ((struct sock *)addr, sk_socket, state) == SS_CONNECTED;
}

/* The client learns of its server here, at its first send after the server was established. */
static __always_inline bool ac_way_meet(struct ac_sock *st)
{
	struct ac_peer *peer = bpf_map_lookup_elem(&ac_peers, &st->cookie);

	if (!peer)
		return false;
	st->peer = peer->server;
	st->peer_cookie = peer->server_cookie;
	st->peer_st = peer->server_st;
	bpf_map_delete_elem(&ac_peers, &st->cookie);
	return true;
}

/* How much may wait at a reader: room must stay for what its TCP window has already promised. */
static __always_inline __u32 ac_way_limit(const struct ac_peer_view *v, const struct ac_ctl *ctl)
{
	__u32 promised = v->rcv_wup + v->rcv_wnd - v->rcv_nxt;
	__u32 half = v->rcvbuf / 2, limit = half;

	if (promised < half)
		limit = v->rcvbuf - promised;
	return limit < ctl->limit_bytes ? limit : ctl->limit_bytes;
}

/* Returns AC_WHY_NONE if the send may go straight to the peer's queue; then *ret_queued is what waits there, in bytes. */
static __always_inline enum ac_why ac_way(struct ac_sock *st, const struct ac_ctl *ctl, __u32 *ret_queued)
{
	struct ac_peer_view v;
	__u32 write_seq;
	__u8 shutdown;

	if (!ctl->on)
		return AC_WHY_OFF;
	if (!st->peer && !ac_way_meet(st))
		return AC_WHY_NO_PEER;
	ac_peer_look(st->peer, &v);
	if (v.cookie != st->peer_cookie || !v.psock)
		return AC_WHY_PEER_GONE;
	ac_self_look(st->self, &write_seq, &shutdown);
	if ((shutdown & SEND_SHUTDOWN) || (v.shutdown & RCV_SHUTDOWN))
		return AC_WHY_SHUT;
	if (v.rcv_nxt != write_seq)
		return AC_WHY_IN_FLIGHT;
	if (v.rmem > ac_way_limit(&v, ctl))
		return AC_WHY_BACKLOG;
	/* Not accepted: what came by TCP stays in TCP's queue, and may be on its way there. */
	if (!v.socket && write_seq != (st->is_server ? st->key.server_seq : st->key.client_seq))
		return AC_WHY_UNREAD_TCP;
	if (v.unread_tcp || ac_psock_backlog(v.psock))
		return AC_WHY_UNREAD_TCP;
	if (ctl->odd) {
		struct ac_odd *odd = bpf_map_lookup_elem(&ac_odd, &st->peer_cookie);

		if (odd)
			return odd->why;
	}
	*ret_queued = v.rmem;
	return AC_WHY_NONE;
}

static __always_inline void ac_way_note(struct ac_sock *st, enum ac_why why, __u32 size)
{
	if (why) {
		st->tcp_sends++;
	} else {
		st->joined_bytes += size;
		st->joined_sends++;
	}
	if (st->tx_why == why)
		return;
	if (!st->tx_why) {
		st->fallbacks++;
		ac_count(AC_STAT_FALLBACK);
		ac_event_sock(st, AC_EVENT_FALLBACK, why, false);
	} else if (!why) {
		ac_count(AC_STAT_RETURN);
		ac_event_sock(st, AC_EVENT_RETURN, why, false);
	}
	st->tx_why = why;
}

/*
 * A stream of small writes is what TCP is better at: it puts them together, while each direct send costs as much as a
 * large one, and each that only passes through ac_msg a third more than without. So such a pair leaves the map. It is
 * one if the peer has not sent anything for AC_SMALL_LOOKS looks in a row, at every AC_SMALL_EVERY-th send: answers,
 * even of some dozen writes, are far from that.
 *
 * With TCP_NODELAY each write is a packet while the reader keeps up, and the direct way is the cheaper one. TCP puts them
 * together only where the reader lags behind, as it does on the writer's own processor: then several of them wait
 * at each look.
 */
#define AC_SMALL_BYTES 4096
#define AC_SMALL_EVERY 8 /* a power of two */
#define AC_SMALL_LOOKS 32
#define AC_SMALL_LAG (2 * AC_SMALL_EVERY)
#define TCP_NAGLE_OFF 1

static __always_inline bool ac_way_small(struct ac_sock *st, __u32 size, __u32 queued)
{
	struct tcp_sock *tp = (struct tcp_sock *)st->self;
	struct ac_sock *peer = (struct ac_sock *)st->peer_st;
	__u64 joined = 0, tcp = 0;
	__u32 replies;

	if (st->joined_sends & (AC_SMALL_EVERY - 1))
		return false;
	if (size > AC_SMALL_BYTES || !peer) {
		st->small = 0;
		return false;
	}
	/* It lives: its cookie has just been compared. */
	bpf_probe_read_kernel(&joined, sizeof(joined), &peer->joined_sends);
	bpf_probe_read_kernel(&tcp, sizeof(tcp), &peer->tcp_sends);
	replies = joined + tcp;
	if (replies != st->replies || st->small >= AC_SMALL_LOOKS ||
	    (queued < size * AC_SMALL_LAG && (BPF_CORE_READ_BITFIELD_PROBED(tp, nonagle) & TCP_NAGLE_OFF))) {
		st->replies = replies;
		st->small = 0;
		return false;
	}
	return ++st->small == AC_SMALL_LOOKS;
}
