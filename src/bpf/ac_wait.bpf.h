/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who waits on a socket, and how.
 *
 * A reader that sleeps inside recv(2) on a joined socket is told EAGAIN by any wake-up without bytes: a signal, a
 * second reader, room for its own writer (tcp_bpf_recvmsg_parser() waits once). One that waits in poll(2), epoll or
 * io_uring sees nothing of it. Everybody who waits is in the socket's wait queue, with a function that wakes him:
 * those inside a call of the socket have woken_wake_function, all others have functions of their own.
 */
#pragma once

#include "bpf/ac_maps.bpf.h"

#define AC_WAITERS_MAX 64
#define O_NONBLOCK 04000

enum ac_wait {
	AC_WAIT_UNSEEN, /* nobody waits: nothing can be said */
	AC_WAIT_POLLS,
	AC_WAIT_SLEEPS, /* inside recv(2) */
	AC_WAIT_MANY,	/* more than can be counted, or the kernel does not tell */
};

/* Does someone wait for the socket's lock? He may be on his way to sleep in the call that fits the old state. */
static __always_inline bool ac_lock_wanted(struct sock *sk)
{
	struct list_head *head = (void *)sk + bpf_core_field_offset(struct sock, sk_lock.wq.head);

	return BPF_CORE_READ(head, next) != head;
}

struct ac_waiters {
	__u32 asleep; /* inside a call of the socket: those that read, and those that write */
	__u32 others;
	bool many;
};

static __noinline int ac_waiters_count(__u64 sk_addr, struct ac_waiters *ret)
{
	struct socket_wq *wq = BPF_CORE_READ((struct sock *)sk_addr, sk_wq);
	struct list_head *head, *pos;
	int i;

	if (!ret)
		return 0;
	ret->asleep = ret->others = ret->many = 0;
	if (!wq)
		return 0;
	head = (void *)wq + bpf_core_field_offset(struct socket_wq, wait.head);
	pos = BPF_CORE_READ(head, next);
	for (i = 0; i < AC_WAITERS_MAX; i++) {
		struct wait_queue_entry *entry;

		if (pos == head || !pos)
			return 0;
		entry = (void *)pos - bpf_core_field_offset(struct wait_queue_entry, entry);
		if (BPF_CORE_READ(entry, func) == (void *)&woken_wake_function)
			ret->asleep++;
		else
			ret->others++;
		pos = BPF_CORE_READ(pos, next);
	}
	ret->many = 1;
	return 0;
}

/*
 * Does someone sleep in a blocking call on this socket, or is about to? Under the socket's lock nobody can go to
 * sleep meanwhile. In doubt (the function's address is not known, too many waiters): yes.
 */
static __always_inline bool ac_has_sleeper(struct sock *sk)
{
	struct ac_waiters w;

	if (ac_lock_wanted(sk) || !&woken_wake_function)
		return true;
	ac_waiters_count((__u64)sk, &w);
	return w.asleep || w.many;
}

/* Cannot sleep in recv(2), whatever its program does. */
static __always_inline bool ac_is_nonblock(struct sock *sk)
{
	struct socket *sock = BPF_CORE_READ(sk, sk_socket);
	struct file *file = sock ? BPF_CORE_READ(sock, file) : NULL;

	return file && (BPF_CORE_READ(file, f_flags) & O_NONBLOCK);
}

/*
 * How the reader of this socket waits, seen at the moment when it is about to be given bytes. Without the lock, so
 * a waiter that comes or goes just now may be missed, but nobody is seen who is not there. Writers that sleep in
 * send(2) are in the same queue, and counted by the kernel.
 */
static __always_inline enum ac_wait ac_wait_of(struct sock *sk)
{
	struct socket *sock = BPF_CORE_READ(sk, sk_socket);
	bool nonblock = ac_is_nonblock(sk);
	struct ac_waiters w;

	/*
	 * Not accepted yet, or the client has not come back from connect(2), where it sleeps in the same way. After a
	 * non-blocking connect the state stays SS_CONNECTING for good: then one that has sent has come back.
	 */
	if (!sock)
		return AC_WAIT_UNSEEN;
	if (BPF_CORE_READ(sock, state) != SS_CONNECTED && !nonblock &&
	    !BPF_CORE_READ((struct tcp_sock *)sk, data_segs_out))
		return AC_WAIT_UNSEEN;
	if (!&woken_wake_function)
		return nonblock ? AC_WAIT_POLLS : AC_WAIT_MANY;
	ac_waiters_count((__u64)sk, &w);
	if (w.many)
		return AC_WAIT_MANY;
	if (w.asleep > (__u32)BPF_CORE_READ(sk, sk_write_pending))
		return AC_WAIT_SLEEPS;
	return nonblock || w.others ? AC_WAIT_POLLS : AC_WAIT_UNSEEN;
}
