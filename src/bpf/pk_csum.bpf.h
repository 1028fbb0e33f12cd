/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Checksums are changed by the difference between what was and what is (RFC 1624), never computed anew: so a packet
 * that was damaged before stays damaged. XDP does that here; TC asks the kernel, for there a checksum may be one that
 * the hardware is yet to complete (CHECKSUM_PARTIAL).
 *
 * A difference is a sum of 32-bit words in a u64, in the packet's own byte order: ~old + new for each word.
 */
#pragma once

#include "bpf/pk_ctx.bpf.h"

static __always_inline __u64 pk_diff32(__u64 diff, __u32 old, __u32 new)
{
	return diff + (__u32)~old + new;
}

/* Folds to 32 bits: what the kernel's helpers take as a difference. */
static __always_inline __u32 pk_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)((sum & 0xffffffff) + (sum >> 32));
}

static __always_inline __u16 pk_fold16(__u64 sum)
{
	__u32 s = pk_fold32(sum);

	s = (s & 0xffff) + (s >> 16);
	return (__u16)((s & 0xffff) + (s >> 16));
}

/* The checksum after a difference. */
static __always_inline __u16 pk_csum_fix(__u16 check, __u64 diff)
{
	return (__u16)~pk_fold16(diff + (__u16)~check);
}

static __always_inline __u64 pk_diff_addr(__u64 diff, const struct lb_addr *old, const struct lb_addr *new, bool v6)
{
	if (v6) {
		diff = pk_diff32(diff, old->v6[0], new->v6[0]);
		diff = pk_diff32(diff, old->v6[1], new->v6[1]);
		diff = pk_diff32(diff, old->v6[2], new->v6[2]);
	}
	return pk_diff32(diff, old->v6[3], new->v6[3]);
}

/* Sum of the words of a whole IPv4 header without options. */
static __always_inline __u16 pk_ip4_check(const struct pk_ip4 *ip)
{
	const __u16 *w = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += w[i];
	return (__u16)~pk_fold16(sum);
}

/*
 * Corrects the checksum of TCP, UDP or ICMPv6 at off. addrs: the difference of what the pseudo header covers; body: of
 * what is in the segment itself. In TC this invalidates pointers into the packet.
 */
static __always_inline int pk_csum_l4(struct pk_ctx *ctx, __u32 off, __u64 addrs, __u64 body, bool udp, bool v6)
{
#if PK_XDP
	__u16 *check = pk_at(ctx, off, sizeof(*check));
	__u16 sum;

	if (!check)
		return -1;
	/* None, in IPv4. */
	if (udp && !*check)
		return 0;
	sum = pk_csum_fix(*check, addrs + body);
	if (udp && !sum)
		sum = 0xffff;
	*check = sum;
	return 0;
#else
	__u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 a = pk_fold32(addrs), b = pk_fold32(body);

	off = PK_OFF(off);
	if (a && bpf_l4_csum_replace(ctx, off, 0, a, flags | BPF_F_PSEUDO_HDR) < 0)
		return -1;
	if (b && bpf_l4_csum_replace(ctx, off, 0, b, flags) < 0)
		return -1;
	/* Addresses of IPv6 are in no other checksum; the helper takes a sum of the whole frame for IPv4's. */
	if (v6 && a)
		bpf_csum_update(ctx, a);
	return 0;
#endif
}
