/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ICMP. Pings of service addresses are answered here. Errors quote the packet they complain of, and that packet has
 * the addresses of our other side: they are taken to that side, with what they quote rewritten. Eight bytes after the
 * quoted IP header are enough, for that is all that some routers give (RFC 792).
 *
 * Two kinds: about what a backend sent to a client (for the backend), and about what was sent to a backend (for the
 * client). And a third, about a tunnel's packets: what fits into the tunnel is noted, and the client told next time.
 */
#pragma once

#include "bpf/pk_flow.bpf.h"
#include "bpf/pk_seq.bpf.h"

#define ICMP4_ECHO_REPLY 0
#define ICMP4_UNREACHABLE 3
#define ICMP4_SOURCE_QUENCH 4
#define ICMP4_ECHO 8
#define ICMP4_TIME_EXCEEDED 11
#define ICMP4_PARAMETER 12
#define ICMP6_UNREACHABLE 1
#define ICMP6_PARAMETER 4
#define ICMP6_ECHO 128
#define ICMP6_ECHO_REPLY 129

/* The packet that an error quotes: as much of a struct pk_pkt as is needed to look it up. */
struct pk_quote {
	struct lb_addr src, dst;
	__be16 sport, dport;
	__u8 proto;
	__u8 pad[3];
	__u16 l3, l4; /* offsets in the frame */
};

static __always_inline bool pk_icmp_is_error(const struct pk_pkt *p, __u8 type)
{
	if (p->v6)
		return type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER;
	return type == ICMP4_UNREACHABLE || type == ICMP4_SOURCE_QUENCH || type == ICMP4_TIME_EXCEEDED ||
	       type == ICMP4_PARAMETER;
}

/* The request becomes its own answer. */
static __always_inline int pk_ping(struct pk_ctx *ctx, struct pk_pkt *p)
{
	struct pk_icmp *icmp = pk_at(ctx, p->l4, sizeof(*icmp));
	struct pk_eth *eth = pk_at(ctx, 0, sizeof(*eth));
	__u8 mac[ETH_ALEN];
	__u16 old;

	if (!icmp || !eth)
		return PK_TRUNCATED;
	__builtin_memcpy(mac, eth->dst, ETH_ALEN);
	__builtin_memcpy(eth->dst, eth->src, ETH_ALEN);
	__builtin_memcpy(eth->src, mac, ETH_ALEN);
	old = *(__u16 *)icmp;
	icmp->type = p->v6 ? ICMP6_ECHO_REPLY : ICMP4_ECHO_REPLY;
	icmp->check = pk_csum_fix(icmp->check, (__u64)(__u16)~old + *(__u16 *)icmp);
	if (p->v6) {
		struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return PK_TRUNCATED;
		__builtin_memcpy(ip->src, &p->dst, sizeof(ip->src));
		__builtin_memcpy(ip->dst, &p->src, sizeof(ip->dst));
		ip->hops = 64;
	} else {
		struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));
		__u64 diff;

		if (!ip)
			return PK_TRUNCATED;
		ip->src = p->dst.v6[3];
		ip->dst = p->src.v6[3];
		diff = (__u16) ~*(__u16 *)&ip->ttl;
		ip->ttl = 64;
		ip->check = pk_csum_fix(ip->check, diff + *(__u16 *)&ip->ttl);
	}
	p->verdict = pk_out(ctx, pk_ifindex(ctx));
	return PK_PING;
}

/* What is quoted at off. */
static __always_inline int pk_quote_parse(struct pk_ctx *ctx, __u32 off, bool v6, struct pk_quote *q)
{
	const __be16 *ports;

	q->l3 = (__u16)off;
	if (v6) {
		const struct pk_ip6 *ip = pk_at(ctx, off, sizeof(*ip));

		if (!ip)
			return PK_TRUNCATED;
		/* They would be taken for connections of IPv4. */
		if (pk_addr_is_v4((const struct lb_addr *)ip->src) || pk_addr_is_v4((const struct lb_addr *)ip->dst))
			return PK_NOT_OURS;
		__builtin_memcpy(&q->src, ip->src, sizeof(q->src));
		__builtin_memcpy(&q->dst, ip->dst, sizeof(q->dst));
		q->proto = ip->next;
		q->l4 = (__u16)(off + sizeof(*ip));
		/* Of a fragment, only the first has ports. */
		if (q->proto == 44) {
			const __u8 *frag = pk_at(ctx, q->l4, 8);

			if (!frag || frag[2] | (frag[3] & 0xf8))
				return PK_NOT_OURS;
			q->proto = frag[0];
			q->l4 += 8;
		}
	} else {
		const struct pk_ip4 *ip = pk_at(ctx, off, sizeof(*ip));
		__u32 ihl;

		if (!ip)
			return PK_TRUNCATED;
		ihl = (ip->ver_ihl & 15) * 4;
		if (ihl < sizeof(*ip) || ip->frag_off & bpf_htons(IP_OFFSET))
			return PK_NOT_OURS;
		pk_addr_v4(&q->src, ip->src);
		pk_addr_v4(&q->dst, ip->dst);
		q->proto = ip->proto;
		q->l4 = (__u16)(off + ihl);
	}
	if (q->proto != IPPROTO_TCP && q->proto != IPPROTO_UDP)
		return PK_GO;
	ports = pk_at(ctx, q->l4, 4);
	if (!ports)
		return PK_TRUNCATED;
	q->sport = ports[0];
	q->dport = ports[1];
	return PK_GO;
}

/* Rewrites the quoted addresses and ports. Returns the difference that makes to ICMP's checksum, or -1. */
static __always_inline __s64 pk_quote_rewrite(struct pk_ctx *ctx, const struct pk_quote *q, bool v6,
					      const struct pk_new_head *new)
{
	__be16 *ports = pk_at(ctx, q->l4, 4);
	__u64 addrs, diff, ports_diff;
	__u16 *check;

	if (!ports)
		return -1;
	ports_diff = (__u32) ~*(__u32 *)ports;
	ports[0] = new->sport;
	ports[1] = new->dport;
	ports_diff += *(__u32 *)ports;
	diff = ports_diff;
	addrs = pk_diff_addr(pk_diff_addr(0, &q->src, new->src, v6), &q->dst, new->dst, v6);
	if (v6) {
		struct pk_ip6 *ip = pk_at(ctx, q->l3, sizeof(*ip));

		if (!ip)
			return -1;
		__builtin_memcpy(ip->src, new->src, sizeof(ip->src));
		__builtin_memcpy(ip->dst, new->dst, sizeof(ip->dst));
	} else {
		struct pk_ip4 *ip = pk_at(ctx, q->l3, sizeof(*ip));

		if (!ip)
			return -1;
		ip->src = new->src->v6[3];
		ip->dst = new->dst->v6[3];
		check = pk_at(ctx, q->l3 + offsetof(struct pk_ip4, check), sizeof(*check));
		if (!check)
			return -1;
		diff += (__u16) ~*check;
		*check = pk_csum_fix(*check, addrs);
		diff += *check;
	}
	diff += addrs;
	/* UDP's checksum is within the eight bytes; TCP's may be there or not, and nobody looks. */
	check = q->proto == IPPROTO_UDP ? pk_at(ctx, q->l4 + offsetof(struct pk_udp, check), 2) : NULL;
	if (check && *check) {
		__u64 body = addrs + ports_diff;
		__u16 old = *check;

		*check = pk_csum_fix(old, body);
		diff += (__u64)(__u16)~old + *check;
	}
	return (__s64)pk_fold32(diff);
}

/* Outer addresses of the error, hop count, and ICMP's checksum with the difference of what it quotes. */
static __always_inline int pk_icmp_head(struct pk_ctx *ctx, const struct pk_pkt *p, const struct pk_new_head *outer,
					__u64 diff)
{
	struct pk_icmp *icmp;

	if (p->v6) {
		struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return PK_TRUNCATED;
		diff += pk_rewrite_v6(ip, outer);
	} else {
		struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return PK_TRUNCATED;
		(void)pk_rewrite_v4(ip, outer);
	}
	icmp = pk_at(ctx, p->l4, sizeof(*icmp));
	if (!icmp)
		return PK_TRUNCATED;
	icmp->check = pk_csum_fix(icmp->check, diff);
	return PK_GO;
}

/* About what a backend, or we in its name, sent to a client: to the backend. */
static __always_inline int pk_icmp_to_backend(struct pk_ctx *ctx, struct pk_pkt *p, const struct pk_quote *q,
					      struct pk_work *w)
{
	struct pk_conn *c = w->at.conn;
	struct lb_backend *backend = lb_backend_get(c->backend);
	struct pk_far *far = pk_far_get(c->backend);
	struct pk_way way = { .ask = &w->ask };
	const struct lb_addr *own;
	bool v6 = p->v6;
	int r;

	if (!backend || !far)
		return PK_NO_BACKEND;
	own = c->forward == LB_FORWARD_DNAT || c->forward == LB_FORWARD_DSR ? &c->client : pk_nat_get(c->nat);
	if (!own)
		return PK_NO_SOURCE;
	r = pk_way_far(ctx, p, far, own, &backend->addr, &way);
	if (r != PK_GO)
		return r;
	if (c->forward == LB_FORWARD_NAT || c->forward == LB_FORWARD_DNAT) {
		struct pk_new_head inner = {
			.src = &backend->addr, .sport = backend->port, .dst = own, .dport = c->cport
		};
		struct pk_new_head outer = { .src = &p->src, .dst = &backend->addr };
		__s64 diff;

		if (c->forward == LB_FORWARD_NAT)
			inner.dport = c->nport;
		diff = pk_quote_rewrite(ctx, q, p->v6, &inner);
		if (diff < 0)
			return PK_MALFORMED;
		if (c->flags & PK_CONN_COOKIE)
			diff += (__s64)pk_seq_quoted(ctx, &w->at, q->l4);
		r = pk_icmp_head(ctx, p, &outer, (__u64)diff);
	} else if (c->forward == LB_FORWARD_DSR) {
		__be16 frag_off, id;

		r = pk_inner(ctx, p, &frag_off, &id) < 0 ? PK_TRUNCATED : PK_GO;
	} else {
		v6 = !(backend->flags & LB_BACKEND_V4);
		r = pk_wrap(ctx, p, own, &backend->addr, c->forward == LB_FORWARD_GUE);
	}
	return r == PK_GO ? pk_go(ctx, p, &way, v6, PK_ICMP_STEERED) : r;
}

/* About what we sent to a backend: to the client, from the service. */
static __always_inline int pk_icmp_to_client(struct pk_ctx *ctx, struct pk_pkt *p, const struct pk_quote *q,
					     struct pk_work *w)
{
	struct pk_conn *c = w->at.conn;
	struct pk_way way = { .ask = &w->ask };
	struct pk_new_head inner = { .src = &c->client, .sport = c->cport, .dst = &c->vip, .dport = c->vport };
	struct pk_new_head outer = { .src = &c->vip, .dst = &c->client };
	__s64 diff;
	int r = pk_way_client(ctx, p, c, &way);

	if (r != PK_GO)
		return r;
	diff = pk_quote_rewrite(ctx, q, p->v6, &inner);
	if (diff < 0)
		return PK_MALFORMED;
	r = pk_icmp_head(ctx, p, &outer, (__u64)diff);
	return r == PK_GO ? pk_go(ctx, p, &way, p->v6, PK_ICMP_STEERED) : r;
}

/* The record of a quoted packet, or, with turn, of one that flew the other way. */
static __always_inline bool pk_quote_find(const struct pk_ctl *ctl, struct pk_pkt *p, const struct pk_quote *q,
					  bool turn, struct pk_work *w)
{
	struct pk_key *k = &w->key;
	int index;

	pk_addr_copy(&k->src, turn ? &q->dst : &q->src);
	pk_addr_copy(&k->dst, turn ? &q->src : &q->dst);
	k->sport = turn ? q->dport : q->sport;
	k->dport = turn ? q->sport : q->dport;
	k->proto = q->proto;
	k->hash = pk_hash(ctl, &k->src, &k->dst, k->sport, k->dport, k->proto, !pk_addr_is_v4(&k->src));
	p->hash = k->hash;
	index = pk_find_all(k);
	return index >= 0 && pk_at_index(ctl, (__u32)index, &w->at);
}

/*
 * About a packet in a tunnel: how large may it be? Only where the quote is long enough to tell whose it was. The
 * host is told too, by the packet itself.
 */
static __always_inline int pk_icmp_tunnel(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p,
					  struct pk_quote *q, struct pk_work *w, __u32 mtu)
{
	__u32 off = q->l4 + (q->proto == IPPROTO_UDP ? PK_GUE_LEN : 0);
	struct lb_addr to = q->dst;
	const __u8 *version = pk_at(ctx, off, 1);
	const struct lb_backend *backend;
	struct pk_far *far;

	if (!version || pk_quote_parse(ctx, off, *version >> 4 == 6, q) != PK_GO || !pk_quote_find(ctl, p, q, false, w))
		return PK_NOT_OURS;
	backend = lb_backend_get(w->at.conn->backend);
	far = pk_far_get(w->at.conn->backend);
	if (!backend || !far || !pk_addr_eq(&backend->addr, &to))
		return PK_NOT_OURS;
	if (mtu < (p->v6 ? PK_MTU_MIN : PK_MTU_MIN_V4))
		mtu = p->v6 ? PK_MTU_MIN : PK_MTU_MIN_V4;
	far->pmtu = (__u16)mtu;
	far->pmtu_tick = p->now;
	return PK_NOT_OURS;
}

/* How much fits, if the error is about that. */
static __always_inline __u32 pk_icmp_mtu(const struct pk_pkt *p, const struct pk_icmp *icmp)
{
	if (p->v6)
		return icmp->type == 2 && !icmp->id ? bpf_ntohs(icmp->seq) : 0;
	return icmp->type == ICMP4_UNREACHABLE && icmp->code == 4 ? bpf_ntohs(icmp->seq) : 0;
}

static __always_inline int pk_icmp_error(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p)
{
	const struct pk_icmp *icmp;
	struct pk_quote q = {};
	struct pk_work w = {};
	__u32 mtu;
	int r;

	pk_pull(ctx, p->l4 + sizeof(*icmp) + 2 * sizeof(struct pk_ip6) + PK_GUE_LEN + 8);
	icmp = pk_at(ctx, p->l4, sizeof(*icmp));
	if (!icmp)
		return PK_TRUNCATED;
	mtu = pk_icmp_mtu(p, icmp);
	r = pk_quote_parse(ctx, p->l4 + sizeof(*icmp), p->v6, &q);
	if (r != PK_GO)
		return PK_NOT_OURS;
	if (q.proto == IPPROTO_IPIP || q.proto == IPPROTO_IPV6 ||
	    (q.proto == IPPROTO_UDP && q.dport == bpf_htons(PK_GUE_PORT)))
		return mtu ? pk_icmp_tunnel(ctx, ctl, p, &q, &w, mtu) : PK_NOT_OURS;
	if (q.proto != IPPROTO_TCP && q.proto != IPPROTO_UDP)
		return PK_NOT_OURS;
	if (!pk_len_ok(ctx, p))
		return PK_NOT_OURS;
	if (p->ttl <= 1)
		return PK_NOT_OURS;
	if (pk_quote_find(ctl, p, &q, true, &w)) {
		pk_capture_conn(w.at.conn);
		return pk_icmp_to_backend(ctx, p, &q, &w);
	}
	pk_back_of(ctl, &w.back, &q.dst, q.dport, &q.src, q.sport, q.proto);
	if (pk_find_back(ctl, &w.back, &w.at)) {
		pk_capture_conn(w.at.conn);
		return pk_icmp_to_client(ctx, p, &q, &w);
	}
	return PK_NOT_OURS;
}

static __always_inline int pk_icmp(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p)
{
	const struct pk_icmp *icmp = pk_at(ctx, p->l4, sizeof(*icmp));

	if (!icmp)
		return PK_TRUNCATED;
	if (p->frag != PK_FRAG_NONE)
		return PK_NOT_OURS;
	if (icmp->type == (p->v6 ? ICMP6_ECHO : ICMP4_ECHO) && !icmp->code)
		return pk_len_ok(ctx, p) && bpf_map_lookup_elem(&pk_addrs, &p->dst) ? pk_ping(ctx, p) : PK_NOT_OURS;
	return pk_icmp_is_error(p, icmp->type) ? pk_icmp_error(ctx, ctl, p) : PK_NOT_OURS;
}
