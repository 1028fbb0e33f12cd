/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Notes of sockets that have no storage.
 *
 * To make a socket's storage and to free it costs 0.6 to 1 us, a tenth of a short connection between two local programs
 * (docs/sockmap-notes.md, "What a connection costs"). Two kinds of sockets do without: one between connect(2) and
 * ESTABLISHED, whose peer may be elsewhere, and both ends of a short connection. What must be remembered of them
 * stands in a fixed table, at the place that their cookie says. A later socket of the same place overwrites it, so
 * a note is a hint whose loss costs no more than a joining: who finds another cookie has found nothing.
 *
 * There is no lock. Who writes puts AC_NOTE_BUSY in the cookie's place first, and whoever meets that gives up; who reads
 * looks at the count of writes and at the cookie before and after, in this order before.
 */
#pragma once

#include "bpf/ac_maps.bpf.h"

/* A connection of a listener with short ones that is older than this lasts: 300 ms. */
#define AC_LASTS_TICKS 293

#define AC_NOTE_BUSY ~0ULL

/* Time in units of 1024 us: by the socket's own clock, which TCP has set as the packet came, and the same asked for. */
static __always_inline __u32 ac_tick_of(const struct tcp_sock *tp)
{
	return (__u32)(tp->tcp_mstamp >> 10);
}

static __always_inline __u32 ac_tick(__u64 ns)
{
	return (__u32)((ns / 1000) >> 10);
}

/* Signed: a packet may have been stamped just before the clock was asked for the other. */
static __always_inline bool ac_lasts(__u32 born, __u32 now)
{
	return (__s32)(now - born) >= AC_LASTS_TICKS;
}

static __always_inline struct ac_noted *ac_note_slot(__u64 cookie)
{
	__u32 i = cookie & (AC_NOTES - 1);

	return bpf_map_lookup_elem(&ac_notes, &i);
}

#define AC_NOTE_LOOK(field) (*(volatile typeof(field) *)&(field))

/* To write: NULL, or the note, whose owner until ac_note_end() is the caller; *ret_was is whose it was. */
static __always_inline struct ac_noted *ac_note_begin(__u64 cookie, __u64 *ret_was)
{
	struct ac_noted *n = ac_note_slot(cookie);

	if (!n)
		return NULL;
	*ret_was = __sync_lock_test_and_set(&n->cookie, AC_NOTE_BUSY);
	if (*ret_was == AC_NOTE_BUSY)
		return NULL;
	n->writes++;
	return n;
}

static __always_inline void ac_note_end(struct ac_noted *n, __u64 cookie)
{
	ac_barrier();
	AC_NOTE_LOOK(n->cookie) = cookie;
}

/* Copies the note of this socket; false: there is none. */
static __always_inline bool ac_note_read(__u64 cookie, struct ac_noted *ret)
{
	struct ac_noted *n = ac_note_slot(cookie);
	__u32 writes;

	if (!n)
		return false;
	writes = AC_NOTE_LOOK(n->writes);
	ac_barrier();
	if (AC_NOTE_LOOK(n->cookie) != cookie)
		return false;
	ac_barrier();
	*ret = *n;
	ac_barrier();
	return AC_NOTE_LOOK(n->writes) == writes && AC_NOTE_LOOK(n->cookie) == cookie;
}

/* connect(2) was called: by this executable. */
static __always_inline void ac_note_connect(__u64 cookie, const struct ac_exe_key *exe)
{
	__u64 was;
	struct ac_noted *n = ac_note_begin(cookie, &was);

	if (!n)
		return;
	n->exe = *exe;
	n->st = 0;
	n->why = AC_WHY_NONE;
	ac_note_end(n, cookie);
}

/* Which executable called connect(2); unless it is found, ret is the unknown one: the note was lost. */
static __always_inline void ac_note_exe(__u64 cookie, struct ac_exe_key *ret)
{
	struct ac_noted *n = ac_note_slot(cookie);
	struct ac_exe_key exe;
	__u32 writes;

	ret->ino = 0;
	ret->dev = ret->pad = 0;
	if (!n)
		return;
	writes = AC_NOTE_LOOK(n->writes);
	ac_barrier();
	if (AC_NOTE_LOOK(n->cookie) != cookie)
		return;
	ac_barrier();
	exe = n->exe;
	ac_barrier();
	if (AC_NOTE_LOOK(n->writes) == writes && AC_NOTE_LOOK(n->cookie) == cookie)
		*ret = exe;
}

/* Notes one end of a short connection. */
static __always_inline void ac_note_put(const struct ac_noted *of)
{
	__u64 was;
	struct ac_noted *n = ac_note_begin(of->cookie, &was);

	if (!n)
		return;
	n->born = of->born;
	n->exe = of->exe;
	n->peer_exe = of->peer_exe;
	n->key = of->key;
	n->self = of->self;
	n->peer = of->peer;
	n->peer_cookie = of->peer_cookie;
	n->listener = of->listener;
	n->st = 0;
	n->why = of->why;
	n->is_server = of->is_server;
	ac_note_end(n, of->cookie);
}

/* Tells a client of which there is a note who its server is. */
static __always_inline void ac_note_peer(__u64 cookie, __u64 peer, __u64 peer_cookie)
{
	__u64 was;
	struct ac_noted *n = ac_note_begin(cookie, &was);

	if (!n)
		return;
	if (was == cookie) {
		n->peer = peer;
		n->peer_cookie = peer_cookie;
	}
	ac_note_end(n, was);
}

/* Finds the note of one end of a short connection. */
static __always_inline bool ac_note_get(__u64 cookie, struct ac_noted *ret)
{
	return cookie && ac_note_read(cookie, ret) && ret->why != AC_WHY_NONE;
}

/* The same, and only when it began: at each acknowledgement. What is misread costs a walk at worst. */
static __always_inline bool ac_note_born(__u64 cookie, __u32 *ret)
{
	struct ac_noted *n = ac_note_slot(cookie);

	if (!n || n->cookie != cookie || n->why == AC_WHY_NONE)
		return false;
	*ret = n->born;
	return true;
}

/* What a note says of its socket, as its storage would. */
static __always_inline void ac_note_tell(struct ac_sock *ret, const struct ac_noted *of)
{
	ret->cookie = of->cookie;
	ret->self = of->self;
	ret->key = of->key;
	ret->born_ns = ((__u64)of->born << 10) * 1000;
	ret->exe = of->exe;
	ret->peer_exe = of->peer_exe;
	ret->listener = of->listener;
	ret->is_server = of->is_server;
	ret->peer = of->peer;
	ret->peer_cookie = of->peer_cookie;
	ret->state = AC_SOCK_WATCHED;
	ret->why = of->why;
}

/* Where the storage of a socket is that is about to be joined late; its peer asks for it. */
static __always_inline void ac_note_st(__u64 cookie, __u64 st)
{
	__u64 was;
	struct ac_noted *n = ac_note_begin(cookie, &was);

	if (!n)
		return;
	n->st = st;
	n->why = AC_WHY_NONE;
	ac_note_end(n, cookie);
}

/* 0: not known. */
static __always_inline __u64 ac_note_st_of(__u64 cookie)
{
	struct ac_noted *n = ac_note_slot(cookie);
	__u64 st;

	if (!n || AC_NOTE_LOOK(n->cookie) != cookie)
		return 0;
	ac_barrier();
	st = AC_NOTE_LOOK(n->st);
	ac_barrier();
	return AC_NOTE_LOOK(n->cookie) == cookie ? st : 0;
}
