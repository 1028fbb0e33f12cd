// SPDX-License-Identifier: GPL-2.0
/*
 * The packet hook in TC (ingress): the core (pk_main.bpf.h) on socket buffers, GSO packets of 64 KiB among them. And
 * what user space asks of the tables, here because one of the two objects has to have it.
 */
#define PK_XDP 0
#include "bpf/pk_meet.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* The steps that are not for every packet. Pinned, for the kernel empties what nobody holds. */
int pk_tc(struct __sk_buff *ctx);
int pk_tc_new(struct __sk_buff *ctx);
int pk_tc_icmp(struct __sk_buff *ctx);
int pk_tc_cookie(struct __sk_buff *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct __sk_buff *));
} pk_steps_tc SEC(".maps") = {
	.values = {
		[PK_STEPS_NEW] = (void *)&pk_tc_new,
		[PK_STEPS_ICMP] = (void *)&pk_tc_icmp,
		[PK_STEPS_FIRST] = (void *)&pk_tc,
		[PK_STEPS_COOKIE] = (void *)&pk_tc_cookie,
	},
};

SEC("tc")
int pk_tc(struct __sk_buff *ctx)
{
	return pk_first(ctx, &pk_steps_tc);
}

SEC("tc")
int pk_tc_new(struct __sk_buff *ctx)
{
	return pk_step_new(ctx, &pk_steps_tc);
}

SEC("tc")
int pk_tc_icmp(struct __sk_buff *ctx)
{
	return pk_step_icmp(ctx);
}

SEC("tc")
int pk_tc_cookie(struct __sk_buff *ctx)
{
	return pk_step_cookie(ctx, &pk_steps_tc);
}
