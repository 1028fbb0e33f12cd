/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The step of SYN cookies (pk_cookie.bpf.h, pk_seq.bpf.h), a program of its own: SYNs that are answered with one, and
 * every packet of the connections that were made by one.
 *
 * barrier_var(ctx): or clang keeps the address of a field of the context over all of these, which no verifier reads from.
 */
#pragma once

#include "bpf/pk_main.bpf.h"

/* What is made now goes to where the packet came from. */
static __always_inline void pk_turn(struct pk_pkt *p)
{
	struct lb_addr addr;
	__be16 port = p->sport;

	pk_addr_copy(&addr, &p->src);
	pk_addr_copy(&p->src, &p->dst);
	pk_addr_copy(&p->dst, &addr);
	p->sport = p->dport;
	p->dport = port;
	p->ttl = 64;
}

/* Back by the way it came. */
static __always_inline int pk_send_back(struct pk_ctx *ctx, struct pk_pkt *p, int sent)
{
	struct pk_eth *eth = pk_at(ctx, 0, sizeof(*eth));
	__u8 mac[ETH_ALEN];

	if (!eth)
		return PK_TRUNCATED;
	__builtin_memcpy(mac, eth->dst, ETH_ALEN);
	__builtin_memcpy(eth->dst, eth->src, ETH_ALEN);
	__builtin_memcpy(eth->src, mac, ETH_ALEN);
	p->verdict = pk_out(ctx, pk_ifindex(ctx));
	return sent;
}

/* The MSS that a SYN tells of. */
__noinline int pk_mss_of(struct pk_ctx *ctx, struct pk_pkt *p)
{
	const struct pk_tcp *tcp;
	__u32 at, end, least;

	if (!p)
		return PK_MSS_LEAST_V4;
	least = p->v6 ? PK_MSS_LEAST_V6 : PK_MSS_LEAST_V4;
	pk_pull(ctx, p->l4 + sizeof(*tcp) + TCP_OPTS_BYTES);
	tcp = pk_at(ctx, p->l4, sizeof(*tcp));
	if (!tcp)
		return (int)least;
	at = p->l4 + sizeof(*tcp);
	end = p->l4 + (tcp->off >> 4) * 4;
	PK_UNROLL_NO
	for (int i = 0; i < TCP_OPTS_MAX && at + 2 <= end; i++) {
		const __u8 *opt = pk_at(ctx, at, 2);

		if (!opt || opt[0] == TCP_OPT_END)
			break;
		if (opt[0] == TCP_OPT_MSS) {
			const __u8 *mss = pk_at(ctx, at + 2, 2);

			return mss && opt[1] == 4 && at + 4 <= end ? mss[0] << 8 | mss[1] : (int)least;
		}
		if (opt[0] != TCP_OPT_NOP && opt[1] < 2)
			break;
		at += opt[0] == TCP_OPT_NOP ? 1 : opt[1];
	}
	return (int)least;
}

/* A SYN: the answer is made of it, and nothing is kept. */
static __always_inline int pk_cookie_send(struct pk_ctx *ctx, struct pk_pkt *p, const struct lb_plan *plan)
{
	__u32 service = plan->service, mss, most = p->v6 ? PK_MSS_TOLD_V6 : PK_MSS_TOLD_V4;
	struct pk_use *use = bpf_map_lookup_elem(&pk_uses, &service);
	struct pk_made m = { .flags = TCP_SYN | TCP_ACK };
	struct pk_ack a = {};
	__s64 cookie;

	barrier_var(ctx);
	if (!pk_len_ok(ctx, p))
		return PK_LENGTH;
	if (!pk_is_plain(p) || p->tcp_flags & (TCP_RST | TCP_FIN))
		return PK_NO_COOKIE;
	mss = (__u32)pk_mss_of(ctx, p) & 0xffff;
	if (!use || pk_ack_read(ctx, p, &a))
		return PK_TRUNCATED;
	cookie = pk_cookie_of(p, a.seq);
	if (cookie < 0)
		return PK_NO_COOKIE;
	use->cookie_until = p->now + PK_COOKIE_TICKS;
	m.seq = (__u32)cookie + 2 * pk_cookie_size(mss, p->v6);
	m.ack = a.seq + 1;
	m.mss = (__u16)(mss < most ? mss : most);
	pk_turn(p);
	return pk_make(ctx, p, &m) ? PK_HEADROOM : pk_send_back(ctx, p, PK_COOKIE_SENT);
}

#if PK_XDP
static __always_inline int pk_seq_meet(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_work *w)
{
	return PK_TO_TC;
}
#else
/* The ACK to the backend, made of its SYN-ACK. If it cannot be sent, the backend asks again. */
static __always_inline void pk_seq_ack(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_work *w, struct pk_made *m)
{
	struct pk_far *far = pk_far_get(w->at.conn->backend);
	struct pk_way way = { .ask = &w->ask };

	if (!far || pk_way_far(ctx, p, far, &p->src, &p->dst, &way) != PK_GO || !way.hop || pk_make(ctx, p, m))
		return;
	if (pk_ether(ctx, way.hop, 0, p->v6) == 0)
		(void)bpf_clone_redirect(ctx, way.hop->ifindex, 0);
}

/* The backend's SYN-ACK: both sides are told what they wait for. */
static __always_inline int pk_seq_meet(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_work *w)
{
	struct pk_seq s = pk_seq_get(&w->at);
	struct pk_made m = { .flags = TCP_ACK };
	struct pk_conn *c = w->at.conn;
	struct pk_way way = { .ask = &w->ask };
	struct pk_ack a = {};
	__u32 cookie;
	int r;

	barrier_var(ctx);
	if (p->ttl <= 1)
		return PK_TTL;
	if (!pk_len_ok(ctx, p))
		return PK_LENGTH;
	if (!pk_is_plain(p))
		return PK_NO_COOKIE;
	if (pk_ack_read(ctx, p, &a))
		return PK_TRUNCATED;
	cookie = s.state == PK_SEQ_WAITING ? s.diff : a.seq - s.diff;
	pk_seq_set(&w->at, a.seq - cookie, s.window, PK_SEQ_MET);
	pk_conn_touch(&w->at, p, true);
	/* Both have answered: nothing else needs to come before it counts as established. */
	if (c->state == PK_STATE_NEW)
		pk_conn_state(&w->at, PK_STATE_OPEN);
	pk_traffic(c->backend, p->len, true);
	if (ctx->vlan_present)
		bpf_skb_vlan_pop(ctx);
	pk_turn(p);
	m.seq = a.ack;
	m.ack = a.seq + 1;
	m.window = s.window;
	pk_seq_ack(ctx, p, w, &m);
	pk_addr_copy(&p->src, &c->vip);
	pk_addr_copy(&p->dst, &c->client);
	p->sport = c->vport;
	p->dport = c->cport;
	m.seq = cookie + 1;
	m.ack = a.ack;
	m.window = a.window;
	if (pk_make(ctx, p, &m))
		return PK_HEADROOM;
	r = pk_way_client(ctx, p, c, &way);
	return r == PK_GO ? pk_go(ctx, p, &way, p->v6, PK_RETURNED) : r;
}
#endif

/* An answer to another connection's SYN, of which the backend still knows: it is told that there is none. */
static __always_inline int pk_seq_reset(struct pk_ctx *ctx, struct pk_pkt *p)
{
	struct pk_made m = { .flags = TCP_RST };
	struct pk_ack a = {};

	if (!pk_is_plain(p) || !(p->tcp_flags & TCP_ACK) || pk_ack_read(ctx, p, &a))
		return PK_NO_CONN;
	m.seq = a.ack;
	pk_turn(p);
	return pk_make(ctx, p, &m) ? PK_HEADROOM : pk_send_back(ctx, p, PK_FORWARDED);
}

/* From a client, with a record. */
static __always_inline int pk_cookie_forward(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_work *w)
{
	bool syn = p->tcp_flags & TCP_SYN && p->frag != PK_FRAG_LATER;
	const struct lb_backend *backend = lb_backend_get(w->at.conn->backend);
	int r;

	barrier_var(ctx);
	if (backend && backend->flags & LB_BACKEND_DOWN)
		return PK_BACKEND_DOWN;
	if (syn && !(p->tcp_flags & TCP_ACK) && pk_seq_get(&w->at).state == PK_SEQ_WAITING) {
		const struct lb_plan *plan = pk_plan(p);

		return plan ? pk_cookie_send(ctx, p, plan) : PK_NO_CONN;
	}
	r = pk_forward(ctx, p, w, true);
	return r == PK_FORWARDED && !syn && p->tcp_flags == TCP_SYN ? PK_COOKIE_ACCEPTED : r;
}

/* From a backend, with a record. */
static __always_inline int pk_cookie_return(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_work *w)
{
	barrier_var(ctx);
	if (p->frag != PK_FRAG_LATER && (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == (TCP_SYN | TCP_ACK))
		return pk_seq_meet(ctx, p, w);
	if (!(p->tcp_flags & TCP_RST) && pk_seq_get(&w->at).state == PK_SEQ_WAITING)
		return pk_seq_reset(ctx, p);
	return pk_return(ctx, p, w, true);
}

static __always_inline int pk_decide_cookie(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p)
{
	const struct lb_plan *plan;
	struct pk_work w = {};
	int r;

	r = pk_look(ctx, ctl, p);
	if (r != PK_GO)
		return r;
	p->hash = pk_hash(ctl, &p->src, &p->dst, p->sport, p->dport, p->proto, p->v6);
	if (pk_find(ctl, p, &w.at, &w.key)) {
		if (!(w.at.conn->flags & PK_CONN_COOKIE) || (p->frag != PK_FRAG_LATER && pk_is_stale(&w.at, p)))
			return PK_STEP_FIRST;
		return pk_cookie_forward(ctx, p, &w);
	}
	plan = pk_plan(p);
	if (plan && pk_cookie_serves(plan) && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return pk_cookie_send(ctx, p, plan);
	pk_back_of(ctl, &w.back, &p->src, p->sport, &p->dst, p->dport, p->proto);
	if (!pk_find_back(ctl, &w.back, &w.at))
		return PK_NO_CONN;
	return w.at.conn->flags & PK_CONN_COOKIE ? pk_cookie_return(ctx, p, &w) : PK_STEP_FIRST;
}

static __always_inline int pk_step_cookie(struct pk_ctx *ctx, void *steps)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_pkt p = {};
	int r;

	if (!ctl)
		return PK_VERDICT_PASS;
	r = pk_decide_cookie(ctx, ctl, &p);
	if (r == PK_STEP_FIRST)
		bpf_tail_call(ctx, steps, PK_STEPS_FIRST);
	return pk_end_with(ctx, &p, r < 0 ? PK_STEP : r);
}
