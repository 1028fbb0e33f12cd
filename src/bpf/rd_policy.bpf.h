/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Policy: may this socket connect to what its program asked for? The source is its cgroup, and the address that it is
 * bound to, if any; the destination is an address, and the cgroup of the one that listens there. Nothing that matches:
 * it may.
 */
#pragma once

#include "bpf/rd_way.bpf.h"

struct rd_verdict {
	struct rd_entry *entry; /* NULL: none matched */
	__u32 index;
};

/* The sets that answer for the destination's cgroup are found by the caller, who has a context to look up with. */
static __always_inline struct rd_verdict rd_policy_match(const struct rd_side *s, __u32 side, const struct rd_ask *ask,
							 __u32 to_class)
{
	const struct rd_bits *from, *from_net, *to, *to_net, *port;
	struct rd_verdict v = {};
	int i;

	from = rd_bits_of(side, rd_group_class(ask->sk, side, RD_FROM, s->group[RD_FROM]));
	from_net = rd_bits_of(side, rd_net_class(&ask->from, side, RD_FROM, s->net[RD_FROM]));
	to = rd_bits_of(side, to_class);
	to_net = rd_bits_of(side, rd_net_class(&ask->addr, side, RD_TO, s->net[RD_TO]));
	port = rd_bits_of(side, rd_port_class(ask->port, side));
	if (!from || !from_net || !to || !to_net || !port)
		return v;
	for (i = 0; i < RD_WORDS; i++) {
		__u64 w = (from->w[i] | from_net->w[i]) & (to->w[i] | to_net->w[i]) & port->w[i];

		if (w) {
			v.index = side * RD_ENTRIES + i * 64 + rd_lowest(w);
			v.entry = bpf_map_lookup_elem(&rd_entries, &v.index);
			return v;
		}
	}
	return v;
}

/* The class of the cgroup of the one that listens on the address, in the network namespace of the socket. */
static __always_inline __u32 rd_listener_class(struct bpf_sock_addr *ctx, const struct rd_ask *ask, __u32 side)
{
	struct bpf_sock *sk = rd_lookup(ctx, &ask->addr, bpf_htons(ask->port), true);
	struct tcp_sock *tp;
	__u32 class = 0;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		class = rd_group_class((struct sock *)tp, side, RD_TO, 0);
	bpf_sk_release(sk);
	return class;
}

static __always_inline bool rd_policy_is_on(const struct rd_ctl *ctl)
{
	__u32 side;

	return rd_side_of(ctl, RD_POLICY, &side);
}

static __always_inline bool rd_policy_denies(struct bpf_sock_addr *ctx, const struct rd_ctl *ctl, struct rd_ask *ask)
{
	const struct rd_side *s;
	__u32 side, to_class = 0;
	struct rd_verdict v;

	s = rd_side_of(ctl, RD_POLICY, &side);
	if (!s)
		return false;
	rd_ask_from(ask);
	if (s->to_groups && ask->proto == IPPROTO_TCP)
		to_class = rd_listener_class(ctx, ask, side);
	v = rd_policy_match(s, side, ask, to_class);
	if (!v.entry)
		return false;
	rd_hit(v.index);
	if (!(v.entry->flags & RD_DENY)) {
		rd_count(RD_STAT_ALLOWED);
		return false;
	}
	rd_count(RD_STAT_DENIED);
	rd_event(ctl, ask, RD_EVENT_DENIED, v.entry);
	return true;
}
