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
 * The executable of a socket is the one that called connect(2) or listen(2) on it.
 */
#pragma once

#include "bpf/ac_event.bpf.h"

#define AC_LEARN_READS 32

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
	fresh.first_ns = bpf_ktime_get_ns();
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
	if (exe->state == AC_EXE_TRUSTED)
		return AC_WHY_NONE;
	if (exe->state == AC_EXE_SPLICES)
		return AC_WHY_SPLICES;
	if (exe->state == AC_EXE_UNFIT)
		return AC_WHY_UNFIT;
	return exe->state == AC_EXE_ABLE ? AC_WHY_MAY_SPLICE : AC_WHY_LEARNING;
}

/* Marks an executable for good as AC_EXE_SPLICES or AC_EXE_UNFIT; the former outweighs the latter. */
static __always_inline void ac_exe_mark(const struct ac_exe_key *key, enum ac_exe_state state)
{
	struct ac_exe *exe;

	if (!key->ino)
		return;
	exe = ac_exe_get(key, (void *)bpf_get_current_task());
	if (!exe || exe->state == AC_EXE_SPLICES || exe->state == state)
		return;
	exe->state = state;
	ac_event_learned(key, exe);
}

/* Notes that the reader of a watched socket has advanced. Called under the socket's lock. */
static __always_inline void ac_learn_read(struct ac_sock *st)
{
	struct tcp_sock *tp = (struct tcp_sock *)st->self;
	__u32 seq = BPF_CORE_READ(tp, copied_seq);
	struct ac_exe *exe;
	__u32 reads;

	if (seq == st->read_seq)
		return;
	st->read_seq = seq;
	exe = bpf_map_lookup_elem(&ac_exes, &st->exe);
	if (!exe || exe->state != AC_EXE_LEARNING)
		return;
	reads = __sync_fetch_and_add(&exe->reads, 1) + 1;
	if (reads >= AC_LEARN_READS &&
	    __sync_val_compare_and_swap(&exe->state, AC_EXE_LEARNING, AC_EXE_RIPE) == AC_EXE_LEARNING)
		ac_event_learned(&st->exe, exe);
}

/* A joined socket is used as it must not be: nothing more is redirected to it, and user space takes it out. */
static __always_inline void ac_odd_put(struct ac_sock *st, enum ac_why why, enum ac_stat stat)
{
	struct ac_ctl *ctl = ac_ctl_get();
	__u32 value = why;

	if (!ctl || st->state != AC_SOCK_JOINED || bpf_map_update_elem(&ac_odd, &st->cookie, &value, BPF_NOEXIST))
		return;
	/* Its peer leaves too: alone in the map it would pay and gain nothing. */
	value = AC_WHY_UNFIT;
	if (st->peer_cookie)
		bpf_map_update_elem(&ac_odd, &st->peer_cookie, &value, BPF_NOEXIST);
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
