/* SPDX-License-Identifier: GPL-2.0 */
/* The way of a packet, from its first byte to what became of it. */
#pragma once

#include "bpf/pk_big.bpf.h"
#include "bpf/pk_flow.bpf.h"
#include "bpf/pk_frag.bpf.h"
#include "bpf/pk_icmp.bpf.h"
#include "bpf/pk_parse.bpf.h"
#include "bpf/pk_seq.bpf.h"

/* What fits into one packet to this backend, as far as is known. */
static __always_inline __u32 pk_far_mtu(const struct pk_far *far, const struct pk_pkt *p, const struct pk_way *way)
{
	__u32 mtu = way->hop ? way->hop->mtu : 65535;

	if (far->pmtu && p->now - far->pmtu_tick < PK_PMTU_TICKS && far->pmtu < mtu)
		mtu = far->pmtu;
	return mtu;
}

/* The largest segment that fits, told to both ends as their SYNs pass. */
static __always_inline void pk_clamp(struct pk_ctx *ctx, struct pk_pkt *p, __u32 mtu)
{
	if (p->proto == IPPROTO_TCP && p->tcp_flags & TCP_SYN && p->frag == PK_FRAG_NONE && mtu > PK_MTU_MIN_V4)
		pk_mss(ctx, p, mtu - sizeof(struct pk_tcp) - (p->v6 ? sizeof(struct pk_ip6) : sizeof(struct pk_ip4)));
}

/* One hop less, and nothing else: what dsr does to a packet. */
static __always_inline int pk_hop_count(struct pk_ctx *ctx, const struct pk_pkt *p)
{
	__be16 frag_off, id;

	return pk_inner(ctx, p, &frag_off, &id) < 0 ? PK_TRUNCATED : PK_GO;
}

static __always_inline int pk_forward_nat(struct pk_ctx *ctx, const struct pk_pkt *p, const struct pk_conn *c,
					  const struct lb_backend *backend)
{
	struct pk_new_head new = { .src = &p->src, .sport = p->sport, .dst = &backend->addr, .dport = backend->port };

	if (c->forward == LB_FORWARD_NAT) {
		new.src = pk_nat_get(c->nat);
		new.sport = c->nport;
		if (!new.src)
			return PK_NO_SOURCE;
	}
	return pk_rewrite(ctx, p, &new);
}

/* The packet as its backend is to see it. */
static __always_inline int pk_forward_as(struct pk_ctx *ctx, const struct pk_pkt *p, const struct pk_conn *c,
					 const struct lb_backend *backend, const struct pk_far *far)
{
	const struct lb_addr *own;

	if (c->forward == LB_FORWARD_NAT || c->forward == LB_FORWARD_DNAT)
		return pk_forward_nat(ctx, p, c, backend);
	if (c->forward == LB_FORWARD_DSR)
		return pk_hop_count(ctx, p);
	own = pk_nat_get(far->nat);
	if (!far->nat || !own)
		return PK_NO_SOURCE;
	return pk_wrap(ctx, p, own, &backend->addr, c->forward == LB_FORWARD_GUE);
}

/* From a client to its backend. seq: its sequence numbers are to be changed, or the packet is (pk_seq.bpf.h). */
static __always_inline int pk_forward(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_work *w, bool seq)
{
	struct pk_at *at = &w->at;
	struct pk_conn *c = at->conn;
	struct lb_backend *backend = lb_backend_get(c->backend);
	struct pk_far *far = pk_far_get(c->backend);
	bool tunnel = c->forward == LB_FORWARD_IPIP || c->forward == LB_FORWARD_GUE;
	struct pk_way way = { .ask = &w->ask };
	const struct lb_addr *src = &p->src;
	__u32 extra = 0, mtu;
	bool v6 = p->v6;
	int r;

	if (!backend || !far)
		return PK_NO_BACKEND;
	if (p->ttl <= 1)
		return PK_TTL;
	if (!pk_len_ok(ctx, p))
		return PK_LENGTH;
	if (tunnel) {
		v6 = !(backend->flags & LB_BACKEND_V4);
		extra = pk_tunnel_len(!v6, c->forward == LB_FORWARD_GUE);
	}
	if (tunnel || c->forward == LB_FORWARD_NAT)
		src = pk_nat_get(c->nat);
	if (!src)
		return PK_NO_SOURCE;
	r = pk_way_far(ctx, p, far, src, &backend->addr, &way);
	if (r != PK_GO)
		return r;
	mtu = pk_far_mtu(far, p, &way);
	if (pk_wire_len(ctx, p) + extra > mtu)
		return pk_too_big(ctx, p, mtu - extra);
	if (seq && (r = pk_seq_to_backend(ctx, p, at)) != PK_GO)
		return r;
	pk_clamp(ctx, p, mtu - extra);
	pk_conn_touch(at, p, false);
	pk_traffic(c->backend, p->len, false);
	r = pk_forward_as(ctx, p, c, backend, far);
	return r == PK_GO ? pk_go(ctx, p, &way, v6, PK_FORWARDED) : r;
}

/* From a backend to its client. */
static __always_inline int pk_return(struct pk_ctx *ctx, struct pk_pkt *p, struct pk_work *w, bool seq)
{
	struct pk_at *at = &w->at;
	struct pk_conn *c = at->conn;
	struct pk_way way = { .ask = &w->ask };
	struct pk_new_head new = { .src = &c->vip, .sport = c->vport, .dst = &c->client, .dport = c->cport };
	__u32 mtu;
	int r;

	if (p->ttl <= 1)
		return PK_TTL;
	if (!pk_len_ok(ctx, p))
		return PK_LENGTH;
	r = pk_way_client(ctx, p, c, &way);
	if (r != PK_GO)
		return r;
	mtu = way.hop ? way.hop->mtu : 65535;
	if (pk_wire_len(ctx, p) > mtu)
		return pk_too_big(ctx, p, mtu);
	if (seq && (r = pk_seq_to_client(ctx, p, at)) != PK_GO)
		return r;
	pk_clamp(ctx, p, mtu);
	pk_conn_touch(at, p, true);
	pk_traffic(c->backend, p->len, true);
	r = pk_rewrite(ctx, p, &new);
	return r == PK_GO ? pk_go(ctx, p, &way, p->v6, PK_RETURNED) : r;
}

/* Whether a record must not be used for this packet: it has ended, or its backend has, and nothing is lost by it. */
static __always_inline bool pk_is_stale(const struct pk_at *at, const struct pk_pkt *p)
{
	const struct pk_conn *c = at->conn;
	const struct lb_backend *backend = lb_backend_get(c->backend);

	if (c->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
	    (c->state == PK_STATE_CLOSED || c->state == PK_STATE_CLOSING))
		return true;
	return backend && backend->flags & LB_BACKEND_DOWN && (c->proto == IPPROTO_UDP || c->state == PK_STATE_NEW);
}

/* To an address that may be a service's. PK_STEP_NEW: there is no record, or none that is of use. */
static __always_inline int pk_to_service(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p,
					 struct pk_work *w)
{
	const struct lb_backend *backend;

	p->hash = pk_hash(ctl, &p->src, &p->dst, p->sport, p->dport, p->proto, p->v6);
	if (!pk_find(ctl, p, &w->at, &w->key) || (p->frag != PK_FRAG_LATER && pk_is_stale(&w->at, p)))
		return PK_STEP_NEW;
	pk_capture_conn(w->at.conn);
	backend = lb_backend_get(w->at.conn->backend);
	if (backend && backend->flags & LB_BACKEND_DOWN)
		return PK_BACKEND_DOWN;
	return w->at.conn->flags & PK_CONN_COOKIE ? PK_STEP_COOKIE : pk_forward(ctx, p, w, false);
}

/* From an address that may be a backend's. */
static __always_inline int pk_from_backend(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p,
					   struct pk_work *w)
{
	pk_back_of(ctl, &w->back, &p->src, p->sport, &p->dst, p->dport, p->proto);
	if (!pk_find_back(ctl, &w->back, &w->at))
		return PK_NOT_OURS;
	pk_capture_conn(w->at.conn);
	return w->at.conn->flags & PK_CONN_COOKIE ? PK_STEP_COOKIE : pk_return(ctx, p, w, false);
}

static __always_inline bool pk_gate_open(const struct lb_addr *addr, __be16 port, __u8 proto)
{
	__u32 bit = pk_gate_bit(addr, port, proto), index = bit >> 6;
	const __u64 *word = bpf_map_lookup_elem(&pk_gate, &index);

	return word && *word >> (bit & 63) & 1;
}

/* What every step knows of its packet. */
static __always_inline int pk_look(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p)
{
	int r = pk_parse(ctx, p);

	if (r != PK_GO)
		return r;
	p->now = (__u32)(bpf_jiffies64() >> ctl->tick_shift);
	if (p->frag == PK_FRAG_LATER)
		return pk_frag_find(p);
	return PK_GO;
}

static __always_inline int pk_decide(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p)
{
	struct pk_work w = {};
	bool to, from;
	int r;

	r = pk_look(ctx, ctl, p);
	if (r != PK_GO)
		return r;
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6)
		return PK_STEP_ICMP;
	to = pk_gate_open(&p->dst, p->dport, p->proto);
	from = pk_gate_open(&p->src, p->sport, p->proto);
	if (!to && !from)
		return PK_NOT_OURS;
	if (p->frag == PK_FRAG_FIRST)
		pk_frag_note(p);
	return to ? pk_to_service(ctx, ctl, p, &w) : pk_from_backend(ctx, ctl, p, &w);
}

/*
 * A packet that may be for a service, and has no record: makes one, after which the first step will find it. Or, if
 * it is for no service after all, it may come from a backend.
 */
static __always_inline int pk_decide_new(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p)
{
	struct pk_work w = {};
	int r;

	r = pk_look(ctx, ctl, p);
	if (r != PK_GO)
		return r;
	p->hash = pk_hash(ctl, &p->src, &p->dst, p->sport, p->dport, p->proto, p->v6);
	if (pk_find(ctl, p, &w.at, &w.key)) {
		if (p->frag == PK_FRAG_LATER || !pk_is_stale(&w.at, p))
			return PK_STEP_FIRST;
		pk_remove(w.at.index);
	}
	r = pk_new(ctx, ctl, p, &w);
	if (r == PK_GO)
		return PK_STEP_FIRST;
	return r == PK_NOT_OURS ? pk_from_backend(ctx, ctl, p, &w) : r;
}

/* The program's return value, once it is known what became of the packet. */
static __always_inline int pk_verdict(const struct pk_pkt *p, int r)
{
	pk_count((__u32)r);
	if (r < PK_NOT_OURS)
		return p->verdict;
	return r < PK_NO_BACKEND ? PK_VERDICT_PASS : PK_VERDICT_DROP;
}

static __always_inline int pk_end_with(struct pk_ctx *ctx, const struct pk_pkt *p, int r)
{
	int verdict = pk_verdict(p, r);

	pk_capture_end(ctx, p, r, verdict);
	return verdict;
}

/* The first step: established connections, and what is not ours. Others go on to the next step by a tail call. */
static __always_inline int pk_first(struct pk_ctx *ctx, void *steps)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	const struct lb_ctl *lb = lb_ctl_get();
	struct pk_pkt p = {};
	int r;

	if (!ctl || !lb)
		return PK_VERDICT_PASS;
	pk_capture_in(ctx);
	r = ctl->on & PK_ON && lb->on ? pk_decide(ctx, ctl, &p) : PK_OFF;
	if (r == PK_STEP_NEW)
		bpf_tail_call(ctx, steps, PK_STEPS_NEW);
	if (r == PK_STEP_ICMP)
		bpf_tail_call(ctx, steps, PK_STEPS_ICMP);
	if (r == PK_STEP_COOKIE)
		bpf_tail_call(ctx, steps, PK_STEPS_COOKIE);
	if (r < 0)
		r = PK_STEP;
	return pk_end_with(ctx, &p, r);
}

static __always_inline int pk_step_new(struct pk_ctx *ctx, void *steps)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_pkt p = {};
	int r;

	if (!ctl)
		return PK_VERDICT_PASS;
	r = pk_decide_new(ctx, ctl, &p);
	if (r == PK_STEP_FIRST)
		bpf_tail_call(ctx, steps, PK_STEPS_FIRST);
	if (r == PK_STEP_COOKIE)
		bpf_tail_call(ctx, steps, PK_STEPS_COOKIE);
	return pk_end_with(ctx, &p, r < 0 ? PK_STEP : r);
}

static __always_inline int pk_step_icmp(struct pk_ctx *ctx)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	struct pk_pkt p = {};
	int r;

	if (!ctl)
		return PK_VERDICT_PASS;
	r = pk_look(ctx, ctl, &p);
	return pk_end_with(ctx, &p, r == PK_GO ? pk_icmp(ctx, ctl, &p) : r);
}
