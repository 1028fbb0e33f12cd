/* SPDX-License-Identifier: GPL-2.0 */
/* Where a connection goes instead: the proxy's address, in a family that the socket can reach, and whether it listens. */
#pragma once

#include "bpf/rd_class.bpf.h"

#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define EPERM 1
#define ECONNREFUSED 111

/* The address that the socket is bound to. */
static __always_inline void rd_ask_from(struct rd_ask *ask)
{
	struct sock *sk = ask->sk;

	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&ask->from, sk, __sk_common.skc_v6_rcv_saddr);
		return;
	}
	ask->from.v6[3] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	if (ask->from.v6[3])
		ask->from.v6[2] = bpf_htonl(0xffff);
}

/* A context as it came, in one form for both families. */
static __always_inline void rd_ask_fill(struct bpf_sock_addr *ctx, bool v6, struct rd_ask *ask)
{
	bpf_probe_read_kernel(&ask->sk, sizeof(ask->sk),
			      (void *)ctx + bpf_core_field_offset(struct bpf_sock_addr_kern, sk));
	if (v6) {
		ask->addr.v6[0] = ctx->user_ip6[0];
		ask->addr.v6[1] = ctx->user_ip6[1];
		ask->addr.v6[2] = ctx->user_ip6[2];
		ask->addr.v6[3] = ctx->user_ip6[3];
	} else {
		ask->addr.v6[2] = bpf_htonl(0xffff);
		ask->addr.v6[3] = ctx->user_ip4;
	}
	ask->port = bpf_ntohs(ctx->user_port);
	ask->proto = ctx->protocol == IPPROTO_MPTCP ? IPPROTO_TCP : ctx->protocol;
	ask->uid = (__u32)bpf_get_current_uid_gid();
	ask->cgroup = rd_cgroup_id(ask->sk);
}

static __always_inline void rd_write(struct bpf_sock_addr *ctx, bool v6, const struct lb_addr *a, __be16 port)
{
	if (v6) {
		ctx->user_ip6[0] = a->v6[0];
		ctx->user_ip6[1] = a->v6[1];
		ctx->user_ip6[2] = a->v6[2];
		ctx->user_ip6[3] = a->v6[3];
	} else {
		ctx->user_ip4 = a->v6[3];
	}
	ctx->user_port = port;
}

/* Who listens there, in the network namespace of the socket; to be released. */
static __always_inline struct bpf_sock *rd_lookup(struct bpf_sock_addr *ctx, const struct lb_addr *a, __be16 port,
						  bool tcp)
{
	struct bpf_sock_tuple t = {};
	__u32 size;

	if (rd_is_v4(a)) {
		t.ipv4.saddr = t.ipv4.daddr = a->v6[3];
		t.ipv4.dport = port;
		size = sizeof(t.ipv4);
	} else {
		t.ipv6.saddr[0] = t.ipv6.daddr[0] = a->v6[0];
		t.ipv6.saddr[1] = t.ipv6.daddr[1] = a->v6[1];
		t.ipv6.saddr[2] = t.ipv6.daddr[2] = a->v6[2];
		t.ipv6.saddr[3] = t.ipv6.daddr[3] = a->v6[3];
		t.ipv6.dport = port;
		size = sizeof(t.ipv6);
	}
	if (tcp)
		return bpf_sk_lookup_tcp(ctx, &t, size, BPF_F_CURRENT_NETNS, 0);
	return bpf_sk_lookup_udp(ctx, &t, size, BPF_F_CURRENT_NETNS, 0);
}

struct rd_found {
	bool found;
	__u64 cgroup; /* TCP: of the one that listens */
};

static __always_inline struct rd_found rd_listens(struct bpf_sock_addr *ctx, const struct lb_addr *a, __be16 port,
						  bool tcp)
{
	struct bpf_sock *sk = rd_lookup(ctx, a, port, tcp);
	struct rd_found r = {};

	if (!sk)
		return r;
	r.found = true;
	if (tcp) {
		struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

		if (tp)
			r.cgroup = rd_cgroup_id((struct sock *)tp);
	}
	bpf_sk_release(sk);
	return r;
}

static __always_inline bool rd_is_loopback(const struct lb_addr *a)
{
	if (rd_is_v4(a))
		return (a->v6[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !a->v6[0] && !a->v6[1] && !a->v6[2] && a->v6[3] == bpf_htonl(1);
}

/* 127.0.0.1 for ::1, and the other way round. */
static __always_inline void rd_other_loopback(struct lb_addr *a)
{
	bool was_v4 = rd_is_v4(a);

	a->v6[2] = was_v4 ? 0 : bpf_htonl(0xffff);
	a->v6[3] = bpf_htonl(was_v4 ? 1 : 0x7f000001);
}

enum rd_way {
	RD_WAY_PROXY,
	RD_WAY_OWN,  /* the one that asks is the proxy, as far as can be told */
	RD_WAY_NONE, /* nobody listens */
};

/* Can a socket of IPv6 send to a v4-mapped address? Not if it is for IPv6 alone, or bound to such an address. */
static __always_inline bool rd_maps_v4(struct bpf_sock_addr *ctx, struct sock *sk)
{
	struct sock_common___rd *c = (void *)sk;
	struct bpf_sock *bsk = ctx->sk;

	if (BPF_CORE_READ_BITFIELD_PROBED(c, skc_ipv6only))
		return false;
	if (!bsk)
		return true;
	return (!bsk->src_ip6[0] && !bsk->src_ip6[1] && !bsk->src_ip6[2] && !bsk->src_ip6[3]) ||
	       (!bsk->src_ip6[0] && !bsk->src_ip6[1] && bsk->src_ip6[2] == bpf_htonl(0xffff));
}

/*
 * A socket of one family and a proxy of the other: on the loopback the proxy may listen there as well, and then sees a
 * connection of the family that was asked for. Else a socket of IPv6 can reach a proxy of IPv4 by a v4-mapped address,
 * but one of IPv4 no proxy of IPv6. mapped: as this hook can write such an address.
 *
 * The proxy's socket is looked up in the asking socket's namespace. An address that is not of the loopback may be
 * elsewhere: then who answers, or refuses, is the kernel there.
 */
static __always_inline enum rd_way rd_way(struct bpf_sock_addr *ctx, const struct rd_ask *ask,
					  const struct rd_entry *entry, bool v6, bool tcp, bool mapped,
					  struct lb_addr *to)
{
	__be16 port = tcp ? entry->port : entry->dns_port;
	bool asked_v4 = rd_is_v4(&ask->addr), loopback, as_is;
	struct rd_found found = {};

	*to = tcp ? entry->to : entry->dns;
	loopback = rd_is_loopback(to);
	/* Can the socket reach the address as it is written? */
	if (rd_is_v4(to))
		as_is = !v6 || (mapped && rd_maps_v4(ctx, ask->sk));
	else
		as_is = v6;
	if (loopback && rd_is_v4(to) != asked_v4) {
		struct lb_addr other = *to;

		rd_other_loopback(&other);
		found = rd_listens(ctx, &other, port, tcp);
		if (found.found)
			*to = other;
	}
	if (!found.found) {
		if (!as_is)
			return RD_WAY_NONE;
		found = rd_listens(ctx, to, port, tcp);
		if (!found.found && loopback)
			return RD_WAY_NONE;
	}
	if (found.found && found.cgroup == ask->cgroup && !(entry->flags & RD_USERS))
		return RD_WAY_OWN;
	return RD_WAY_PROXY;
}
