// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packet hook: nanoseconds of its XDP program by BPF_PROG_TEST_RUN, with the harness around it, beside the same
 * harness around a program that does nothing; what ten thousand services more cost; and what a flood of SYNs does to
 * those who are connected.
 */
#include <errno.h>
#include <sched.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "bench/packet_bed.h"
#include "bench/packet_rows.h"

#define OTHERS 10000
#define CHUNK (1 << 18) /* packets a call */
#define CHUNK_QUICK (1 << 14)
#define FLOOD_FIRST (1 << 20) /* number of the flood's first source: none of those who are connected */
#define FLOOD_OPEN (1 << 17)  /* connections that are to survive */
#define SURVIVORS_MORE 1.15   /* what ten thousand services more may cost */

static struct packet_bed small = PACKET_BED_NONE, full = PACKET_BED_NONE;

static int bed_get(struct bench_run *run, struct packet_bed *bed, struct err *err)
{
	if (bed->replay)
		return 0;
	run->env->progress(bed == &full ? "10000 services of 10 backends are made" : "the tables are made");
	return packet_bed_make(run->lab, bed == &full ? "bpf-full" : "bpf-small", bed == &full ? OTHERS : 0, bed, err);
}

static int enter(struct bench_run *run, struct err *err)
{
	return 0;
}

const struct bench_way packet_ways[PACKET_WAYS] = {
	[PACKET_BASE] = { "base", "what it is compared with", false, enter },
	[PACKET_WAGGLE] = { "waggle", "waggle", false, enter },
};

void packet_done(struct bench_run *run)
{
	packet_bed_done(&small);
	packet_bed_done(&full);
	packet_lab_done(run);
}

/* One row of the table of speeds. */
struct flow_kind {
	enum packet_bed_service service;
	enum packet_bed_way way;
	uint32_t flows;
	bool compare; /* with the same among ten thousand services; otherwise with the stub */
};

static void pin(const struct bench_run *run, cpu_set_t *ret_was)
{
	cpu_set_t set;

	(void)sched_getaffinity(0, sizeof(*ret_was), ret_was);
	CPU_ZERO(&set);
	if (!run->n_cpus)
		return;
	CPU_SET((size_t)run->cpus[0], &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

/* The connections of a row, and nobody else's; for a flood, a table that is full of it. */
static int prepare(struct packet_bed *bed, const struct flow_kind *kind, struct err *err)
{
	struct replay_packet p = packet_bed_packet(kind->service, kind->way, kind->flows, 0);

	packet_bed_reset(bed);
	if (kind->way == BED_NOT_OURS)
		return 0;
	if (kind->way == BED_SYN)
		return packet_bed_run(bed, &p, RP_PACKET, 0, 2 * PACKET_BED_CONNS, NULL, err);
	return packet_bed_establish(bed, kind->service, kind->flows, 0, err);
}

/* What must have become of all packets of a row. */
static enum pk_reason reason_of(const struct flow_kind *kind)
{
	switch (kind->way) {
	case BED_NOT_OURS:
		return PK_NOT_OURS;
	case BED_FROM_BACKEND:
	case BED_FROM_BACKEND_SYN:
		return PK_RETURNED;
	default:
		return PK_FORWARDED;
	}
}

static int run_chunks(struct packet_bed *bed, const struct flow_kind *kind, enum rp_prog prog, double seconds,
		      struct bench_sample *ret, struct err *err)
{
	struct replay_packet p = packet_bed_packet(kind->service, kind->way, kind->flows, 0);
	uint32_t chunk = seconds < 0.1 ? CHUNK_QUICK : CHUNK;
	uint64_t before[_PK_REASON_MAX], after[_PK_REASON_MAX], n = 0;
	uint32_t start = kind->way == BED_SYN ? 2 * PACKET_BED_CONNS : 0;
	double sum = 0, until = clock_s() + seconds;
	int r = packet_stats(bed->packet, before);

	while (r >= 0 && (!n || clock_s() < until)) {
		uint32_t ns;

		r = packet_bed_run(bed, &p, prog, start + (uint32_t)n, chunk, &ns, err);
		sum += (double)ns * chunk;
		n += chunk;
	}
	if (r < 0 || (r = packet_stats(bed->packet, after)) < 0)
		return r;
	if (prog == RP_PACKET && after[reason_of(kind)] - before[reason_of(kind)] != n)
		return err_set(err, -EIO, "of %llu packets only %llu became what they should", (unsigned long long)n,
			       (unsigned long long)(after[reason_of(kind)] - before[reason_of(kind)]));
	ret->value = sum / (double)n;
	return 0;
}

static int sample_flow(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		       struct err *err)
{
	const struct flow_kind *kind = row->data;
	struct packet_bed *bed = kind->compare && way == PACKET_WAGGLE ? &full : &small;
	enum rp_prog prog = !kind->compare && way == PACKET_BASE ? RP_STUB : RP_PACKET;
	cpu_set_t was;
	int r = bed_get(run, bed, err);

	if (r < 0)
		return r;
	pin(run, &was);
	r = prepare(bed, kind, err);
	if (r >= 0)
		r = run_chunks(bed, kind, prog, run->opts->seconds, ret, err);
	(void)sched_setaffinity(0, sizeof(was), &was);
	return r;
}

/* A flood, and what is left afterwards of those who were there. */
struct flood_kind {
	enum packet_bed_service victim, flooded;
	uint32_t syns;
};

static int sample_flood(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
			struct err *err)
{
	const struct flood_kind *kind = row->data;
	struct replay_packet syn = packet_bed_packet(kind->flooded, BED_SYN, 1 << 23, FLOOD_FIRST);
	struct packet_bed *bed = &small;
	uint32_t left;
	int r = bed_get(run, bed, err);

	if (r < 0)
		return r;
	packet_bed_reset(bed);
	r = packet_bed_establish(bed, kind->victim, FLOOD_OPEN, 0, err);
	if (r >= 0)
		r = packet_bed_run(bed, &syn, RP_PACKET, 0, kind->syns, NULL, err);
	if (r < 0)
		return r;
	left = replay_count(bed->replay, bed->services[kind->victim], PK_STATE_OPEN);
	ret->value = 100.0 * (FLOOD_OPEN - left) / FLOOD_OPEN;
	return 0;
}

#define NS .unit = "ns a packet", .less_is_better = true
static const struct bench_group g_flow = { .word = "flow",
					   .title = "a packet in XDP, beside a program that does nothing",
					   NS },
				g_full = { .word = "full",
					   .title = "a packet in XDP, with 10000 services of 10 backends more",
					   NS },
				g_flood = { .word = "flood",
					    .title = "established connections lost in a flood of SYNs",
					    .unit = "%",
					    .less_is_better = true };

static const struct flow_row {
	const char *name, *title;
	double target; /* ns at most; 0: none */
	struct flow_kind kind;
} flow_rows[] = {
	{ "not-ours", "of no service: passed", 40, { BED_IPIP, BED_NOT_OURS, 1, false } },
	{ "ipip-1", "TCP, ipip, established, 1 flow", 75, { BED_IPIP, BED_FROM_CLIENT, 1, false } },
	{ "ipip-64k", "the same, 64 Ki flows", 100, { BED_IPIP, BED_FROM_CLIENT, 1 << 16, false } },
	{ "ipip-512k", "the same, 512 Ki flows", 180, { BED_IPIP, BED_FROM_CLIENT, 1 << 19, false } },
	{ "nat-1", "TCP, nat, established, to the backend, 1 flow", 95, { BED_NAT, BED_FROM_CLIENT, 1, false } },
	{ "nat-64k", "the same, 64 Ki flows", 120, { BED_NAT, BED_FROM_CLIENT, 1 << 16, false } },
	{ "nat-512k", "the same, 512 Ki flows", 210, { BED_NAT, BED_FROM_CLIENT, 1 << 19, false } },
	{ "back-1", "TCP, nat, established, to the client, 1 flow", 95, { BED_NAT, BED_FROM_BACKEND, 1, false } },
	{ "back-64k", "the same, 64 Ki flows", 120, { BED_NAT, BED_FROM_BACKEND, 1 << 16, false } },
	{ "back-512k", "the same, 512 Ki flows", 210, { BED_NAT, BED_FROM_BACKEND, 1 << 19, false } },
	{ "syn-ipip", "SYNs, each of a new source, state kept", 200, { BED_FLOOD, BED_SYN, 1 << 24, false } },
	{ "udp-4k", "UDP, ipip, 4 Ki flows", 90, { BED_UDP, BED_FROM_CLIENT, 1 << 12, false } },
	{ "v6-1", "TCP, IPv6 in IPv6, 1 flow", 85, { BED_V6, BED_FROM_CLIENT, 1, false } },
	{ "v6-64k", "the same, 64 Ki flows", 115, { BED_V6, BED_FROM_CLIENT, 1 << 16, false } },
	{ "gue-1", "TCP, gue, 1 flow", 100, { BED_GUE, BED_FROM_CLIENT, 1, false } },
	{ "dsr-1", "TCP, dsr, 1 flow", 0, { BED_DSR, BED_FROM_CLIENT, 1, false } },
}, full_rows[] = {
	{ "full-not-ours", "of no service: passed", 0, { BED_IPIP, BED_NOT_OURS, 1, true } },
	{ "full-ipip-1", "TCP, ipip, 1 flow", 0, { BED_IPIP, BED_FROM_CLIENT, 1, true } },
	{ "full-ipip-64k", "the same, 64 Ki flows", 0, { BED_IPIP, BED_FROM_CLIENT, 1 << 16, true } },
	{ "full-ipip-512k", "the same, 512 Ki flows", 0, { BED_IPIP, BED_FROM_CLIENT, 1 << 19, true } },
	{ "full-nat-64k", "TCP, nat, to the backend, 64 Ki flows", 0, { BED_NAT, BED_FROM_CLIENT, 1 << 16, true } },
	{ "full-back-64k", "TCP, nat, to the client, 64 Ki flows", 0, { BED_NAT, BED_FROM_BACKEND, 1 << 16, true } },
	{ "full-syn-ipip", "SYNs, each of a new source", 0, { BED_FLOOD, BED_SYN, 1 << 24, true } },
};

static const struct flood_row {
	const char *name, *title;
	double target; /* % at most */
	struct flood_kind kind;
} flood_rows[] = {
	{ "flood-1m", "of 128 Ki, by 1 Mi SYNs", 0, { BED_IPIP, BED_FLOOD, 1 << 20 } },
	{ "flood-4m", "of 128 Ki, by 4 Mi SYNs", 0.1, { BED_IPIP, BED_FLOOD, 1 << 22 } },
};

static int add_flows(struct bench_run *run, const struct bench_group *group, const struct flow_row *v, size_t n,
		     struct err *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct bench_row row = {
			.group = group,
			.title = v[i].title,
			.ways = 1U << PACKET_BASE | 1U << PACKET_WAGGLE,
			.target = v[i].kind.compare ? BENCH_RATIO_AT_LEAST :
				  v[i].target > 0   ? BENCH_AT_MOST :
						      BENCH_NO_TARGET,
			.target_value = v[i].kind.compare ? 1 / SURVIVORS_MORE : v[i].target,
			.sample = sample_flow,
			.data = &v[i].kind,
		};

		(void)snprintf(row.name, sizeof(row.name), "%s", v[i].name);
		r = bench_row_add(run, &row, err);
	}
	return r;
}

static int add_floods(struct bench_run *run, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(flood_rows); i++) {
		struct bench_row row = {
			.group = &g_flood,
			.title = flood_rows[i].title,
			.ways = 1U << PACKET_WAGGLE,
			.target = BENCH_AT_MOST,
			.target_value = flood_rows[i].target,
			.rounds_max = 2,
			.sample = sample_flood,
			.data = &flood_rows[i].kind,
		};

		(void)snprintf(row.name, sizeof(row.name), "%s", flood_rows[i].name);
		r = bench_row_add(run, &row, err);
	}
	return r;
}

int packet_rows(struct bench_run *run, struct err *err)
{
	int r = add_flows(run, &g_flow, flow_rows, ARRAY_SIZE(flow_rows), err);

	if (r >= 0)
		r = add_flows(run, &g_full, full_rows, ARRAY_SIZE(full_rows), err);
	if (r >= 0)
		r = add_floods(run, err);
	return r < 0 ? r : packet_lab_rows(run, err);
}
