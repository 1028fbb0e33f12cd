// SPDX-License-Identifier: GPL-2.0
/*
 * The packet hook once more, for `waggle explain`: the same core as in xdp.bpf.c, attached nowhere and run on one packet
 * by BPF_PROG_TEST_RUN. It reads the tables of the hook; what the core writes, it writes to copies (pk_copy.bpf.h, and
 * maps that user space fills: hook/packet_explain.c).
 */
#define PK_XDP 1
#define PK_COPY 1
#include "bpf/pk_meet.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* Answer of pk_ask. */
struct pk_found found;

int pk_run(struct xdp_md *ctx);
int pk_run_new(struct xdp_md *ctx);
int pk_run_cookie(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct xdp_md *));
} pk_steps_run SEC(".maps") = {
	.values = {
		[PK_STEPS_NEW] = (void *)&pk_run_new,
		[PK_STEPS_FIRST] = (void *)&pk_run,
		[PK_STEPS_COOKIE] = (void *)&pk_run_cookie,
	},
};

SEC("xdp")
int pk_run(struct xdp_md *ctx)
{
	return pk_first(ctx, &pk_steps_run);
}

SEC("xdp")
int pk_run_new(struct xdp_md *ctx)
{
	return pk_step_new(ctx, &pk_steps_run);
}

SEC("xdp")
int pk_run_cookie(struct xdp_md *ctx)
{
	return pk_step_cookie(ctx, &pk_steps_run);
}

/* What the tables hold of a packet's flow: its service, and the record of its connection. */
SEC("xdp")
int pk_ask(struct xdp_md *ctx)
{
	const struct pk_ctl *ctl = pk_ctl_get();
	const struct lb_plan *plan;
	struct pk_work w = {};
	struct pk_pkt p = {};

	__builtin_memset(&found, 0, sizeof(found));
	if (!ctl || pk_look(ctx, ctl, &p) != PK_GO)
		return XDP_ABORTED;
	plan = pk_plan(&p);
	if (plan)
		found.plan = *plan;
	p.hash = pk_hash(ctl, &p.src, &p.dst, p.sport, p.dport, p.proto, p.v6);
	if (!pk_find(ctl, &p, &w.at, &w.key))
		return XDP_PASS;
	found.has_conn = 1;
	found.index = w.at.index;
	found.conn = *w.at.conn;
	return XDP_PASS;
}
