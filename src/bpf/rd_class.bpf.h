/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which entry of a table decides: each question about the connection is one lookup with a set of entries as its answer,
 * and the first entry that is in all of them decides (abi/redirect.h).
 */
#pragma once

#include "bpf/rd_maps.bpf.h"
#include "bpf/ring.bpf.h"

#define RD_NO_ENTRY (-1)

/* Fields that differ between kernels, or that no other object reads. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup___rd {
	int level;
	struct cgroup *ancestors[];
};

struct sock_common___rd {
	unsigned char skc_ipv6only : 1;
};

struct tcp_sock___rd {
	void *fastopen_req;
	void *fastopen_rsk;
};

struct bpf_sock_addr_kern {
	struct sock *sk;
};

struct bpf_sockopt_kern {
	struct sock *sk;
};

#pragma clang attribute pop

/* What is asked: a connection or a datagram on its way to be made. */
struct rd_ask {
	struct lb_addr addr; /* what the program asked for */
	struct lb_addr from; /* its own, if it is bound to one; zero otherwise */
	struct sock *sk;     /* address of the kernel's own; read by probe_read alone */
	__u64 cgroup;	     /* id of the socket's */
	__u32 uid;
	__u16 port;
	__u16 from_port; /* of far alone */
	__u8 proto;
	bool far; /* it arrives from another machine, and sk is the listener */
};

static __always_inline bool rd_is_v4(const struct lb_addr *a)
{
	return !a->v6[0] && !a->v6[1] && a->v6[2] == bpf_htonl(0xffff);
}

static __always_inline bool rd_same(const struct lb_addr *a, const struct lb_addr *b)
{
	return a->v6[0] == b->v6[0] && a->v6[1] == b->v6[1] && a->v6[2] == b->v6[2] && a->v6[3] == b->v6[3];
}

static __always_inline struct cgroup *rd_cgroup(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
}

static __always_inline __u64 rd_cgroup_id(struct sock *sk)
{
	struct cgroup *c = rd_cgroup(sk);

	return BPF_CORE_READ(c, kn, id);
}

/* The class of the innermost cgroup that the table knows. */
static __always_inline __u32 rd_group_class(struct sock *sk, __u32 side, __u32 what, __u32 otherwise)
{
	struct cgroup___rd *c = (void *)rd_cgroup(sk);
	struct rd_group_key key = { .side = side, .what = what };
	int level = BPF_CORE_READ(c, level), i;

	for (i = 0; i < RD_DEPTH; i++) {
		struct cgroup *up = NULL;
		__u32 *class;

		if (level - i < 0)
			break;
		bpf_probe_read_kernel(&up, sizeof(up),
				      (void *)c + bpf_core_field_offset(struct cgroup___rd, ancestors) +
					      sizeof(up) * (level - i));
		key.cgroup = BPF_CORE_READ(up, kn, id);
		class = bpf_map_lookup_elem(&rd_groups, &key);
		if (class)
			return *class;
	}
	return otherwise;
}

static __always_inline __u32 rd_net_class(const struct lb_addr *a, __u32 side, __u32 what, __u32 otherwise)
{
	struct rd_net_key key = {
		.prefix_bits = RD_NET_FIXED + 128,
		.side_what = side * _RD_WHAT_MAX + what,
		.addr = *a,
	};
	__u32 *class = bpf_map_lookup_elem(&rd_nets, &key);

	return class ? *class : otherwise;
}

static __always_inline __u32 rd_user_class(__u32 uid, __u32 side, __u32 otherwise)
{
	struct rd_user_key key = { .uid = uid, .side = side };
	__u32 *class = bpf_map_lookup_elem(&rd_users, &key);

	return class ? *class : otherwise;
}

static __always_inline __u32 rd_port_class(__u16 port, __u32 side)
{
	__u32 i = side * RD_PORT_BLOCKS + port / RD_PORT_BLOCK;
	struct rd_port_block *b = bpf_map_lookup_elem(&rd_ports, &i);

	return b ? b->class[port % RD_PORT_BLOCK] : 0;
}

static __always_inline const struct rd_bits *rd_bits_of(__u32 side, __u32 class)
{
	__u32 i = side * RD_CLASSES + class;

	return bpf_map_lookup_elem(&rd_bits, &i);
}

static __always_inline int rd_lowest(__u64 w)
{
	int n = 0;

	if (!(w & 0xffffffff))
		n += 32, w >>= 32;
	if (!(w & 0xffff))
		n += 16, w >>= 16;
	if (!(w & 0xff))
		n += 8, w >>= 8;
	if (!(w & 0xf))
		n += 4, w >>= 4;
	if (!(w & 0x3))
		n += 2, w >>= 2;
	return n + !(w & 1);
}

/* The side of a table that is in use. NULL: the table has no entries. */
static __always_inline const struct rd_side *rd_side_of(const struct rd_ctl *ctl, enum rd_table table, __u32 *ret_side)
{
	/* A mask, for older verifiers forget a comparison when they spill. */
	__u32 side = ctl->side[table] & (RD_SIDES - 1);

	if (!ctl->sides[side].on)
		return NULL;
	*ret_side = side;
	return &ctl->sides[side];
}

/* The entry that redirects this connection; dns: only entries with a resolver, whatever their ports and CIDRs. */
static __always_inline struct rd_entry *rd_redirect_match(const struct rd_ctl *ctl, const struct rd_ask *ask, bool dns,
							  __u32 *ret_index)
{
	const struct rd_bits *group, *user, *net, *port;
	const struct rd_side *s;
	__u32 side, class;
	int i;

	s = rd_side_of(ctl, RD_REDIRECT, &side);
	if (!s)
		return NULL;
	class = rd_group_class(ask->sk, side, RD_FROM, s->group[RD_FROM]);
	if (!class)
		return NULL;
	group = rd_bits_of(side, class);
	user = rd_bits_of(side, rd_user_class(ask->uid, side, s->user));
	if (dns) {
		net = rd_bits_of(side, s->dns);
		port = net;
	} else {
		net = rd_bits_of(side, rd_net_class(&ask->addr, side, RD_TO, s->net[RD_TO]));
		port = rd_bits_of(side, rd_port_class(ask->port, side));
	}
	if (!group || !user || !net || !port)
		return NULL;
	for (i = 0; i < RD_WORDS; i++) {
		__u64 w = group->w[i] & user->w[i] & net->w[i] & port->w[i];

		if (w) {
			*ret_index = side * RD_ENTRIES + i * 64 + rd_lowest(w);
			return bpf_map_lookup_elem(&rd_entries, ret_index);
		}
	}
	return NULL;
}

static __always_inline void rd_hit(__u32 index)
{
	__u64 *n = bpf_map_lookup_elem(&rd_hits, &index);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* The process. Not by bpf_get_current_comm(), which programs of sockets do not have. */
static __always_inline void rd_event_who(struct rd_event *e, const struct rd_ask *ask)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	__builtin_memset(&e->comm, 0, sizeof(*e) - __builtin_offsetof(struct rd_event, comm));
	e->pid = 0;
	if (ask->far) {
		e->from = ask->from;
		e->from_port = bpf_htons(ask->from_port);
		return;
	}
	e->pid = BPF_CORE_READ(task, tgid);
	BPF_CORE_READ_INTO(&e->comm, task, comm);
}

static __always_inline void rd_event(const struct rd_ctl *ctl, const struct rd_ask *ask, enum rd_event_kind kind,
				     const struct rd_entry *entry)
{
	struct rd_event *e;

	if (!(ctl->trace & (1U << kind)) && kind != RD_EVENT_OWN)
		return;
	e = bpf_ringbuf_reserve(&rd_events, sizeof(*e), 0);
	if (!e) {
		rd_count(RD_STAT_EVENT_LOST);
		return;
	}
	e->at_ns = bpf_ktime_get_ns();
	e->entry = entry ? entry->id : 0;
	e->cgroup = ask->cgroup;
	e->kind = kind;
	e->uid = ask->uid;
	e->asked = ask->addr;
	e->asked_port = bpf_htons(ask->port);
	e->proto = ask->proto;
	e->pad = 0;
	rd_event_who(e, ask);
	bpf_ringbuf_submit(e, ring_wake(&rd_events, RD_EVENTS_BYTES, sizeof(*e), kind == RD_EVENT_OWN));
}
