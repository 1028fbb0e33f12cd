/* SPDX-License-Identifier: GPL-2.0 */
/* The last step: Ethernet header, VLAN tag, and out. */
#pragma once

#include "bpf/pk_capture.bpf.h"
#include "bpf/pk_fib.bpf.h"

/* Where a packet goes: a next hop or, in TC, whatever the kernel finds for an address. */
struct pk_way {
	struct pk_hop *hop; /* NULL: ask says where, by way of the neighbour table */
	struct pk_fib_ask *ask;
	__u32 mtu;
};

/* Ethernet header, when the frame has as many bytes before its IP header as it will have. */
static __always_inline int pk_ether(struct pk_ctx *ctx, const struct pk_hop *hop, __u16 vlan, bool v6)
{
	struct pk_eth *eth = pk_at(ctx, 0, sizeof(*eth) + (vlan ? sizeof(struct pk_vlan) : 0));
	__be16 proto = v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

	if (!eth)
		return -1;
	__builtin_memcpy(eth->dst, hop->dmac, ETH_ALEN);
	__builtin_memcpy(eth->src, hop->smac, ETH_ALEN);
	if (vlan) {
		struct pk_vlan *tag = (struct pk_vlan *)(eth + 1);

		eth->proto = bpf_htons(ETH_P_8021Q);
		tag->tci = bpf_htons(vlan);
		tag->proto = proto;
	} else {
		eth->proto = proto;
	}
	return 0;
}

/*
 * Sends. v6 is the family of the outermost header. Sets p->verdict and returns sent, or why not. XDP writes the tag of
 * the way out, keeping the priority of a tag that was there; in TC the tag is not in the frame, and a VLAN device
 * puts its own.
 */
static __always_inline int pk_send(struct pk_ctx *ctx, struct pk_pkt *p, const struct pk_hop *hop, bool v6, int sent)
{
	__u16 vlan = 0;

#if PK_XDP
	if (hop->vlan)
		vlan = hop->vlan | (p->vlan & 0xf000);
	if (!p->vlan != !vlan &&
	    bpf_xdp_adjust_head(ctx, vlan ? -(int)sizeof(struct pk_vlan) : (int)sizeof(struct pk_vlan)))
		return PK_HEADROOM;
	if (pk_ether(ctx, hop, vlan, v6) < 0)
		return PK_HEADROOM;
	p->verdict = pk_out(ctx, hop->phys);
	pk_capture_way(hop->phys, false);
#else
	if (ctx->vlan_present)
		bpf_skb_vlan_pop(ctx);
	if (pk_ether(ctx, hop, vlan, v6) < 0)
		return PK_HEADROOM;
	p->verdict = pk_out(ctx, hop->ifindex);
	pk_capture_way(hop->ifindex, false);
#endif
	return sent;
}

/* By the way that was found: a next hop, or the neighbour that TC has to ask for. */
static __always_inline int pk_go(struct pk_ctx *ctx, struct pk_pkt *p, const struct pk_way *way, bool v6, int sent)
{
	if (way->hop)
		return pk_send(ctx, p, way->hop, v6, sent);
#if !PK_XDP
	if (ctx->vlan_present)
		bpf_skb_vlan_pop(ctx);
#endif
	p->verdict = pk_fib_neigh(ctx, way->ask);
	pk_capture_way(way->ask->hop.ifindex, true);
	return sent;
}
