// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the size of a policy costs: calls of connect(2) with a policy of ten CIDRs, and with one of a hundred thousand, and how long
 * it takes to bring either into force. The waggle that is measured is told by `waggle reload`, as people tell theirs.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "bench/calls.h"
#include "lab/waggle.h"

#define MANY 100000
#define FEW 10
#define RELOAD_MS 120000
#define SERVER "127.0.0.77/32"
#define ELSEWHERE 0x7f00fe01 /* 127.0.254.1: of no CIDR */

static const unsigned int cidrs[POLICY_WAYS] = { [POLICY_FEW] = FEW, [POLICY_MANY] = MANY };

/* What is in force; no two configurations are the same, or a reload would have nothing to do. */
static struct {
	size_t way;
	unsigned int salt;
} now;

/* The next of networks all over the address space, but for 0.0.0.0/8 and 127.0.0.0/8: 2^32 by the golden ratio spreads them. */
static uint32_t next_net(uint32_t *i)
{
	uint32_t addr;

	do
		addr = (*i)++ * 2654435769U;
	while (addr >> 24 == 0 || addr >> 24 == 127);
	return addr;
}

static int write_config(struct bench_run *run, size_t way, struct err *err)
{
	char path[PATH_MAX];
	_cleanup_fclose_ FILE *f = NULL;
	uint32_t at = now.salt++;

	(void)snprintf(path, sizeof(path), "%s/waggle.yaml", run->lab->dir);
	f = fopen(path, "we");
	if (!f)
		return err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	/* There are no services: nobody has to ask for them. */
	(void)fprintf(f,
		      "connect: { cgroups: [ %s/waggle ] }\n"
		      "policy:\n  - action: allow\n    from: [ %s ]\n    to:\n      - " SERVER "\n",
		      run->lab->cgroup, run->lab->programs);
	for (uint32_t i = 1; i < cidrs[way]; i++) {
		uint32_t addr = next_net(&at);

		(void)fprintf(f, "      - %u.%u.%u.0/24\n", addr >> 24, addr >> 16 & 255, addr >> 8 & 255);
	}
	return ferror(f) ? err_set(err, -EIO, "cannot write '%s'", path) : 0;
}

static int reload(struct bench_run *run, size_t way, double *ret_ms, struct err *err)
{
	static const char *const argv[] = { "waggle", "reload", NULL };
	const struct prog_spec spec = {
		.argv = argv,
		.file = "/proc/self/exe",
		.netns_fd = -1,
		.cgroup_fd = run->lab->waggle_fd,
	};
	int r = write_config(run, way, err);
	double start = clock_s();

	if (r >= 0)
		r = prog_run(&spec, RELOAD_MS, err);
	*ret_ms = (clock_s() - start) * 1e3;
	return r;
}

static int enter(struct bench_run *run, struct err *err)
{
	double ms;
	int r = 0;

	if (!run->waggle.pid) {
		r = waggle_run_start(run->lab, "policy: [ { action: allow } ]\n", &run->waggle, err);
		now.way = POLICY_WAYS;
	}
	if (r < 0 || now.way == run->way)
		return r;
	now.way = run->way;
	return reload(run, run->way, &ms, err);
}

const struct bench_way policy_ways[POLICY_WAYS] = {
	[POLICY_FEW] = { "10", "10 CIDRs", false, enter },
	[POLICY_MANY] = { "100000", "100 000 CIDRs", false, enter },
};

void policy_done(struct bench_run *run)
{
	if (run->waggle.pid)
		(void)waggle_run_stop(run->lab, &run->waggle, NULL);
}

struct call {
	int type;
	uint32_t other;
};

static int sample_call(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		       struct err *err)
{
	const struct call *call = row->data;

	return calls_connect(run, call->type, call->other, &ret->value, err);
}

static int sample_reload(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
			 struct err *err)
{
	return reload(run, way, &ret->value, err);
}

#define CALL .unit = "us a call", .less_is_better = true
static const struct bench_group g_tcp = { .word = "tcp", .title = "connect(2), TCP", CALL },
				g_udp = { .word = "udp", .title = "connect(2), UDP", CALL },
				g_reload = { .word = "reload",
					     .title = "a change of all CIDRs, waggle reload",
					     .unit = "ms",
					     .less_is_better = true };

static const struct call tcp = { SOCK_STREAM, 0 }, udp = { SOCK_DGRAM, 0 }, udp_other = { SOCK_DGRAM, ELSEWHERE };

int policy_rows(struct bench_run *run, struct err *err)
{
	const struct bench_row rows[] = {
		{ .group = &g_tcp,
		  .name = "tcp",
		  .title = "TCP, an address of a CIDR",
		  .data = &tcp,
		  .target = BENCH_RATIO_AT_LEAST,
		  .target_value = 0.95 },
		{ .group = &g_udp, .name = "udp", .title = "UDP, an address of a CIDR", .data = &udp },
		{ .group = &g_udp, .name = "udp-other", .title = "UDP, an address of none", .data = &udp_other },
		{ .group = &g_reload, .name = "reload", .title = g_reload.title, .sample = sample_reload },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++) {
		struct bench_row row = rows[i];

		row.ways = (1U << POLICY_WAYS) - 1;
		row.sample = row.sample ? row.sample : sample_call;
		r = bench_row_add(run, &row, err);
	}
	return r;
}
