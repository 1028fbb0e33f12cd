/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same for TC: of a socket buffer only a part can be reached until it is pulled, and the rest is poisoned. Checksums
 * are complete (CHECKSUM_NONE).
 */
#pragma once

#include "bpf/tc.bpf.c"
#include "bpf/pk_admin.bpf.h"

#define FUZZ_FIRST pk_tc
#define FUZZ_STEPS                                         \
	{                                                  \
		pk_tc_new, pk_tc_icmp, pk_tc, pk_tc_cookie \
	}
#define FUZZ_REDIRECT TC_ACT_REDIRECT

/* What bpf_clone_redirect() was given last; 0 bytes: nothing. */
static uint8_t cloned[ROOM];
static uint32_t n_cloned;

static void frame_show(const struct __sk_buff *ctx)
{
	frame_readable(ctx->data, ctx->data_end);
}

/* Every other one has no more than an Ethernet header where it can be reached at once. */
static struct __sk_buff frame_make(uint32_t data, uint32_t n)
{
	n_cloned = 0;
	return (struct __sk_buff){ .ifindex = IFINDEX,
				   .ingress_ifindex = IFINDEX,
				   .data = data,
				   .data_end = data + (n % 2 ? n : ETH_HLEN),
				   .len = n };
}

static uint32_t frame_bytes(const struct __sk_buff *ctx)
{
	return ctx->len;
}

static enum ref_verdict frame_verdict(int action)
{
	return action == TC_ACT_REDIRECT ? REF_SENT : action == TC_ACT_UNSPEC ? REF_PASS : REF_DROP;
}

long bpf_skb_pull_data(struct __sk_buff *ctx, uint32_t len)
{
	if (len > ctx->len)
		return -1;
	if (ctx->data + len > ctx->data_end)
		ctx->data_end = ctx->data + len;
	frame_show(ctx);
	return 0;
}

/* The kernel makes all of it linear. */
long bpf_skb_change_tail(struct __sk_buff *ctx, uint32_t len, uint64_t flags)
{
	uint32_t end = ctx->data + ctx->len;

	assert(!flags);
	if (len < ETH_HLEN || ctx->data + len > (uint32_t)(uintptr_t)room + ROOM)
		return -1;
	ctx->len = len;
	ctx->data_end = ctx->data + len;
	frame_show(ctx);
	if (ctx->data_end > end)
		memset((void *)(uintptr_t)end, 0, ctx->data_end - end);
	return 0;
}

/* Room between the Ethernet header and what follows it. */
long bpf_skb_adjust_room(struct __sk_buff *ctx, int delta, uint32_t mode, uint64_t flags)
{
	uint8_t *data = (uint8_t *)(uintptr_t)ctx->data;

	(void)flags;
	assert(mode == BPF_ADJ_ROOM_MAC && delta > 0);
	if (ctx->data - (uint32_t)delta < (uint32_t)(uintptr_t)room + 40)
		return -1;
	ctx->data -= (uint32_t)delta;
	ctx->len += (uint32_t)delta;
	frame_show(ctx);
	memmove(data - delta, data, ETH_HLEN);
	memset(data - delta + ETH_HLEN, 0, (size_t)delta);
	return 0;
}

long bpf_skb_vlan_pop(struct __sk_buff *ctx)
{
	ctx->vlan_present = 0;
	return 0;
}

long bpf_l4_csum_replace(struct __sk_buff *ctx, uint32_t off, uint64_t from, uint64_t to, uint64_t flags)
{
	bool zero_is_none = flags & BPF_F_MARK_MANGLED_0;
	uint64_t sum;
	uint16_t check;

	assert(!from && !(flags & 15));
	if (off + sizeof(check) > ctx->len)
		return -1;
	bpf_skb_pull_data(ctx, off + sizeof(check));
	memcpy(&check, (void *)(uintptr_t)(ctx->data + off), sizeof(check));
	if (zero_is_none && !check)
		return 0;
	for (sum = (uint16_t)~check + to; sum >> 16;)
		sum = (sum & 0xffff) + (sum >> 16);
	check = (uint16_t)~sum;
	if (zero_is_none && !check)
		check = 0xffff;
	memcpy((void *)(uintptr_t)(ctx->data + off), &check, sizeof(check));
	return 0;
}

int64_t bpf_csum_update(struct __sk_buff *ctx, uint32_t sum)
{
	(void)ctx;
	(void)sum;
	return 0;
}

long bpf_clone_redirect(struct __sk_buff *ctx, uint32_t ifindex, uint64_t flags)
{
	assert(ifindex == IFINDEX && !flags && !n_cloned);
	frame_readable(ctx->data, ctx->data + ctx->len);
	memcpy(cloned, (void *)(uintptr_t)ctx->data, ctx->len);
	n_cloned = ctx->len;
	frame_show(ctx);
	return 0;
}

long bpf_redirect_neigh(uint32_t ifindex, struct bpf_redir_neigh *params, int len, uint64_t flags)
{
	assert(ifindex == IFINDEX && params && len == sizeof(*params) && !flags);
	return TC_ACT_REDIRECT;
}
