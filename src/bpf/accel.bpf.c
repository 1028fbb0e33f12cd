// SPDX-License-Identifier: GPL-2.0
/*
 * The accelerator: two TCP sockets of one machine hand each other their bytes without the TCP/IP stack.
 *
 *   ac_sockops   sees connections come and go; pairs and joins them        ac_pair.bpf.h
 *   ac_msg       chooses the way of each send                              ac_way.bpf.h
 *   ac_skb       lets TCP's bytes into the one receive queue               below
 *   ac_splice    learns which programs must not be joined                  ac_learn.bpf.h
 *   ac_*         iterators: listeners, the socket table, moving sockets    ac_iter.bpf.h
 *
 * What must stay true: a byte sent is read once, in order, by the socket at the other end of its connection
 * and by no other; a socket whose peer is elsewhere pays nothing; and in any doubt TCP does what it always did.
 */
#include "bpf/ac_iter.bpf.h"
#include "bpf/ac_pair.bpf.h"
#include "bpf/ac_way.bpf.h"

/* The number of splice(2) on this machine, set by user space. */
const volatile __u32 ac_nr_splice = 275;

char LICENSE[] SEC("license") = "GPL";

static __always_inline void ac_state_change(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ac_sock *st;

	if (ctx->args[1] != BPF_TCP_CLOSE || !sk)
		return;
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!st)
		return;
	if (st->state == AC_SOCK_WATCHED && st->why == AC_WHY_LEARNING)
		ac_learn_read(st);
	if (st->listener)
		ac_habit(st);
	ac_event_sock(st, AC_EVENT_CLOSED, st->state == AC_SOCK_JOINED ? st->tx_why : st->why, false);
}

static __always_inline void ac_rtt(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ac_sock *st = sk ? bpf_sk_storage_get(&ac_sk, sk, NULL, 0) : NULL;

	if (!st || st->state != AC_SOCK_WATCHED || st->why != AC_WHY_LEARNING)
		return;
	ac_learn_read(st);
	/* Learned enough: no more callbacks at each ACK. */
	if (ac_exe_why(&st->exe) != AC_WHY_LEARNING)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
}

/* Always returns 1 and never writes reply: other programs of the hierarchy have their say. */
SEC("sockops")
int ac_sockops(struct bpf_sock_ops *ctx)
{
	struct ac_ctl *ctl = ac_ctl_get();

	if (!ctl)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (ctl->on)
			ac_pair_connect(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		ac_pair_listen(ctx);
		break;
	case BPF_SOCK_OPS_RWND_INIT:
		if (ctl->on && !ctx->is_fullsock)
			ac_pair_announce(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		ac_pair_client(ctx, ctl);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		ac_pair_server(ctx, ctl);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		ac_lowat_adapt(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		ac_state_change(ctx);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		ac_rtt(ctx);
		break;
	}
	return 1;
}

/* Always SK_PASS: without a redirect that is TCP, and a redirect that missed must not become EACCES. */
SEC("sk_msg")
int ac_msg(struct sk_msg_md *msg)
{
	struct ac_ctl *ctl = ac_ctl_get();
	struct bpf_sock *sk = msg->sk;
	struct ac_sock *st;
	enum ac_why why;

	if (!ctl || !sk)
		return SK_PASS;
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!st)
		return SK_PASS;
	why = ac_way(st, ctl);
	if (!why && bpf_msg_redirect_hash(msg, &ac_socks, &st->peer_cookie, BPF_F_INGRESS) != SK_PASS)
		why = AC_WHY_PEER_GONE;
	ac_way_note(st, why, msg->size);
	return SK_PASS;
}

/*
 * Pass-only. Its presence makes the kernel move what TCP receives into the sockmap's queue, behind and before
 * what was redirected: one queue, one order, one FIONREAD, and window updates as the program reads.
 */
SEC("sk_skb")
int ac_skb(struct __sk_buff *skb)
{
	return SK_PASS;
}

/* Where the kernel has fentry: every splice is seen before it looks for data, and nobody else pays. */
SEC("fentry/tcp_splice_read")
int ac_splice(__u64 *ctx)
{
	struct socket *sock = (void *)ctx[0];
	struct sock *sk = sock->sk;

	if (sk)
		ac_splice_seen(sk);
	return 0;
}

/*
 * Where it has not: every read of TCP's own queue ends in tcp_rcv_space_adjust(), in the reader's context. This
 * sees a splice when it has moved its first bytes, which is in time on plain TCP only; hence AC_EXE_ABLE.
 */
SEC("tp_btf/tcp_rcv_space_adjust")
int ac_splice_tp(__u64 *ctx)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct sock *sk = (void *)ctx[0];
	__u64 nr;

	if (bpf_core_field_exists(regs->orig_ax))
		nr = regs->orig_ax;
	else
		nr = regs->syscallno;
	if (nr == ac_nr_splice && sk)
		ac_splice_seen(sk);
	return 0;
}

#define MSG_OOB 0x1
#define MSG_TRUNC 0x20
#define MSG_WAITALL 0x100
#define AC_UNFIT_FLAGS (MSG_OOB | MSG_TRUNC | MSG_WAITALL)

static __always_inline void ac_flags_seen(struct sock *sk, int flags)
{
	struct ac_sock *st;

	if (!(flags & AC_UNFIT_FLAGS) || !sk)
		return;
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (st)
		ac_unfit_seen(st);
}

/*
 * The flags of each call that receives, of every protocol: the first test is all that most of them cost. Urgent
 * data needs a receiver that asks for it, by MSG_OOB or SO_OOBINLINE, so what is sent need not be watched.
 */
SEC("tp_btf/sock_recv_length")
int ac_recv_flags(__u64 *ctx)
{
	ac_flags_seen((struct sock *)ctx[0], (int)ctx[2]);
	return 0;
}

/*
 * Kernels before 6.3 have no such tracepoint; those have fentry. Not tcp_recvmsg(): a joined socket does not come
 * there.
 */
SEC("fentry/security_socket_recvmsg")
int ac_recv_fentry(__u64 *ctx)
{
	struct socket *sock = (void *)ctx[0];

	ac_flags_seen(sock->sk, (int)ctx[3]);
	return 0;
}

#define SOL_SOCKET 1
#define SO_RCVLOWAT 18
#define SO_ZEROCOPY 60
#define TCP_ULP 31

/* Options that a joined socket cannot honour. Never changes the call itself. */
SEC("cgroup/setsockopt")
int ac_setsockopt(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ac_sock *st;

	if (!((ctx->level == SOL_SOCKET && (ctx->optname == SO_RCVLOWAT || ctx->optname == SO_ZEROCOPY)) ||
	      (ctx->level == SOL_TCP && ctx->optname == TCP_ULP)))
		return 1;
	st = sk ? bpf_sk_storage_get(&ac_sk, sk, NULL, 0) : NULL;
	if (st)
		ac_unfit_seen(st);
	return 1;
}

#define FIONREAD 0x541b

/*
 * Kernels before tcp_bpf_ioctl() answer FIONREAD with TCP's bytes alone, and nginx believes a full socket to be
 * empty. Where the answer is written to the caller's memory (before Linux 6.5), add what is missing there.
 */
SEC("fexit/tcp_ioctl")
int ac_fionread(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	void *answer = (void *)ctx[2];
	struct ac_sock *st;
	__u32 bytes, more;

	if ((__u32)ctx[1] != FIONREAD || (int)ctx[3] || !sk)
		return 0;
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!st || st->state != AC_SOCK_JOINED)
		return 0;
	more = ac_joined_queued(sk);
	if (!more || bpf_probe_read_user(&bytes, sizeof(bytes), answer))
		return 0;
	bytes += more;
	bpf_probe_write_user(answer, &bytes, sizeof(bytes));
	return 0;
}

/* At start: the executables of listeners that were there before us. */
SEC("iter/task_file")
int ac_walk_listen(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct ac_listener listener = {};
	struct socket *sock;
	struct sock *sk;
	__u64 cookie;

	if (!task || !file)
		return 0;
	sock = bpf_sock_from_file(file);
	if (!sock)
		return 0;
	sk = sock->sk;
	if (!sk || sk->__sk_common.skc_state != TCP_LISTEN)
		return 0;
	if (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6)
		return 0;
	if (!ac_exe_of(task, &listener.exe))
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	bpf_map_update_elem(&ac_listen, &cookie, &listener, BPF_NOEXIST);
	ac_exe_get(&listener.exe, task);
	return 0;
}

/* Which process runs which executable, so that user space can look at the file. */
SEC("iter/task")
int ac_walk_exes(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct ac_task_exe rec = {};

	if (!task || task->pid != task->tgid || !ac_exe_of(task, &rec.exe))
		return 0;
	rec.pid = task->tgid;
	bpf_seq_write(ctx->meta->seq, &rec, sizeof(rec));
	return 0;
}

/* For `waggle sockets`: one record for each socket with a local peer, in every namespace. */
SEC("iter/bpf_sk_storage_map")
int ac_dump(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct ac_sock *st = ctx->value;
	struct ac_sock_dump d = {};
	struct sock *sk = ctx->sk;
	struct tcp_sock *tp;
	__u64 psock;

	if (!sk || !st || st->state == AC_SOCK_NEW)
		return 0;
	__builtin_memcpy(&d.sock, st, sizeof(d.sock));
	if (!d.sock.peer_cookie) {
		struct ac_peer *peer = bpf_map_lookup_elem(&ac_peers, &d.sock.cookie);

		if (peer)
			d.sock.peer_cookie = peer->server_cookie;
	}
	ac_fill_addrs((__u64)sk, d.local_addr, d.remote_addr, &d.local_port, &d.remote_port, &d.family, &d.netns);
	tp = (struct tcp_sock *)sk;
	d.sock.tcp_bytes = BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
	d.tcp_state = BPF_CORE_READ(sk, __sk_common.skc_state);
	d.inode = BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
	d.cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	d.rmem_bytes = BPF_CORE_READ(sk, sk_backlog.rmem_alloc.counter);
	d.rcvbuf_bytes = BPF_CORE_READ(sk, sk_rcvbuf);
	psock = (__u64)BPF_CORE_READ(sk, sk_user_data) & SK_USER_DATA_PTRMASK;
	d.in_map = st->state == AC_SOCK_JOINED && psock;
	bpf_seq_write(ctx->meta->seq, &d, sizeof(d));
	return 0;
}

static __always_inline void ac_move_left(struct bpf_iter__tcp *ctx, struct ac_sock *st, enum ac_why why)
{
	struct ac_move_left left = { .cookie = st->cookie, .why = why };

	bpf_seq_write(ctx->meta->seq, &left, sizeof(left));
}

/* Under the socket's lock, with nothing queued: from here on it is plain TCP. */
static __always_inline void ac_take_out(struct tcp_sock *tp, struct ac_sock *st, enum ac_why why)
{
	if (bpf_map_delete_elem(&ac_socks, &st->cookie))
		return;
	ac_lowat_set(tp, tp, 0);
	st->state = AC_SOCK_WATCHED;
	st->why = why;
	ac_count(AC_STAT_LEFT);
	ac_event_sock(st, AC_EVENT_LEFT, why, false);
}

static __always_inline void ac_move_leave(struct bpf_iter__tcp *ctx, struct tcp_sock *tp, struct ac_sock *st)
{
	if (ac_has_queued((struct sock *)tp) || ac_psock_used((struct sock *)tp))
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
	__u32 *odd = bpf_map_lookup_elem(&ac_odd, &st->cookie);
	bool queued = ac_has_queued(sk);
	enum ac_why why;

	if (!odd)
		return;
	why = *odd;
	if (!queued && !ac_psock_used(sk) && (why == AC_WHY_SPLICES || !ac_has_sleeper(sk))) {
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

#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008

/* A connection of a listener with short ones that is older than this lasts. */
#define AC_LASTS_NS 300000000ULL

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
	if (st->why == AC_WHY_BRIEF && bpf_ktime_get_ns() - st->born_ns < AC_LASTS_NS)
		return false;
	return !ac_has_sleeper(sk);
}

/* The first walk marks who is fit, and lets clients learn of their servers. */
static __always_inline void ac_join_mark(struct tcp_sock *tp, struct ac_sock *st)
{
	__u32 ready = AC_READY;

	if (!ac_join_fit(tp, st))
		return;
	if (!st->peer) {
		struct ac_peer *peer = bpf_map_lookup_elem(&ac_peers, &st->cookie);

		if (!peer)
			return;
		st->peer = peer->server;
		st->peer_cookie = peer->server_cookie;
		bpf_map_delete_elem(&ac_peers, &st->cookie);
	}
	bpf_map_update_elem(&ac_ready, &st->cookie, &ready, BPF_NOEXIST);
}

/* Puts the socket into the map. False: it has to wait. */
static __always_inline bool ac_join_put(struct tcp_sock *tp, struct ac_sock *st)
{
	int flags = AC_JOIN_FLAGS;
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
	/* One that was taken for brief has not asked for it; where the kernel cannot (before 6.8), it does without. */
	if (st->why == AC_WHY_BRIEF)
		bpf_setsockopt(tp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
	st->state = AC_SOCK_JOINED;
	st->why = AC_WHY_NONE;
	st->tx_why = AC_WHY_NO_PEER;
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
	if (st->state != AC_SOCK_WATCHED || (st->why != AC_WHY_LEARNING && st->why != AC_WHY_BRIEF))
		return;
	if (ac_exe_why(&st->exe) || ac_exe_why(&st->peer_exe))
		return;
	if (ac_move_args.commit)
		ac_join_commit(ctx, tp, st);
	else
		ac_join_mark(tp, st);
}

/* The kernel holds each socket's lock while this runs (bpf_iter_tcp_seq_show), for the reader's namespace. */
SEC("iter/tcp")
int ac_move(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct tcp_sock *tp;
	struct ac_sock *st;

	if (!skc)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc); /* NULL for request and time-wait sockets */
	if (!tp)
		return 0;
	st = bpf_sk_storage_get(&ac_sk, tp, NULL, 0);
	if (!st)
		return 0;
	if (ac_move_args.mode == AC_MOVE_JOIN)
		ac_move_join(ctx, tp, st);
	else if (st->state != AC_SOCK_JOINED)
		return 0;
	else if (ac_move_args.mode == AC_MOVE_LEAVE)
		ac_move_leave(ctx, tp, st);
	else
		ac_move_odd(ctx, skc, tp, st);
	return 0;
}
