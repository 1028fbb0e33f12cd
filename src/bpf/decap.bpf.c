// SPDX-License-Identifier: GPL-2.0
/*
 * For backends of ipip and gue: takes the outer headers away and passes the packet on to the stack, so that no tunnel
 * device has to be set up. Only packets for service addresses are unwrapped (pk_vips), so that nobody gets anything
 * past a packet filter that looks at outer headers, but for those; everything else passes as it came.
 */
#define PK_XDP 1
#include "bpf/pk_ctx.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* The addresses of services that this backend has itself. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct lb_addr);
	__type(value, __u32);
} pk_vips SEC(".maps");

/* Packets unwrapped. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} pk_unwrapped SEC(".maps");

#define PK_GUE_HEAD 12 /* UDP, and GUE without options */

/* Length of a GUE header in front of a packet of this protocol; 0: it is something else. */
static __always_inline __u32 pk_gue_len(struct xdp_md *ctx, __u32 off, __u8 *ret_proto)
{
	const struct pk_udp *udp = pk_at(ctx, off, PK_GUE_HEAD);
	const __u8 *gue;

	if (!udp || udp->dport != bpf_htons(PK_GUE_PORT))
		return 0;
	gue = (const __u8 *)(udp + 1);
	/* Variant 0, no control message, no options. */
	if (gue[0])
		return 0;
	*ret_proto = gue[1];
	return PK_GUE_HEAD;
}

/* Where the inner packet begins, and of which family it is; 0: there is none. */
static __always_inline __u32 pk_inner_at(struct xdp_md *ctx, __u32 off, __u8 proto, __u8 *ret_proto)
{
	__u32 gue;

	if (proto == IPPROTO_IPIP || proto == IPPROTO_IPV6) {
		*ret_proto = proto;
		return off;
	}
	if (proto != IPPROTO_UDP)
		return 0;
	gue = pk_gue_len(ctx, off, ret_proto);
	return gue ? off + gue : 0;
}

static __always_inline __u32 pk_outer(struct xdp_md *ctx, __be16 eth_proto, __u8 *ret_proto)
{
	if (eth_proto == bpf_htons(ETH_P_IP)) {
		const struct pk_ip4 *ip = pk_at(ctx, ETH_HLEN, sizeof(*ip));

		/* Fragments of tunnels are the stack's. */
		if (!ip || ip->ver_ihl != 0x45 || ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
			return 0;
		return pk_inner_at(ctx, ETH_HLEN + sizeof(*ip), ip->proto, ret_proto);
	}
	if (eth_proto == bpf_htons(ETH_P_IPV6)) {
		const struct pk_ip6 *ip = pk_at(ctx, ETH_HLEN, sizeof(*ip));

		return ip ? pk_inner_at(ctx, ETH_HLEN + sizeof(*ip), ip->next, ret_proto) : 0;
	}
	return 0;
}

/* Whether the inner packet is for a service address. */
static __always_inline bool pk_inner_ours(struct xdp_md *ctx, __u32 off, __u8 proto)
{
	struct lb_addr dst;

	if (proto == IPPROTO_IPIP) {
		const struct pk_ip4 *ip = pk_at(ctx, off, sizeof(*ip));

		if (!ip || ip->ver_ihl >> 4 != 4)
			return false;
		pk_addr_v4(&dst, ip->dst);
	} else if (proto == IPPROTO_IPV6) {
		const struct pk_ip6 *ip = pk_at(ctx, off, sizeof(*ip));

		if (!ip || (ip->flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
			return false;
		__builtin_memcpy(&dst, ip->dst, sizeof(dst));
	} else {
		return false;
	}
	return bpf_map_lookup_elem(&pk_vips, &dst) != NULL;
}

SEC("xdp")
int pk_decap(struct xdp_md *ctx)
{
	struct pk_eth *eth = pk_at(ctx, 0, sizeof(*eth)), head;
	__u8 proto = 0;
	__u32 off, zero = 0;
	__u64 *n;

	if (!eth)
		return XDP_PASS;
	off = pk_outer(ctx, eth->proto, &proto);
	if (!off || !pk_inner_ours(ctx, off, proto))
		return XDP_PASS;
	__builtin_memcpy(&head, eth, sizeof(head));
	head.proto = proto == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (bpf_xdp_adjust_head(ctx, (int)(off - ETH_HLEN)))
		return XDP_PASS;
	eth = pk_at(ctx, 0, sizeof(*eth));
	if (!eth)
		return XDP_DROP;
	__builtin_memcpy(eth, &head, sizeof(head));
	n = bpf_map_lookup_elem(&pk_unwrapped, &zero);
	if (n)
		(*n)++;
	return XDP_PASS;
}
