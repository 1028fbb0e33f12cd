/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What `waggle capture` sees: a packet as it came in, as it went out, and why. Programs that capture are objects of their
 * own (xdp_capture.bpf.c, tc_capture.bpf.c: they define PK_CAPTURE), which run in place of the others while
 * somebody captures. In those the functions below are empty, and cost nothing.
 *
 * A packet is put together in a room of its processor: the steps of a packet run there one after the other, and no
 * other packet comes between them. What a filter asks for is known at the end only, so all bytes are taken before.
 */
#pragma once

#include "bpf/pk_maps.bpf.h"

#ifndef PK_CAPTURE

static __always_inline void pk_capture_in(struct pk_ctx *ctx)
{
}

static __always_inline void pk_capture_service(__u32 service)
{
}

static __always_inline void pk_capture_conn(const struct pk_conn *c)
{
}

static __always_inline void pk_capture_way(__u32 ifindex, bool asks_neighbour)
{
}

static __always_inline void pk_capture_end(struct pk_ctx *ctx, const struct pk_pkt *p, int reason, int verdict)
{
}

#else

#include "abi/capture.h"
#include "bpf/lb_pick.bpf.h"

#define PK_CAPTURE_CPUS 1 /* set at load */

/* What is wanted. Written by user space, but for what was lost. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pk_capture_ctl);
} pk_cap_ctl SEC(".maps");

/* By processor; an array, because values of per-CPU ones are not that large. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PK_CAPTURE_CPUS);
	__type(key, __u32);
	__type(value, struct pk_capture_room);
} pk_cap_room SEC(".maps");

/* From here to the reader. What does not fit is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} pk_cap_ring SEC(".maps");

static __always_inline struct pk_capture_ctl *pk_capture_ctl_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pk_cap_ctl, &zero);
}

static __always_inline struct pk_capture_room *pk_capture_room_get(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&pk_cap_room, &cpu);
}

/* The most that anybody wants of a packet. */
static __always_inline __u32 pk_capture_snaplen(const struct pk_capture_ctl *ctl)
{
	__u32 most = 0;

	PK_UNROLL_NO
	for (int i = 0; i < PK_CAPTURES; i++)
		if (ctl->filters[i].on && ctl->filters[i].snaplen > most)
			most = ctl->filters[i].snaplen;
	return most;
}

/*
 * The first bytes of the frame, wherever they are, to data + off. The masks are for the verifier, and change nothing:
 * off is at most PK_CAPTURE_SNAP, and n, which is not 0, too.
 */
static __always_inline void pk_capture_bytes(struct pk_ctx *ctx, struct pk_capture_room *room,
					     struct pk_capture_side *side, __u32 off, __u32 snaplen)
{
	__u32 n = pk_frame_len(ctx);
	long r;

	side->len = n;
	if (n > snaplen)
		n = snaplen;
	n = ((n - 1) & (PK_CAPTURE_SNAP - 1)) + 1;
	off &= 2 * PK_CAPTURE_SNAP - 1;
#if PK_XDP
	r = bpf_xdp_load_bytes(ctx, 0, room->data + off, n);
#else
	r = bpf_skb_load_bytes(ctx, 0, room->data + off, n);
	if (ctx->vlan_present) {
		side->vlan = (__u16)ctx->vlan_tci;
		side->vlan_proto = (__be16)ctx->vlan_proto;
	}
#endif
	side->taken = r ? 0 : n;
	side->at_ns = bpf_ktime_get_ns();
}

/* A packet comes in; or, after a record was made for it, comes to its first step again. */
__noinline int pk_capture_begin(struct pk_ctx *ctx)
{
	const struct pk_capture_ctl *ctl = pk_capture_ctl_get();
	struct pk_capture_room *room = pk_capture_room_get();
	struct pk_capture_packet *k;
	__u32 snaplen;

	if (!ctl || !room)
		return 0;
	k = &room->packet;
	if (k->in.taken)
		return 0;
	snaplen = pk_capture_snaplen(ctl);
	if (!snaplen || bpf_ktime_get_ns() > ctl->until_ns)
		return 0;
	__builtin_memset(k, 0, sizeof(*k));
	k->in.ifindex = pk_ifindex(ctx);
	k->is_xdp = PK_XDP;
	pk_capture_bytes(ctx, room, &k->in, 0, snaplen);
	return 0;
}

static __always_inline void pk_capture_in(struct pk_ctx *ctx)
{
	pk_capture_begin(ctx);
}

static __always_inline struct pk_capture_packet *pk_capture_now(void)
{
	struct pk_capture_room *room = pk_capture_room_get();

	return room && room->packet.in.taken ? &room->packet : NULL;
}

/* It is for this service. */
static __always_inline void pk_capture_service(__u32 service)
{
	struct pk_capture_packet *k = pk_capture_now();

	if (k)
		k->service = service;
}

/* It is of this connection. */
__noinline int pk_capture_of(const struct pk_conn *c)
{
	struct pk_capture_packet *k = pk_capture_now();

	if (!k || !c)
		return 0;
	pk_addr_copy(&k->client, &c->client);
	pk_addr_copy(&k->vip, &c->vip);
	k->cport = c->cport;
	k->vport = c->vport;
	k->service = c->service;
	k->backend = c->backend;
	k->has_conn = 1;
	return 0;
}

static __always_inline void pk_capture_conn(const struct pk_conn *c)
{
	pk_capture_of(c);
}

/* It leaves by this interface, if it leaves: without a word of this, by the one that it came in by. */
static __always_inline void pk_capture_way(__u32 ifindex, bool asks_neighbour)
{
	struct pk_capture_packet *k = pk_capture_now();

	if (!k)
		return;
	k->out.ifindex = ifindex;
	k->asks_neighbour = asks_neighbour;
}

static __always_inline __u32 pk_capture_proto(__u8 proto)
{
	return proto == IPPROTO_TCP				? PK_CAPTURE_TCP :
	       proto == IPPROTO_UDP				? PK_CAPTURE_UDP :
	       proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6 ? PK_CAPTURE_ICMP :
								  PK_CAPTURE_OTHER;
}

static __always_inline __u32 pk_capture_in_net(const struct lb_addr *a, const struct pk_capture_addr *net)
{
	const pk_word *x = (const pk_word *)a, *n = (const pk_word *)&net->addr, *m = (const pk_word *)&net->mask;

	return !(((x[0] & m[0]) ^ n[0]) | ((x[1] & m[1]) ^ n[1]));
}

/* Of each kind: whether one of the values fits. */
static __always_inline __u32 pk_capture_has(const struct pk_capture_filter *f, const struct pk_capture_packet *k,
					    const struct lb_backend *b, __u32 kind, __u32 i)
{
	const struct pk_capture_addr *net = &f->addrs[i & (PK_CAPTURE_VALUES - 1)];
	__be16 port = f->ports[i & (PK_CAPTURE_VALUES - 1)];
	__u32 ifindex = f->ifindexes[i & (PK_CAPTURE_VALUES - 1)];
	__u32 has;

	switch (kind) {
	case PK_CAPTURE_SERVICE:
		return k->service && k->service == f->services[i];
	case PK_CAPTURE_ADDRESS:
		has = pk_capture_in_net(&k->src, net) | pk_capture_in_net(&k->dst, net);
		if (k->has_conn)
			has |= pk_capture_in_net(&k->client, net) | pk_capture_in_net(&k->vip, net);
		return b ? has | pk_capture_in_net(&b->addr, net) : has;
	case PK_CAPTURE_PORT:
		return k->sport == port || k->dport == port || k->cport == port || k->vport == port ||
		       (b && b->port == port);
	default:
		return k->in.ifindex == ifindex || k->out.ifindex == ifindex;
	}
}

static __always_inline bool pk_capture_holds(const struct pk_capture_filter *f, const struct pk_capture_packet *k,
					     const struct lb_backend *b, __u32 kind)
{
	__u32 n = f->n[kind], negated = f->negated >> kind & 1;
	__u32 most = kind == PK_CAPTURE_SERVICE ? PK_CAPTURE_SERVICES : PK_CAPTURE_VALUES;

	if (!n)
		return true;
	PK_UNROLL_NO
	for (__u32 i = 0; i < most && i < n; i++) {
		/* What is read again takes no room on the stack, of which the caller has left little. */
		barrier();
		if (pk_capture_has(f, k, b, kind, i))
			return !negated;
	}
	return negated;
}

/* Whether a capture wants the packet in the room of this processor. By number: so the verifier sees it once. */
__noinline int pk_capture_wants(__u32 i)
{
	const struct pk_capture_ctl *ctl = pk_capture_ctl_get();
	const struct pk_capture_packet *k = pk_capture_now();
	const struct pk_capture_filter *f;
	const struct lb_backend *b;

	if (!k || !ctl || i >= PK_CAPTURES)
		return 0;
	f = &ctl->filters[i];
	if (!f->on || !(f->reasons >> (k->reason & 63) & 1) || !(f->protos & pk_capture_proto(k->proto)))
		return 0;
	b = k->backend ? lb_backend_get(k->backend) : NULL;
	return pk_capture_holds(f, k, b, PK_CAPTURE_SERVICE) && pk_capture_holds(f, k, b, PK_CAPTURE_ADDRESS) &&
	       pk_capture_holds(f, k, b, PK_CAPTURE_PORT) && pk_capture_holds(f, k, b, PK_CAPTURE_INTERFACE);
}

/* Into the ring, or counted. */
static __always_inline void pk_capture_tell(struct pk_capture_room *room)
{
	struct pk_capture_ctl *ctl = pk_capture_ctl_get();
	__u32 n = room->packet.in.taken + room->packet.out.taken;

	n = ((n - 1) & (2 * PK_CAPTURE_SNAP - 1)) + 1;
	if (!ctl || !bpf_ringbuf_output(&pk_cap_ring, room, sizeof(room->packet) + n, 0))
		return;
	PK_UNROLL_NO
	for (__u32 i = 0; i < PK_CAPTURES; i++)
		if (room->packet.wanted >> i & 1)
			__sync_fetch_and_add(&ctl->filters[i].lost, 1);
}

/* What became of it, as far as it is no question of its bytes. */
__noinline int pk_capture_note(const struct pk_pkt *p, __u32 reason, __u32 verdict)
{
	struct pk_capture_packet *k = pk_capture_now();

	if (!k || !p)
		return 0;
	pk_addr_copy(&k->src, &p->src);
	pk_addr_copy(&k->dst, &p->dst);
	k->sport = p->sport;
	k->dport = p->dport;
	k->proto = p->proto;
	k->tcp_flags = p->tcp_flags;
	k->reason = reason;
	k->verdict = verdict;
	if (reason >= PK_NOT_OURS)
		k->out.ifindex = 0;
	else if (!k->out.ifindex)
		k->out.ifindex = k->in.ifindex;
	return 0;
}

/* The bytes that go out, if somebody wants the packet, and all of it to the reader. */
__noinline int pk_capture_out(struct pk_ctx *ctx)
{
	const struct pk_capture_ctl *ctl = pk_capture_ctl_get();
	struct pk_capture_room *room = pk_capture_room_get();
	struct pk_capture_packet *k;

	if (!ctl || !room)
		return 0;
	k = &room->packet;
	if (k->reason < PK_NOT_OURS)
		pk_capture_bytes(ctx, room, &k->out, k->in.taken, pk_capture_snaplen(ctl));
	pk_capture_tell(room);
	return 0;
}

static __always_inline void pk_capture_end(struct pk_ctx *ctx, const struct pk_pkt *p, int reason, int verdict)
{
	struct pk_capture_packet *k = pk_capture_now();

	if (!k)
		return;
	pk_capture_note(p, (__u32)reason, (__u32)verdict);
	PK_UNROLL_NO
	for (__u32 i = 0; i < PK_CAPTURES; i++)
		if (pk_capture_wants(i) > 0)
			k->wanted |= 1U << i;
	if (k->wanted)
		pk_capture_out(ctx);
	k->in.taken = 0;
}

#endif
