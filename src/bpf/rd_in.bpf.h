/* SPDX-License-Identifier: GPL-2.0 */
/* Inbound redirection, as far as sockets and their owners see it: proxies that listen, accept and connect. */
#pragma once

#include "bpf/rd_class.bpf.h"
#include "bpf/rd_in_maps.bpf.h"

/* Where proxies are to listen; an unspecified address stands for any. Value: the address as the entry has it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 12);
	__type(key, struct rd_in_to);
	__type(value, struct rd_in_to);
} rd_in_tos SEC(".maps");

static __always_inline __u32 rd_netns_of(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline void rd_local_addr(struct sock *sk, struct lb_addr *a)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(a, sk, __sk_common.skc_v6_rcv_saddr);
		return;
	}
	a->v6[2] = bpf_htonl(0xffff);
	a->v6[3] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
}

static __always_inline void rd_remote_addr(struct sock *sk, struct lb_addr *a)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(a, sk, __sk_common.skc_v6_daddr);
		return;
	}
	a->v6[2] = bpf_htonl(0xffff);
	a->v6[3] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
}

/* The place of a listener that a proxy is to have. NULL: it is not one. */
static __always_inline struct rd_in_to *rd_in_place(struct sock *sk)
{
	struct rd_in_to key = {};

	rd_local_addr(sk, &key.addr);
	key.netns = rd_netns_of(sk);
	key.port = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
	return bpf_map_lookup_elem(&rd_in_tos, &key);
}

static __always_inline bool rd_is_proxys(struct sock *sk)
{
	return rd_group_class(sk, RD_PROXY_SIDE, RD_FROM, 0);
}

static __always_inline void rd_in_listens(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *bsk = ctx->sk;
	struct tcp_sock *tp = bsk ? bpf_skc_to_tcp_sock(bsk) : NULL;
	struct rd_in_to *place, key;

	if (!tp)
		return;
	place = rd_in_place((struct sock *)tp);
	if (!place)
		return;
	key = *place;
	bpf_sock_hash_update(ctx, &rd_in_socks, &key, BPF_ANY);
}

static __always_inline void rd_own_of(struct sock *sk, struct rd_own_key *key)
{
	rd_local_addr(sk, &key->remote);
	rd_remote_addr(sk, &key->local);
	key->netns = rd_netns_of(sk);
	key->remote_port = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
	key->local_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

/* A proxy connects: what arrives from it is its own. on: it begins; else it is connected, or has failed. */
static __always_inline bool rd_in_connects(struct bpf_sock_ops *ctx, bool on)
{
	struct bpf_sock *bsk = ctx->sk;
	struct tcp_sock *tp = bsk ? bpf_skc_to_tcp_sock(bsk) : NULL;
	struct rd_own_key key = {};
	__u64 one = 1;

	if (!tp || !rd_is_proxys((struct sock *)tp))
		return false;
	rd_own_of((struct sock *)tp, &key);
	if (on)
		bpf_map_update_elem(&rd_own, &key, &one, BPF_ANY);
	else
		bpf_map_delete_elem(&rd_own, &key);
	return on;
}

/* A proxy has accepted what was given to it: its own address is where it was to go. */
static __always_inline void rd_in_established(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *bsk = ctx->sk;
	struct tcp_sock *tp = bsk ? bpf_skc_to_tcp_sock(bsk) : NULL;
	struct rd_in_port at = {};
	struct rd_sock *st;

	if (!tp || !bsk)
		return;
	at.netns = rd_netns_of((struct sock *)tp);
	at.port = ctx->local_port;
	if (!bpf_map_lookup_elem(&rd_in_ports, &at) || !rd_is_proxys((struct sock *)tp))
		return;
	st = bpf_sk_storage_get(&rd_sk, bsk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st) {
		rd_count(RD_STAT_FULL);
		return;
	}
	st->role = RD_PROXY;
	__builtin_memset(&st->asked, 0, sizeof(st->asked));
	rd_local_addr((struct sock *)tp, &st->asked);
	st->asked_port = bpf_htons(at.port);
	rd_count(RD_STAT_INBOUND);
}
