/* SPDX-License-Identifier: GPL-2.0 */
/* A packet of a service, either direction: its connection, its way, and what it becomes. */
#pragma once

#include "bpf/pk_cookie.bpf.h"
#include "bpf/pk_guard.bpf.h"
#include "bpf/pk_nat.bpf.h"
#include "bpf/pk_pick.bpf.h"
#include "bpf/pk_send.bpf.h"
#include "bpf/pk_tunnel.bpf.h"

/* Room on the stack, of which there is little: what a packet needs at one time or another. */
struct pk_work {
	struct pk_at at;
	union {
		struct pk_fib_ask ask;
		struct pk_back back;
		struct pk_key key;
		struct pk_ack ack;
	};
};

static __always_inline struct pk_far *pk_far_get(__u32 backend)
{
	return bpf_map_lookup_elem(&pk_far, &backend);
}

static __always_inline struct lb_addr *pk_nat_get(__u32 nat)
{
	return bpf_map_lookup_elem(&pk_nats, &nat);
}

/* Whether a backend can be reached from an address of the packet's family in this way of forwarding. */
static __always_inline int pk_new_fits(__u8 forward, const struct lb_backend *backend, const struct pk_far *far,
				       bool v6)
{
	if (pk_addr_is_v4(&backend->addr) == v6 && forward != LB_FORWARD_IPIP && forward != LB_FORWARD_GUE)
		return PK_FAMILY;
	if (!far->nat && forward != LB_FORWARD_DNAT && forward != LB_FORWARD_DSR)
		return PK_NO_SOURCE;
	return PK_GO;
}

/* The hint to a record, and with it the port for nat. */
static __always_inline int pk_new_hint(const struct pk_ctl *ctl, const struct lb_backend *backend, struct pk_pkt *p,
				       struct pk_work *w)
{
	struct pk_at *at = &w->at;
	const struct lb_addr *own;

	if (at->conn->forward == LB_FORWARD_DNAT)
		return pk_dnat_hint(ctl, backend, p, &w->back, at->index) ? PK_GO : PK_NO_PORT;
	if (at->conn->forward != LB_FORWARD_NAT)
		return PK_GO;
	own = pk_nat_get(at->conn->nat);
	at->conn->nport = own ? pk_nat_port(ctl, backend, own, p, at->index) : 0;
	return at->conn->nport ? PK_GO : PK_NO_PORT;
}

/* The service of a packet's destination; NULL: none that the packet hook serves. */
static __always_inline struct lb_plan *pk_plan(const struct pk_pkt *p)
{
	struct lb_vip vip = { .port = p->dport, .proto = p->proto };
	struct lb_plan *plan;
	__u32 *service;

	pk_addr_copy(&vip.addr, &p->dst);
	service = bpf_map_lookup_elem(&lb_vips, &vip);
	plan = service ? lb_plan_get(*service) : NULL;
	return plan && plan->flags & LB_PLAN_PACKET ? plan : NULL;
}

/* Writes all of a record but what the hint adds to it. Nobody finds it yet. */
static __always_inline void pk_new_fill(struct pk_conn *c, const struct pk_pkt *p, const struct lb_plan *plan,
					__u32 backend, __u16 nat)
{
	c->gen++;
	barrier();
	pk_addr_copy(&c->client, &p->src);
	pk_addr_copy(&c->vip, &p->dst);
	c->cport = p->sport;
	c->vport = p->dport;
	c->nport = 0;
	c->nat = nat;
	c->proto = p->proto;
	c->forward = plan->forward;
	c->flags = PK_CONN_FRESH;
	c->backend = backend;
	c->service = plan->service;
	c->hop = 0;
	barrier();
	c->gen++;
}

/*
 * Whether this host has a TCP connection with these ends. Then the packet is the host's, even if its address has become
 * a service's: whoever is logged in stays so, whatever is configured.
 */
__noinline int pk_is_own(struct pk_ctx *ctx, struct pk_pkt *p)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	int own;

	if (!p)
		return 0;
	if (p->v6) {
		__builtin_memcpy(tuple.ipv6.saddr, &p->src, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, &p->dst, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = p->sport;
		tuple.ipv6.dport = p->dport;
		sk = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv4.saddr = p->src.v6[3];
		tuple.ipv4.daddr = p->dst.v6[3];
		tuple.ipv4.sport = p->sport;
		tuple.ipv4.dport = p->dport;
		sk = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return 0;
	own = sk->state != BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return own;
}

/* A new connection. */
static __always_inline int pk_new(struct pk_ctx *ctx, const struct pk_ctl *ctl, struct pk_pkt *p, struct pk_work *w)
{
	struct pk_at *at = &w->at;
	const struct lb_plan *plan = pk_plan(p);
	const struct lb_backend *backend;
	const struct pk_far *far;
	bool cookie;
	__u32 id;
	int r;

	if (!plan)
		return PK_NOT_OURS;
	pk_capture_service(plan->service);
	if (p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN && pk_is_own(ctx, p))
		return PK_NOT_OURS;
	r = pk_cookie_new(ctx, ctl, plan, p, &w->ack);
	cookie = r == PK_COOKIE_ACCEPTED;
	if (r != PK_GO && !cookie)
		return r;
	/* Whose beginning was not seen has a port at the backend that nobody knows. */
	if (p->proto == IPPROTO_TCP && plan->forward == LB_FORWARD_NAT && !cookie &&
	    (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return PK_NO_CONN;
	r = pk_guard(ctl, plan, p);
	if (r != PK_GO)
		return r;
	id = pk_pick(plan, p);
	backend = lb_backend_get(id);
	far = pk_far_get(id);
	if (id == LB_NONE || !backend || !far)
		return PK_NO_BACKEND;
	r = pk_new_fits(plan->forward, backend, far, p->v6);
	if (r != PK_GO)
		return r;
	r = pk_take(ctl, p);
	if (r < 0 || !pk_at_index(ctl, (__u32)r, at))
		return PK_TABLE_FULL;
	pk_new_fill(at->conn, p, plan, id, far->nat);
	r = pk_new_hint(ctl, backend, p, w);
	if (r != PK_GO) {
		at->conn->state = PK_STATE_FREE;
		return r;
	}
	if (cookie)
		pk_cookie_made(at);
	pk_publish(at, p);
	/* Who has answered a cookie is no part of a flood, and gives way to nobody. */
	if (cookie)
		pk_weak(at, false);
	return PK_GO;
}

/*
 * The length is what the header says, or the rest of the frame is padding; and what was taken for ports is within it,
 * and no padding.
 */
static __always_inline bool pk_len_ok(struct pk_ctx *ctx, const struct pk_pkt *p)
{
	__u32 least = p->frag == PK_FRAG_LATER ? 0 :
		      p->proto == IPPROTO_TCP  ? sizeof(struct pk_tcp) :
						 sizeof(struct pk_udp);

	if (p->len < p->l4 - p->l3 + least)
		return false;
	if (pk_data(ctx) + PK_OFF(p->l3) + p->len <= pk_end(ctx))
		return true;
	return p->l3 + p->len <= pk_frame_len(ctx);
}

/* How long the packet is on the wire: in TC a GSO packet is many. */
static __always_inline __u32 pk_wire_len(const struct pk_ctx *ctx, const struct pk_pkt *p)
{
#if !PK_XDP
	if (ctx->gso_size) {
		const struct pk_tcp *tcp = pk_at(ctx, p->l4, sizeof(*tcp));
		__u32 head = p->proto == IPPROTO_UDP ? sizeof(struct pk_udp) : tcp ? (tcp->off >> 4) * 4 : 0;

		return ctx->gso_size + p->l4 - p->l3 + head;
	}
#endif
	return p->len;
}

/* Finds the way to a backend, and believes it for a tick. */
static __always_inline int pk_way_far(struct pk_ctx *ctx, const struct pk_pkt *p, struct pk_far *far,
				      const struct lb_addr *src, const struct lb_addr *dst, struct pk_way *way)
{
	struct pk_fib_ask *ask = way->ask;
	int r;

	if (far->hop.ifindex && far->hop.tick == p->now) {
		way->hop = &far->hop;
		return PK_GO;
	}
	pk_addr_copy(&ask->src, src);
	pk_addr_copy(&ask->dst, dst);
	r = pk_fib_lookup(ctx, ask, pk_ifindex(ctx), p->vlan, p->now);
	if (r == PK_NO_NEIGHBOUR && !PK_XDP) {
		way->hop = NULL;
		return PK_GO;
	}
	if (r != PK_GO)
		return r;
	if (!pk_hop_is(&far->hop, &ask->hop)) {
		far->hop.ifindex = 0;
		barrier();
		__builtin_memcpy(far->hop.dmac, ask->hop.dmac, 2 * ETH_ALEN);
		far->hop.phys = ask->hop.phys;
		far->hop.mtu = ask->hop.mtu;
		far->hop.vlan = ask->hop.vlan;
		barrier();
		far->hop.ifindex = ask->hop.ifindex;
	}
	far->hop.tick = p->now;
	way->hop = &ask->hop;
	return PK_GO;
}

/*
 * The way to a client, remembered in its record: believed as long as somebody has been told the same next hop within
 * this tick, so that another hardware address is noticed at once; and asked for again now and then even so, for the
 * route to this client alone may have changed.
 */
static __always_inline int pk_way_client(struct pk_ctx *ctx, const struct pk_pkt *p, struct pk_conn *c,
					 struct pk_way *way)
{
	struct pk_fib_ask *ask = way->ask;
	__u32 hop = c->hop;
	int r;

	if (hop && (__u16)((__u16)p->now - c->hop_tick) < PK_HOP_TICKS) {
		way->hop = bpf_map_lookup_elem(&pk_hops, &hop);
		if (way->hop && way->hop->tick == p->now)
			return PK_GO;
	}
	pk_addr_copy(&ask->src, &c->vip);
	pk_addr_copy(&ask->dst, &c->client);
	r = pk_fib_lookup(ctx, ask, pk_ifindex(ctx), p->vlan, p->now);
	if (r == PK_NO_NEIGHBOUR && !PK_XDP) {
		way->hop = NULL;
		return PK_GO;
	}
	if (r != PK_GO)
		return r;
	c->hop = pk_hop_keep(&ask->hop);
	c->hop_tick = (__u16)p->now;
	way->hop = &ask->hop;
	return PK_GO;
}

static __always_inline void pk_traffic(__u32 backend, __u32 bytes, bool back)
{
	struct lb_traffic *t = bpf_map_lookup_elem(&lb_traffic, &backend);

	if (!t)
		return;
	if (back) {
		t->out_packets++;
		t->out_bytes += bytes;
	} else {
		t->in_packets++;
		t->in_bytes += bytes;
	}
}
