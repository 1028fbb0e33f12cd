// SPDX-License-Identifier: GPL-2.0
/*
 * Packets for BPF_PROG_TEST_RUN: makes the next one of a template, and hands it to the program that is measured. Run
 * by itself that program would meet, from the second time on, what it has made of the packet before.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/replay.h"

char LICENSE[] SEC("license") = "GPL";

#ifndef NULL
#define NULL ((void *)0)
#endif

struct rp_state rp;

/* By enum rp_prog. Filled by user space before the first run. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, _RP_PROG_MAX);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} rp_progs SEC(".maps");

/* Flows that cannot be counted through: what backends send, from ports that the packet hook has chosen. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RP_LIST_MAX);
	__type(key, __u32);
	__type(value, struct rp_entry);
} rp_list SEC(".maps");

SEC("xdp.frags")
int rp_stub(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* Pointer to len bytes at one of the offsets that user space has set, or NULL. */
static __always_inline void *rp_at(const struct xdp_md *ctx, __u32 off, __u32 len)
{
	void *p = (void *)(long)ctx->data + (off & 63);

	return p + len > (void *)(long)ctx->data_end ? NULL : p;
}

typedef __u64 __attribute__((may_alias)) rp_u64;
typedef __u32 __attribute__((may_alias)) rp_u32;
typedef __u16 __attribute__((may_alias)) rp_u16;

/*
 * In words, or clang does it byte by byte; and so cut that no field of a header that stands behind an Ethernet header lies
 * across two of them, for then whoever reads it would wait for both to reach the cache.
 */
static __always_inline void rp_copy(void *to, const void *from)
{
	*(rp_u32 *)to = *(const rp_u32 *)from;
	*(rp_u16 *)(to + 4) = *(const rp_u16 *)(from + 4);
#pragma unroll
	for (int i = 6; i + 8 <= RP_HEAD; i += 8)
		*(rp_u64 *)(to + i) = *(const rp_u64 *)(from + i);
	*(rp_u16 *)(to + RP_HEAD - 2) = *(const rp_u16 *)(from + RP_HEAD - 2);
}

static __always_inline int rp_tell(const struct xdp_md *ctx, __u32 i)
{
	__be32 *word = rp_at(ctx, rp.word_at, sizeof(*word));
	const struct rp_entry *e;
	__be16 *port;

	if (!word)
		return -1;
	if (!rp.list) {
		*word = bpf_htonl(rp.first + i);
		return 0;
	}
	e = bpf_map_lookup_elem(&rp_list, &i);
	port = rp_at(ctx, rp.port_at, sizeof(*port));
	if (!e || !port)
		return -1;
	*word = e->word;
	*port = e->port;
	return 0;
}

SEC("xdp.frags")
int rp_run(struct xdp_md *ctx)
{
	int longer = (int)(ctx->data_end - ctx->data) - (int)rp.len;
	void *head;

	if (longer && bpf_xdp_adjust_head(ctx, longer))
		return XDP_ABORTED;
	head = rp_at(ctx, 0, RP_HEAD);
	if (!head)
		return XDP_ABORTED;
	rp_copy(head, rp.head);
	if (rp_tell(ctx, rp.next++ & rp.mask) < 0)
		return XDP_ABORTED;
	if (rp.prog == RP_PACKET)
		bpf_tail_call(ctx, &rp_progs, RP_PACKET);
	else
		bpf_tail_call(ctx, &rp_progs, RP_STUB);
	return XDP_ABORTED;
}
