/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets that are too big for the way: the sender is told, from the address it sent to, and by the way the packet
 * came. And the largest segment that TCP may agree on, so that it need not come to that.
 */
#pragma once

#include "bpf/pk_csum.bpf.h"
#include "bpf/pk_maps.bpf.h"

/* Bytes of the packet that are quoted: headers, and what a receiver wants to see. */
#define PK_QUOTE_V4 64
#define PK_QUOTE_V6 96

#define ICMP_UNREACHABLE 3
#define ICMP_FRAG_NEEDED 4
#define ICMP6_TOO_BIG 2

#define TCP_OPT_END 0
#define TCP_OPT_NOP 1
#define TCP_OPT_MSS 2
#define TCP_OPTS_BYTES 40
#define TCP_OPTS_MAX 8 /* that are looked at; MSS is the first in nearly all SYNs, and the verifier counts */

/* The frame becomes its first len bytes, and as many as room are put before its IP header. */
static __always_inline int pk_big_reshape(struct pk_ctx *ctx, __u32 len, __u32 room)
{
#if PK_XDP
	__u32 have = pk_frame_len(ctx);

	if (have < len || bpf_xdp_adjust_tail(ctx, -(int)(have - len)))
		return -1;
	return (int)bpf_xdp_adjust_head(ctx, -(int)room);
#else
	if (bpf_skb_change_tail(ctx, len, 0))
		return -1;
	return (int)bpf_skb_adjust_room(ctx, (__s32)room, BPF_ADJ_ROOM_MAC, 0);
#endif
}

/* The Ethernet header of the answer; in XDP it has to be moved to the front first. */
static __always_inline int pk_big_ether(struct pk_ctx *ctx, const struct pk_pkt *p, const struct pk_eth *old)
{
	struct pk_eth *eth = pk_at(ctx, 0, sizeof(*eth) + sizeof(struct pk_vlan));

	if (!eth)
		return -1;
	__builtin_memcpy(eth->dst, old->src, ETH_ALEN);
	__builtin_memcpy(eth->src, old->dst, ETH_ALEN);
	eth->proto = old->proto;
	if (PK_XDP && p->vlan) {
		struct pk_vlan *tag = (struct pk_vlan *)(eth + 1);

		tag->tci = bpf_htons(p->vlan);
		tag->proto = p->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	}
	return 0;
}

static __always_inline __u64 pk_sum(const void *data, __u32 len)
{
	const __u32 *w = data;
	__u64 sum = 0;

#pragma unroll
	for (__u32 i = 0; i < len / 4; i++)
		sum += w[i];
	return sum;
}

/*
 * In TC the packet's own checksum may be one that the hardware is yet to fill in, and it will do that in the quote
 * too: then what is there now is the sum of the pseudo header, and the segment will sum up to its complement.
 */
static __always_inline __u64 pk_big_partial(struct pk_ctx *ctx, const struct pk_pkt *p, __u32 quote_at)
{
#if PK_XDP
	return 0;
#else
	__u32 at = p->proto == IPPROTO_TCP ? offsetof(struct pk_tcp, check) : offsetof(struct pk_udp, check);
	__u32 head = p->l4 - p->l3;
	const __u16 *check = pk_at(ctx, quote_at + head + at, sizeof(*check));
	const void *l4;
	__u64 pseudo = pk_sum(&p->src, sizeof(p->src)) + pk_sum(&p->dst, sizeof(p->dst)), sum = 0;

	/* The mapped prefix of IPv4 is the same in both, and no part of it. */
	if (!p->v6)
		pseudo = (__u64)p->src.v6[3] + p->dst.v6[3];
	pseudo += bpf_htons(p->proto) + bpf_htons((__u16)(p->len - head));
	if (!check || *check != pk_fold16(pseudo))
		return 0;
	if (!p->v6 && head == sizeof(struct pk_ip4)) {
		l4 = pk_at(ctx, quote_at + sizeof(struct pk_ip4), PK_QUOTE_V4 - sizeof(struct pk_ip4));
		sum = l4 ? pk_sum(l4, PK_QUOTE_V4 - sizeof(struct pk_ip4)) : 0;
	} else if (p->v6 && head == sizeof(struct pk_ip6)) {
		l4 = pk_at(ctx, quote_at + sizeof(struct pk_ip6), PK_QUOTE_V6 - sizeof(struct pk_ip6));
		sum = l4 ? pk_sum(l4, PK_QUOTE_V6 - sizeof(struct pk_ip6)) : 0;
	} else {
		return 0;
	}
	/* Minus what is there, plus what will be. */
	return (__u64)(__u16)~pk_fold16(sum) + (__u16) ~*check;
#endif
}

static __always_inline int pk_big_v4(struct pk_ctx *ctx, const struct pk_pkt *p, __u16 mtu)
{
	struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip) + sizeof(struct pk_icmp) + PK_QUOTE_V4);
	__u64 partial = pk_big_partial(ctx, p, p->l3 + sizeof(*ip) + sizeof(struct pk_icmp));
	struct pk_icmp *icmp;

	if (!ip)
		return -1;
	icmp = (struct pk_icmp *)(ip + 1);
	ip->ver_ihl = 0x45;
	ip->tos = 0xc0;
	ip->len = bpf_htons(sizeof(*ip) + sizeof(*icmp) + PK_QUOTE_V4);
	ip->id = 0;
	ip->frag_off = bpf_htons(IP_DF);
	ip->ttl = 64;
	ip->proto = IPPROTO_ICMP;
	ip->check = 0;
	ip->src = p->dst.v6[3];
	ip->dst = p->src.v6[3];
	ip->check = pk_ip4_check(ip);
	icmp->type = ICMP_UNREACHABLE;
	icmp->code = ICMP_FRAG_NEEDED;
	icmp->id = 0;
	icmp->seq = bpf_htons(mtu);
	icmp->check = 0;
	icmp->check = (__u16)~pk_fold16(pk_sum(icmp, sizeof(*icmp) + PK_QUOTE_V4) + partial);
	return 0;
}

static __always_inline int pk_big_v6(struct pk_ctx *ctx, const struct pk_pkt *p, __u16 mtu)
{
	struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip) + sizeof(struct pk_icmp) + PK_QUOTE_V6);
	__u64 partial = pk_big_partial(ctx, p, p->l3 + sizeof(*ip) + sizeof(struct pk_icmp));
	__u32 len = sizeof(struct pk_icmp) + PK_QUOTE_V6;
	struct pk_icmp *icmp;
	__u64 pseudo;

	if (!ip)
		return -1;
	icmp = (struct pk_icmp *)(ip + 1);
	ip->flow = bpf_htonl(0x60000000);
	ip->len = bpf_htons((__u16)len);
	ip->next = IPPROTO_ICMPV6;
	ip->hops = 64;
	__builtin_memcpy(ip->src, &p->dst, sizeof(ip->src));
	__builtin_memcpy(ip->dst, &p->src, sizeof(ip->dst));
	icmp->type = ICMP6_TOO_BIG;
	icmp->code = 0;
	icmp->id = 0;
	icmp->seq = bpf_htons(mtu);
	icmp->check = 0;
	pseudo = pk_sum(ip->src, 32) + bpf_htonl(len) + bpf_htonl(IPPROTO_ICMPV6);
	icmp->check = (__u16)~pk_fold16(pk_sum(icmp, sizeof(*icmp) + PK_QUOTE_V6) + pseudo + partial);
	return 0;
}

/* Tells the sender that at most mtu bytes fit; or tells why not. */
__noinline int pk_too_big(struct pk_ctx *ctx, struct pk_pkt *p, __u32 mtu)
{
	struct pk_eth old;
	struct pk_eth *eth = pk_at(ctx, 0, sizeof(*eth));

	if (!p || !eth || p->frag == PK_FRAG_LATER || mtu > 65535)
		return PK_TOO_BIG;
	__builtin_memcpy(&old, eth, sizeof(old));
	if (!p->v6) {
		const struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip || !(ip->frag_off & bpf_htons(IP_DF)))
			return PK_TOO_BIG;
		if (pk_big_reshape(ctx, p->l3 + PK_QUOTE_V4, sizeof(struct pk_ip4) + sizeof(struct pk_icmp)))
			return PK_TOO_BIG;
	} else {
		if (pk_big_reshape(ctx, p->l3 + PK_QUOTE_V6, sizeof(struct pk_ip6) + sizeof(struct pk_icmp)))
			return PK_TOO_BIG;
	}
	if (pk_big_ether(ctx, p, &old) || (p->v6 ? pk_big_v6(ctx, p, (__u16)mtu) : pk_big_v4(ctx, p, (__u16)mtu)))
		return PK_TOO_BIG;
	p->verdict = pk_out(ctx, pk_ifindex(ctx));
	return PK_TOO_BIG_TOLD;
}

/* Lowers the MSS option of a SYN to max. */
__noinline int pk_mss(struct pk_ctx *ctx, struct pk_pkt *p, __u32 max)
{
	const struct pk_tcp *tcp;
	__u32 at, end;

	if (!p)
		return 0;
	pk_pull(ctx, p->l4 + sizeof(*tcp) + TCP_OPTS_BYTES);
	tcp = pk_at(ctx, p->l4, sizeof(*tcp));
	if (!tcp)
		return 0;
	at = p->l4 + sizeof(*tcp);
	end = p->l4 + (tcp->off >> 4) * 4;
	PK_UNROLL_NO
	for (int i = 0; i < TCP_OPTS_MAX && at < end; i++) {
		const __u8 *opt = pk_at(ctx, at, 2);
		__be16 *mss;

		if (!opt && at + 1 == end)
			return 0;
		if (!opt || opt[0] == TCP_OPT_END)
			return 0;
		if (opt[0] == TCP_OPT_NOP) {
			at++;
			continue;
		}
		if (opt[0] != TCP_OPT_MSS) {
			if (opt[1] < 2)
				return 0;
			at += opt[1];
			continue;
		}
		mss = pk_at(ctx, at + 2, 2);
		if (opt[1] != 4 || !mss || at + 4 > end || bpf_ntohs(*mss) <= max)
			return 0;
		{
			/* An option may start at an odd byte: then its bytes count the other way round. */
			bool odd = (at - p->l4) & 1;
			__u16 old = *mss, new = bpf_htons((__u16)max);
			__u64 body = odd ? (__u64)(__u16)~__builtin_bswap16(old) + __builtin_bswap16(new) :
					   (__u64)(__u16)~old + new;

			*mss = new;
			return pk_csum_l4(ctx, p->l4 + offsetof(struct pk_tcp, check), 0, body, false, p->v6);
		}
	}
	return 0;
}
