/* SPDX-License-Identifier: GPL-2.0 */
/* Finds the headers of a packet. Reads only what is there; what cannot be understood is not ours. */
#pragma once

#include "bpf/pk_ctx.bpf.h"

#define PK_EXT_HEADERS 6

#define IP6_HOP_BY_HOP 0
#define IP6_ROUTING 43
#define IP6_FRAGMENT 44
#define IP6_DEST_OPTS 60

/* The ports, of whatever has them. l4 is set. */
static __always_inline int pk_parse_l4(struct pk_ctx *ctx, struct pk_pkt *p)
{
	if (p->proto == IPPROTO_TCP) {
		const struct pk_tcp *tcp = pk_at(ctx, p->l4, sizeof(*tcp));

		if (!tcp)
			return PK_TRUNCATED;
		p->sport = tcp->sport;
		p->dport = tcp->dport;
		p->tcp_flags = tcp->flags;
		return PK_GO;
	}
	if (p->proto == IPPROTO_UDP) {
		const struct pk_udp *udp = pk_at(ctx, p->l4, sizeof(*udp));

		if (!udp)
			return PK_TRUNCATED;
		p->sport = udp->sport;
		p->dport = udp->dport;
		return PK_GO;
	}
	return p->proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) ? PK_GO : PK_NOT_OURS;
}

static __always_inline int pk_parse_v4(struct pk_ctx *ctx, struct pk_pkt *p)
{
	const struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));
	__u32 ihl;
	__u16 off;

	if (!ip)
		return PK_TRUNCATED;
	ihl = (ip->ver_ihl & 15) * 4;
	p->len = bpf_ntohs(ip->len);
	if (ip->ver_ihl >> 4 != 4 || ihl < sizeof(*ip) || p->len < ihl)
		return PK_TRUNCATED;
	p->v6 = 0;
	p->proto = ip->proto;
	p->ttl = ip->ttl;
	p->tos = ip->tos;
	pk_addr_v4(&p->src, ip->src);
	pk_addr_v4(&p->dst, ip->dst);
	off = bpf_ntohs(ip->frag_off) & (IP_MF | IP_OFFSET);
	if (off)
		p->frag_id = ip->id;
	p->l4 = (__u16)(p->l3 + ihl);
	/* Behind options the segment's header is farther than what was pulled. */
	if (ihl > sizeof(*ip))
		pk_pull(ctx, p->l4 + sizeof(struct pk_tcp));
	/* ICMPv6 in IPv4 is nothing. */
	if (p->proto == IPPROTO_ICMPV6)
		return PK_NOT_OURS;
	if (off) {
		p->frag = off & IP_OFFSET ? PK_FRAG_LATER : PK_FRAG_FIRST;
		if (p->frag == PK_FRAG_LATER)
			return PK_GO;
	}
	return pk_parse_l4(ctx, p);
}

/* Walks extension headers from p->l4 on. Not inlined: few packets have any. */
__noinline int pk_parse_ext(struct pk_ctx *ctx, struct pk_pkt *p)
{
	if (!p)
		return PK_TRUNCATED;
	pk_pull(ctx, PK_HEAD + sizeof(struct pk_tcp));
	PK_UNROLL_NO
	for (int i = 0; i <= PK_EXT_HEADERS; i++) {
		const __u8 *h;

		/* Before anything is read there: offsets are masked, and farther on they begin anew. */
		if (p->l4 > PK_HEAD)
			return PK_TRUNCATED;
		if (p->proto != IP6_HOP_BY_HOP && p->proto != IP6_ROUTING && p->proto != IP6_FRAGMENT &&
		    p->proto != IP6_DEST_OPTS)
			return pk_parse_l4(ctx, p);
		h = i < PK_EXT_HEADERS ? pk_at(ctx, p->l4, 8) : NULL;
		if (!h)
			return i < PK_EXT_HEADERS ? PK_TRUNCATED : PK_NOT_OURS;
		if (p->proto == IP6_FRAGMENT) {
			__u16 off = (__u16)(h[2] << 8 | h[3]);

			p->frag = off & ~7 ? PK_FRAG_LATER : off & 1 ? PK_FRAG_FIRST : PK_FRAG_NONE;
			p->frag_id = *(const __be32 *)(h + 4);
			p->proto = h[0];
			p->l4 += 8;
			if (p->frag == PK_FRAG_LATER)
				return PK_GO;
			continue;
		}
		p->proto = h[0];
		p->l4 += (h[1] + 1) * 8;
	}
	return PK_NOT_OURS;
}

static __always_inline int pk_parse_v6(struct pk_ctx *ctx, struct pk_pkt *p)
{
	const struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip));

	if (!ip)
		return PK_TRUNCATED;
	if ((ip->flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return PK_TRUNCATED;
	p->v6 = 1;
	p->proto = ip->next;
	p->ttl = ip->hops;
	p->tos = (__u8)(bpf_ntohl(ip->flow) >> 20);
	p->len = bpf_ntohs(ip->len) + sizeof(*ip);
	__builtin_memcpy(&p->src, ip->src, sizeof(p->src));
	__builtin_memcpy(&p->dst, ip->dst, sizeof(p->dst));
	/* v4-mapped addresses have no business on a wire, and would be taken for IPv4's. */
	if (pk_addr_is_v4(&p->src) || pk_addr_is_v4(&p->dst))
		return PK_NOT_OURS;
	p->l4 = (__u16)(p->l3 + sizeof(*ip));
	if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP || p->proto == IPPROTO_ICMPV6)
		return pk_parse_l4(ctx, p);
	if (p->proto == IPPROTO_ICMP)
		return PK_NOT_OURS;
	return pk_parse_ext(ctx, p);
}

/* Fills p, or tells why the packet is none of ours. */
static __always_inline int pk_parse(struct pk_ctx *ctx, struct pk_pkt *p)
{
	const struct pk_eth *eth;
	__be16 proto;

	pk_pull(ctx, ETH_HLEN + sizeof(struct pk_ip6) + sizeof(struct pk_tcp));
	eth = pk_at(ctx, 0, sizeof(*eth));
	if (!eth)
		return PK_TRUNCATED;
	/* Frames for other hosts, seen in promiscuous mode, or for all: never a service's. */
	if (eth->dst[0] & 1)
		return PK_NOT_OURS;
	proto = eth->proto;
	p->l3 = ETH_HLEN;
#if !PK_XDP
	/* The tag is not in the frame here; one that is, is inside another. */
	if (ctx->vlan_present)
		p->vlan = (__u16)ctx->vlan_tci;
#endif
	if (PK_XDP && (proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD))) {
		const struct pk_vlan *tag = pk_at(ctx, ETH_HLEN, sizeof(*tag));

		if (!tag)
			return PK_TRUNCATED;
		p->vlan = bpf_ntohs(tag->tci);
		p->l3 += sizeof(*tag);
		/* Tags in tags, priority tags without a VLAN: the stack's. */
		if (proto != bpf_htons(ETH_P_8021Q) || !(p->vlan & 0xfff))
			return PK_NOT_IP;
		proto = tag->proto;
	}
	if (proto == bpf_htons(ETH_P_IP))
		return pk_parse_v4(ctx, p);
	if (proto == bpf_htons(ETH_P_IPV6))
		return pk_parse_v6(ctx, p);
	return PK_NOT_IP;
}
