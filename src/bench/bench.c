// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/bench.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>

#include "base/clock.h"
#include "lab/cpu.h"
#include "lab/scene.h"

const struct bench benches[] = {
	{ "accel", "the accelerator against plain TCP and AF_UNIX: round trips, streams, nginx, redis, memory",
	  accel_ways, ACCEL_WAYS, ACCEL_JOINED, scene_hosts, ARRAY_SIZE(scene_hosts), accel_rows, accel_done, false },
	{ "sizes", "messages of 1 B to 1 MiB across processors, Nagle on and off: throughput and latency", accel_ways,
	  ACCEL_WAYS, ACCEL_JOINED, scene_hosts, ARRAY_SIZE(scene_hosts), accel_sizes_rows, accel_done, false },
	{ "connect", "the connect hook: calls of connect and sendto, and a change of 10000 services", connect_ways,
	  CONNECT_WAYS, CONNECT_WAYS - 1, scene_hosts, ARRAY_SIZE(scene_hosts), connect_rows, connect_done, false },
	{ "classic", "the classic comparison: nginx, haproxy, nftables, and waggle's hooks as balancers", classic_ways,
	  CLASSIC_WAYS, CLASSIC_CONNECT_JOINED, scene_hosts, ARRAY_SIZE(scene_hosts), classic_rows, classic_done,
	  false },
	{ "observe", "what it costs to be watched by metrics, the status page, top and trace", observe_ways,
	  OBSERVE_WAYS, OBSERVE_ALL, scene_hosts, ARRAY_SIZE(scene_hosts), observe_rows, observe_done, true },
	{ "redirect", "a sidecar: a transparent haproxy reached by nftables REDIRECT, and by waggle", redirect_ways,
	  REDIRECT_WAYS, REDIRECT_WAGGLE, scene_hosts, ARRAY_SIZE(scene_hosts), redirect_rows, redirect_done, false },
	{ "policy", "policies of ten and of a hundred thousand CIDRs: calls of connect, and a reload", policy_ways,
	  POLICY_WAYS, POLICY_MANY, scene_hosts, ARRAY_SIZE(scene_hosts), policy_rows, policy_done, false },
	{ "packet", "the packet hook: a packet in XDP beside nothing at all, many services, floods of SYNs",
	  packet_ways, PACKET_WAYS, PACKET_WAGGLE, scene_hosts, ARRAY_SIZE(scene_hosts), packet_rows, packet_done,
	  false },
	{ 0 },
};

const struct bench *bench_find(const char *name)
{
	for (const struct bench *b = benches; b->name; b++)
		if (streq(b->name, name))
			return b;
	return NULL;
}

int bench_row_add(struct bench_run *run, const struct bench_row *row, struct err *err)
{
	if (run->n_rows == run->rows_room) {
		size_t room = run->rows_room ? run->rows_room * 2 : 64;
		struct bench_row *rows = reallocarray(run->rows, room, sizeof(*rows));

		if (!rows)
			return err_set(err, -ENOMEM, "out of memory");
		run->rows = rows;
		run->rows_room = room;
	}
	run->rows[run->n_rows++] = *row;
	return 0;
}

static void row_done(struct bench_row *row)
{
	for (size_t w = 0; w < BENCH_WAYS_MAX; w++) {
		free(row->ways_got[w].v);
		free(row->ways_got[w].cpu_us);
		free(row->ways_got[w].own);
	}
	free(row->skipped);
}

int bench_declare(struct bench_run *run, struct err *err)
{
	size_t kept = 0;
	int r = run->bench->rows(run, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < run->n_rows; i++) {
		if (!run->opts->only || strstr(run->rows[i].name, run->opts->only))
			run->rows[kept++] = run->rows[i];
		else
			row_done(&run->rows[i]);
	}
	run->n_rows = kept;
	if (!kept)
		return err_set(err, -ENOENT, "no row of '%s' has '%s' in its name", run->bench->name, run->opts->only);
	return 0;
}

void bench_done(struct bench_run *run)
{
	for (size_t i = 0; i < run->n_rows; i++)
		row_done(&run->rows[i]);
	free(run->rows);
	run->rows = NULL;
	run->n_rows = run->rows_room = 0;
}

static void say(void (*fn)(const char *text), const char *fmt, ...) _printf_(2, 3);
static void say(void (*fn)(const char *text), const char *fmt, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fn(text);
}

/* The first reason stays. */
static void row_skip(struct bench_row *row, bool failed, const char *why)
{
	if (row->skipped)
		return;
	row->skipped = strdup(why);
	row->failed = failed;
}

static void group_skip(struct bench_run *run, const struct bench_group *group, bool failed, const char *why)
{
	for (size_t i = 0; i < run->n_rows; i++)
		if (run->rows[i].group == group)
			row_skip(&run->rows[i], failed, why);
	say(run->env->complain, "%s: %s: left out", group->word, why);
}

/* What a group needs and is not there: said once, before anything is measured. */
static void check_needs(struct bench_run *run)
{
	const struct bench_group *last = NULL;
	char path[4096], why[256];

	for (size_t i = 0; i < run->n_rows; i++) {
		const struct bench_group *group = run->rows[i].group;
		const char *const *need = group->needs;

		if (group == last)
			continue;
		last = group;
		if (group->two_cpus && run->n_cpus < 2)
			group_skip(run, group, false, "needs two processors");
		for (; need && need[0]; need += 2) {
			if (prog_find(need[0], path, sizeof(path)) == 0)
				continue;
			(void)snprintf(why, sizeof(why), "'%s' is missing: run 'apt-get install %s'", need[0], need[1]);
			group_skip(run, group, false, why);
			break;
		}
	}
}

static void find_cpus(struct bench_run *run)
{
	cpu_set_t set;

	run->n_cpus = 0;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return;
	/* From the end: what is not pinned, and interrupts, tend to be at the beginning. */
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && run->n_cpus < ARRAY_SIZE(run->cpus); cpu--)
		if (CPU_ISSET((size_t)cpu, &set))
			run->cpus[run->n_cpus++] = cpu;
}

static bool row_wants(const struct bench_run *run, const struct bench_row *row, size_t way, unsigned int round)
{
	if (row->skipped || !(row->ways & (1U << way)))
		return false;
	return !row->rounds_max || round < row->rounds_max;
}

static int keep_sample(struct bench_run *run, struct bench_row *row, size_t way, const struct bench_sample *sample,
		       struct err *err)
{
	typeof(row->ways_got[way]) *got = &row->ways_got[way];

	if (!got->v)
		got->v = calloc(run->opts->rounds, sizeof(double));
	if (!got->cpu_us)
		got->cpu_us = calloc(run->opts->rounds, sizeof(double));
	if (!got->own)
		got->own = calloc(run->opts->rounds, sizeof(double));
	if (!got->v || !got->cpu_us || !got->own)
		return err_set(err, -ENOMEM, "out of memory");
	got->v[got->n] = sample->value;
	got->cpu_us[got->n] = sample->cpu_us;
	got->own[got->n++] = sample->own;
	return 0;
}

static int measure_one(struct bench_run *run, struct bench_row *row, size_t way, unsigned int round, struct err *err)
{
	uint64_t before = 0, after = 0;
	struct bench_sample sample = {};
	int r = 0;

	say(run->env->progress, "round %u of %u: %s, %s", round + 1, run->opts->rounds, row->name,
	    run->bench->ways[way].word);
	if (run->waggle.pid)
		r = run->env->joined(&before, err);
	if (r >= 0)
		r = row->sample(run, row, way, &sample, err);
	if (r >= 0 && run->waggle.pid)
		r = run->env->joined(&after, err);
	if (r < 0)
		return r;
	if (way == run->bench->subject)
		row->joined += after - before;
	return keep_sample(run, row, way, &sample, err);
}

/* One way's turn of a group: rows from first to end. Only what no row can go on after is an error. */
static int measure_turn(struct bench_run *run, size_t first, size_t end, size_t way, unsigned int round,
			struct err *err)
{
	const struct bench_group *group = run->rows[first].group;
	struct err why = {};
	bool any = false;
	int r;

	for (size_t i = first; i < end; i++)
		any |= row_wants(run, &run->rows[i], way, round);
	if (!any)
		return 0;
	run->way = way;
	r = run->bench->ways[way].enter(run, err);
	if (r < 0)
		return r;
	if (group->start && group->start(run, &why) < 0) {
		group_skip(run, group, true, why.text);
	} else {
		for (size_t i = first; i < end; i++) {
			if (!row_wants(run, &run->rows[i], way, round))
				continue;
			if (measure_one(run, &run->rows[i], way, round, &why) >= 0)
				continue;
			row_skip(&run->rows[i], true, why.text);
			say(run->env->complain, "%s, %s: %s: left out", run->rows[i].name, run->bench->ways[way].word,
			    why.text);
		}
	}
	if (group->stop)
		group->stop(run);
	return 0;
}

size_t bench_group_end(const struct bench_run *run, size_t first)
{
	size_t end = first;

	while (end < run->n_rows && run->rows[end].group == run->rows[first].group)
		end++;
	return end;
}

static int measure_round(struct bench_run *run, unsigned int round, struct err *err)
{
	unsigned int turn = round;

	for (size_t first = 0; first < run->n_rows; first = bench_group_end(run, first), turn++)
		for (size_t i = 0; i < run->bench->n_ways; i++) {
			/*
			 * Back and forth, so that the machine is seldom made ready for another way; and of each group, so
			 * that what drifts hits all ways alike.
			 */
			size_t way = turn % 2 ? run->bench->n_ways - 1 - i : i;
			int r = measure_turn(run, first, bench_group_end(run, first), way, round, err);

			if (r < 0)
				return r;
		}
	return 0;
}

static int rows_stats(struct bench_run *run, struct err *err)
{
	for (size_t i = 0; i < run->n_rows; i++)
		for (size_t w = 0; w < run->bench->n_ways; w++) {
			typeof(run->rows[i].ways_got[w]) *got = &run->rows[i].ways_got[w];

			if (got->n && (stats_of(got->v, got->n, &got->stats) < 0 ||
				       stats_of(got->cpu_us, got->n, &got->cpu_stats) < 0 ||
				       stats_of(got->own, got->n, &got->own_stats) < 0))
				return err_set(err, -ENOMEM, "out of memory");
		}
	return 0;
}

int bench_measure(struct bench_run *run, struct err *err)
{
	struct cpu_time before = {}, after = {};
	double until;
	int r;

	find_cpus(run);
	check_needs(run);
	(void)getloadavg(&run->load_before, 1);
	r = cpu_read(&before, err);
	for (until = run->opts->limit_s ? clock_s() + (double)run->opts->limit_s : INFINITY;
	     r >= 0 && run->rounds < run->opts->rounds && (!run->rounds || clock_s() < until); run->rounds++)
		r = measure_round(run, run->rounds, err);
	(void)getloadavg(&run->load_after, 1);
	if (r >= 0)
		r = cpu_read(&after, err);
	if (r >= 0 && after.total_us > before.total_us)
		run->stolen_percent = 100.0 * (double)(after.stolen_us - before.stolen_us) /
				      (double)(after.total_us - before.total_us);
	if (run->bench->done)
		run->bench->done(run);
	return r < 0 ? r : rows_stats(run, err);
}

static double ratio(const struct bench_row *row, double value, double first)
{
	if (row->group->less_is_better)
		return value > 0 ? first / value : 0;
	return first > 0 ? value / first : 0;
}

double bench_ratio(const struct bench_row *row, size_t way)
{
	if (!row->ways_got[0].n || !row->ways_got[way].n)
		return 0;
	return ratio(row, row->ways_got[way].stats.median, row->ways_got[0].stats.median);
}

double bench_cpu_ratio(const struct bench_row *row, size_t way)
{
	double first = row->ways_got[0].cpu_stats.median, value = row->ways_got[way].cpu_stats.median;

	return value > 0 ? first / value : 0;
}

bool bench_ratio_spread(const struct bench_row *row, size_t way, double *ret_min, double *ret_max)
{
	size_t n = row->ways_got[0].n < row->ways_got[way].n ? row->ways_got[0].n : row->ways_got[way].n;
	double min = 0, max = 0;

	for (size_t i = 0; i < n; i++) {
		double one = ratio(row, row->ways_got[way].v[i], row->ways_got[0].v[i]);

		min = !i || one < min ? one : min;
		max = !i || one > max ? one : max;
	}
	if (!n)
		return false;
	*ret_min = min;
	*ret_max = max;
	return true;
}

bool bench_ratio_interval(const struct bench_row *row, size_t way, struct stats_interval *ret)
{
	size_t n = row->ways_got[0].n < row->ways_got[way].n ? row->ways_got[0].n : row->ways_got[way].n;
	double ratios[BENCH_ROUNDS_MAX];

	for (size_t i = 0; i < n; i++)
		ratios[i] = ratio(row, row->ways_got[way].v[i], row->ways_got[0].v[i]);
	return n && stats_median_interval(ratios, n, ret) == 0;
}

bool bench_cpu_interval(const struct bench_row *row, size_t way, struct stats_interval *ret)
{
	size_t n = row->ways_got[0].n < row->ways_got[way].n ? row->ways_got[0].n : row->ways_got[way].n;
	double ratios[BENCH_ROUNDS_MAX];

	for (size_t i = 0; i < n; i++) {
		if (!(row->ways_got[way].cpu_us[i] > 0))
			return false;
		ratios[i] = row->ways_got[0].cpu_us[i] / row->ways_got[way].cpu_us[i];
	}
	return n && stats_median_interval(ratios, n, ret) == 0;
}

double bench_extra(const struct bench_run *run, const struct bench_row *row)
{
	return row->ways_got[run->bench->subject].stats.median - row->ways_got[0].stats.median;
}

/* An interval that holds the target in its midst says nothing, nor does one that is not to be relied upon. */
static enum bench_verdict judge_cpu(const struct bench_run *run, const struct bench_row *row)
{
	struct stats_interval interval;

	if (!bench_cpu_interval(row, run->bench->subject, &interval))
		return BENCH_NOT_JUDGED;
	if (interval.probability < 0.95)
		return BENCH_OPEN;
	return interval.low >= row->target_value ? BENCH_MET :
	       interval.high < row->target_value ? BENCH_MISSED :
						   BENCH_OPEN;
}

const char *bench_verdict_word(enum bench_verdict verdict)
{
	static const char *const words[] = {
		[BENCH_NOT_JUDGED] = "-", [BENCH_MET] = "yes", [BENCH_MISSED] = "no", [BENCH_OPEN] = "open"
	};

	return words[verdict];
}

enum bench_verdict bench_judge(const struct bench_run *run, const struct bench_row *row)
{
	if (row->target == BENCH_NO_TARGET || !row->ways_got[run->bench->subject].n)
		return BENCH_NOT_JUDGED;
	if (row->target != BENCH_AT_MOST && !row->ways_got[0].n)
		return BENCH_NOT_JUDGED;
	if (row->target == BENCH_CPU_AT_LEAST)
		return judge_cpu(run, row);
	if (row->target == BENCH_AT_MOST)
		return row->ways_got[run->bench->subject].stats.median <= row->target_value ? BENCH_MET : BENCH_MISSED;
	if (row->target == BENCH_EXTRA_AT_MOST)
		return bench_extra(run, row) <= row->target_value ? BENCH_MET : BENCH_MISSED;
	return bench_ratio(row, run->bench->subject) >= row->target_value ? BENCH_MET : BENCH_MISSED;
}

void bench_cpu_model(char *ret_cpu, size_t n)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	(void)snprintf(ret_cpu, n, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		const char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(ret_cpu, n, "%s", colon + 2);
		return;
	}
}
