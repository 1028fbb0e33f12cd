/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Finding the two ends of one connection.
 *
 * At their ESTABLISHED callbacks the ends see (snd_nxt, rcv_nxt) mirrored: 64 bits that only they and the
 * path between them know. Three steps, in this order on one machine:
 *
 *   announce   the listener's side, before the SYN-ACK leaves: both numbers are in the request socket
 *   client     ACTIVE_ESTABLISHED: finds the announcement, hence knows that its peer is on this machine.
 *              A miss means a peer elsewhere (or out of scope, or a SYN cookie): the socket is let alone
 *   server     PASSIVE_ESTABLISHED: finds the client, and the pair is complete
 *
 * Works through NAT and namespaces, for IPv4, IPv6 and v4-mapped alike, for addresses play no part. Where
 * the numbers cannot be relied upon (TCP_REPAIR, two handshakes with the same numbers) nothing is joined.
 */
#pragma once

#include "bpf/ac_learn.bpf.h"
#include "bpf/ac_note.bpf.h"
#include "bpf/ac_pend.bpf.h"

/* WRITE_HDR_OPT is for ac_packet(): no option is ever written. */
#define AC_JOIN_FLAGS (BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)
#define AC_WATCH_FLAGS (AC_JOIN_FLAGS | BPF_SOCK_OPS_RTT_CB_FLAG)

/* What the ports of one end say. Either end may be selected, and either may be excluded. */
static __always_inline bool ac_port_has(__u32 local, __u32 remote, __u8 bit)
{
	__u8 *a = bpf_map_lookup_elem(&ac_ports, &local);
	__u8 *b = bpf_map_lookup_elem(&ac_ports, &remote);

	return (a && (*a & bit)) || (b && (*b & bit));
}

/* The kernel's own socket behind the context: the full socket, or the request socket of a handshake. */
static __always_inline __u64 ac_ctx_sk(struct bpf_sock_ops *ctx)
{
	__u64 sk = 0;

	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)ctx + bpf_core_field_offset(struct bpf_sock_ops_kern, sk));
	return sk;
}

/* A client calls connect(2): only here is the task its own, so note the executable. */
static __always_inline void ac_pair_connect(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ac_exe_key exe;
	struct ac_sock *st;

	if (!sk || !ac_exe_current(&exe))
		return;
	/* A socket that was connected before, and is again: nothing of what was known of it holds. */
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (st)
		__builtin_memset(st, 0, sizeof(*st));
	ac_note_connect(bpf_get_socket_cookie(ctx), &exe);
	ac_exe_get(&exe, (void *)bpf_get_current_task());
}

static __always_inline void ac_pair_listen(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct ac_listener listener = {};

	if (!ac_exe_current(&listener.exe))
		return;
	bpf_map_update_elem(&ac_listen, &cookie, &listener, BPF_ANY);
	ac_exe_get(&listener.exe, (void *)bpf_get_current_task());
}

/* What a request socket says: the numbers of both ends, and who listens. False: not to be paired. */
static __always_inline bool ac_request_look(__u64 addr, struct ac_key *key, __u64 *listener)
{
	if (bpf_rdonly_cast) {
		struct tcp_request_sock *treq = AC_CAST(struct tcp_request_sock, addr);
		struct request_sock *req = AC_CAST(struct request_sock, addr);
		struct sock *lsk;

		if (bpf_core_field_exists(treq->is_mptcp) && treq->is_mptcp)
			return false;
		key->client_seq = treq->rcv_isn + 1;
		key->server_seq = treq->snt_isn + 1;
		lsk = AC_CAST(struct sock, req->__req_common.skc_listener); /* of a union: a number to the verifier */
		*listener = lsk->__sk_common.skc_cookie.counter;
	} else {
		struct tcp_request_sock *treq = (void *)addr;
		struct request_sock *req = (void *)addr;

		if (bpf_core_field_exists(treq->is_mptcp) && BPF_CORE_READ(treq, is_mptcp))
			return false;
		key->client_seq = BPF_CORE_READ(treq, rcv_isn) + 1;
		key->server_seq = BPF_CORE_READ(treq, snt_isn) + 1;
		*listener = BPF_CORE_READ(req, __req_common.skc_listener, __sk_common.skc_cookie.counter);
	}
	return true;
}

/* BPF_SOCK_OPS_RWND_INIT on a request socket: tcp_conn_request() has set both ISNs and not sent the SYN-ACK. */
static __always_inline void ac_pair_announce(struct bpf_sock_ops *ctx)
{
	__u64 req = ac_ctx_sk(ctx);
	struct ac_listener *listener;
	struct ac_pend pend = { .why = AC_WHY_NO_PEER };
	struct ac_key key;

	if (!req || !ac_request_look(req, &key, &pend.listener))
		return;
	listener = bpf_map_lookup_elem(&ac_listen, &pend.listener);
	if (listener) {
		pend.server_exe = listener->exe;
		pend.brief = listener->brief > AC_BRIEF_MAX / 4 * 3;
	}
	ac_count(AC_STAT_ANNOUNCED);
	if (!ac_pend_put(&key, &pend))
		ac_count(AC_STAT_POISONED);
}

/* Is this bit of enum sock_flags set? Its place differs between kernels. */
#define ac_sock_flag(sk, bit) ((sk)->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, bit) & 1)

/* What in the socket itself speaks against joining; the same for both ends. */
static __always_inline enum ac_why ac_sock_why(struct bpf_sock_ops *ctx, struct ac_ctl *ctl, struct tcp_sock *tp)
{
	__u32 local = ctx->local_port, remote = bpf_ntohl(ctx->remote_port);
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	if (!ctl->on)
		return AC_WHY_OFF;
	if (ctl->exclude && ac_port_has(local, remote, AC_PORT_EXCLUDE))
		return AC_WHY_PORT;
	if (ctl->select && !ac_port_has(local, remote, AC_PORT_ONLY))
		return AC_WHY_PORT;
	if (bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp)
		return AC_WHY_MPTCP;
	if (tp->inet_conn.icsk_ulp_ops)
		return AC_WHY_ULP;
	/* Options set before, or inherited from the listener; those set later ac_setsockopt sees. */
	if (sk->sk_rcvlowat > 1 || ac_sock_flag(sk, SOCK_ZEROCOPY) || ac_sock_flag(sk, SOCK_URGINLINE))
		return AC_WHY_UNFIT;
	if (BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
		return AC_WHY_KERNEL;
	/* Someone's callback data, a sockmap's or a kernel service's: the slot is taken. */
	if (sk->sk_user_data)
		return AC_WHY_BUSY;
	return AC_WHY_NONE;
}

static __always_inline enum ac_why ac_insert(struct bpf_sock_ops *ctx, __u64 self, __u64 cookie)
{
	long r = bpf_sock_hash_update(ctx, &ac_socks, &cookie, BPF_NOEXIST);

	if (!r) {
		ac_lowat_set(ctx, self, AC_LOWAT);
		return AC_WHY_NONE;
	}
	if (r == -7 /* E2BIG */ || r == -12 /* ENOMEM */) {
		ac_count(AC_STAT_MAP_FULL);
		return AC_WHY_FULL;
	}
	ac_count(AC_STAT_BUSY);
	return AC_WHY_BUSY;
}

/*
 * A connection that carries one request gains nothing by being joined, and the joining costs as much as the
 * request. Each listener has a score of how short its connections have been (few sends by the server); above
 * three quarters they start on TCP, and those that last are joined by user space's next walk. Called at close.
 */
#define AC_BRIEF_SENDS 2

static __always_inline void ac_habit(__u64 of_listener, __u64 sends)
{
	struct ac_listener *listener = bpf_map_lookup_elem(&ac_listen, &of_listener);

	if (!listener)
		return;
	/* Eight of one kind and a few more tip the scale; races lose a step at worst. */
	if (sends <= AC_BRIEF_SENDS)
		listener->brief += (AC_BRIEF_MAX - listener->brief) / 8;
	else
		listener->brief -= listener->brief / 4;
}

/*
 * Called when TCP makes up a packet of a joined socket, of which there are few. A packet without data, while
 * bytes wait and none is on its way: the window is closed, and TCP probes it. A packet with data: it is open.
 */
static __always_inline void ac_lowat_adapt(struct bpf_sock_ops *ctx, struct tcp_sock *tp)
{
	if (ctx->skb_len)
		ac_lowat_set(ctx, (__u64)tp, AC_LOWAT);
	else if (!tp->packets_out && tp->write_seq != tp->snd_nxt)
		ac_lowat_set(ctx, (__u64)tp, 0);
}

static __always_inline void ac_space_note(struct tcp_sock *tp)
{
	struct net *net = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net;
	__u32 inum = net->ns.inum, one = 1;

	if (!bpf_map_lookup_elem(&ac_spaces, &inum))
		bpf_map_update_elem(&ac_spaces, &inum, &one, BPF_ANY);
}

/*
 * Of short connections one server in eight is asked at its end whether they still are. Cookies are given out in turn, so
 * their low bits may say which end it is: 2^64 divided by the golden ratio spreads them.
 */
static __always_inline bool ac_is_asked(__u64 server_cookie)
{
	return !((server_cookie * 0x9e3779b97f4a7c15ULL) >> 61);
}

/* Follows a pair that is not joined as far as its programs are still being learned, or someone watches. */
static __always_inline void ac_watch(struct bpf_sock_ops *ctx, struct ac_sock *st, enum ac_why why)
{
	int flags = BPF_SOCK_OPS_STATE_CB_FLAG;

	st->state = AC_SOCK_WATCHED;
	st->why = why;
	st->read_seq = st->is_server ? st->key.client_seq : st->key.server_seq;
	if (why == AC_WHY_LEARNING)
		flags = AC_WATCH_FLAGS;
	else if (why == AC_WHY_BRIEF)
		flags = BPF_SOCK_OPS_RTT_CB_FLAG;
	if (why == AC_WHY_BRIEF && st->is_server && ac_is_asked(st->cookie))
		flags |= BPF_SOCK_OPS_STATE_CB_FLAG;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

/* What is noted of either end at its birth. NULL: there is no room, which is counted. */
static __always_inline struct ac_sock *ac_sock_born(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
						    const struct ac_key *key, struct tcp_sock *tp)
{
	struct ac_sock *st = bpf_sk_storage_get(&ac_sk, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!st) {
		ac_count(AC_STAT_MAP_FULL);
		return NULL;
	}
	st->cookie = bpf_get_socket_cookie(ctx);
	st->self = (__u64)tp;
	st->key = *key;
	st->born_ns = bpf_ktime_get_ns();
	return st;
}

/* What speaks against joining the client of this announcement. */
static __always_inline enum ac_why ac_client_why(struct bpf_sock_ops *ctx, struct ac_ctl *ctl, struct tcp_sock *tp,
						 const struct ac_pend *pend, const struct ac_exe_key *exe)
{
	enum ac_why why = ac_sock_why(ctx, ctl, tp);

	/* tcp_finish_connect() of TCP_REPAIR has no packet, and its numbers are the caller's choice. */
	if (!why && (!ctx->skb_len || (ctx->skb_tcp_flags & (TCPHDR_SYN | TCPHDR_ACK)) != (TCPHDR_SYN | TCPHDR_ACK)))
		why = AC_WHY_REPAIR;
	if (!why && pend->poisoned)
		why = AC_WHY_DUPLICATE;
	if (!why)
		why = ac_exe_why(exe);
	if (!why)
		why = ac_exe_why(&pend->server_exe);
	if (!why && pend->brief) {
		why = AC_WHY_BRIEF;
		ac_count(AC_STAT_BRIEF);
	}
	return why;
}

/* Is a note enough for this end of a connection to a listener with short ones? Who is learned of is watched. */
static __always_inline bool ac_is_light(bool brief, enum ac_why why)
{
	return brief && (why == AC_WHY_BRIEF || why == AC_WHY_SLEEPS || why == AC_WHY_SPLICES || why == AC_WHY_UNFIT ||
			 why == AC_WHY_MAY_SPLICE);
}

/* Makes the note, the rest of which is the caller's. If the connection lasts, an ACK will tell (ac_rtt). */
static __always_inline void ac_light(struct bpf_sock_ops *ctx, struct ac_noted *of, struct tcp_sock *tp,
				     const struct ac_key *key, enum ac_why why)
{
	struct ac_ctl *ctl = ac_ctl_get();
	__u32 flags = ctx->bpf_sock_ops_cb_flags;

	of->self = (__u64)tp;
	of->key = *key;
	of->born = ac_tick_of(tp);
	of->why = why;
	ac_note_put(of);
	if (why == AC_WHY_BRIEF)
		flags |= BPF_SOCK_OPS_RTT_CB_FLAG;
	if (ctl && ac_is_traced(ctl, AC_EVENT_CLOSED))
		flags |= BPF_SOCK_OPS_STATE_CB_FLAG;
	if (flags != ctx->bpf_sock_ops_cb_flags)
		bpf_sock_ops_cb_flags_set(ctx, flags);
}

static __always_inline void ac_pair_client(struct bpf_sock_ops *ctx, struct ac_ctl *ctl)
{
	struct ac_key key = { .client_seq = ctx->snd_nxt, .server_seq = ctx->rcv_nxt };
	struct ac_noted of = {};
	struct bpf_sock *sk = ctx->sk;
	struct ac_pend pend;
	struct tcp_sock *tp;
	struct ac_sock *st = NULL;
	enum ac_why why;

	if (!sk)
		return;
	of.cookie = bpf_get_socket_cookie(ctx);
	tp = ac_pend_claim(&key, of.cookie, &pend) ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (!tp) {
		bpf_sk_storage_delete(&ac_sk, sk);
		ac_count(AC_STAT_REMOTE);
		return;
	}
	ac_space_note(tp);
	ac_note_exe(of.cookie, &of.exe);
	of.peer_exe = pend.server_exe;
	if (pend.client_cookie != of.cookie)
		ac_count(AC_STAT_POISONED);
	why = ac_client_why(ctx, ctl, tp, &pend, &of.exe);
	if (ac_is_light(pend.brief, why)) {
		bpf_sk_storage_delete(&ac_sk, sk);
		ac_light(ctx, &of, tp, &key, why);
	} else {
		st = ac_sock_born(ctx, sk, &key, tp);
		if (!st)
			return;
		st->exe = of.exe;
		st->peer_exe = of.peer_exe;
		st->peer_forced = ac_exe_forced(&st->peer_exe);
		if (!why)
			why = ac_insert(ctx, st->self, st->cookie);
	}
	ac_count(AC_STAT_LOCAL);

	pend.client = (__u64)tp;
	pend.client_exe = of.exe;
	pend.client_cookie = of.cookie;
	pend.client_st = (__u64)st;
	pend.why = why;
	ac_pend_tell(&key, &pend);
	if (!st)
		return;
	if (why) {
		ac_watch(ctx, st, why);
	} else {
		st->state = AC_SOCK_JOINED;
		st->tx_why = AC_WHY_NO_PEER;
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | AC_JOIN_FLAGS);
	}
}

/* Takes the record of the handshake. False: there is none, or its client is elsewhere. */
static __always_inline bool ac_server_pend(const struct ac_key *key, struct ac_pend *ret)
{
	if (!ac_pend_take(key, ret)) {
		ac_count(AC_STAT_PEND_LOST);
		return false;
	}
	if (!ret->client_cookie)
		ac_count(AC_STAT_REMOTE);
	return ret->client_cookie;
}

/* The server of a short connection. */
static __always_inline void ac_server_light(struct bpf_sock_ops *ctx, struct tcp_sock *tp, const struct ac_key *key,
					    const struct ac_pend *pend, enum ac_why why)
{
	struct ac_noted of = {
		.cookie = bpf_get_socket_cookie(ctx),
		.exe = pend->server_exe,
		.peer_exe = pend->client_exe,
		.peer = pend->client,
		.peer_cookie = pend->client_cookie,
		.listener = pend->listener,
		.is_server = 1,
	};

	ac_light(ctx, &of, tp, key, why);
	if (ac_is_asked(of.cookie))
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	ac_event_noted(&of, AC_EVENT_ESTABLISHED);
}

static __always_inline void ac_pair_server(struct bpf_sock_ops *ctx, struct ac_ctl *ctl)
{
	struct ac_key key = { .client_seq = ctx->rcv_nxt, .server_seq = ctx->snd_nxt };
	struct bpf_sock *sk = ctx->sk;
	struct ac_peer peer = {};
	struct ac_pend pend;
	struct tcp_sock *tp;
	struct ac_sock *st;
	enum ac_why why;

	tp = sk && ac_server_pend(&key, &pend) ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (!tp)
		return;
	ac_space_note(tp);
	why = pend.poisoned ? AC_WHY_DUPLICATE : pend.why;
	if (!pend.client_st) {
		ac_note_peer(pend.client_cookie, (__u64)tp, bpf_get_socket_cookie(ctx));
		if (ac_is_light(pend.brief, why)) {
			ac_server_light(ctx, tp, &key, &pend, why);
			return;
		}
	}
	st = ac_sock_born(ctx, sk, &key, tp);
	if (!st)
		return;
	st->is_server = 1;
	st->listener = pend.listener;
	st->exe = pend.server_exe;
	st->peer_exe = pend.client_exe;
	st->peer_forced = ac_exe_forced(&st->peer_exe);
	st->peer = pend.client;
	st->peer_cookie = pend.client_cookie;
	st->peer_st = pend.client_st;

	if (!why)
		why = ac_sock_why(ctx, ctl, tp);
	if (!why)
		why = ac_insert(ctx, st->self, st->cookie);
	if (pend.client_st) {
		peer.server = st->self;
		peer.server_cookie = st->cookie;
		peer.server_st = (__u64)st;
		bpf_map_update_elem(&ac_peers, &pend.client_cookie, &peer, BPF_ANY);
	}
	if (why) {
		ac_watch(ctx, st, why);
	} else {
		st->state = AC_SOCK_JOINED;
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | AC_JOIN_FLAGS);
		ac_count(AC_STAT_JOINED);
	}
	ac_event_sock(st, AC_EVENT_ESTABLISHED, why, false);
}
