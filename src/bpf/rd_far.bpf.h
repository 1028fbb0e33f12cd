/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Policy where connect() cannot ask it: clients of other machines, when their first packet arrives, and sockets that are
 * bound to no address, when routing has given them one.
 *
 * A listener is not told who sent a SYN. Programs of this machine were asked about when they connected; so each leaves a
 * note of the numbers of its connection, and what has none is from elsewhere. Addresses play no part, for there may be
 * NAT between two namespaces of this machine.
 *
 *   client     TCP_CONNECT: notes the SYN's number; decides, if the source was not known before
 *              ACTIVE_ESTABLISHED: notes both numbers instead
 *   listener   rd_ingress: a SYN without a note is decided, and dropped if it is denied
 *              PASSIVE_ESTABLISHED: takes the note of both; without one the socket is marked, for changes to come
 *   client     rd_egress: no SYN leaves that was denied after connect() had been let pass
 */
#pragma once

#include <linux/if_ether.h>

#include "bpf/rd_pair.bpf.h"
#include "bpf/rd_policy.bpf.h"

#define SOL_TCP 6
#define TCP_SYNCNT 7

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff___rd {
	unsigned char *head;
	__u16 transport_header;
	__u16 network_header;
};

#pragma clang attribute pop

/* Connections that programs of this machine open: rd_key without ports; server_seq 0 until they are established. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct rd_key);
	__type(value, __u32);
} rd_near SEC(".maps");

static __always_inline void rd_near_note(const struct rd_key *key)
{
	__u32 one = 1;

	if (bpf_map_update_elem(&rd_near, key, &one, BPF_ANY))
		rd_count(RD_STAT_FULL);
}

static __always_inline bool rd_near_has(__u32 client_seq, __u32 server_seq)
{
	struct rd_key key = { .client_seq = client_seq, .server_seq = server_seq };

	return bpf_map_lookup_elem(&rd_near, &key);
}

static __always_inline void rd_near_forget(const struct rd_sock *st)
{
	struct rd_key key = { .client_seq = st->client_seq, .server_seq = st->server_seq };

	if (key.client_seq)
		bpf_map_delete_elem(&rd_near, &key);
}

/* The client's last chance: no SYN leaves, the timer ends the connection in a moment, and sk_err says ETIMEDOUT. */
static __always_inline void rd_bar(struct bpf_sock_ops *ctx, struct rd_sock *st)
{
	int retries = 0, one = 1;

	st->wait = RD_BARRED;
	if (bpf_getsockopt(ctx, SOL_TCP, TCP_SYNCNT, &retries, sizeof(retries)))
		return;
	st->syn_retries = retries;
	bpf_setsockopt(ctx, SOL_TCP, TCP_SYNCNT, &one, sizeof(one));
	rd_wants_state(ctx);
}

/* The socket may be used again. */
static __always_inline void rd_unbar(struct bpf_sock_ops *ctx, struct rd_sock *st)
{
	int retries = st->syn_retries;

	if (st->wait != RD_BARRED)
		return;
	st->wait = RD_SETTLED;
	if (retries)
		bpf_setsockopt(ctx, SOL_TCP, TCP_SYNCNT, &retries, sizeof(retries));
}

/* connect() was let pass because the source was not known, which it is now. */
static __always_inline void rd_source_known(struct bpf_sock_ops *ctx, const struct rd_ctl *ctl, const struct rd_side *s,
					    __u32 side, struct sock *sk, struct rd_sock *st)
{
	struct rd_ask ask = {
		.addr = st->asked,
		.sk = sk,
		.cgroup = rd_cgroup_id(sk),
		.uid = st->uid,
		.port = bpf_ntohs(st->asked_port),
		.proto = IPPROTO_TCP,
	};
	__u32 from_class = rd_group_class(sk, side, RD_FROM, s->group[RD_FROM]);
	struct rd_verdict v;

	st->wait = RD_SETTLED;
	rd_ask_from(&ask);
	v = rd_policy_match(s, side, &ask, from_class, st->to_side == side ? st->to_class : 0, true);
	if (rd_policy_settle(ctl, &ask, &v))
		rd_bar(ctx, st);
}

static __always_inline void rd_near_connects(struct bpf_sock_ops *ctx, const struct rd_ctl *ctl)
{
	struct rd_key key = {};
	const struct rd_side *s;
	struct bpf_sock *bsk = ctx->sk;
	struct tcp_sock *tp = bsk ? bpf_skc_to_tcp_sock(bsk) : NULL;
	struct rd_sock *st;
	__u32 side;

	s = tp && bsk ? rd_side_of(ctl, RD_POLICY, &side) : NULL;
	if (!s || (!s->far && !s->from_nets))
		return;
	st = bpf_sk_storage_get(&rd_sk, bsk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st)
		return;
	if (st->wait == RD_UNDECIDED)
		rd_source_known(ctx, ctl, s, side, (struct sock *)tp, st);
	if (!s->far)
		return;
	st->client_seq = BPF_CORE_READ(tp, write_seq) + 1;
	st->server_seq = 0;
	key.client_seq = st->client_seq;
	rd_near_note(&key);
	rd_wants_state(ctx);
}

static __always_inline struct rd_sock *rd_near_of(struct bpf_sock_ops *ctx, const struct rd_ctl *ctl)
{
	struct bpf_sock *sk = ctx->sk;
	const struct rd_side *s;
	__u32 side;

	s = sk ? rd_side_of(ctl, RD_POLICY, &side) : NULL;
	return s && s->far ? bpf_sk_storage_get(&rd_sk, sk, NULL, 0) : NULL;
}

static __always_inline void rd_near_established(struct bpf_sock_ops *ctx, const struct rd_ctl *ctl)
{
	struct rd_sock *st = rd_near_of(ctx, ctl);
	struct rd_key key = { .client_seq = ctx->snd_nxt, .server_seq = ctx->rcv_nxt };
	struct rd_key early = {};

	if (!st)
		return;
	/* Of a SYN with data snd_nxt is further on. */
	if (st->client_seq)
		key.client_seq = st->client_seq;
	early.client_seq = key.client_seq;
	bpf_map_delete_elem(&rd_near, &early);
	st->client_seq = key.client_seq;
	st->server_seq = key.server_seq;
	rd_near_note(&key);
	rd_wants_state(ctx);
}

static __always_inline void rd_near_closed(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct rd_sock *st = sk ? bpf_sk_storage_get(&rd_sk, sk, NULL, 0) : NULL;

	if (!st || ctx->args[1] != BPF_TCP_CLOSE)
		return;
	rd_unbar(ctx, st);
	rd_near_forget(st);
	st->client_seq = 0;
}

/* Accepted: by a client of this machine, who was asked, or by another. */
static __always_inline void rd_far_established(struct bpf_sock_ops *ctx, const struct rd_ctl *ctl)
{
	struct rd_key key = { .client_seq = ctx->rcv_nxt, .server_seq = ctx->snd_nxt };
	struct bpf_sock *sk = ctx->sk;
	const struct rd_side *s;
	struct rd_sock *st;
	__u32 side;

	s = sk ? rd_side_of(ctl, RD_POLICY, &side) : NULL;
	if (!s || !s->far)
		return;
	/* The second: with TCP Fast Open there is an accepted socket before the client has its second number. */
	if (!bpf_map_delete_elem(&rd_near, &key) || rd_near_has(key.client_seq, 0))
		return;
	st = bpf_sk_storage_get(&rd_sk, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (st)
		st->far = 1;
}

/* Where a SYN comes from and goes to. The headers are where the kernel found them, whatever else the packet has. */
static __always_inline bool rd_syn_read(struct __sk_buff *ctx, struct rd_ask *ask, __u32 *ret_seq)
{
	struct sk_buff___rd *skb = (void *)ctx;
	unsigned char *head = BPF_CORE_READ(skb, head), *tcp, *ip;
	__be16 ports[2] = {};
	__be32 seq = 0;
	__u8 flags = 0;

	tcp = head + BPF_CORE_READ(skb, transport_header);
	ip = head + BPF_CORE_READ(skb, network_header);
	bpf_probe_read_kernel(&flags, sizeof(flags), tcp + 13);
	if ((flags & (TCPHDR_SYN | TCPHDR_ACK)) != TCPHDR_SYN)
		return false;
	bpf_probe_read_kernel(ports, sizeof(ports), tcp);
	bpf_probe_read_kernel(&seq, sizeof(seq), tcp + 4);
	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		ask->from.v6[2] = ask->addr.v6[2] = bpf_htonl(0xffff);
		bpf_probe_read_kernel(&ask->from.v6[3], sizeof(__be32), ip + 12);
		bpf_probe_read_kernel(&ask->addr.v6[3], sizeof(__be32), ip + 16);
	} else {
		bpf_probe_read_kernel(&ask->from, sizeof(ask->from), ip + 8);
		bpf_probe_read_kernel(&ask->addr, sizeof(ask->addr), ip + 24);
	}
	ask->from_port = bpf_ntohs(ports[0]);
	ask->port = bpf_ntohs(ports[1]);
	*ret_seq = bpf_ntohl(seq);
	return true;
}

/* Who has no cgroup here: entries that are from anybody, and those with its address. */
static __always_inline struct rd_verdict rd_far_match(const struct rd_side *s, __u32 side, const struct rd_ask *ask)
{
	__u32 to_class = s->to_groups ? rd_group_class(ask->sk, side, RD_TO, 0) : 0;

	return rd_policy_match(s, side, ask, s->group[RD_FROM], to_class, true);
}

static __always_inline bool rd_far_denied(struct __sk_buff *ctx, const struct rd_ctl *ctl, struct tcp_sock *tp)
{
	struct rd_ask ask = { .sk = (struct sock *)tp, .proto = IPPROTO_TCP, .far = true };
	const struct rd_side *s;
	struct rd_verdict v;
	__u32 side, seq;

	s = rd_side_of(ctl, RD_POLICY, &side);
	if (!s || !s->far || !rd_syn_read(ctx, &ask, &seq) || rd_near_has(seq + 1, 0))
		return false;
	ask.cgroup = rd_cgroup_id(ask.sk);
	v = rd_far_match(s, side, &ask);
	return rd_policy_settle(ctl, &ask, &v);
}
