/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Connections made by a SYN cookie. The client was answered by us and the backend was not, so each has sequence numbers
 * that the other does not know: those of the backend's direction differ, and are changed in every packet.
 *
 * The client's SYN is answered with a window of 0: it is connected, and sends nothing yet. Its ACK becomes a SYN to the
 * backend, as the client sent it but for its options. The backend's SYN-ACK becomes two packets, the ACK to the backend
 * and an ACK to the client that opens the window: so whoever wants to speak first can. That is TC's work, for XDP cannot
 * make two packets of one. Until then whatever comes from the client is taken for its ACK that was lost.
 */
#pragma once

#include "bpf/pk_cookie.bpf.h"
#include "bpf/pk_flow.bpf.h"

/* A TCP segment without data. Host order. */
struct pk_made {
	__u32 seq, ack;
	__u16 window;
	__u16 mss; /* 0: no option */
	__u8 flags;
	__u8 pad[3];
};

/* The frame becomes its first len bytes. */
static __always_inline int pk_resize(struct pk_ctx *ctx, __u32 len)
{
#if PK_XDP
	__u32 have = pk_frame_len(ctx);

	return have == len ? 0 : (int)bpf_xdp_adjust_tail(ctx, (int)len - (int)have);
#else
	if (ctx->len != len)
		return (int)bpf_skb_change_tail(ctx, len, 0);
	/* Which would have made all of it reachable. */
	pk_pull(ctx, len);
	return 0;
#endif
}

/*
 * The packet becomes a segment of its own, with the addresses, ports and hop count of p. The checksum begins as one of
 * nothing, and gets what is in the segment as a difference: so TC's helpers do what is right for one that the hardware
 * is yet to complete.
 */
__noinline int pk_make(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_made *m)
{
	__u32 size = sizeof(struct pk_tcp);
	struct pk_tcp *tcp;
	__u64 pseudo, body;

	if (!p || !m || !pk_is_plain(p))
		return -1;
	if (m->mss)
		size += 4;
	p->len = p->l4 - p->l3 + size;
	p->tcp_flags = m->flags;
	if (pk_resize(ctx, p->l4 + size))
		return -1;
	pseudo = bpf_htons(IPPROTO_TCP) + bpf_htons((__u16)size);
	if (p->v6) {
		struct pk_ip6 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return -1;
		/* No marks of congestion. */
		ip->flow &= ~bpf_htonl(3 << 20);
		ip->len = bpf_htons((__u16)size);
		ip->hops = p->ttl;
		__builtin_memcpy(ip->src, &p->src, sizeof(ip->src));
		__builtin_memcpy(ip->dst, &p->dst, sizeof(ip->dst));
		pseudo += pk_sum(&p->src, sizeof(p->src)) + pk_sum(&p->dst, sizeof(p->dst));
	} else {
		struct pk_ip4 *ip = pk_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return -1;
		ip->tos &= ~3;
		ip->len = bpf_htons((__u16)p->len);
		ip->ttl = p->ttl;
		ip->src = p->src.v6[3];
		ip->dst = p->dst.v6[3];
		ip->check = 0;
		ip->check = pk_ip4_check(ip);
		pseudo += (__u64)p->src.v6[3] + p->dst.v6[3];
	}
	tcp = pk_at(ctx, p->l4, sizeof(*tcp));
	if (!tcp)
		return -1;
	tcp->sport = p->sport;
	tcp->dport = p->dport;
	tcp->seq = bpf_htonl(m->seq);
	tcp->ack = bpf_htonl(m->ack);
	tcp->off = (__u8)(size / 4 << 4);
	tcp->flags = m->flags;
	tcp->window = bpf_htons(m->window);
	tcp->check = 0xffff;
	tcp->urgent = 0;
	body = pk_sum(tcp, sizeof(*tcp));
	if (m->mss) {
		__u32 *opt = pk_at(ctx, p->l4 + sizeof(*tcp), sizeof(*opt));

		if (!opt)
			return -1;
		*opt = bpf_htonl(TCP_OPT_MSS << 24 | 4 << 16 | m->mss);
		body += *opt;
	}
	return pk_csum_l4(ctx, p->l4 + offsetof(struct pk_tcp, check), pseudo, body, false, p->v6);
}

/* A sequence number of the header changes by diff. */
__noinline int pk_seq_add(struct pk_ctx *ctx, struct pk_pkt *p, __u32 field, __u32 diff)
{
	__be32 *n;
	__u64 body;

	if (!p)
		return PK_TRUNCATED;
	n = pk_at(ctx, p->l4 + field, sizeof(*n));
	if (!n)
		return PK_TRUNCATED;
	body = (__u32) ~*n;
	*n = bpf_htonl(bpf_ntohl(*n) + diff);
	body += *n;
	return pk_csum_l4(ctx, p->l4 + offsetof(struct pk_tcp, check), 0, body, false, p->v6) < 0 ? PK_TRUNCATED :
												    PK_GO;
}

/* A client's ACK, while the backend has not answered: a SYN, once more if need be. */
static __always_inline int pk_seq_syn(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_at *at)
{
	struct pk_made m = { .flags = TCP_SYN };
	struct pk_ack a = {};

	if (!pk_is_plain(p))
		return PK_NO_COOKIE;
	if (pk_ack_read(ctx, p, &a) || !(p->tcp_flags & TCP_ACK) || !pk_cookie_check(p, &a))
		return PK_COOKIE_REFUSED;
	pk_seq_set(at, a.ack - 1, a.window, PK_SEQ_WAITING);
	m.seq = a.isn;
	m.window = a.window;
	m.mss = a.mss;
	return pk_make(ctx, p, &m) ? PK_HEADROOM : PK_GO;
}

/* From the client, once its way is known: what is acknowledged, in the backend's numbers. */
static __always_inline int pk_seq_to_backend(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_at *at)
{
	struct pk_seq s = pk_seq_get(at);

	if (p->frag == PK_FRAG_LATER)
		return PK_GO;
	if (s.state == PK_SEQ_WAITING)
		return p->tcp_flags & TCP_RST ? PK_GO : pk_seq_syn(ctx, p, at);
	if (!(p->tcp_flags & TCP_ACK))
		return PK_GO;
	return pk_seq_add(ctx, p, offsetof(struct pk_tcp, ack), s.diff);
}

/* From the backend: its sequence number as the client knows it. A backend that refuses the SYN has none yet. */
static __always_inline int pk_seq_to_client(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_at *at)
{
	struct pk_seq s = pk_seq_get(at);
	struct pk_ack a = {};

	if (p->frag == PK_FRAG_LATER)
		return PK_GO;
	if (s.state != PK_SEQ_WAITING)
		return pk_seq_add(ctx, p, offsetof(struct pk_tcp, seq), -s.diff);
	if (pk_ack_read(ctx, p, &a))
		return PK_TRUNCATED;
	return pk_seq_add(ctx, p, offsetof(struct pk_tcp, seq), s.diff + 1 - a.seq);
}

/* About what a backend sent, quoted by an ICMP error: the number is one that the backend knows. */
static __always_inline __u64 pk_seq_quoted(struct pk_ctx *ctx, const struct pk_at *at, __u32 l4)
{
	struct pk_seq s = pk_seq_get(at);
	__be32 *n = pk_at(ctx, l4 + offsetof(struct pk_tcp, seq), sizeof(*n));
	__u64 diff;

	if (!n || s.state != PK_SEQ_MET)
		return 0;
	diff = (__u32) ~*n;
	*n = bpf_htonl(bpf_ntohl(*n) + s.diff);
	return diff + *n;
}
