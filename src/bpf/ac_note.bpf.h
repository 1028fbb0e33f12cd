/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Notes of sockets that have no storage.
 *
 * To make a socket's storage and to free it costs 0.6 to 1 us, a tenth of a short connection between two local programs
 * (docs/sockmap-notes.md, "What a connection costs"). Two kinds of sockets do without: one between connect(2) and
 * ESTABLISHED, whose peer may be elsewhere, and both ends of a short connection. What must be remembered of them
 * stands in a fixed table, at the place that their cookie says. A later socket of the same place overwrites it, so
 * a note is a hint whose loss costs no more than a joining: who finds another cookie has found nothing.
 */
#pragma once

#include "bpf/ac_maps.bpf.h"

/* A connection of a listener with short ones that is older than this lasts. */
#define AC_LASTS_MS 300

static __always_inline bool ac_lasts(__u32 born_ms)
{
	return (__u32)(bpf_ktime_get_ns() / 1000000) - born_ms >= AC_LASTS_MS;
}

static __always_inline struct ac_note *ac_note_slot(__u64 cookie)
{
	__u32 i = cookie & (AC_NOTES - 1);

	return bpf_map_lookup_elem(&ac_notes, &i);
}

/* connect(2) was called: by this executable. */
static __always_inline void ac_note_connect(__u64 cookie, const struct ac_exe_key *exe)
{
	struct ac_note *n = ac_note_slot(cookie);

	if (!n)
		return;
	bpf_spin_lock(&n->lock);
	n->of.cookie = cookie;
	n->of.exe = *exe;
	n->of.st = 0;
	n->of.why = AC_WHY_NONE;
	bpf_spin_unlock(&n->lock);
}

/* Which executable called connect(2); false, and ret is the unknown one: the note was lost. */
static __always_inline bool ac_note_exe(__u64 cookie, struct ac_exe_key *ret)
{
	struct ac_note *n = ac_note_slot(cookie);
	bool found = false;

	ret->ino = 0;
	ret->dev = ret->pad = 0;
	if (!n)
		return false;
	bpf_spin_lock(&n->lock);
	if (n->of.cookie == cookie) {
		*ret = n->of.exe;
		found = true;
	}
	bpf_spin_unlock(&n->lock);
	return found;
}

/* Notes one end of a short connection. */
static __always_inline void ac_note_put(const struct ac_noted *of)
{
	struct ac_note *n = ac_note_slot(of->cookie);

	if (!n)
		return;
	bpf_spin_lock(&n->lock);
	n->of = *of;
	bpf_spin_unlock(&n->lock);
}

/* Tells a client of which there is a note who its server is. */
static __always_inline void ac_note_peer(__u64 cookie, __u64 peer, __u64 peer_cookie)
{
	struct ac_note *n = ac_note_slot(cookie);

	if (!n)
		return;
	bpf_spin_lock(&n->lock);
	if (n->of.cookie == cookie) {
		n->of.peer = peer;
		n->of.peer_cookie = peer_cookie;
	}
	bpf_spin_unlock(&n->lock);
}

/* Finds the note of one end of a short connection. */
static __always_inline bool ac_note_get(__u64 cookie, struct ac_noted *ret)
{
	struct ac_note *n = cookie ? ac_note_slot(cookie) : NULL;
	bool found = false;

	if (!n)
		return false;
	bpf_spin_lock(&n->lock);
	if (n->of.cookie == cookie && n->of.why != AC_WHY_NONE) {
		*ret = n->of;
		found = true;
	}
	bpf_spin_unlock(&n->lock);
	return found;
}

/* What a note says of its socket, as its storage would. */
static __always_inline void ac_note_tell(struct ac_sock *ret, const struct ac_noted *of)
{
	ret->cookie = of->cookie;
	ret->self = of->self;
	ret->key = of->key;
	ret->born_ns = (__u64)of->born_ms * 1000000;
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
	struct ac_note *n = ac_note_slot(cookie);

	if (!n)
		return;
	bpf_spin_lock(&n->lock);
	n->of.cookie = cookie;
	n->of.st = st;
	n->of.why = AC_WHY_NONE;
	bpf_spin_unlock(&n->lock);
}

/* 0: not known. */
static __always_inline __u64 ac_note_st_of(__u64 cookie)
{
	struct ac_note *n = ac_note_slot(cookie);
	__u64 st = 0;

	if (!n)
		return 0;
	bpf_spin_lock(&n->lock);
	if (n->of.cookie == cookie)
		st = n->of.st;
	bpf_spin_unlock(&n->lock);
	return st;
}
