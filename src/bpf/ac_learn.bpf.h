/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Joining is earned.
 *
 * A joined socket has its bytes in the sockmap's queue. recv(2) and its relatives look there; splice(2)
 * looks into TCP's own queue alone and would sleep for ever (docker-proxy, every Go proxy, HAProxy with
 * splice-auto). The kernel leaves no way to serve such a reader, so an executable is first watched on plain
 * TCP: when its sockets' readers have advanced AC_LEARN_READS times and it never spliced, it is ripe, and user
 * space decides (src/hook/accel_learn.c); the first splice marks it for good.
 *
 * The same way an executable is marked that uses what a joined socket cannot honour: MSG_WAITALL, MSG_OOB,
 * MSG_TRUNC, SO_RCVLOWAT, SO_ZEROCOPY, TCP_ULP. On plain TCP, where it is watched, nothing is lost by the use.
 *
 * And one that sleeps in recv(2) is marked (ac_wait.bpf.h). That it was never seen asleep proves nothing, for bytes
 * may always have been there before it asked: to be ripe it must have been seen to wait in another way, or to have
 * sockets that cannot sleep, AC_LEARN_POLLS times. One that shows neither is watched on.
 *
 * The executable of a socket is the one that called connect(2) or listen(2) on it.
 */
#pragma once

#include "bpf/ac_wait.bpf.h"
#include "bpf/ac_way.bpf.h"

#define AC_LEARN_READS 32
#define AC_LEARN_POLLS 8

/* The executable of a task; false for kernel threads. */
static __always_inline bool ac_exe_of(struct task_struct *task, struct ac_exe_key *ret)
{
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);

	ret->pad = 0;
	ret->ino = 0;
	ret->dev = 0;
	if (!inode)
		return false;
	ret->ino = BPF_CORE_READ(inode, i_ino);
	ret->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	return true;
}

/* The same for the current task, by plain loads: this runs at each connect(2). */
static __always_inline bool ac_exe_current(struct ac_exe_key *ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = task->mm;

	ret->pad = 0;
	ret->ino = 0;
	ret->dev = 0;
	if (!mm || !mm->exe_file)
		return false;
	ret->ino = mm->exe_file->f_inode->i_ino;
	ret->dev = mm->exe_file->f_inode->i_sb->s_dev;
	return true;
}

/* The entry of the executable that task runs, made if need be. */
static __always_inline struct ac_exe *ac_exe_get(const struct ac_exe_key *key, struct task_struct *task)
{
	struct ac_exe *exe = bpf_map_lookup_elem(&ac_exes, key);
	struct ac_exe fresh = {};

	if (exe)
		return exe;
	fresh.state = AC_EXE_LEARNING;
	bpf_core_read_str(fresh.comm, sizeof(fresh.comm), &task->comm);
	if (bpf_map_update_elem(&ac_exes, key, &fresh, BPF_NOEXIST) == -7 /* E2BIG */)
		ac_count(AC_STAT_MAP_FULL);
	return bpf_map_lookup_elem(&ac_exes, key);
}

/* What speaks against joining a socket of this executable. */
static __always_inline enum ac_why ac_exe_why(const struct ac_exe_key *key)
{
	struct ac_exe *exe;

	if (!key->ino)
		return AC_WHY_UNKNOWN_EXE;
	exe = bpf_map_lookup_elem(&ac_exes, key);
	if (!exe)
		return AC_WHY_UNKNOWN_EXE;
	switch (exe->state) {
	case AC_EXE_TRUSTED:
		return AC_WHY_NONE;
	case AC_EXE_SPLICES:
		return AC_WHY_SPLICES;
	case AC_EXE_UNFIT:
		return AC_WHY_UNFIT;
	case AC_EXE_SLEEPS:
		return AC_WHY_SLEEPS;
	case AC_EXE_ABLE:
		return AC_WHY_MAY_SPLICE;
	default:
		return AC_WHY_LEARNING;
	}
}

/* Was it named by --trust, so that it may sleep in recv(2) and be joined all the same? */
static __always_inline bool ac_exe_forced(const struct ac_exe_key *key)
{
	struct ac_exe *exe = bpf_map_lookup_elem(&ac_exes, key);

	return exe && exe->forced;
}

/* The worse of two verdicts stays, whoever comes first; 0: one that may still become better. */
static __always_inline __u32 ac_exe_rank(__u32 state)
{
	return state == AC_EXE_SPLICES ? 3 : state == AC_EXE_UNFIT ? 2 : state == AC_EXE_SLEEPS ? 1 : 0;
}

#define AC_SWAP_TRIES 4

static __always_inline void ac_exe_set(const struct ac_exe_key *key, struct ac_exe *exe, __u32 state)
{
	int i;

	for (i = 0; i < AC_SWAP_TRIES; i++) {
		__u32 old = exe->state;

		if (ac_exe_rank(old) >= ac_exe_rank(state))
			return;
		if (__sync_val_compare_and_swap(&exe->state, old, state) == old) {
			ac_event_learned(key, exe);
			return;
		}
	}
}

/* Marks an executable for good as one that splices, or is unfit. */
static __always_inline void ac_exe_mark(const struct ac_exe_key *key, enum ac_exe_state state)
{
	struct ac_exe *exe;

	if (!key->ino)
		return;
	exe = ac_exe_get(key, (void *)bpf_get_current_task());
	if (exe)
		ac_exe_set(key, exe, state);
}

static __always_inline void ac_learn_ripe(const struct ac_exe_key *key, struct ac_exe *exe)
{
	if (exe->reads >= AC_LEARN_READS && exe->polls >= AC_LEARN_POLLS &&
	    __sync_val_compare_and_swap(&exe->state, AC_EXE_LEARNING, AC_EXE_RIPE) == AC_EXE_LEARNING)
		ac_event_learned(key, exe);
}

/* Notes that the reader of a watched socket has advanced. Called under the socket's lock. */
static __always_inline void ac_learn_read(struct ac_sock *st)
{
	struct tcp_sock *tp = (struct tcp_sock *)st->self;
	__u32 seq = BPF_CORE_READ(tp, copied_seq);
	struct ac_exe *exe;

	if (seq == st->read_seq)
		return;
	st->read_seq = seq;
	exe = bpf_map_lookup_elem(&ac_exes, &st->exe);
	if (!exe || exe->state != AC_EXE_LEARNING)
		return;
	if (!__sync_fetch_and_add(&exe->reads, 1))
		exe->read_ns = bpf_ktime_get_ns();
	ac_learn_ripe(&st->exe, exe);
}

/* Notes how the program with this key waits for the bytes of its socket. */
static __always_inline enum ac_wait ac_learn_wait(const struct ac_exe_key *key, struct sock *sk)
{
	struct ac_exe *exe = bpf_map_lookup_elem(&ac_exes, key);
	enum ac_wait wait;

	if (!exe || exe->forced)
		return AC_WAIT_UNSEEN;
	wait = ac_wait_of(sk);
	if (wait == AC_WAIT_SLEEPS) {
		ac_exe_set(key, exe, AC_EXE_SLEEPS);
	} else if (wait == AC_WAIT_POLLS && exe->state == AC_EXE_LEARNING) {
		__sync_fetch_and_add(&exe->polls, 1);
		ac_learn_ripe(key, exe);
	}
	return wait;
}

/* The same for the program at the other end, which is about to be sent something. */
static __always_inline void ac_learn_peer(struct ac_sock *st)
{
	struct sock *peer;

	if (!st->peer && !ac_way_meet(st))
		return;
	peer = (struct sock *)st->peer;
	if ((__u64)BPF_CORE_READ(peer, __sk_common.skc_cookie.counter) == st->peer_cookie)
		(void)ac_learn_wait(&st->peer_exe, peer);
}

/* The same for the socket itself, which is sending: another thread of its program may sleep in recv(2) meanwhile. */
static __always_inline void ac_learn_own(struct ac_sock *st)
{
	struct ac_exe *exe = bpf_map_lookup_elem(&ac_exes, &st->exe);

	if (exe && !exe->forced && ac_wait_of((struct sock *)st->self) == AC_WAIT_SLEEPS)
		ac_exe_set(&st->exe, exe, AC_EXE_SLEEPS);
}

static __always_inline void ac_odd_add(__u64 cookie, enum ac_why why)
{
	struct ac_odd odd = { .why = why, .ms = (__u32)(bpf_ktime_get_ns() / 1000000) };

	if (cookie)
		bpf_map_update_elem(&ac_odd, &cookie, &odd, BPF_NOEXIST);
}

/* A joined socket is used as it must not be: nothing more is redirected to it, and user space takes it out. */
static __always_inline void ac_odd_put(struct ac_sock *st, enum ac_why why, enum ac_stat stat)
{
	struct ac_ctl *ctl = ac_ctl_get();

	if (!ctl || st->state != AC_SOCK_JOINED || bpf_map_lookup_elem(&ac_odd, &st->cookie))
		return;
	if (!st->peer)
		(void)ac_way_meet(st);
	ac_odd_add(st->cookie, why);
	/* Its peer leaves too: alone in the map it would pay and gain nothing. It has nothing to do with splicing. */
	ac_odd_add(st->peer_cookie, why == AC_WHY_SPLICES ? AC_WHY_UNFIT : why);
	ctl->odd = 1;
	ac_count(stat);
	ac_event_sock(st, AC_EVENT_ODD, why, true);
}

/* The current task reads this socket by splice(2). */
static __always_inline void ac_splice_seen(struct sock *sk)
{
	struct ac_exe_key exe;
	struct ac_sock *st;

	if (ac_exe_current(&exe))
		ac_exe_mark(&exe, AC_EXE_SPLICES);
	st = bpf_sk_storage_get(&ac_sk, sk, NULL, 0);
	if (!st)
		return;
	ac_exe_mark(&st->exe, AC_EXE_SPLICES);
	ac_odd_put(st, AC_WHY_SPLICES, AC_STAT_SPLICE_LATE);
}

/* The current task uses this socket, whose peer is local, in another way that a joined one cannot honour. */
static __always_inline void ac_unfit_seen(struct ac_sock *st)
{
	struct ac_exe_key exe;

	if (ac_exe_current(&exe))
		ac_exe_mark(&exe, AC_EXE_UNFIT);
	ac_exe_mark(&st->exe, AC_EXE_UNFIT);
	ac_odd_put(st, AC_WHY_UNFIT, AC_STAT_UNFIT_LATE);
}

/*
 * The reader of this socket, or the one of what it sends, sleeps in recv(2), which was not known of its program: the
 * one with this key. A joined pair is to leave for it.
 */
static __always_inline void ac_sleep_seen(struct ac_sock *st, const struct ac_exe_key *key)
{
	struct ac_exe *exe = bpf_map_lookup_elem(&ac_exes, key);

	if (!exe || exe->forced)
		return;
	ac_exe_set(key, exe, AC_EXE_SLEEPS);
	ac_odd_put(st, AC_WHY_SLEEPS, AC_STAT_SLEEP_LATE);
}
