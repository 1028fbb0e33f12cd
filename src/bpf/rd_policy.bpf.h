/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Policy: may this socket connect to what its program asked for? The source is its cgroup, and its address, which it may
 * not have yet; the destination is an address, and the cgroup of the one that listens there. Nothing that matches: it
 * may.
 */
#pragma once

#include "bpf/rd_way.bpf.h"

/* Is this an address, or what a socket has that is bound to none? */
static __always_inline bool rd_is_known(const struct lb_addr *a)
{
	return a->v6[0] || a->v6[1] || (a->v6[2] && a->v6[2] != bpf_htonl(0xffff)) || a->v6[3];
}

struct rd_verdict {
	struct rd_entry *entry; /* NULL: none matched */
	__u32 index;
	bool undecided; /* the first entry that may match asks for the source, which is not known */
};

/*
 * The sets that answer for cgroups are found by the caller, who knows whose, and has a context to look up with.
 * has_source: ask->from is what there is; else it may be zero, for there was no routing yet.
 */
static __always_inline struct rd_verdict rd_policy_match(const struct rd_side *s, __u32 side, const struct rd_ask *ask,
							 __u32 from_class, __u32 to_class, bool has_source)
{
	const struct rd_bits *from, *from_net, *maybe, *to, *to_net, *port;
	struct rd_verdict v = {};
	int i;

	from = rd_bits_of(side, from_class);
	maybe = rd_bits_of(side, has_source || rd_is_known(&ask->from) ? 0 : s->from_nets);
	from_net = rd_bits_of(side, rd_net_class(&ask->from, side, RD_FROM, s->net[RD_FROM]));
	to = rd_bits_of(side, to_class);
	to_net = rd_bits_of(side, rd_net_class(&ask->addr, side, RD_TO, s->net[RD_TO]));
	port = rd_bits_of(side, rd_port_class(ask->port, side));
	if (!from || !maybe || !from_net || !to || !to_net || !port)
		return v;
	for (i = 0; i < RD_WORDS; i++) {
		__u64 there = (to->w[i] | to_net->w[i]) & port->w[i];
		__u64 w = (from->w[i] | from_net->w[i]) & there;
		__u64 all = w | (maybe->w[i] & there);

		if (all) {
			/* The lowest bit of all that is not of w. */
			v.undecided = all & -all & ~w;
			v.index = side * RD_ENTRIES + i * 64 + rd_lowest(all);
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

/* Counts and tells; true: it is denied. */
static __always_inline bool rd_policy_settle(const struct rd_ctl *ctl, const struct rd_ask *ask,
					     const struct rd_verdict *v)
{
	if (!v->entry)
		return false;
	rd_hit(v->index);
	if (!(v->entry->flags & RD_DENY)) {
		rd_count(RD_STAT_ALLOWED);
		return false;
	}
	rd_count(RD_STAT_DENIED);
	rd_event(ctl, ask, RD_EVENT_DENIED, v->entry);
	return true;
}

struct rd_answer {
	bool denied;
	bool undecided; /* to be asked again with a source: rd_source_known() */
	__u16 side, to_class;
};

static __always_inline struct rd_answer rd_policy_ask(struct bpf_sock_addr *ctx, const struct rd_ctl *ctl,
						      struct rd_ask *ask)
{
	bool tcp = ask->proto == IPPROTO_TCP;
	__u32 side, from_class, to_class = 0;
	struct rd_answer a = {};
	const struct rd_side *s;
	struct rd_verdict v;

	s = rd_side_of(ctl, RD_POLICY, &side);
	if (!s)
		return a;
	rd_ask_from(ask);
	if (s->to_groups && tcp)
		to_class = rd_listener_class(ctx, ask, side);
	from_class = rd_group_class(ask->sk, side, RD_FROM, s->group[RD_FROM]);
	/* Of datagrams nobody is asked again. */
	v = rd_policy_match(s, side, ask, from_class, to_class, !tcp);
	a.side = side;
	a.to_class = to_class;
	a.undecided = v.undecided;
	if (!v.undecided)
		a.denied = rd_policy_settle(ctl, ask, &v);
	return a;
}
