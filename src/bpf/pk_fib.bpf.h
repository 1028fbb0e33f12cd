/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Next hops, from the kernel's routes and neighbours. A look-up costs more than all the rest of a packet, so what it
 * said is believed for one tick: by backend in pk_far, by connection (an index into pk_hops) towards clients, there for
 * all who have the same next hop.
 */
#pragma once

#include "bpf/pk_maps.bpf.h"

#ifndef BPF_FIB_LKUP_RET_NO_SRC_ADDR
#define BPF_FIB_LKUP_RET_NO_SRC_ADDR 10
#endif

struct pk_fib_ask {
	struct lb_addr src, dst;
	struct lb_addr gateway; /* answer: next hop's address, where it has no neighbour entry */
	struct pk_hop hop;	/* answer */
};

static __always_inline int pk_fib_reason(long r)
{
	switch (r) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		return PK_GO;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return PK_NO_NEIGHBOUR;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return PK_FORWARDING_OFF;
	default:
		return PK_NO_ROUTE;
	}
}

/* What XDP has to do instead of sending to a VLAN device. */
static __always_inline void pk_fib_link(struct pk_hop *hop)
{
	struct pk_link_key key = { .ifindex = hop->ifindex };
	struct pk_link *link = bpf_map_lookup_elem(&pk_links, &key);

	hop->phys = link ? link->ifindex : hop->ifindex;
	hop->vlan = link ? (__u16)link->vid : 0;
}

/* Where a packet that came in on an interface with a tag came in, as the routes see it. */
static __always_inline __u32 pk_fib_ingress(__u32 ifindex, __u16 vlan)
{
	struct pk_link_key key = { .ifindex = ifindex, .vid = vlan & 0xfff };
	struct pk_link *link = vlan ? bpf_map_lookup_elem(&pk_links, &key) : NULL;

	return link ? link->ifindex : ifindex;
}

/* Asks the kernel for the way from src to dst. */
__noinline int pk_fib_lookup(struct pk_ctx *ctx, struct pk_fib_ask *ask, __u32 ifindex, __u32 vlan, __u32 now)
{
	struct bpf_fib_lookup fib = {};
	long r;

	if (!ask)
		return PK_NO_ROUTE;
	fib.ifindex = pk_fib_ingress(ifindex, (__u16)vlan);
	/* A length makes the kernel tell the route's MTU in exchange. */
	fib.tot_len = 1;
	if (pk_addr_is_v4(&ask->dst)) {
		fib.family = AF_INET;
		fib.ipv4_src = ask->src.v6[3];
		fib.ipv4_dst = ask->dst.v6[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, &ask->src, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &ask->dst, sizeof(fib.ipv6_dst));
	}
	r = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (r < 0)
		return PK_NO_ROUTE;
	ask->hop.ifindex = fib.ifindex;
	if (fib.family == AF_INET)
		pk_addr_v4(&ask->gateway, fib.ipv4_dst);
	else
		__builtin_memcpy(&ask->gateway, fib.ipv6_dst, sizeof(ask->gateway));
	if (r != BPF_FIB_LKUP_RET_SUCCESS)
		return pk_fib_reason(r);
	__builtin_memcpy(ask->hop.dmac, fib.dmac, ETH_ALEN);
	__builtin_memcpy(ask->hop.smac, fib.smac, ETH_ALEN);
	ask->hop.mtu = fib.mtu_result;
	ask->hop.tick = now;
	pk_fib_link(&ask->hop);
	return PK_GO;
}

/* What the kernel says of the neighbour it has not: TC can wait for the answer. */
static __always_inline int pk_fib_neigh(struct pk_ctx *ctx, const struct pk_fib_ask *ask)
{
#if PK_XDP
	return PK_VERDICT_PASS;
#else
	struct bpf_redir_neigh nh = {};

	if (pk_addr_is_v4(&ask->gateway)) {
		nh.nh_family = AF_INET;
		nh.ipv4_nh = ask->gateway.v6[3];
	} else {
		nh.nh_family = AF_INET6;
		__builtin_memcpy(nh.ipv6_nh, &ask->gateway, sizeof(nh.ipv6_nh));
	}
	return (int)bpf_redirect_neigh(ask->hop.ifindex, &nh, sizeof(nh), 0);
#endif
}

static __always_inline bool pk_hop_is(const struct pk_hop *a, const struct pk_hop *b)
{
	return a->ifindex == b->ifindex && a->phys == b->phys && a->mtu == b->mtu && a->vlan == b->vlan &&
	       *(const __u32 *)a->dmac == *(const __u32 *)b->dmac &&
	       *(const __u32 *)(a->dmac + 4) == *(const __u32 *)(b->dmac + 4) &&
	       *(const __u32 *)(a->smac + 2) == *(const __u32 *)(b->smac + 2);
}

/* The index under which a next hop is kept, 0 if there is no room: then it is looked up again for each packet. */
static __always_inline __u16 pk_hop_keep(const struct pk_hop *hop)
{
	__u32 at = hop->ifindex * 31 + (hop->dmac[5] | (__u32)hop->dmac[4] << 8) + hop->mtu + hop->vlan;

	PK_UNROLL_NO
	for (int i = 0; i < 16; i++) {
		__u32 index = (at + i) & (PK_HOPS - 1);
		struct pk_hop *h = bpf_map_lookup_elem(&pk_hops, &index);

		if (!h)
			return 0;
		if (!index)
			continue;
		/* Claimed before it is written: an entry never changes. */
		if (!h->used && !__sync_val_compare_and_swap(&h->used, 0, 1)) {
			__builtin_memcpy(h, hop, offsetof(struct pk_hop, used));
			(void)__sync_lock_test_and_set(&h->used, 2);
			return (__u16)index;
		}
		if (h->used == 2 && pk_hop_is(h, hop)) {
			h->tick = hop->tick;
			return (__u16)index;
		}
	}
	return 0;
}
