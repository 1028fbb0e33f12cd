/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The thin layer between the core and the two hooks. xdp.bpf.c and tc.bpf.c define PK_XDP as 1 and 0 and include the
 * same headers; here is all that they have apart: how bytes are reached, how a packet is made longer, what is returned.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/packet.h"

#ifndef PK_XDP
#error "define PK_XDP as 1 (XDP) or 0 (TC)"
#endif

#if PK_XDP
#define pk_ctx xdp_md
#else
#define pk_ctx __sk_buff
#endif

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_ICMPV6 58

/* Headers are looked for in so many bytes; every offset into a packet is masked with PK_OFF. */
#define PK_HEAD 256
#define PK_OFF(off) ((off)&0x1ff)

#define PK_UNROLL_NO _Pragma("clang loop unroll(disable)")

/* What is known of a packet. Addresses are v4-mapped, whatever the family: one table for both. */
struct pk_pkt {
	struct lb_addr src, dst;
	__be16 sport, dport; /* of ICMP echo: the identifier, and 0 */
	__u8 proto;
	__u8 tcp_flags;
	__u8 v6;
	__u8 frag; /* enum pk_frag_kind */
	__u64 hash;
	__u16 l3, l4; /* offsets from the start of the frame */
	__u32 len;    /* from the IP header to the end, as the header says */
	__u32 now;    /* tick */
	__be32 frag_id;
	__u8 ttl;
	__u8 tos;
	__u16 vlan;  /* TCI of the frame, XDP only; 0: untagged */
	int verdict; /* the program's return value, once the packet is sent */
};

enum pk_frag_kind {
	PK_FRAG_NONE,
	PK_FRAG_FIRST,
	PK_FRAG_LATER, /* has no ports of its own */
};

/* What functions return while nothing is decided yet. Anything from 0 on is an enum pk_reason. */
#define PK_GO (-1)
/* And what is another program's work: see pk_first(). */
#define PK_STEP_NEW (-2)
#define PK_STEP_ICMP (-3)
#define PK_STEP_FIRST (-4)
#define PK_STEP_COOKIE (-5)

/* Where in the array of programs. */
#define PK_STEPS_NEW 0
#define PK_STEPS_ICMP 1
#define PK_STEPS_FIRST 2
#define PK_STEPS_COOKIE 3

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/*
 * Headers stand at any even byte, which no processor that BPF runs on minds. clang has to believe they are aligned, or it
 * reads them byte by byte: ten instructions for an address. In user space nothing is promised.
 */
#ifdef __bpf__
#define PK_HEADER
#else
#define PK_HEADER __attribute__((packed))
#endif

struct pk_eth {
	__u8 dst[ETH_ALEN], src[ETH_ALEN];
	__be16 proto;
} PK_HEADER;

struct pk_vlan {
	__be16 tci;
	__be16 proto;
} PK_HEADER;

struct pk_ip4 {
	__u8 ver_ihl;
	__u8 tos;
	__be16 len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 proto;
	__u16 check;
	__be32 src, dst;
} PK_HEADER;

struct pk_ip6 {
	__be32 flow;
	__be16 len;
	__u8 next;
	__u8 hops;
	__be32 src[4], dst[4];
} PK_HEADER;

struct pk_tcp {
	__be16 sport, dport;
	__be32 seq, ack;
	__u8 off;
	__u8 flags;
	__be16 window;
	__u16 check;
	__be16 urgent;
} PK_HEADER;

struct pk_udp {
	__be16 sport, dport;
	__be16 len;
	__u16 check;
} PK_HEADER;

struct pk_icmp {
	__u8 type, code;
	__u16 check;
	__be16 id;
	__be16 seq; /* of "fragmentation needed": the MTU; of "packet too big": its low half */
} PK_HEADER;

_Static_assert(sizeof(struct pk_eth) == 14 && sizeof(struct pk_vlan) == 4 && sizeof(struct pk_ip4) == 20 &&
		       sizeof(struct pk_ip6) == 40 && sizeof(struct pk_tcp) == 20 && sizeof(struct pk_udp) == 8 &&
		       sizeof(struct pk_icmp) == 8,
	       "headers have no holes");

#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

static __always_inline void *pk_data(const struct pk_ctx *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *pk_end(const struct pk_ctx *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* Pointer to len bytes at off, or NULL. len is a constant. Not to be used across a helper that changes the packet. */
static __always_inline void *pk_at(const struct pk_ctx *ctx, __u32 off, __u32 len)
{
	void *p = pk_data(ctx) + PK_OFF(off);

	return p + len > pk_end(ctx) ? NULL : p;
}

/* All of the frame, also what is not linear. */
static __always_inline __u32 pk_frame_len(struct pk_ctx *ctx)
{
#if PK_XDP
	return bpf_xdp_get_buff_len(ctx);
#else
	return ctx->len;
#endif
}

/* Makes the headers reachable; XDP has them in its first buffer anyway. Invalidates pointers. */
static __always_inline void pk_pull(struct pk_ctx *ctx, __u32 len)
{
#if !PK_XDP
	if (pk_data(ctx) + len > pk_end(ctx) && ctx->len > (__u32)(pk_end(ctx) - pk_data(ctx)))
		bpf_skb_pull_data(ctx, len < ctx->len ? len : ctx->len);
#endif
}

static __always_inline __u32 pk_ifindex(const struct pk_ctx *ctx)
{
#if PK_XDP
	return ctx->ingress_ifindex;
#else
	return ctx->ifindex;
#endif
}

#if PK_XDP
#define PK_VERDICT_PASS XDP_PASS
#define PK_VERDICT_DROP XDP_DROP
#else
/* Other classifiers, and other programs, have their say. */
#define PK_VERDICT_PASS TC_ACT_UNSPEC
#define PK_VERDICT_DROP TC_ACT_SHOT
#endif

/* Out of an interface, with the hardware addresses already written. Returns the program's return value. */
static __always_inline int pk_out(struct pk_ctx *ctx, __u32 ifindex)
{
#if PK_XDP
	if (ifindex == ctx->ingress_ifindex)
		return XDP_TX;
#endif
	return (int)bpf_redirect(ifindex, 0);
}

typedef __u64 __attribute__((may_alias)) pk_word;

static __always_inline bool pk_addr_eq(const struct lb_addr *a, const struct lb_addr *b)
{
	const pk_word *x = (const pk_word *)a, *y = (const pk_word *)b;

	return x[1] == y[1] && x[0] == y[0];
}

static __always_inline void pk_addr_copy(struct lb_addr *to, const struct lb_addr *from)
{
	pk_word *x = (pk_word *)to;
	const pk_word *y = (const pk_word *)from;

	x[0] = y[0];
	x[1] = y[1];
}

static __always_inline void pk_addr_v4(struct lb_addr *to, __be32 v4)
{
	to->v6[0] = 0;
	to->v6[1] = 0;
	to->v6[2] = bpf_htonl(0xffff);
	to->v6[3] = v4;
}

static __always_inline bool pk_addr_is_v4(const struct lb_addr *a)
{
	return ((const pk_word *)a)[0] == 0 && a->v6[2] == bpf_htonl(0xffff);
}
