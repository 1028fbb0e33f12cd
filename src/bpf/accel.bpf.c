// SPDX-License-Identifier: GPL-2.0
/*
 * The accelerator: two TCP sockets of one machine hand each other their bytes without the TCP/IP stack.
 *
 *   ac_sockops   sees connections come and go; pairs and joins them        ac_pair.bpf.h
 *   ac_msg       chooses the way of each send                              ac_way.bpf.h, ac_trip.bpf.h
 *   ac_skb       lets TCP's bytes into the one receive queue               below
 *   ac_splice    learns which programs must not be joined                  ac_learn.bpf.h, ac_wait.bpf.h
 *   ac_move      moves live sockets in and out of the map                  ac_move.bpf.h
 *   ac_*         iterators: listeners, executables, the socket table       ac_iter.bpf.h
 *
 * What must stay true: a byte sent is read once, in order, by the socket at the other end of its connection
 * and by no other; a socket whose peer is elsewhere pays nothing; and in any doubt TCP does what it always did.
 */
#include "bpf/ac_move.bpf.h"
#include "bpf/ac_trip.bpf.h"

/* The number of splice(2) on this machine, set by user space. */
const volatile __u32 ac_nr_splice = 275;

char LICENSE[] SEC("license") = "GPL";

static __always_inline void ac_state_change(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	struct ac_noted of;
	struct ac_sock *st;

	if (ctx->args[1] != BPF_TCP_CLOSE || !sk)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!tp)
		return;
	if (!st) {
		if (!ac_note_get(bpf_get_socket_cookie(ctx), &of))
			return;
		/* Where closings are traced, all servers come here. */
		if (of.listener && ac_is_asked(of.cookie))
			ac_habit(of.listener, tp->data_segs_out);
		ac_event_noted(&of, AC_EVENT_CLOSED);
		return;
	}
	if (st->state == AC_SOCK_WATCHED && st->why == AC_WHY_LEARNING)
		ac_learn_read(st);
	if (st->listener)
		ac_habit(st->listener, st->joined_sends + tp->data_segs_out);
	ac_event_sock(st, AC_EVENT_CLOSED, st->state == AC_SOCK_JOINED ? st->tx_why : st->why, false);
}

/*
 * An acknowledgement at an end of a connection that was taken for short. If it has lasted, user space is to walk: it is
 * seen here, for a walk that only looks whether there is one costs more than all short connections of a second together.
 */
static __always_inline void ac_rtt_brief(struct bpf_sock_ops *ctx, const struct tcp_sock *tp, __u32 born)
{
	if (!ac_lasts(born, ac_tick_of(tp)))
		return;
	ac_count(AC_STAT_LASTS);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
}

/*
 * A packet arrives at a watched socket and acknowledges something: what its own reader does now, while what the packet
 * may bring has not been given to it, is how it waits.
 */
static __always_inline void ac_rtt(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	__u32 flags = ctx->bpf_sock_ops_cb_flags, born;
	enum ac_why mine, theirs;
	struct ac_sock *st;

	if (!tp)
		return;
	if (ac_note_born(bpf_get_socket_cookie(ctx), &born)) {
		ac_rtt_brief(ctx, tp, born);
		return;
	}
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!st || st->state != AC_SOCK_WATCHED)
		return;
	if (st->why == AC_WHY_BRIEF)
		ac_rtt_brief(ctx, tp, ac_tick(st->born_ns));
	if (st->why != AC_WHY_LEARNING)
		return;
	ac_learn_read(st);
	(void)ac_learn_wait(&st->exe, (struct sock *)st->self);
	mine = ac_exe_why(&st->exe);
	theirs = ac_exe_why(&st->peer_exe);
	/* Learned enough: no more callbacks at each ACK. */
	if (mine != AC_WHY_LEARNING)
		flags &= ~BPF_SOCK_OPS_RTT_CB_FLAG;
	if (mine == AC_WHY_LEARNING || mine == AC_WHY_NONE)
		mine = theirs;
	/* It will not be joined: no more callbacks at all but the last. */
	if (mine != AC_WHY_LEARNING && mine != AC_WHY_NONE) {
		st->why = mine;
		flags &= ~(BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	}
	if (flags != ctx->bpf_sock_ops_cb_flags)
		bpf_sock_ops_cb_flags_set(ctx, flags);
}

/* TCP makes up a packet, in the sender's call or because one came: what a joined or a watched socket has to do then. */
static __always_inline void ac_packet(struct bpf_sock_ops *ctx, const struct ac_ctl *ctl)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	struct ac_sock *st;

	if (!sk || ctx->args[0] == BPF_WRITE_HDR_TCP_CURRENT_MSS)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!tp || !st)
		return;
	if (st->state == AC_SOCK_WATCHED && st->why == AC_WHY_LEARNING) {
		ac_learn_peer(st);
		ac_learn_own(st);
	} else if (st->state == AC_SOCK_JOINED) {
		ac_lowat_adapt(ctx, tp);
		if (ctl->odd && ctx->skb_len)
			ac_leave_self(ctx, tp, st);
	}
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
		ac_packet(ctx, ctl);
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
	__u32 queued = 0;
	enum ac_why why;

	if (!ctl || !sk)
		return SK_PASS;
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	/* One that has just left may still be in the call in which it did. */
	if (!st || st->state != AC_SOCK_JOINED)
		return SK_PASS;
	if (ctl->odd)
		st->task = bpf_get_current_task();
	why = ac_way(st, ctl, &queued);
	if (!why)
		ac_trip(st, ctl);
	if (!why && !st->peer_forced && ac_peer_asleep(st->peer))
		ac_sleep_seen(st, &st->peer_exe);
	if (!why && ac_way_small(st, msg->size, queued))
		ac_odd_put(st, AC_WHY_SMALL, AC_STAT_SMALL);
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

#define MSG_DONTWAIT 0x40
#define EAGAIN 11
#define EINTR 4
#define ERESTARTSYS 512

/* Only a call that slept is interrupted; and one that must not wait is told EAGAIN, or one that slept joined. */
static __always_inline void ac_result_seen(struct sock *sk, int ret, int flags)
{
	struct ac_sock *st;

	if ((ret != -ERESTARTSYS && ret != -EINTR && ret != -EAGAIN) || (flags & MSG_DONTWAIT) || !sk)
		return;
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!st || (ret == -EAGAIN && st->state != AC_SOCK_JOINED))
		return;
	if (!(BPF_CORE_READ(sk, sk_socket, file, f_flags) & O_NONBLOCK))
		ac_sleep_seen(st, &st->exe);
}

/*
 * The flags of each call that receives, of every protocol: the first tests are all that most of them cost. Urgent
 * data needs a receiver that asks for it, by MSG_OOB or SO_OOBINLINE, so what is sent need not be watched.
 */
SEC("tp_btf/sock_recv_length")
int ac_recv_flags(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int ret = (int)ctx[1], flags = (int)ctx[2];

	ac_flags_seen(sk, flags);
	if (ret < 0)
		ac_result_seen(sk, ret, flags);
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

/* User space's verdict on an executable, unless the programs have found a worse one meanwhile. */
SEC("syscall")
int ac_decide(struct ac_decision *ctx)
{
	struct ac_exe_key key = ctx->key;
	struct ac_exe *exe = bpf_map_lookup_elem(&ac_exes, &key);
	__u32 from = ctx->from;

	ctx->done = exe && __sync_val_compare_and_swap(&exe->state, from, ctx->to) == from;
	return 0;
}

/* What is known of a socket, from its storage or from the note of it. */
static __always_inline bool ac_dump_known(struct tcp_sock *tp, struct ac_sock *ret)
{
	struct ac_sock *st = bpf_sk_storage_get(&ac_sk, tp, NULL, 0);
	struct ac_noted of;

	if (st) {
		__builtin_memcpy(ret, st, sizeof(*ret));
		return st->state != AC_SOCK_NEW;
	}
	if (!ac_note_get(BPF_CORE_READ((struct sock *)tp, __sk_common.skc_cookie.counter), &of))
		return false;
	ac_note_tell(ret, &of);
	return true;
}

/* For `waggle sockets`: one record for each socket with a local peer, of the reader's network namespace. */
SEC("iter/tcp")
int ac_dump(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct ac_sock_dump d = {};
	struct tcp_sock *tp;
	struct sock *sk;

	tp = skc ? bpf_skc_to_tcp_sock(skc) : NULL; /* NULL for request and time-wait sockets */
	if (!tp || !ac_dump_known(tp, &d.sock))
		return 0;
	sk = (struct sock *)tp;
	if (!d.sock.peer_cookie) {
		struct ac_peer *peer = bpf_map_lookup_elem(&ac_peers, &d.sock.cookie);

		if (peer)
			d.sock.peer_cookie = peer->server_cookie;
	}
	ac_fill_addrs((__u64)sk, d.local_addr, d.remote_addr, &d.local_port, &d.remote_port, &d.family, &d.netns);
	d.sock.tcp_bytes = ac_tcp_bytes((__u64)tp);
	d.tcp_state = BPF_CORE_READ(sk, __sk_common.skc_state);
	d.inode = BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
	d.cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	d.rmem_bytes = BPF_CORE_READ(sk, sk_backlog.rmem_alloc.counter);
	d.rcvbuf_bytes = BPF_CORE_READ(sk, sk_rcvbuf);
	d.in_map = d.sock.state == AC_SOCK_JOINED && (((__u64)BPF_CORE_READ(sk, sk_user_data)) & SK_USER_DATA_PTRMASK);
	bpf_seq_write(ctx->meta->seq, &d, sizeof(d));
	return 0;
}

/*
 * Where joined sockets are: for leaving, when none may be forgotten. This goes through every namespace, but has few
 * buckets and counts through one from its start for each buffer it fills, so it writes as little as can be.
 */
SEC("iter/bpf_sk_storage_map")
int ac_where(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct ac_sock *st = ctx->value;
	struct sock *sk = ctx->sk;
	__u32 netns;

	/* One that was reset leaves by itself when it is closed, and no walk meets it. */
	if (!sk || !st || st->state != AC_SOCK_JOINED || !BPF_CORE_READ(sk, sk_user_data) ||
	    BPF_CORE_READ(sk, __sk_common.skc_state) == BPF_TCP_CLOSE)
		return 0;
	netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	bpf_seq_write(ctx->meta->seq, &netns, sizeof(netns));
	return 0;
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
	if (!st && ac_move_args.mode == AC_MOVE_JOIN && !ac_move_args.commit)
		st = ac_adopt(tp);
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
