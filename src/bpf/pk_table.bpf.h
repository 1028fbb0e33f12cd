/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The table of connections. A record is in the bucket of its hash, or, if that was full, in the second bucket of that
 * hash; if it can, in the way that the hash says too, and then it is found without a look at the bucket's first line:
 * each line of a large table is a wait for memory, which is most of what a packet costs. The backend's direction finds it through a hint in the bucket of another hash. A hint may be stale: whether
 * it is right, the record tells. So there is one record for both directions, and nothing can come apart.
 *
 * Who may be evicted, in this order: whoever is marked in the bucket's flags (new ones that nobody has answered, and
 * those that have ended), then those that have been idle for too long. Others never: then there is no room.
 *
 * Locks: one bucket at a time, tried for a short while only. Programs run without being preempted by one another on
 * a CPU, so a lock is held for some nanoseconds.
 */
#pragma once

#include "bpf/lb_pick.bpf.h"
#include "bpf/pk_maps.bpf.h"
#ifdef PK_COPY
#include "bpf/pk_copy.bpf.h"
#endif

#define PK_LOCK_TRIES 64
#define PK_WEAK_ALL ((1U << PK_WAYS) - 1)

static __always_inline __u64 pk_mix(__u64 h, __u64 word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 32;
}

/* Of addresses, ports and protocol, in the direction the packet flies. */
static __always_inline __u64 pk_hash(const struct pk_ctl *ctl, const struct lb_addr *from, const struct lb_addr *to,
				     __be16 sport, __be16 dport, __u8 proto, bool v6)
{
	const pk_word *src = (const pk_word *)from, *dst = (const pk_word *)to;
	__u64 h = ctl->seed[0];

	if (v6) {
		h = pk_mix(h, src[0]);
		h = pk_mix(h, src[1]);
		h = pk_mix(h, dst[0]);
		h = pk_mix(h, dst[1]);
	} else {
		h = pk_mix(h, (__u64)from->v6[3] << 32 | to->v6[3]);
	}
	/* Ports low in the word: a product's bits depend on those below them, and the bucket is from the middle. */
	return pk_mix(h, ((__u64)sport << 16 | dport | (__u64)proto << 32) + ctl->seed[1]);
}

/*
 * Of the backend's direction: from addr:port to own address and the group of a port. All connections of a group are
 * hinted at in one bucket, so that a free port is found by looking at one line.
 */
static __always_inline __u64 pk_hint_hash(const struct pk_ctl *ctl, const struct lb_addr *addr, __be16 port,
					  const struct lb_addr *own, __be16 own_port, __u8 proto)
{
	const pk_word *a = (const pk_word *)addr, *o = (const pk_word *)own;
	__u64 h = ctl->seed[1], ports = (__u64)port << 32 | bpf_ntohs(own_port) / PK_NAT_GROUP << 8 | proto;

	if (a[0] | o[0]) {
		h = pk_mix(h, a[0]);
		h = pk_mix(h, o[0]);
	}
	h = pk_mix(h, a[1]);
	h = pk_mix(h, o[1]);
	return pk_mix(h, ports);
}

static __always_inline __u8 pk_hint_tag(__u64 hash, __be16 own_port)
{
	return (__u8)((hash >> 56 & 0xf8) | (bpf_ntohs(own_port) & (PK_NAT_GROUP - 1)));
}

/* Which bit of the gate an address, port and protocol have. */
static __always_inline __u32 pk_gate_bit(const struct lb_addr *addr, __be16 port, __u8 proto)
{
	const pk_word *a = (const pk_word *)addr;
	__u64 h = pk_mix(a[1], (__u32)port << 8 | proto);

	if (a[0])
		h = pk_mix(h, a[0]);
	return (__u32)(h * 0x9e3779b97f4a7c15ULL >> (64 - PK_GATE_BITS));
}

static __always_inline __u16 pk_tag(__u64 hash)
{
	__u16 tag = (__u16)(hash >> 48);

	return tag ? tag : 1;
}

/* The way that a record is in if it can. */
static __always_inline __u32 pk_home(__u64 hash)
{
	return (__u32)(hash >> 45) & (PK_WAYS - 1);
}

static __always_inline __u32 pk_second(__u32 bucket, __u16 tag)
{
	return bucket ^ (tag * 0x5bd1e995U | 1);
}

#ifndef PK_COPY
static __always_inline struct pk_bucket *pk_bucket_get(const struct pk_ctl *ctl, __u32 bucket)
{
	bucket &= ctl->bucket_mask;
	return bpf_map_lookup_elem(&pk_table, &bucket);
}
#endif

/* Whether the lock was got in the end. The verifier is to see the loop once: hence a function by number. */
__noinline int pk_lock_wait(__u32 bucket)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_bucket *b = ctl ? pk_bucket_get(ctl, bucket) : NULL;

	if (!b)
		return 0;
	PK_UNROLL_NO
	for (int i = 0; i < PK_LOCK_TRIES; i++)
		if (!__sync_val_compare_and_swap(&b->lock, 0, 1))
			return 1;
	return 0;
}

/* Whether the lock was got. */
static __always_inline bool pk_lock(struct pk_bucket *b, __u32 bucket)
{
	return !__sync_val_compare_and_swap(&b->lock, 0, 1) || pk_lock_wait(bucket);
}

static __always_inline void pk_unlock(struct pk_bucket *b)
{
	(void)__sync_lock_test_and_set(&b->lock, 0);
}

/* The lowest of eight bytes, or four shorts, that is zero has its top bit set; those above may lie. */
#define PK_ZERO16(x) (((x)-0x0001000100010001ULL) & ~(x)&0x8000800080008000ULL)
#define PK_ZERO8(x) (((x)-0x0101010101010101ULL) & ~(x)&0x8080808080808080ULL)

static __always_inline bool pk_conn_is(const struct pk_conn *c, const struct pk_pkt *p)
{
	return *(const __u32 *)&c->cport == *(const __u32 *)&p->sport && pk_addr_eq(&c->client, &p->src) &&
	       pk_addr_eq(&c->vip, &p->dst) && c->proto == p->proto;
}

/* Whether a record is somebody's: it may be read as soon as this is so, and its key fits. */
static __always_inline bool pk_conn_lives(const struct pk_conn *c)
{
	__u8 state = *(const volatile __u8 *)&c->state;

	return state != PK_STATE_FREE && state != PK_STATE_TAKEN;
}

/* A record and where it is. */
struct pk_at {
	struct pk_bucket *bucket;
	struct pk_conn *conn;
	__u32 way;
	__u32 index; /* bucket and way, as one number */
};

static __always_inline bool pk_at_index(const struct pk_ctl *ctl, __u32 index, struct pk_at *at)
{
	at->bucket = pk_bucket_get(ctl, index / PK_WAYS);
	if (!at->bucket)
		return false;
	at->way = index & (PK_WAYS - 1);
	at->index = index;
	at->conn = &at->bucket->conn[at->way];
	return true;
}

/* The lane of the lowest match, of four shorts or of eight bytes. */
static __always_inline __u32 pk_lane16(__u64 match)
{
	return (__u32)(((match & -match) >> 15) * 0x0000000100020003ULL >> 48) & 3;
}

static __always_inline __u32 pk_lane8(__u64 match)
{
	return (__u32)(((match & -match) >> 7) * 0x0001020304050607ULL >> 56) & 7;
}

static __always_inline void pk_tags_match(const struct pk_bucket *b, __u16 tag, __u64 *lo, __u64 *hi)
{
	const pk_word *tags = (const pk_word *)b->tag;
	__u64 want = tag * 0x0001000100010001ULL;

	*lo = PK_ZERO16(tags[0] ^ want);
	*hi = PK_ZERO16(tags[1] ^ want);
}

/* What a client's packet is known by. */
struct pk_key {
	struct lb_addr src, dst;
	__be16 sport, dport;
	__u8 proto;
	__u8 pad[3];
	__u64 hash; /* pk_hash() of it */
};

static __always_inline bool pk_conn_is_key(const struct pk_conn *c, const struct pk_key *k)
{
	return *(const __u32 *)&c->cport == *(const __u32 *)&k->sport && pk_addr_eq(&c->client, &k->src) &&
	       pk_addr_eq(&c->vip, &k->dst) && c->proto == k->proto;
}

/*
 * Number of the packet's record, or -1: every way that the tag allows, in both buckets. Not inlined, like all that has
 * loops here: the verifier then looks at it once, and not once for each way of getting there.
 */
__noinline int pk_find_all(struct pk_key *k)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	__u32 bucket;
	__u16 tag;

	if (!k || !ctl)
		return -1;
	bucket = (__u32)k->hash;
	tag = pk_tag(k->hash);
	PK_UNROLL_NO
	for (int i = 0; i < 2 * PK_WAYS; i++) {
		struct pk_bucket *b;

		if (i == PK_WAYS)
			bucket = pk_second(bucket, tag);
		b = pk_bucket_get(ctl, bucket);
		if (!b)
			return -1;
		if (b->tag[i & 7] == tag && pk_conn_is_key(&b->conn[i & 7], k))
			return (int)((bucket & ctl->bucket_mask) * PK_WAYS + (i & 7));
	}
	return -1;
}

static __always_inline void pk_at_way(const struct pk_ctl *ctl, const struct pk_pkt *p, struct pk_bucket *b, __u32 way,
				      struct pk_at *at)
{
	at->bucket = b;
	at->way = way & (PK_WAYS - 1);
	at->conn = &b->conn[at->way];
	at->index = ((__u32)p->hash & ctl->bucket_mask) * PK_WAYS + at->way;
}

/*
 * The record of a packet from a client: nearly always it is at home, or else in the first way whose tag fits. key is
 * room for a copy.
 */
static __always_inline bool pk_find(const struct pk_ctl *ctl, struct pk_pkt *p, struct pk_at *at, struct pk_key *key)
{
	struct pk_bucket *b = pk_bucket_get(ctl, (__u32)p->hash);
	__u64 lo, hi;
	int index;

	if (!b)
		return false;
	pk_at_way(ctl, p, b, pk_home(p->hash), at);
	/* In this order: a record that is taken gets its state before its key. */
	if (pk_conn_is(at->conn, p) && pk_conn_lives(at->conn))
		return true;
	pk_tags_match(b, pk_tag(p->hash), &lo, &hi);
	if (lo | hi) {
		pk_at_way(ctl, p, b, lo ? pk_lane16(lo) : pk_lane16(hi) + 4, at);
		if (pk_conn_is(at->conn, p))
			return true;
	} else if (!(b->flags & PK_BUCKET_SPILLED)) {
		return false;
	}
	pk_addr_copy(&key->src, &p->src);
	pk_addr_copy(&key->dst, &p->dst);
	key->sport = p->sport;
	key->dport = p->dport;
	key->proto = p->proto;
	key->hash = p->hash;
	index = pk_find_all(key);
	return index >= 0 && pk_at_index(ctl, (__u32)index, at);
}

/* Whether a record is that of a packet from addr:port to own:own_port, as a backend sends it. */
static __always_inline bool pk_conn_is_back(const struct pk_conn *c, const struct lb_addr *addr, __be16 port,
					    const struct lb_addr *own, __be16 own_port, __u8 proto)
{
	__u32 id = c->backend, nat = c->nat;
	const struct lb_backend *backend;
	const struct lb_addr *a;

	if (c->proto != proto || (c->forward == LB_FORWARD_NAT ? c->nport : c->cport) != own_port ||
	    c->state == PK_STATE_FREE)
		return false;
	backend = bpf_map_lookup_elem(&lb_backends, &id);
	if (!backend || backend->port != port || !pk_addr_eq(&backend->addr, addr))
		return false;
	if (c->forward == LB_FORWARD_DNAT)
		return pk_addr_eq(&c->client, own);
	if (c->forward != LB_FORWARD_NAT)
		return false;
	a = bpf_map_lookup_elem(&pk_nats, &nat);
	return a && pk_addr_eq(a, own);
}

/* What a backend's packet is known by. */
struct pk_back {
	struct lb_addr addr, own;
	__be16 port, own_port;
	__u8 proto;
	__u8 pad[3];
	__u64 hash; /* pk_hint_hash() of it */
};

static __always_inline void pk_back_of(const struct pk_ctl *ctl, struct pk_back *k, const struct lb_addr *addr,
				       __be16 port, const struct lb_addr *own, __be16 own_port, __u8 proto)
{
	pk_addr_copy(&k->addr, addr);
	pk_addr_copy(&k->own, own);
	k->port = port;
	k->own_port = own_port;
	k->proto = proto;
	k->hash = pk_hint_hash(ctl, addr, port, own, own_port, proto);
}

/* Number of the record of a packet from a backend, or -1: every hint whose tag fits. */
__noinline int pk_back_all(struct pk_back *k)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_bucket *b;
	__u8 tag;

	if (!k || !ctl)
		return -1;
	b = pk_bucket_get(ctl, (__u32)k->hash);
	if (!b)
		return -1;
	tag = pk_hint_tag(k->hash, k->own_port);
	PK_UNROLL_NO
	for (int i = 0; i < PK_WAYS; i++) {
		__u32 hint = b->hint[i];
		struct pk_at at;

		if (hint && b->hint_tag[i] == tag && pk_at_index(ctl, hint - 1, &at) &&
		    pk_conn_is_back(at.conn, &k->addr, k->port, &k->own, k->own_port, k->proto))
			return (int)at.index;
	}
	return -1;
}

/* The record of a packet from a backend. */
static __always_inline bool pk_find_back(const struct pk_ctl *ctl, struct pk_back *k, struct pk_at *at)
{
	struct pk_bucket *b = pk_bucket_get(ctl, (__u32)k->hash);
	__u64 match;
	__u32 hint;
	int index;

	if (!b)
		return false;
	match = *(const pk_word *)b->hint_tag ^ pk_hint_tag(k->hash, k->own_port) * 0x0101010101010101ULL;
	match = PK_ZERO8(match);
	if (!match)
		return false;
	hint = b->hint[pk_lane8(match)];
	if (hint && pk_at_index(ctl, hint - 1, at) &&
	    pk_conn_is_back(at->conn, &k->addr, k->port, &k->own, k->own_port, k->proto))
		return true;
	index = pk_back_all(k);
	return index >= 0 && pk_at_index(ctl, (__u32)index, at);
}
