/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SYN cookies of `nat` services: who is asked for one, and whether it is right. The kernel makes and checks them
 * (bpf_tcp_raw_*_syncookie_*, 6.0), with its own secret: so XDP and TC agree, and nothing is kept for a SYN.
 *
 * A cookie is the sequence number of the SYN-ACK. In the kernel's there is a number of 0 to 3 that was added last, and the
 * client's sequence number that was added before; the kernel tells only whether all of it is right. So how far a cookie
 * can be raised until it is wrong tells how much was added to one that was made with 0: here twice the number of an MSS,
 * so that it is even for an ACK, and odd for what begins one number before it.
 */
#pragma once

#include "bpf/pk_big.bpf.h"
#include "bpf/pk_guard.bpf.h"

/* What a client that does not tell its MSS can take. */
#define PK_MSS_LEAST_V4 536
#define PK_MSS_LEAST_V6 1220
/* What clients are told: the backend is not known yet, and what it really takes they learn as ICMP errors. */
#define PK_MSS_TOLD_V4 1460
#define PK_MSS_TOLD_V6 1440

/* Whether the kernel has the helpers: not without CONFIG_SYN_COOKIES. Set before the programs are loaded. */
const volatile bool pk_cookies_there = true;

/* What an ACK says. Host order. */
struct pk_ack {
	__u32 seq, ack;
	__u32 isn; /* answer: of the client's SYN */
	__u16 window;
	__u16 mss; /* answer: the client's, as far as a cookie can tell */
};

/* A header without options, for the helpers. */
static __always_inline void pk_cookie_tcp(struct pk_tcp *tcp, const struct pk_pkt *p, __u32 seq, __u32 ack, __u8 flags)
{
	tcp->sport = p->sport;
	tcp->dport = p->dport;
	tcp->seq = bpf_htonl(seq);
	tcp->ack = bpf_htonl(ack);
	tcp->off = sizeof(*tcp) / 4 << 4;
	tcp->flags = flags;
}

static __always_inline void pk_cookie_ip4(struct pk_ip4 *ip, const struct pk_pkt *p)
{
	ip->ver_ihl = 0x45;
	ip->proto = IPPROTO_TCP;
	ip->src = p->src.v6[3];
	ip->dst = p->dst.v6[3];
}

static __always_inline void pk_cookie_ip6(struct pk_ip6 *ip, const struct pk_pkt *p)
{
	ip->flow = bpf_htonl(0x60000000);
	ip->next = IPPROTO_TCP;
	__builtin_memcpy(ip->src, &p->src, sizeof(ip->src));
	__builtin_memcpy(ip->dst, &p->dst, sizeof(ip->dst));
}

/* The kernel's cookie for a SYN with this sequence number, and 0 in it; or less than 0. */
__noinline __s64 pk_cookie_of(struct pk_pkt *p, __u32 seq)
{
	/* Less than the kernel's table has. */
	struct {
		struct pk_tcp tcp;
		__u8 kind, len;
		__be16 mss;
	} syn = { .kind = TCP_OPT_MSS, .len = 4, .mss = bpf_htons(PK_MSS_LEAST_V4) };
	__s64 r;

	if (!p || !pk_cookies_there)
		return -1;
	pk_cookie_tcp(&syn.tcp, p, seq, 0, TCP_SYN);
	syn.tcp.off = sizeof(syn) / 4 << 4;
	if (p->v6) {
		struct pk_ip6 ip = {};

		pk_cookie_ip6(&ip, p);
		r = bpf_tcp_raw_gen_syncookie_ipv6((void *)&ip, (void *)&syn, sizeof(syn));
	} else {
		struct pk_ip4 ip = {};

		pk_cookie_ip4(&ip, p);
		r = bpf_tcp_raw_gen_syncookie_ipv4((void *)&ip, (void *)&syn, sizeof(syn));
	}
	return r < 0 ? r : (__s64)(__u32)r;
}

/* Whether an ACK with these numbers answers a cookie. */
__noinline int pk_cookie_is(struct pk_pkt *p, __u32 seq, __u32 ack)
{
	struct pk_tcp tcp = {};

	if (!p || !pk_cookies_there)
		return 0;
	pk_cookie_tcp(&tcp, p, seq, ack, TCP_ACK);
	if (p->v6) {
		struct pk_ip6 ip = {};

		pk_cookie_ip6(&ip, p);
		return !bpf_tcp_raw_check_syncookie_ipv6((void *)&ip, (void *)&tcp);
	} else {
		struct pk_ip4 ip = {};

		pk_cookie_ip4(&ip, p);
		return !bpf_tcp_raw_check_syncookie_ipv4((void *)&ip, (void *)&tcp);
	}
}

/* What a cookie can tell of an MSS. */
static __always_inline __u16 pk_cookie_mss(__u32 i, bool v6)
{
	if (v6)
		return i == 0 ? PK_MSS_LEAST_V6 : i == 1 ? 1360 : i == 2 ? PK_MSS_TOLD_V6 : 8940;
	return i == 0 ? PK_MSS_LEAST_V4 : i == 1 ? 1300 : i == 2 ? 1400 : PK_MSS_TOLD_V4;
}

/* The largest that is not more than the client's. */
static __always_inline __u32 pk_cookie_size(__u32 mss, bool v6)
{
	return mss >= pk_cookie_mss(3, v6) ? 3 : mss >= pk_cookie_mss(2, v6) ? 2 : mss >= pk_cookie_mss(1, v6);
}

/*
 * Whether an ACK answers a cookie; its SYN and MSS. What follows the ACK may be the first that arrives: a probe of the
 * window, with the number before.
 */
__noinline int pk_cookie_check(struct pk_pkt *p, struct pk_ack *a)
{
	__u32 ack, added = 0;

	if (!p || !a)
		return 0;
	ack = a->ack;
	if (!pk_cookie_is(p, a->seq, ack)) {
		ack -= 4;
		added = 4;
		if (!pk_cookie_is(p, a->seq, ack))
			return 0;
	}
	if (pk_cookie_is(p, a->seq, ack + 2))
		added += !pk_cookie_is(p, a->seq, ack + 3);
	else
		added += pk_cookie_is(p, a->seq, ack + 1) ? 2 : 3;
	a->isn = a->seq - !(added & 1);
	a->mss = pk_cookie_mss(added / 2, p->v6);
	return 1;
}

__noinline int pk_ack_read(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_ack *a)
{
	const struct pk_tcp *tcp;

	if (!p || !a)
		return -1;
	tcp = pk_at(ctx, p->l4, sizeof(*tcp));
	if (!tcp)
		return -1;
	a->seq = bpf_ntohl(tcp->seq);
	a->ack = bpf_ntohl(tcp->ack);
	a->window = bpf_ntohs(tcp->window);
	return 0;
}

/* Whole, and TCP follows the IP header: what is made here replaces it in place. */
static __always_inline bool pk_is_plain(const struct pk_pkt *p)
{
	return p->frag == PK_FRAG_NONE && p->l4 - p->l3 == (p->v6 ? sizeof(struct pk_ip6) : sizeof(struct pk_ip4));
}

static __always_inline bool pk_cookie_serves(const struct lb_plan *plan)
{
	return plan->flags & (LB_PLAN_COOKIES | LB_PLAN_COOKIES_AUTO) && plan->forward == LB_FORWARD_NAT &&
	       pk_cookies_there;
}

/* Counts a SYN, and tells whether there is a flood: many in this tick, of which fewer than half became connections. */
static __always_inline bool pk_flooded(struct pk_use *use, __u32 now)
{
	if (use->tick != now) {
		use->tick = now;
		use->syns = 0;
		use->opened = 0;
	}
	use->syns++;
	if (use->syns > PK_FLOOD_SYNS && use->opened < use->syns / 2)
		use->flood_until = now + PK_FLOOD_TICKS;
	return (__s32)(use->flood_until - now) > 0;
}

/*
 * A packet without a record, of a service: PK_GO if it is nobody's concern here, PK_STEP_COOKIE if it is a SYN that is to
 * be answered with a cookie, PK_COOKIE_ACCEPTED if it answers one.
 */
static __always_inline int pk_cookie_new(struct pk_ctx *ctx, const struct pk_ctl *ctl, const struct lb_plan *plan,
					 struct pk_pkt *p, struct pk_ack *a)
{
	__u32 service = plan->service;
	struct pk_use *use = bpf_map_lookup_elem(&pk_uses, &service);

	if (!pk_cookie_serves(plan) || !use || p->proto != IPPROTO_TCP)
		return PK_GO;
	if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		/* Who may not come at all is told nothing; rates are for those who answer. */
		if (ctl->on & PK_ON_ACL && pk_guard_acl(ctl, p) != PK_GO)
			return PK_DENIED;
		return pk_flooded(use, p->now) || plan->flags & LB_PLAN_COOKIES ? PK_STEP_COOKIE : PK_GO;
	}
	if ((p->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK || (__s32)(use->cookie_until - p->now) <= 0)
		return PK_GO;
	if (!pk_is_plain(p))
		return PK_NO_COOKIE;
	if (pk_ack_read(ctx, p, a) || !pk_cookie_check(p, a))
		return PK_COOKIE_REFUSED;
	use->opened++;
	return PK_COOKIE_ACCEPTED;
}

union pk_seq_word {
	struct pk_seq seq;
	__u64 word;
};

/* explain.bpf.c has one entry for all, that nobody reads. */
static __always_inline __u64 *pk_seq_at(const struct pk_at *at)
{
#ifdef PK_COPY
	__u32 index = 0;
#else
	__u32 index = at->index;
#endif

	return bpf_map_lookup_elem(&pk_seqs, &index);
}

static __always_inline struct pk_seq pk_seq_get(const struct pk_at *at)
{
	union pk_seq_word v = {};
	const volatile __u64 *word = pk_seq_at(at);

	if (word)
		v.word = *word;
	return v.seq;
}

static __always_inline void pk_seq_set(const struct pk_at *at, __u32 diff, __u16 window, enum pk_seq_state state)
{
	union pk_seq_word v = { .seq = { .diff = diff, .window = window, .state = (__u16)state } };
	volatile __u64 *word = pk_seq_at(at);

	if (word)
		*word = v.word;
}

/* Of a record that nobody finds yet: its SYN is yet to be sent, for which its ACK is looked at once more. */
static __always_inline void pk_cookie_made(struct pk_at *at)
{
	at->conn->flags = PK_CONN_COOKIE;
	pk_seq_set(at, 0, 0, PK_SEQ_WAITING);
}
