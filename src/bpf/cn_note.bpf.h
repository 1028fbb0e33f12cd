/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is known of a socket, and where it stands. To make a socket's storage costs 0.6 us, half of what the whole hook
 * does to a connect(); so it stands in a note, of a table that is there anyway, and in the storage only if there is
 * no room.
 *
 * A note belongs to the socket whose cookie is in its key, and cookies are never given twice: who finds another cookie
 * has found nothing. The key is one word, and all that two programs may do at once is done by an exchange of it. Who
 * takes the key away has taken the connection out of the count, in the same moment; what the note said must be read before.
 *
 * Notes are given back when TCP's connection ends, and when the last descriptor of any other socket goes.
 */
#pragma once

#include "bpf/cn_maps.bpf.h"

/* Where a socket's record is. */
struct cn_known {
	struct cn_sock *of;
	__u64 *key; /* of the note; NULL: it is the storage */
	__u64 is;   /* the key, as it was read */
};

static __always_inline struct cn_bucket *cn_bucket_of(__u64 cookie)
{
	__u32 i = CN_BUCKET(cookie);

	return bpf_map_lookup_elem(&cn_notes, &i);
}

static __always_inline __u64 cn_key_read(const __u64 *key)
{
	return *(const volatile __u64 *)key;
}

/*
 * The index of a socket's note in its bucket; -1: it has none. A function of its own, so that the verifier need not follow
 * what comes after for each place in turn.
 */
__noinline int cn_note_at(__u64 cookie)
{
	struct cn_bucket *b = cn_bucket_of(cookie);

	if (!b || !cookie)
		return -1;
#pragma unroll
	for (int i = 0; i < CN_NOTES; i++) {
		__u64 is = cn_key_read(&b->key[i]);

		if (is >> CN_NOTE_SHIFT == cookie && is & CN_NOTE_WRITTEN)
			return i;
	}
	return -1;
}

/* Takes a free note, which nobody finds before it is written; -1: there is none. */
__noinline int cn_note_claim(__u64 cookie)
{
	struct cn_bucket *b = cn_bucket_of(cookie);

	if (!b)
		return -1;
#pragma unroll
	for (int i = 0; i < CN_NOTES; i++)
		if (!cn_key_read(&b->key[i]) && !__sync_val_compare_and_swap(&b->key[i], 0, cookie << CN_NOTE_SHIFT))
			return i;
	return -1;
}

static __always_inline bool cn_note_get(__u64 cookie, int at, struct cn_known *ret)
{
	struct cn_bucket *b = cn_bucket_of(cookie);

	if (!b || at < 0)
		return false;
	at &= CN_NOTES - 1;
	*ret = (struct cn_known){ &b->of[at], &b->key[at], cn_key_read(&b->key[at]) };
	return ret->is >> CN_NOTE_SHIFT == cookie;
}

static __always_inline bool cn_note_find(__u64 cookie, struct cn_known *ret)
{
	return cn_note_get(cookie, cn_note_at(cookie), ret);
}

/* An empty note. */
static __always_inline bool cn_note_take(__u64 cookie, struct cn_known *ret)
{
	if (!cn_note_get(cookie, cn_note_claim(cookie), ret))
		return false;
	*ret->of = (struct cn_sock){};
	return true;
}

/* Storage is looked for only where there may be some: of a socket that found no room, or of an earlier version. */
static __always_inline bool cn_has_stores(void)
{
	struct lb_ctl *ctl = lb_ctl_get();

	return ctl && *(volatile __u32 *)&ctl->stores;
}

/* sk: a struct bpf_sock, or a struct sock of the kernel. False: nothing is known. */
#define cn_know(sk, cookie, ret)                                                                     \
	({                                                                                           \
		bool known_ = cn_note_find(cookie, ret);                                             \
                                                                                                     \
		if (!known_ && cn_has_stores()) {                                                    \
			*(ret) = (struct cn_known){ .of = bpf_sk_storage_get(&cn_sk, sk, NULL, 0) }; \
			known_ = (ret)->of;                                                          \
		}                                                                                    \
		known_;                                                                              \
	})

/* What is known of a socket, or an empty record; false: there is no memory. */
static __always_inline bool cn_know_new(struct bpf_sock *sk, __u64 cookie, struct cn_known *ret)
{
	struct lb_ctl *ctl = lb_ctl_get();

	if (cn_know(sk, cookie, ret) || cn_note_take(cookie, ret))
		return true;
	lb_count(LB_STAT_NOTES_FULL);
	if (ctl)
		*(volatile __u32 *)&ctl->stores = 1;
	*ret = (struct cn_known){ .of = bpf_sk_storage_get(&cn_sk, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) };
	return ret->of;
}

/* The record may be read from now on; `counted`: and is in the count, into which the caller has put it. */
static __always_inline void cn_known_written(struct cn_known *k, bool counted)
{
	if (!k->key) {
		if (counted)
			k->of->counted = 1;
		return;
	}
	k->is |= CN_NOTE_WRITTEN | (counted ? CN_NOTE_COUNTED : 0);
	(void)__sync_lock_test_and_set(k->key, k->is);
}

static __always_inline void cn_load_down(__u32 backend)
{
	struct lb_load *load = lb_load_get(backend);

	if (load)
		__sync_fetch_and_add(&load->conns, (__u64)-1);
}

/* Takes a connection out of the count; false: somebody has already. The record stays. */
static __always_inline bool cn_uncount(struct cn_known *k)
{
	__u32 backend = *(volatile __u32 *)&k->of->backend;

	if (!k->key) {
		if (__sync_val_compare_and_swap(&k->of->counted, 1, 0) != 1)
			return false;
	} else {
		if (!(k->is & CN_NOTE_COUNTED) ||
		    __sync_val_compare_and_swap(k->key, k->is, k->is & ~CN_NOTE_COUNTED) != k->is)
			return false;
		k->is &= ~CN_NOTE_COUNTED;
	}
	cn_load_down(backend);
	return true;
}

/* The socket is connected to no service any more. */
static __always_inline void cn_forget(struct cn_known *k)
{
	cn_uncount(k);
	k->of->backend = LB_NONE;
}

/* Gives a note back, and takes its connection out of the count; false: it was in none, or another has given it back. */
static __always_inline bool cn_note_give_back(struct cn_known *k)
{
	__u32 backend = *(volatile __u32 *)&k->of->backend;

	if (__sync_val_compare_and_swap(k->key, k->is, 0) != k->is || !(k->is & CN_NOTE_COUNTED))
		return false;
	cn_load_down(backend);
	return true;
}

/* All notes of a socket that is closed: there may be two, if two threads of its program have sent at the same time. */
static __always_inline void cn_notes_release(__u64 cookie)
{
	struct cn_bucket *b = cn_bucket_of(cookie);

	if (!b)
		return;
#pragma unroll
	for (int i = 0; i < CN_NOTES; i++) {
		struct cn_known k = { &b->of[i], &b->key[i], cn_key_read(&b->key[i]) };

		if (k.is >> CN_NOTE_SHIFT == cookie)
			cn_note_give_back(&k);
	}
}
