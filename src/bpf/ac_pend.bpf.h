/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handshakes in flight.
 *
 * A hash of the kernel's costs a short connection as much as all the rest that is done for it: an LRU has lists of its own
 * to keep (docs/sockmap-notes.md, "What a connection costs"). This is an array of places with a lock and a few ways each.
 * The place is the server's sequence number modulo their number, which nobody can choose: the kernel makes it by a
 * keyed hash. What has to be one step (is there another handshake with these numbers? who takes the record?) is done
 * under the lock.
 */
#pragma once

#include "bpf/ac_maps.bpf.h"

static __always_inline struct ac_pends *ac_pend_place(const struct ac_key *key)
{
	__u32 i = key->server_seq & (AC_PEND_PLACES - 1);

	return bpf_map_lookup_elem(&ac_pend, &i);
}

static __always_inline bool ac_pend_is(const struct ac_pends *p, int i, const struct ac_key *key)
{
	return p->born[i] && p->key[i].client_seq == key->client_seq && p->key[i].server_seq == key->server_seq;
}

static __always_inline struct ac_pend *ac_pend_at(struct ac_pends *p, const struct ac_key *key)
{
	struct ac_pend *found = NULL;
	int i;

#pragma unroll
	for (i = 0; i < AC_PEND_WAYS; i++)
		if (ac_pend_is(p, i, key))
			found = &p->of[i];
	return found;
}

/* The way that is free, or was taken longest ago. */
static __always_inline __u32 ac_pend_room(const struct ac_pends *p, __u32 now)
{
	__u32 age, oldest = 0, at = 0;
	int i;

#pragma unroll
	for (i = 0; i < AC_PEND_WAYS; i++) {
		age = p->born[i] ? now - p->born[i] : ~0U;
		if (age > oldest) {
			oldest = age;
			at = i;
		}
	}
	return at & (AC_PEND_WAYS - 1);
}

/* Announces a handshake. False: there is one with these numbers, which is poisoned by that. */
static __always_inline bool ac_pend_put(const struct ac_key *key, const struct ac_pend *pend)
{
	struct ac_pends *p = ac_pend_place(key);
	__u32 now = (__u32)(bpf_ktime_get_ns() >> 20) | 1, at;
	struct ac_pend *old;

	if (!p)
		return true;
	bpf_spin_lock(&p->lock);
	old = ac_pend_at(p, key);
	if (old) {
		old->poisoned = 1;
	} else {
		at = ac_pend_room(p, now);
		p->of[at] = *pend;
		p->key[at] = *key;
		p->born[at] = now;
	}
	bpf_spin_unlock(&p->lock);
	return !old;
}

/*
 * A client finds its announcement and says that it is the one; *ret is what was announced. A second one poisons it.
 * False: there is none. That is looked at without the lock, for such a client pays for nothing.
 */
static __always_inline bool ac_pend_claim(const struct ac_key *key, __u64 cookie, struct ac_pend *ret)
{
	struct ac_pends *p = ac_pend_place(key);
	struct ac_pend *of;

	if (!p || !ac_pend_at(p, key))
		return false;
	bpf_spin_lock(&p->lock);
	of = ac_pend_at(p, key);
	if (of) {
		if (of->client_cookie)
			of->poisoned = 1;
		else
			of->client_cookie = cookie;
		*ret = *of;
	}
	bpf_spin_unlock(&p->lock);
	return of;
}

/* What the server is to know of the client that has claimed the record. */
static __always_inline void ac_pend_tell(const struct ac_key *key, const struct ac_pend *told)
{
	struct ac_pends *p = ac_pend_place(key);
	struct ac_pend *of;

	if (!p)
		return;
	bpf_spin_lock(&p->lock);
	of = ac_pend_at(p, key);
	if (of && of->client_cookie == told->client_cookie) {
		of->client = told->client;
		of->client_exe = told->client_exe;
		of->client_st = told->client_st;
		of->why = told->why;
	}
	bpf_spin_unlock(&p->lock);
}

/* The server takes the record: there is no second winner. False: it is gone. */
static __always_inline bool ac_pend_take(const struct ac_key *key, struct ac_pend *ret)
{
	struct ac_pends *p = ac_pend_place(key);
	bool found = false;
	int i;

	if (!p)
		return false;
	bpf_spin_lock(&p->lock);
#pragma unroll
	for (i = 0; i < AC_PEND_WAYS; i++)
		if (ac_pend_is(p, i, key)) {
			*ret = p->of[i];
			p->born[i] = 0;
			found = true;
		}
	bpf_spin_unlock(&p->lock);
	return found;
}
