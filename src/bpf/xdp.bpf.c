// SPDX-License-Identifier: GPL-2.0
/*
 * The packet hook in XDP: the core (pk_main.bpf.h) on frames as the driver sees them. Whatever needs the stack, which
 * is a neighbour that has to be asked for, is passed on untouched to the program in TC behind it.
 */
#define PK_XDP 1
#include "bpf/pk_admin.bpf.h"
#include "bpf/pk_meet.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* The steps that are not for every packet. Pinned, for the kernel empties what nobody holds. */
int pk_xdp(struct xdp_md *ctx);
int pk_xdp_new(struct xdp_md *ctx);
int pk_xdp_icmp(struct xdp_md *ctx);
int pk_xdp_cookie(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct xdp_md *));
} pk_steps_xdp SEC(".maps") = {
	.values = {
		[PK_STEPS_NEW] = (void *)&pk_xdp_new,
		[PK_STEPS_ICMP] = (void *)&pk_xdp_icmp,
		[PK_STEPS_FIRST] = (void *)&pk_xdp,
		[PK_STEPS_COOKIE] = (void *)&pk_xdp_cookie,
	},
};

SEC("xdp.frags")
int pk_xdp(struct xdp_md *ctx)
{
	return pk_first(ctx, &pk_steps_xdp);
}

SEC("xdp.frags")
int pk_xdp_new(struct xdp_md *ctx)
{
	return pk_step_new(ctx, &pk_steps_xdp);
}

SEC("xdp.frags")
int pk_xdp_icmp(struct xdp_md *ctx)
{
	return pk_step_icmp(ctx);
}

SEC("xdp.frags")
int pk_xdp_cookie(struct xdp_md *ctx)
{
	return pk_step_cookie(ctx, &pk_steps_xdp);
}

/* Attached nowhere: see pk_admin.bpf.h. */
SEC("xdp")
int pk_admin(struct xdp_md *ctx)
{
	return pk_admin_run(ctx);
}
