/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MPTCP: connect(2) is asked about with the first subflow, and getpeername(2) with the socket above it, which has no
 * storage of ours. What the subflow was given is in cn_flows, by its cookie, as it is for sockets that send datagrams.
 */
#pragma once

#include "bpf/cn_pick.bpf.h"

#define IPPROTO_MPTCP 262

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct mptcp_sock___cn {
	struct sock *first;
};

struct bpf_sock_addr_kern___cn {
	struct sock *sk;
};

#pragma clang attribute pop

static __always_inline struct sock *cn_kernel_sock(struct bpf_sock_addr *ctx)
{
	struct sock *sk = NULL;

	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)ctx + bpf_core_field_offset(struct bpf_sock_addr_kern___cn, sk));
	return sk;
}

/* Asked for every connection: by a plain load, a fifth of what bpf_probe_read_kernel() costs. */
static __always_inline bool cn_is_subflow(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	struct tcp_sock *tp;

	if (ctx->protocol != IPPROTO_TCP)
		return false;
	tp = (void *)bpf_skc_to_tcp_sock(sk);
	return tp && bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp;
}

/* The cookie of the subflow that connect(2) was asked about; 0: none. */
static __always_inline __u64 cn_first_subflow(struct bpf_sock_addr *ctx)
{
	struct mptcp_sock___cn *msk = (void *)cn_kernel_sock(ctx);
	struct sock *first;

	if (ctx->protocol != IPPROTO_MPTCP || !bpf_core_field_exists(msk->first))
		return 0;
	first = BPF_CORE_READ(msk, first);
	return first ? BPF_CORE_READ(first, __sk_common.skc_cookie.counter) : 0;
}

static __always_inline void cn_subflow_remember(struct bpf_sock_addr *ctx, const struct lb_vip *vip,
						const struct lb_backend *b)
{
	struct cn_flow_key key = { .addr = b->addr, .port = b->port, .way = CN_FROM };
	struct cn_flow from = { .addr = vip->addr, .port = vip->port, .service = b->service };

	key.cookie = bpf_get_socket_cookie(ctx);
	if (bpf_map_update_elem(&cn_flows, &key, &from, BPF_ANY))
		lb_count(LB_STAT_FLOW_FULL);
}

/* Is it the address of a backend that the first subflow was given? Then *vip becomes the service's. */
static __always_inline bool cn_subflow_peer(struct bpf_sock_addr *ctx, struct lb_vip *vip)
{
	struct cn_flow_key key = { .addr = vip->addr, .port = vip->port, .way = CN_FROM };
	struct cn_flow *from;

	key.cookie = cn_first_subflow(ctx);
	from = key.cookie ? bpf_map_lookup_elem(&cn_flows, &key) : NULL;
	if (!from)
		return false;
	vip->addr = from->addr;
	vip->port = from->port;
	return true;
}
