/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames as XDP has them, and the helpers that change them: for fuzz_packet.c, in which memory is poisoned. */
#pragma once

#include "bpf/xdp.bpf.c"

#define FUZZ_FIRST pk_xdp
#define FUZZ_STEPS                                             \
	{                                                      \
		pk_xdp_new, pk_xdp_icmp, pk_xdp, pk_xdp_cookie \
	}
#define FUZZ_REDIRECT XDP_REDIRECT

static void frame_show(const struct xdp_md *ctx)
{
	frame_readable(ctx->data, ctx->data_end);
}

static struct xdp_md frame_make(uint32_t data, uint32_t n)
{
	return (struct xdp_md){ .ingress_ifindex = IFINDEX, .data = data, .data_end = data + n };
}

static uint32_t frame_bytes(const struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

static enum ref_verdict frame_verdict(int action)
{
	return action == XDP_TX || action == XDP_REDIRECT ? REF_SENT : action == XDP_PASS ? REF_PASS : REF_DROP;
}

long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta)
{
	uint32_t data = ctx->data + (uint32_t)delta;

	if (data < (uint32_t)(uintptr_t)room + 40 || data + ETH_HLEN > ctx->data_end)
		return -1;
	ctx->data = data;
	frame_show(ctx);
	return 0;
}

long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta)
{
	uint32_t end = ctx->data_end + (uint32_t)delta, old = ctx->data_end;

	if (end < ctx->data + ETH_HLEN || end > (uint32_t)(uintptr_t)room + ROOM)
		return -1;
	ctx->data_end = end;
	frame_show(ctx);
	if (end > old)
		memset((void *)(uintptr_t)old, 0, end - old);
	return 0;
}

uint64_t bpf_xdp_get_buff_len(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}
