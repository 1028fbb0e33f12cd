/* SPDX-License-Identifier: GPL-2.0 */
/* Addresses and ports rewritten in place, and source ports given out. */
#pragma once

#include "bpf/pk_conn.bpf.h"
#include "bpf/pk_csum.bpf.h"

/* Number of the lowest bit of eight. */
static __always_inline __u32 pk_lowest(__u32 bits)
{
	__u32 low = bits & -bits;

	return (low & 0xf0 ? 4 : 0) + (low & 0xcc ? 2 : 0) + (low & 0xaa ? 1 : 0);
}

static __always_inline __u32 pk_hints_used(const struct pk_bucket *b)
{
	__u32 n = 0;

#pragma unroll
	for (int i = 0; i < PK_WAYS; i++) {
		__u32 hint = b->hint[i];

		/* Without a branch: eight of them would be 256 ways for the verifier. */
		hint |= -hint;
		barrier_var(hint);
		n += hint >> 31;
	}
	return n;
}

/*
 * A hint for own_port or, with any, for whatever port of its group is free: in the line of hash, to record index.
 * Returns the port, host order; 0: no room.
 */
__noinline int pk_hint_put(__u64 hash, __u32 own_port, __u32 any, __u32 index)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	__u32 used = 0, slot = PK_WAYS, low = own_port & 7;
	struct pk_bucket *b;
	__u8 group;

	if (!ctl)
		return 0;
	b = pk_bucket_get(ctl, (__u32)hash);
	if (!b || !pk_lock(b, (__u32)hash))
		return 0;
	group = (__u8)(hash >> 56 & 0xf8);
	PK_UNROLL_NO
	for (__u32 i = 0; i < PK_WAYS; i++) {
		struct pk_at at;

		/* What is left of a record that has gone. */
		if (b->hint[i] && pk_at_index(ctl, b->hint[i] - 1, &at) && at.conn->state == PK_STATE_FREE)
			b->hint[i] = 0;
		if (!b->hint[i])
			slot = i;
		else if ((b->hint_tag[i] & 0xf8) == group)
			used |= 1U << (b->hint_tag[i] & 7);
	}
	if (any) {
		/* The first free one from low on: rotate so that low is bit 0, and take the lowest that is clear. */
		__u32 free = ~(used >> low | used << (PK_NAT_GROUP - low)) & 0xff;

		if (!free)
			slot = PK_WAYS;
		low = (low + pk_lowest(free)) & 7;
	}
	if (slot < PK_WAYS) {
		b->hint_tag[slot & 7] = group | (__u8)low;
		barrier();
		b->hint[slot & 7] = index + 1;
	}
	pk_unlock(b);
	return slot < PK_WAYS ? (int)((own_port & ~(__u32)(PK_NAT_GROUP - 1)) | low) : 0;
}

/* Where no port is free: gives up a connection of that line that is over, or else one that nobody has answered. */
__noinline int pk_port_reclaim(__u64 hash)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_bucket *b = ctl ? pk_bucket_get(ctl, (__u32)hash) : NULL;
	__u32 victim = 0;

	if (!b)
		return 0;
	PK_UNROLL_NO
	for (__u32 i = 0; i < PK_WAYS; i++) {
		__u32 hint = b->hint[i];
		struct pk_at at;

		if (!hint || !pk_at_index(ctl, hint - 1, &at))
			continue;
		if (at.conn->state == PK_STATE_CLOSED || (!victim && at.conn->state == PK_STATE_NEW))
			victim = hint;
	}
	return victim ? pk_remove(victim - 1) : 0;
}

/*
 * A port to send from to a backend, and the hint by which its answers are found. One step: of two groups of ports the
 * emptier one, and in that the next free port.
 */
static __always_inline __be16 pk_nat_port(const struct pk_ctl *ctl, const struct lb_backend *backend,
					  const struct lb_addr *own, const struct pk_pkt *p, __u32 index)
{
	__u32 groups = ctl->nat_groups ? ctl->nat_groups : 1;
	__u32 low = (__u32)(p->hash >> 12) & (PK_NAT_GROUP - 1);
	__be16 port_a = bpf_htons((__u16)(ctl->nat_port + (__u32)(p->hash >> 32) % groups * PK_NAT_GROUP + low));
	__be16 port_b = bpf_htons((__u16)(ctl->nat_port + (__u32)(p->hash >> 17) % groups * PK_NAT_GROUP + low));
	__u64 hash_a = pk_hint_hash(ctl, &backend->addr, backend->port, own, port_a, p->proto);
	__u64 hash_b = pk_hint_hash(ctl, &backend->addr, backend->port, own, port_b, p->proto);
	struct pk_bucket *a = pk_bucket_get(ctl, (__u32)hash_a), *b = pk_bucket_get(ctl, (__u32)hash_b);
	int port;

	if (!a || !b)
		return 0;
	if (pk_hints_used(b) < pk_hints_used(a)) {
		hash_a = hash_b;
		port_a = port_b;
	}
	port = pk_hint_put(hash_a, bpf_ntohs(port_a), 1, index);
	if (!port && pk_port_reclaim(hash_a))
		port = pk_hint_put(hash_a, bpf_ntohs(port_a), 1, index);
	return bpf_htons((__u16)port);
}

/* The same where the port is the client's: only the hint. k is room for the key. */
static __always_inline bool pk_dnat_hint(const struct pk_ctl *ctl, const struct lb_backend *backend,
					 const struct pk_pkt *p, struct pk_back *k, __u32 index)
{
	int other;

	pk_back_of(ctl, k, &backend->addr, backend->port, &p->src, p->sport, p->proto);
	other = pk_back_all(k);
	/* One client port to two services that share a backend: the answers could not be told apart. */
	if (other >= 0 && (__u32)other != index)
		return false;
	return pk_hint_put(k->hash, bpf_ntohs(p->sport), 0, index) != 0;
}

/* What a packet is to become. */
struct pk_new_head {
	const struct lb_addr *src, *dst;
	__be16 sport, dport;
};

/* One hop less. Returns the difference for the header's checksum. */
static __always_inline __u64 pk_ttl_v4(struct pk_ip4 *ip)
{
	__u16 *word = (__u16 *)&ip->ttl, old = *word;

	ip->ttl--;
	return (__u64)(__u16)~old + *word;
}

static __always_inline __u64 pk_rewrite_v4(struct pk_ip4 *ip, const struct pk_new_head *new)
{
	__u64 diff = pk_diff32(pk_diff32(0, ip->src, new->src->v6[3]), ip->dst, new->dst->v6[3]);

	ip->src = new->src->v6[3];
	ip->dst = new->dst->v6[3];
	ip->check = pk_csum_fix(ip->check, diff + pk_ttl_v4(ip));
	return diff;
}

static __always_inline __u64 pk_rewrite_v6(struct pk_ip6 *ip, const struct pk_new_head *new)
{
	__u64 diff = pk_diff_addr(0, (const struct lb_addr *)ip->src, new->src, true);

	diff = pk_diff_addr(diff, (const struct lb_addr *)ip->dst, new->dst, true);
	__builtin_memcpy(ip->src, new->src, sizeof(ip->src));
	__builtin_memcpy(ip->dst, new->dst, sizeof(ip->dst));
	ip->hops--;
	return diff;
}

/* Rewrites addresses, ports, hop count and checksums. Invalidates pointers into the packet. */
static __always_inline int pk_rewrite(struct pk_ctx *ctx, const struct pk_pkt *p, const struct pk_new_head *new)
{
	__u64 addrs, body = 0;
	__u32 at = p->proto == IPPROTO_TCP ? offsetof(struct pk_tcp, check) : offsetof(struct pk_udp, check);

	if (p->frag != PK_FRAG_LATER) {
		__be16 *ports = pk_at(ctx, p->l4, 4);

		if (!ports)
			return PK_TRUNCATED;
		body = ~*(__u32 *)ports;
		ports[0] = new->sport;
		ports[1] = new->dport;
		body = (__u32)body + (__u64) * (__u32 *)ports;
	}
	if (p->v6) {
		struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return PK_TRUNCATED;
		addrs = pk_rewrite_v6(ip, new);
	} else {
		struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return PK_TRUNCATED;
		addrs = pk_rewrite_v4(ip, new);
	}
	if (p->frag == PK_FRAG_LATER)
		return PK_GO;
	return pk_csum_l4(ctx, p->l4 + at, addrs, body, p->proto == IPPROTO_UDP, p->v6) < 0 ? PK_TRUNCATED : PK_GO;
}
