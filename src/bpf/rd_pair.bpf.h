/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The destination that a client asked for travels to its proxy's accepted socket under the sequence numbers of the
 * connection, which both ends know and nobody else: through namespaces and NAT, for addresses play no part.
 *
 *   client   ACTIVE_ESTABLISHED: leaves what it asked for in rd_pend, before its ACK leaves
 *   proxy    PASSIVE_ESTABLISHED, at that ACK: takes it into its own storage
 *
 * With TCP Fast Open the proxy's socket is there at the SYN: the client leaves it when it sends that, under its own
 * number and the ports.
 */
#pragma once

#include "bpf/rd_class.bpf.h"

static __always_inline void rd_wants_state(struct bpf_sock_ops *ctx)
{
	if (!(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG))
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void rd_leave(struct bpf_sock_ops *ctx, const struct rd_sock *st, const struct rd_key *key)
{
	struct rd_pend pend = {
		.asked = st->asked,
		.asked_port = st->asked_port,
		.cookie = st->cookie,
	}, *old;

	rd_wants_state(ctx);
	if (!bpf_map_update_elem(&rd_pend, key, &pend, BPF_NOEXIST))
		return;
	old = bpf_map_lookup_elem(&rd_pend, key);
	if (!old) {
		rd_count(RD_STAT_FULL);
	} else if (old->cookie != pend.cookie) {
		old->poisoned = 1;
		rd_count(RD_STAT_DUPLICATE);
	}
}

/* Under the key of a SYN with data. */
static __always_inline struct rd_key rd_early_key(__u32 client_seq, __u32 client_port, __u32 proxy_port)
{
	return (struct rd_key){ .client_seq = client_seq, .ports = client_port << 16 | proxy_port };
}

static __always_inline struct rd_sock *rd_client_of(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct rd_sock *st = sk ? bpf_sk_storage_get(&rd_sk, sk, NULL, 0) : NULL;

	return st && st->role == RD_CLIENT ? st : NULL;
}

/* tcp_connect(): the number of the SYN has been chosen, and not been sent. */
static __always_inline void rd_client_connects(struct bpf_sock_ops *ctx)
{
	struct rd_sock *st = rd_client_of(ctx);
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp = st && sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	struct tcp_sock___rd *more = (void *)tp;
	struct rd_key key;

	if (!st || !tp)
		return;
	st->client_seq = BPF_CORE_READ(tp, write_seq) + 1;
	st->server_seq = 0;
	st->cookie = bpf_get_socket_cookie(ctx);
	if (!BPF_CORE_READ(more, fastopen_req))
		return;
	key = rd_early_key(st->client_seq, ctx->local_port, bpf_ntohl(ctx->remote_port));
	rd_leave(ctx, st, &key);
}

static __always_inline void rd_client_forget(struct bpf_sock_ops *ctx, const struct rd_sock *st)
{
	struct rd_key key = { .client_seq = st->client_seq, .server_seq = st->server_seq };
	struct rd_pend *pend;

	if (!st->server_seq)
		key = rd_early_key(st->client_seq, ctx->local_port, bpf_ntohl(ctx->remote_port));
	pend = bpf_map_lookup_elem(&rd_pend, &key);
	if (pend && pend->cookie == st->cookie)
		bpf_map_delete_elem(&rd_pend, &key);
}

static __always_inline void rd_client_established(struct bpf_sock_ops *ctx)
{
	struct rd_sock *st = rd_client_of(ctx);
	struct rd_key key = {};

	if (!st)
		return;
	/* The program was not there when it connected. */
	if (!st->client_seq) {
		st->client_seq = ctx->snd_nxt;
		st->cookie = bpf_get_socket_cookie(ctx);
	}
	rd_client_forget(ctx, st);
	st->server_seq = ctx->rcv_nxt;
	key.client_seq = st->client_seq;
	key.server_seq = st->server_seq;
	rd_leave(ctx, st, &key);
}

/* False: nobody has left anything for it. */
static __always_inline bool rd_proxy_established(struct bpf_sock_ops *ctx)
{
	struct rd_key key = { .client_seq = ctx->rcv_nxt, .server_seq = ctx->snd_nxt };
	struct bpf_sock *sk = ctx->sk;
	struct rd_pend *found, pend;
	struct rd_sock *st;

	if (!sk)
		return false;
	found = bpf_map_lookup_elem(&rd_pend, &key);
	if (!found) {
		struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
		struct tcp_sock___rd *more = (void *)tp;

		if (!tp || !BPF_CORE_READ(more, fastopen_rsk))
			return false;
		key = rd_early_key(key.client_seq, bpf_ntohl(ctx->remote_port), ctx->local_port);
		found = bpf_map_lookup_elem(&rd_pend, &key);
	}
	if (!found)
		return false;
	pend = *found;
	bpf_map_delete_elem(&rd_pend, &key);
	if (pend.poisoned)
		return true;
	st = bpf_sk_storage_get(&rd_sk, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st) {
		rd_count(RD_STAT_FULL);
		return true;
	}
	st->role = RD_PROXY;
	st->asked = pend.asked;
	st->asked_port = pend.asked_port;
	st->cookie = pend.cookie;
	rd_count(RD_STAT_TAKEN);
	return true;
}

static __always_inline void rd_client_state(struct bpf_sock_ops *ctx)
{
	struct rd_sock *st = ctx->args[1] == BPF_TCP_CLOSE ? rd_client_of(ctx) : NULL;

	if (st)
		rd_client_forget(ctx, st);
}
