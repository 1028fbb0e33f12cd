/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The life of a connection in the table (pk_table.bpf.h): its record is taken, found from then on, kept while it is
 * used, and given up or evicted. What TCP's flags mean for all that.
 */
#pragma once

#include "bpf/pk_table.bpf.h"

/* How many ticks a record is kept without a packet. */
static __always_inline __u32 pk_conn_keep(const struct pk_ctl *ctl, const struct pk_conn *c)
{
	const struct lb_plan *plan;
	__u64 ms = c->proto == IPPROTO_TCP ? 7200000 : 30000;

	if (c->state == PK_STATE_NEW || c->state == PK_STATE_TAKEN)
		return PK_TICKS_NEW;
	if (c->state == PK_STATE_CLOSING)
		return PK_TICKS_CLOSING;
	if (c->state == PK_STATE_CLOSED)
		return PK_TICKS_CLOSED;
	plan = lb_plan_get(c->service);
	if (plan)
		ms = c->proto == IPPROTO_TCP ? plan->tcp_idle_ms : plan->udp_idle_ms;
	if (!ms)
		return ~0U;
	/* Rounded up: never too early. */
	return (__u32)((ms * ctl->hz / 1000 >> ctl->tick_shift) + 1);
}

static __always_inline bool pk_conn_expired(const struct pk_ctl *ctl, const struct pk_conn *c, __u32 now)
{
	__s32 idle = (__s32)(now - c->seen);

	return idle > 0 && (__u32)idle > pk_conn_keep(ctl, c);
}

/* One more, or one less, of a service and of a backend. */
static __always_inline void pk_conn_account(__u32 service, __u32 backend, __s64 n)
{
	struct pk_use *use = bpf_map_lookup_elem(&pk_uses, &service);
	struct lb_load *load = bpf_map_lookup_elem(&lb_load, &backend);

	if (use)
		__sync_fetch_and_add(&use->conns, n);
	if (load)
		__sync_fetch_and_add(&load->packet_conns, n);
}

/* Closed connections keep their records for a while, and are no load any more. */
static __always_inline void pk_conn_account_closed(__u32 backend, __s64 n)
{
	struct lb_load *load = bpf_map_lookup_elem(&lb_load, &backend);

	if (load)
		__sync_fetch_and_add(&load->packet_closed, n);
}

/* What a record leaves behind elsewhere: its counts, and the hint to it. */
struct pk_left {
	__u32 service, backend;
	__u32 index; /* number of the record, and 1 */
	__u32 was_closed;
	__u64 hint_hash; /* of its hint */
	__u32 has_hint;
	__u32 hint_tag;
};

/* Under the bucket's lock: nobody finds the record any more. */
static __always_inline void pk_conn_unlink(const struct pk_ctl *ctl, struct pk_bucket *b, __u32 way, __u32 index,
					   struct pk_left *left)
{
	struct pk_conn *c = &b->conn[way & 7];
	__u32 id = c->backend, nat = c->nat;
	const struct lb_backend *backend;
	const struct lb_addr *own;

	b->tag[way & 7] = 0;
	left->was_closed = __sync_fetch_and_and(&b->flags, ~PK_BUCKET_CLOSED(way & 7)) & PK_BUCKET_CLOSED(way & 7);
	left->service = c->service;
	left->backend = c->backend;
	left->index = index + 1;
	left->has_hint = 0;
	if (c->forward > LB_FORWARD_DNAT || c->state == PK_STATE_TAKEN)
		return;
	backend = bpf_map_lookup_elem(&lb_backends, &id);
	own = c->forward == LB_FORWARD_DNAT ? &c->client : bpf_map_lookup_elem(&pk_nats, &nat);
	if (!backend || !own)
		return;
	left->hint_hash = pk_hint_hash(ctl, &backend->addr, backend->port, own,
				       c->forward == LB_FORWARD_NAT ? c->nport : c->cport, c->proto);
	left->has_hint = 1;
}

/* Without a lock: takes away the counts and the hint of a record that was unlinked. */
__noinline int pk_conn_settle(struct pk_left *left)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_bucket *b;

	if (!left || !ctl)
		return 0;
	pk_conn_account(left->service, left->backend, -1);
	if (left->was_closed)
		pk_conn_account_closed(left->backend, -1);
	if (!left->has_hint)
		return 0;
	b = pk_bucket_get(ctl, (__u32)left->hint_hash);
	if (!b)
		return 0;
	PK_UNROLL_NO
	for (int i = 0; i < PK_WAYS; i++)
		if (b->hint[i] == left->index)
			(void)__sync_val_compare_and_swap(&b->hint[i], left->index, 0);
	return 0;
}

/* Under the bucket's lock: a way that nobody has, or PK_WAYS. */
__noinline int pk_room_free(__u32 bucket)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_bucket *b = ctl ? pk_bucket_get(ctl, bucket) : NULL;

	if (!b)
		return PK_WAYS;
	PK_UNROLL_NO
	for (__u32 i = 0; i < PK_WAYS; i++)
		if (!b->tag[i] && b->conn[i].state == PK_STATE_FREE)
			return (int)i;
	return PK_WAYS;
}

/* The same: a way whose record may be evicted, from turn on. */
__noinline int pk_room_weak(__u32 bucket, __u32 turn)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_bucket *b = ctl ? pk_bucket_get(ctl, bucket) : NULL;
	__u32 weak;

	if (!b)
		return PK_WAYS;
	weak = b->flags & PK_WEAK_ALL;
	PK_UNROLL_NO
	for (__u32 i = 0; i < PK_WAYS; i++) {
		__u32 way = (i + turn) & (PK_WAYS - 1);

		if (weak >> way & 1 && b->conn[way].state != PK_STATE_TAKEN)
			return (int)way;
	}
	return PK_WAYS;
}

/* Whether a record, by its number, has been idle for too long. */
__noinline int pk_is_expired(__u32 index, __u32 now)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_at at;

	return ctl && pk_at_index(ctl, index, &at) && pk_conn_expired(ctl, at.conn, now);
}

/* The same: a way whose record has been idle for too long. */
__noinline int pk_room_idle(__u32 bucket, __u32 now)
{
	PK_UNROLL_NO
	for (__u32 i = 0; i < PK_WAYS; i++)
		if (pk_is_expired(bucket * PK_WAYS + i, now))
			return (int)i;
	return PK_WAYS;
}

/* Under the bucket's lock: the way for somebody whose hash says home, or PK_WAYS. Rarely more than a look at home. */
static __always_inline __u32 pk_room(struct pk_bucket *b, __u32 bucket, __u32 home, __u32 now)
{
	__u64 lo, hi;
	__u32 way;

	home &= PK_WAYS - 1;
	if (!b->tag[home] && b->conn[home].state == PK_STATE_FREE)
		return home;
	pk_tags_match(b, 0, &lo, &hi);
	way = lo | hi ? (__u32)pk_room_free(bucket) : PK_WAYS;
	if (way < PK_WAYS)
		return way;
	if (b->flags >> home & 1 && b->conn[home].state != PK_STATE_TAKEN)
		return home;
	way = (__u32)pk_room_weak(bucket, home);
	return way < PK_WAYS ? way : (__u32)pk_room_idle(bucket, now);
}

/* Takes a way of one bucket, evicting whom it must. Returns the record's number, or -1. */
__noinline int pk_bucket_take(__u32 bucket, __u32 now, __u32 home)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_left left = {};
	bool evicted = false;
	struct pk_bucket *b;
	__u32 way;

	if (!ctl)
		return -1;
	bucket &= ctl->bucket_mask;
	b = pk_bucket_get(ctl, bucket);
	if (!b || !pk_lock(b, bucket))
		return -1;
	way = pk_room(b, bucket, home, now);
	if (way < PK_WAYS) {
		struct pk_conn *c = &b->conn[way & 7];

		if (c->state != PK_STATE_FREE) {
			pk_conn_unlink(ctl, b, way, bucket * PK_WAYS + way, &left);
			evicted = true;
		}
		c->state = PK_STATE_TAKEN;
		c->seen = now;
		__sync_fetch_and_or(&b->flags, 1U << (way & 7));
	}
	pk_unlock(b);
	if (evicted && (left.has_hint || left.was_closed))
		pk_conn_settle(&left);
	else if (evicted)
		pk_conn_account(left.service, left.backend, -1);
	return way < PK_WAYS ? (int)(bucket * PK_WAYS + way) : -1;
}

/* A record for the packet's connection, in state TAKEN. Returns its number, or -1: no room. */
static __always_inline int pk_take(const struct pk_ctl *ctl, const struct pk_pkt *p)
{
	__u32 first = (__u32)p->hash, home = pk_home(p->hash);
	int index = pk_bucket_take(first, p->now, home);
	struct pk_bucket *b;

	if (index >= 0)
		return index;
	index = pk_bucket_take(pk_second(first, pk_tag(p->hash)), p->now, home);
	b = pk_bucket_get(ctl, first);
	if (index >= 0 && b)
		__sync_fetch_and_or(&b->flags, PK_BUCKET_SPILLED);
	return index;
}

/* From now on the record, which is complete, is found. */
static __always_inline void pk_publish(struct pk_at *at, const struct pk_pkt *p)
{
	at->conn->seen = p->now;
	at->conn->state = PK_STATE_NEW;
	pk_conn_account(at->conn->service, at->conn->backend, 1);
	barrier();
	at->bucket->tag[at->way & 7] = pk_tag(p->hash);
}

/* The record may be evicted, or may not be any more. */
static __always_inline void pk_weak(struct pk_at *at, bool weak)
{
	if (weak)
		__sync_fetch_and_or(&at->bucket->flags, 1U << at->way);
	else
		__sync_fetch_and_and(&at->bucket->flags, ~(1U << at->way));
}

/* Into a state and out of it at most once each, whoever else sees packets of the connection at the same time. */
__noinline int pk_conn_enter(__u32 index, __u32 state)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_at at;
	__u32 bit, old;

	if (!ctl || !pk_at_index(ctl, index, &at))
		return 0;
	bit = PK_BUCKET_CLOSED(at.way & 7);
	at.conn->state = (__u8)state;
	pk_weak(&at, state == PK_STATE_NEW || state == PK_STATE_CLOSED);
	if (state == PK_STATE_CLOSED) {
		old = __sync_fetch_and_or(&at.bucket->flags, bit);
		if (!(old & bit))
			pk_conn_account_closed(at.conn->backend, 1);
	} else if (at.bucket->flags & bit) {
		old = __sync_fetch_and_and(&at.bucket->flags, ~bit);
		if (old & bit)
			pk_conn_account_closed(at.conn->backend, -1);
	}
	return 0;
}

static __always_inline void pk_conn_state(struct pk_at *at, enum pk_state state)
{
	if (at->conn->state != state)
		pk_conn_enter(at->index, state);
}

/* Both sides have answered: so it is no part of a flood (pk_flooded()). */
static __always_inline void pk_conn_opened(__u32 service)
{
	struct pk_use *use = bpf_map_lookup_elem(&pk_uses, &service);

	if (use)
		use->opened++;
}

/* flags is the last byte of a word, which can be changed as one: both sides' packets come at the same time. */
typedef __u32 __attribute__((may_alias)) pk_half;
_Static_assert(__builtin_offsetof(struct pk_conn, flags) == __builtin_offsetof(struct pk_conn, proto) + 3, "see above");
_Static_assert(__builtin_offsetof(struct pk_conn, proto) % 4 == 0, "see above");

static __always_inline __u32 pk_flag_word(__u32 flag)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return flag << 24;
#else
	return flag;
#endif
}

/* Returns whether the flags are all set that must be. */
static __always_inline bool pk_conn_flag(struct pk_conn *c, __u32 flag, __u32 all)
{
	__u32 old = __sync_fetch_and_or((pk_half *)&c->proto, pk_flag_word(flag));

	return ((old | pk_flag_word(flag)) & pk_flag_word(all)) == pk_flag_word(all);
}

/* What TCP's flags mean for the connection. back: the backend has sent them. */
static __always_inline void pk_conn_tcp(struct pk_at *at, __u8 tcp, bool back)
{
	const __u32 both = PK_CONN_FIN_BACKEND | PK_CONN_FIN_CLIENT;
	struct pk_conn *c = at->conn;

	if (tcp & TCP_RST) {
		pk_conn_state(at, PK_STATE_CLOSED);
		return;
	}
	if (tcp & TCP_FIN) {
		/* Where the backend's direction does not come by, the client's FIN is all that will be seen. */
		if (pk_conn_flag(c, back ? PK_CONN_FIN_BACKEND : PK_CONN_FIN_CLIENT, both))
			pk_conn_state(at, PK_STATE_CLOSED);
		else
			pk_conn_state(at, PK_STATE_CLOSING);
		return;
	}
	if (back && !(c->flags & PK_CONN_ANSWERED))
		pk_conn_flag(c, PK_CONN_ANSWERED, 0);
	/* Two FINs at the same time: the one that was alone may have had the last word. */
	if (c->state == PK_STATE_CLOSING && (c->flags & both) == both)
		pk_conn_state(at, PK_STATE_CLOSED);
	/* A reset that neither side believed. */
	if (c->state == PK_STATE_CLOSED && !(c->flags & both))
		pk_conn_state(at, PK_STATE_OPEN);
	/* Who has answered the SYN is known to be there; where answers are not seen, a second packet must do. */
	if (c->state == PK_STATE_NEW && !back && !(tcp & TCP_SYN) &&
	    (c->flags & PK_CONN_ANSWERED || c->forward > LB_FORWARD_DNAT)) {
		pk_conn_state(at, PK_STATE_OPEN);
		pk_conn_opened(c->service);
	}
}

/* A packet of the connection was seen. */
static __always_inline void pk_conn_touch(struct pk_at *at, const struct pk_pkt *p, bool back)
{
	struct pk_conn *c = at->conn;

	if (c->seen != p->now)
		c->seen = p->now;
	if (p->frag == PK_FRAG_LATER)
		return;
	if (c->flags & PK_CONN_FRESH) {
		__sync_fetch_and_and((pk_half *)&c->proto, ~pk_flag_word(PK_CONN_FRESH));
		return;
	}
	if (c->proto == IPPROTO_TCP) {
		if (c->state != PK_STATE_OPEN || p->tcp_flags & (TCP_FIN | TCP_RST))
			pk_conn_tcp(at, p->tcp_flags, back);
	} else if (c->state != PK_STATE_OPEN && (back || c->forward > LB_FORWARD_DNAT)) {
		pk_conn_state(at, PK_STATE_OPEN);
	}
}

/* Forgets a record. */
__noinline int pk_remove(__u32 index)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_left left = {};
	struct pk_at at;

	if (!ctl || !pk_at_index(ctl, index, &at) || !pk_lock(at.bucket, index / PK_WAYS))
		return 0;
	if (at.conn->state == PK_STATE_FREE || at.conn->state == PK_STATE_TAKEN) {
		pk_unlock(at.bucket);
		return 0;
	}
	pk_conn_unlink(ctl, at.bucket, at.way, at.index, &left);
	at.conn->state = PK_STATE_FREE;
	pk_unlock(at.bucket);
	pk_conn_settle(&left);
	return 1;
}
