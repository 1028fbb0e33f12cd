/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets wrapped into packets: IPIP, IP6IP6, 4in6, 6in4 and GUE (variant 0, draft-ietf-intarea-gue), every pair of
 * families. The outer header inherits DSCP and "don't fragment", as a tunnel device's does.
 *
 * GUE's outer UDP checksum is zero, which RFC 6935 and 6936 allow for tunnels over IPv6 too: what is inside has its own.
 */
#pragma once

#include "bpf/pk_csum.bpf.h"
#include "bpf/pk_maps.bpf.h"

struct pk_gue {
	__u8 ver_len; /* variant, control, length of what follows: all 0 */
	__u8 proto;
	__be16 flags;
} PK_HEADER;

#define PK_OUTER_TTL 64
#define PK_GUE_LEN (sizeof(struct pk_udp) + sizeof(struct pk_gue))

/* Not in the headers of Linux 6.1's user space, but in its kernel. */
#ifndef BPF_F_ADJ_ROOM_NO_CSUM_RESET
#define BPF_F_ADJ_ROOM_NO_CSUM_RESET (1ULL << 5)
#endif

static __always_inline __u32 pk_tunnel_len(bool outer_v4, bool gue)
{
	return (outer_v4 ? sizeof(struct pk_ip4) : sizeof(struct pk_ip6)) + (gue ? PK_GUE_LEN : 0);
}

/* Makes room before the IP header. The Ethernet header, with a tag if there is one, stays in front. */
static __always_inline int pk_tunnel_room(struct pk_ctx *ctx, const struct pk_pkt *p, __u32 len, bool outer_v4,
					  bool gue)
{
#if PK_XDP
	/* Ethernet header and tag are written anew by the caller. */
	return (int)bpf_xdp_adjust_head(ctx, -(int)len);
#else
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO |
		      (outer_v4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6) |
		      (gue ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : 0);

	return (int)bpf_skb_adjust_room(ctx, (__s32)len, BPF_ADJ_ROOM_MAC, flags);
#endif
}

/* Where a flow's packets come from on UDP, so that receivers can spread them. */
static __always_inline __be16 pk_gue_sport(const struct pk_pkt *p)
{
	return bpf_htons((__u16)(0xc000 | (p->hash >> 32 & 0x3fff)));
}

static __always_inline int pk_outer_v4(struct pk_ctx *ctx, const struct pk_pkt *p, const struct lb_addr *from,
				       const struct lb_addr *to, bool gue, __be16 frag_off, __be16 id)
{
	struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));

	if (!ip)
		return -1;
	ip->ver_ihl = 0x45;
	ip->tos = p->tos;
	ip->len = bpf_htons((__u16)(p->len + pk_tunnel_len(true, gue)));
	ip->id = id;
	ip->frag_off = frag_off;
	ip->ttl = PK_OUTER_TTL;
	ip->proto = gue ? IPPROTO_UDP : p->v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip->check = 0;
	ip->src = from->v6[3];
	ip->dst = to->v6[3];
	ip->check = pk_ip4_check(ip);
	return 0;
}

static __always_inline int pk_outer_v6(struct pk_ctx *ctx, const struct pk_pkt *p, const struct lb_addr *from,
				       const struct lb_addr *to, bool gue)
{
	struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip));

	if (!ip)
		return -1;
	ip->flow = bpf_htonl(0x60000000 | (__u32)p->tos << 20 | (__u32)(p->hash >> 32 & 0xfffff));
	ip->len = bpf_htons((__u16)(p->len + (gue ? PK_GUE_LEN : 0)));
	ip->next = gue ? IPPROTO_UDP : p->v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip->hops = PK_OUTER_TTL;
	__builtin_memcpy(ip->src, from, sizeof(ip->src));
	__builtin_memcpy(ip->dst, to, sizeof(ip->dst));
	return 0;
}

static __always_inline int pk_outer_gue(struct pk_ctx *ctx, const struct pk_pkt *p, bool outer_v4)
{
	__u32 off = p->l3 + (outer_v4 ? sizeof(struct pk_ip4) : sizeof(struct pk_ip6));
	struct pk_udp *udp = pk_at(ctx, off, PK_GUE_LEN);
	struct pk_gue *gue;

	if (!udp)
		return -1;
	udp->sport = pk_gue_sport(p);
	udp->dport = bpf_htons(PK_GUE_PORT);
	udp->len = bpf_htons((__u16)(p->len + PK_GUE_LEN));
	udp->check = 0;
	gue = (struct pk_gue *)(udp + 1);
	gue->ver_len = 0;
	gue->proto = p->v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	gue->flags = 0;
	return 0;
}

/* One hop less for what is inside. Returns its "don't fragment" and id, for the outer header. */
static __always_inline int pk_inner(struct pk_ctx *ctx, const struct pk_pkt *p, __be16 *ret_frag_off, __be16 *ret_id)
{
	if (p->v6) {
		struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return -1;
		ip->hops--;
		*ret_frag_off = bpf_htons(IP_DF);
		*ret_id = 0;
	} else {
		struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return -1;
		*ret_frag_off = ip->frag_off & bpf_htons(IP_DF);
		*ret_id = ip->id;
		ip->check = pk_csum_fix(ip->check, pk_ttl_v4(ip));
	}
	return 0;
}

/* Wraps the packet. The Ethernet header has to be written after this. */
static __always_inline int pk_wrap(struct pk_ctx *ctx, const struct pk_pkt *p, const struct lb_addr *from,
				   const struct lb_addr *to, bool gue)
{
	bool outer_v4 = pk_addr_is_v4(to);
	__be16 frag_off, id;

	if (pk_inner(ctx, p, &frag_off, &id) < 0)
		return PK_TRUNCATED;
	if (pk_tunnel_room(ctx, p, pk_tunnel_len(outer_v4, gue), outer_v4, gue) < 0)
		return PK_HEADROOM;
	if (outer_v4) {
		if (pk_outer_v4(ctx, p, from, to, gue, frag_off, id) < 0)
			return PK_HEADROOM;
	} else if (pk_outer_v6(ctx, p, from, to, gue) < 0) {
		return PK_HEADROOM;
	}
	if (gue && pk_outer_gue(ctx, p, outer_v4) < 0)
		return PK_HEADROOM;
	return PK_GO;
}
