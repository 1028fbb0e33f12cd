// SPDX-License-Identifier: GPL-2.0
/*
 * Inbound redirection: who gets a connection that arrives in a network namespace. One of these for each; where no
 * listener of a proxy is known it is as the entry says. What a proxy itself opens goes where it wants to.
 */
#include "bpf/rd_in_maps.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define IPPROTO_TCP 6

/* Inode number of the namespace that this is attached to. */
const volatile __u32 rd_netns;

static __always_inline void rd_in_addrs(const struct bpf_sk_lookup *ctx, struct rd_own_key *key)
{
	if (ctx->family == AF_INET) {
		key->remote.v6[2] = key->local.v6[2] = bpf_htonl(0xffff);
		key->remote.v6[3] = ctx->remote_ip4;
		key->local.v6[3] = ctx->local_ip4;
		/* Or the compiler makes one load of these and those below, by a pointer that the verifier refuses. */
		asm volatile("" ::: "memory");
		return;
	}
	key->remote.v6[0] = ctx->remote_ip6[0];
	key->remote.v6[1] = ctx->remote_ip6[1];
	key->remote.v6[2] = ctx->remote_ip6[2];
	key->remote.v6[3] = ctx->remote_ip6[3];
	key->local.v6[0] = ctx->local_ip6[0];
	key->local.v6[1] = ctx->local_ip6[1];
	key->local.v6[2] = ctx->local_ip6[2];
	key->local.v6[3] = ctx->local_ip6[3];
}

SEC("sk_lookup")
int rd_lookup(struct bpf_sk_lookup *ctx)
{
	struct rd_in_port at = { .netns = rd_netns, .port = ctx->local_port };
	struct rd_own_key own = { .netns = rd_netns };
	struct rd_in_entry *entry;
	struct rd_in_to to = {};
	struct bpf_sock *sk;
	long r;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	entry = bpf_map_lookup_elem(&rd_in_ports, &at);
	if (!entry)
		return SK_PASS;
	rd_in_addrs(ctx, &own);
	own.remote_port = (__be16)ctx->remote_port;
	own.local_port = ctx->local_port;
	if (bpf_map_lookup_elem(&rd_own, &own))
		return SK_PASS;
	to.addr = entry->to;
	to.port = entry->port;
	to.netns = rd_netns;
	sk = bpf_map_lookup_elem(&rd_in_socks, &to);
	if (!sk)
		return entry->flags & RD_FAIL_OPEN ? SK_PASS : SK_DROP;
	/* A listener of the other family cannot take it. */
	r = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return !r || entry->flags & RD_FAIL_OPEN ? SK_PASS : SK_DROP;
}
