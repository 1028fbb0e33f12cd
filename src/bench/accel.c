// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The accelerator's rows. Plain TCP and AF_UNIX are measured while no accelerator of ours runs at all, so that
 * what its tracepoints cost everybody counts against it.
 */
#include <errno.h>

#include "bench/bench.h"
#include "bench/pair.h"
#include "bench/programs.h"
#include "lab/scene.h"
#include "lab/waggle.h"

#define LOOPBACK "127.0.0.1"
#define TALK_BYTES 64
#define STREAM_BYTES (64 << 10)
/* Each takes seconds, and hardly differs. */
#define MEMORY_ROUNDS 3

#define TCP_WAYS (1U << ACCEL_PLAIN | 1U << ACCEL_JOINED)
#define ALL_WAYS (TCP_WAYS | 1U << ACCEL_UNIX)

static int enter_plain(struct bench_run *run, struct err *err)
{
	return run->waggle.pid ? waggle_stop(run->lab, &run->waggle, err) : 0;
}

static int enter_joined(struct bench_run *run, struct err *err)
{
	static const char *const programs[] = { "nginx", "wrk", "redis-server", "redis-benchmark" };
	struct waggle_trust trust = {};
	char self[4096];
	ssize_t len;
	int r;

	if (run->waggle.pid)
		return 0;
	/* Ourselves as a file: a link of /proc is not the same to whoever follows it. */
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (len <= 0)
		return err_set(err, -errno, "cannot read /proc/self/exe: %s", strerror(errno));
	self[len] = '\0';
	r = waggle_trust_add(&trust, self, err);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(programs); i++)
		r = waggle_trust_add(&trust, programs[i], err);
	return r < 0 ? r : waggle_start(run->lab, trust.v, &run->waggle, err);
}

void accel_done(struct bench_run *run)
{
	(void)waggle_stop(run->lab, &run->waggle, NULL);
}

const struct bench_way accel_ways[ACCEL_WAYS] = {
	[ACCEL_PLAIN] = { "plain", "plain TCP", false, enter_plain },
	[ACCEL_UNIX] = { "unix", "AF_UNIX", true, enter_plain },
	[ACCEL_JOINED] = { "joined", "joined", false, enter_joined },
};

/* What a row's load is, besides the size of its messages. */
struct load_kind {
	enum pair_load load;
	bool nodelay, cross, remote;
};

/* A trip in microseconds, a stream in MB a second, connections a second; the processor's for each. */
static int figure(const struct pair_spec *spec, const struct pair_result *result, struct bench_sample *ret)
{
	double cpu_us = result->cpu_seconds * 1e6 / (double)result->all;

	if (!(result->seconds > 0) || !result->all)
		return -ENODATA;
	*ret = (struct bench_sample){ .cpu_us = cpu_us };
	switch (spec->load) {
	case PAIR_PING_PONG:
		ret->value = result->seconds * 1e6 / (double)result->count;
		break;
	case PAIR_STREAM:
		ret->value = (double)result->bytes / result->seconds / 1e6;
		ret->cpu_us = cpu_us * 1e6;
		break;
	case PAIR_CONNECT:
		ret->value = (double)result->count / result->seconds;
		break;
	}
	return ret->value > 0 ? 0 : -ENODATA;
}

static int sample_pair(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		       struct err *err)
{
	const struct load_kind *kind = row->data;
	const struct lab *lab = run->lab;
	char path[128];
	struct pair_spec spec = {
		.load = kind->load,
		.addr = kind->remote ? SCENE_HTTP1 : LOOPBACK,
		.path = run->bench->ways[way].by_unix ? path : NULL,
		.bytes = row->bytes,
		.nodelay = kind->nodelay,
		.seconds = run->opts->seconds,
		.client = { lab_netns(lab, "client"), lab->programs_fd, -1 },
		.server = { lab_netns(lab, "client"), lab->programs_fd, -1 },
	};
	struct pair_result result;
	int r;

	(void)snprintf(path, sizeof(path), "%s/pair.sock", lab->dir);
	if (run->n_cpus) {
		spec.client.cpu = run->cpus[0];
		spec.server.cpu = run->cpus[kind->cross ? run->n_cpus - 1 : 0];
	}
	/* Elsewhere: its sockets are not in the accelerator's scope, as those of another machine. */
	if (kind->remote)
		spec.server = (struct pair_end){ lab_netns(lab, "http1"), lab->waggle_fd, spec.server.cpu };
	r = pair_run(&spec, &result, err);
	if (r < 0)
		return r;
	r = figure(&spec, &result, ret);
	return r < 0 ? err_set(err, r, "nothing arrived within %g s: give more by --seconds", spec.seconds) : 0;
}

static int sample_memory(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
			 struct err *err)
{
	const struct pair_end end = { lab_netns(run->lab, "client"), run->lab->programs_fd, -1 };

	return pair_idle(&end, run->opts->pairs, &ret->value, err);
}

static const struct load_kind pp_one = { PAIR_PING_PONG, true, false, false };
static const struct load_kind pp_cross = { PAIR_PING_PONG, true, true, false };
static const struct load_kind pp_cross_nagle = { PAIR_PING_PONG, false, true, false };
static const struct load_kind nagle_one = { PAIR_STREAM, false, false, false };
static const struct load_kind nodelay_one = { PAIR_STREAM, true, false, false };
static const struct load_kind nagle_cross = { PAIR_STREAM, false, true, false };
static const struct load_kind nodelay_cross = { PAIR_STREAM, true, true, false };
static const struct load_kind connect_one = { PAIR_CONNECT, true, false, false };
static const struct load_kind remote_pp = { PAIR_PING_PONG, true, false, true };
static const struct load_kind remote_stream = { PAIR_STREAM, false, false, true };
static const struct load_kind remote_connect = { PAIR_CONNECT, true, false, true };

#define TRIP .unit = "us a trip", .less_is_better = true
#define FLOW .unit = "MB/s"

static const struct bench_group
	g_pp_one = { .word = "pingpong-one", .title = "ping-pong on one core", TRIP, .sweep = true },
	g_pp_cross = { .word = "pingpong-cross",
		       .title = "ping-pong across cores",
		       TRIP,
		       .sweep = true,
		       .two_cpus = true },
	g_nodelay = { .word = "stream-one-nodelay", .title = "stream on one core, TCP_NODELAY", FLOW, .sweep = true },
	g_nagle = { .word = "stream-one-nagle", .title = "stream on one core, Nagle on", FLOW, .sweep = true },
	g_x_nodelay = { .word = "stream-cross-nodelay",
			.title = "stream across cores, TCP_NODELAY",
			FLOW,
			.sweep = true,
			.two_cpus = true },
	g_x_nagle = { .word = "stream-cross-nagle",
		      .title = "stream across cores, Nagle on",
		      FLOW,
		      .sweep = true,
		      .two_cpus = true },
	g_remote_trip = { .word = "remote-pingpong", .title = "ping-pong with another host", TRIP },
	g_remote_flow = { .word = "remote-stream", .title = "stream to another host", FLOW },
	g_remote_connect = { .word = "remote-connect",
			     .title = "connect, request, close to another host",
			     .unit = "connections/s" },
	g_connect = { .word = "connect", .title = "connect, request, close", .unit = "connections/s" },
	g_memory = { .word = "memory",
		     .title = "kernel memory of an idle pair",
		     .unit = "bytes a pair",
		     .less_is_better = true };

static const struct bench_group
	g_lat_nodelay = { .word = "latency-nodelay",
			  .title = "latency, TCP_NODELAY",
			  TRIP,
			  .sweep = true,
			  .two_cpus = true },
	g_lat_nagle = { .word = "latency-nagle", .title = "latency, Nagle on", TRIP, .sweep = true, .two_cpus = true },
	g_thr_nodelay = { .word = "throughput-nodelay",
			  .title = "throughput, TCP_NODELAY",
			  FLOW,
			  .sweep = true,
			  .two_cpus = true },
	g_thr_nagle = {
		.word = "throughput-nagle", .title = "throughput, Nagle on", FLOW, .sweep = true, .two_cpus = true
	};

/* The target of all messages up to a size; a list ends with 0 bytes, and what is larger has none. */
struct target {
	uint64_t up_to_bytes;
	double ratio; /* 0: none */
};

static const struct target pp_one_targets[] = { { 16 << 10, 1.7 }, { 256 << 10, 2.1 }, { 0 } };
static const struct target pp_cross_targets[] = { { 256 << 10, 1.1 }, { 0 } };
static const struct target nodelay_targets[] = { { 16 << 10, 1.3 }, { 64 << 10, 1.6 }, { 256 << 10, 2.2 }, { 0 } };
static const struct target nagle_targets[] = {
	{ 4 << 10, 0.97 }, { 16 << 10, 0 }, { 64 << 10, 1.6 }, { 256 << 10, 2.2 }, { 0 }
};
/* On one core TCP's reader sleeps while many small writes pile up for it: no gain to be had, but no loss either. */
static const struct target one_targets[] = { { 1 << 20, 0.97 }, { 0 } };
static const struct target no_targets[] = { { 0 } };

static double target_of(const struct target *targets, uint64_t bytes)
{
	for (; targets->up_to_bytes; targets++)
		if (bytes <= targets->up_to_bytes)
			return targets->ratio;
	return 0;
}

static void set_target(struct bench_row *row, double ratio)
{
	if (ratio > 0) {
		row->target = BENCH_RATIO_AT_LEAST;
		row->target_value = ratio;
	}
}

static void size_word(uint64_t bytes, char *ret, size_t n)
{
	if (bytes < 1 << 10)
		(void)snprintf(ret, n, "%u", (unsigned int)bytes);
	else if (bytes < 1 << 20)
		(void)snprintf(ret, n, "%uk", (unsigned int)(bytes >> 10));
	else
		(void)snprintf(ret, n, "%um", (unsigned int)(bytes >> 20));
}

static int add_sweep(struct bench_run *run, const struct bench_group *group, const struct load_kind *kind,
		     const uint64_t *sizes, size_t n_sizes, const struct target *targets, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n_sizes; i++) {
		struct bench_row row = {
			.group = group,
			.title = group->title,
			.bytes = sizes[i],
			.ways = ALL_WAYS,
			.sample = sample_pair,
			.data = kind,
		};
		char word[16];

		size_word(sizes[i], word, sizeof(word));
		(void)snprintf(row.name, sizeof(row.name), "%s-%s", group->word, word);
		set_target(&row, target_of(targets, sizes[i]));
		r = bench_row_add(run, &row, err);
	}
	return r;
}

static int add_single(struct bench_run *run, const struct bench_group *group, const struct load_kind *kind,
		      uint64_t bytes, double target, struct err *err)
{
	struct bench_row row = {
		.group = group,
		.title = group->title,
		.bytes = bytes,
		.ways = kind->remote ? TCP_WAYS : ALL_WAYS,
		.sample = sample_pair,
		.data = kind,
	};

	(void)snprintf(row.name, sizeof(row.name), "%s", group->word);
	set_target(&row, target);
	return bench_row_add(run, &row, err);
}

static int add_memory(struct bench_run *run, struct err *err)
{
	struct bench_row row = {
		.group = &g_memory,
		.name = "memory",
		.title = g_memory.title,
		.ways = TCP_WAYS,
		.target = BENCH_EXTRA_AT_MOST,
		.target_value = 1024,
		.rounds_max = MEMORY_ROUNDS,
		.sample = sample_memory,
	};

	return bench_row_add(run, &row, err);
}

int accel_rows(struct bench_run *run, struct err *err)
{
	static const uint64_t sizes[] = { 1, 64, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20 };
	static const struct {
		const struct bench_group *group;
		const struct load_kind *kind;
		const struct target *targets;
	} sweeps[] = {
		{ &g_pp_one, &pp_one, pp_one_targets },
		{ &g_pp_cross, &pp_cross, pp_cross_targets },
		{ &g_x_nodelay, &nodelay_cross, nodelay_targets },
		{ &g_x_nagle, &nagle_cross, nagle_targets },
		{ &g_nodelay, &nodelay_one, one_targets },
		{ &g_nagle, &nagle_one, one_targets },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(sweeps); i++)
		r = add_sweep(run, sweeps[i].group, sweeps[i].kind, sizes, ARRAY_SIZE(sizes), sweeps[i].targets, err);
	if (r >= 0)
		r = programs_rows(run, TCP_WAYS, ALL_WAYS, err);
	if (r >= 0)
		r = add_single(run, &g_remote_trip, &remote_pp, TALK_BYTES, 0.98, err);
	if (r >= 0)
		r = add_single(run, &g_remote_flow, &remote_stream, STREAM_BYTES, 0.98, err);
	if (r >= 0)
		r = add_single(run, &g_remote_connect, &remote_connect, TALK_BYTES, 0.98, err);
	if (r >= 0)
		r = add_single(run, &g_connect, &connect_one, TALK_BYTES, 0.97, err);
	return r < 0 ? r : add_memory(run, err);
}

int accel_sizes_rows(struct bench_run *run, struct err *err)
{
	static const uint64_t sizes[] = { 1, 4, 16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20 };
	static const struct {
		const struct bench_group *group;
		const struct load_kind *kind;
	} sweeps[] = {
		{ &g_thr_nagle, &nagle_cross },
		{ &g_thr_nodelay, &nodelay_cross },
		{ &g_lat_nagle, &pp_cross_nagle },
		{ &g_lat_nodelay, &pp_cross },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(sweeps); i++)
		r = add_sweep(run, sweeps[i].group, sweeps[i].kind, sizes, ARRAY_SIZE(sizes), no_targets, err);
	return r;
}
