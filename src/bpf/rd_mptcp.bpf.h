/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MPTCP: connect(2) is asked about with the first subflow, and getpeername(2) with the socket above it, which has no storage of
 * ours. So what a subflow asked for is kept by its cookie besides, and found through the socket above. An LRU: whose entry is lost
 * is told the proxy's address.
 */
#pragma once

#include "bpf/rd_way.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct mptcp_sock___rd {
	struct sock *first;
};

#pragma clang attribute pop

struct rd_subflow {
	struct lb_addr asked, to;
	__be16 asked_port, to_port;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 13);
	__type(key, __u64);
	__type(value, struct rd_subflow);
} rd_subflows SEC(".maps");

static __always_inline void rd_subflow_remember(struct bpf_sock_addr *ctx, const struct rd_ask *ask,
						const struct rd_sock *st)
{
	struct tcp_sock *tp = (struct tcp_sock *)ask->sk;
	struct rd_subflow of = {};
	__u64 cookie;

	if (!bpf_core_field_exists(tp->is_mptcp) || !BPF_CORE_READ(tp, is_mptcp))
		return;
	cookie = bpf_get_socket_cookie(ctx);
	of.asked = st->asked;
	of.to = st->to;
	of.asked_port = st->asked_port;
	of.to_port = st->to_port;
	bpf_map_update_elem(&rd_subflows, &cookie, &of, BPF_ANY);
}

/* What the socket's first subflow asked for; NULL: it is not MPTCP's, or was not redirected. */
static __always_inline struct rd_subflow *rd_subflow_of(struct bpf_sock_addr *ctx)
{
	struct mptcp_sock___rd *msk = NULL;
	struct sock *first;
	__u64 cookie;

	if (ctx->protocol != IPPROTO_MPTCP || !bpf_core_field_exists(msk->first))
		return NULL;
	bpf_probe_read_kernel(&msk, sizeof(msk), (void *)ctx + bpf_core_field_offset(struct bpf_sock_addr_kern, sk));
	first = BPF_CORE_READ(msk, first);
	cookie = first ? BPF_CORE_READ(first, __sk_common.skc_cookie.counter) : 0;
	return cookie ? bpf_map_lookup_elem(&rd_subflows, &cookie) : NULL;
}
