// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/utsname.h>

#include "bench/bench.h"

static json_t *json_numbers(const double *v, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(array, json_real(v[i]));
	return array;
}

static json_t *json_way(const struct bench_row *row, size_t way)
{
	const struct stats *s = &row->ways_got[way].stats;
	json_t *way_json = json_pack("{s:o, s:f, s:f, s:f, s:f, s:f}", "samples",
				     json_numbers(row->ways_got[way].v, row->ways_got[way].n), "median", s->median,
				     "q1", s->q1, "q3", s->q3, "min", s->min, "max", s->max);

	if (row->ways_got[way].cpu_stats.max > 0) {
		(void)json_object_set_new(way_json, "cpu_us_samples",
					  json_numbers(row->ways_got[way].cpu_us, row->ways_got[way].n));
		(void)json_object_set_new(way_json, "cpu_us_median", json_real(row->ways_got[way].cpu_stats.median));
	}
	if (row->ways_got[way].own_stats.max > 0) {
		(void)json_object_set_new(way_json, "own_samples",
					  json_numbers(row->ways_got[way].own, row->ways_got[way].n));
		(void)json_object_set_new(way_json, "own_median", json_real(row->ways_got[way].own_stats.median));
	}
	return way_json;
}

static json_t *json_interval(const struct stats_interval *interval)
{
	return json_pack("{s:f, s:f, s:f}", "low", interval->low, "high", interval->high, "probability",
			 interval->probability);
}

/* Of each way but the first: how many times as good it is, by the medians, and within single rounds. */
static json_t *json_ratio(const struct bench_row *row, size_t way)
{
	struct stats_interval interval, cpu;
	double min, max;

	if (!bench_ratio_spread(row, way, &min, &max) || !bench_ratio_interval(row, way, &interval))
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:o, s:o, s:o, s:o}", "of_medians", bench_ratio(row, way), "min", min, "max",
			 max, "interval", json_interval(&interval), "cpu",
			 bench_cpu_ratio(row, way) > 0 ? json_real(bench_cpu_ratio(row, way)) : json_null(),
			 "cpu_interval", bench_cpu_interval(row, way, &cpu) ? json_interval(&cpu) : json_null(),
			 "published",
			 row->published && row->published[way] > 0 ? json_real(row->published[way]) : json_null());
}

static json_t *json_target(const struct bench_row *row)
{
	switch (row->target) {
	case BENCH_RATIO_AT_LEAST:
		return json_pack("{s:f}", "ratio_at_least", row->target_value);
	case BENCH_EXTRA_AT_MOST:
		return json_pack("{s:f}", "extra_at_most", row->target_value);
	case BENCH_AT_MOST:
		return json_pack("{s:f}", "at_most", row->target_value);
	case BENCH_CPU_AT_LEAST:
		return json_pack("{s:f}", "cpu_ratio_at_least", row->target_value);
	case BENCH_NO_TARGET:
		break;
	}
	return json_null();
}

static json_t *json_row(const struct bench_run *run, const struct bench_row *row)
{
	enum bench_verdict verdict = bench_judge(run, row);
	json_t *ways = json_object(), *ratios = json_object();

	for (size_t w = 0; w < run->bench->n_ways; w++) {
		if (!row->ways_got[w].n)
			continue;
		(void)json_object_set_new(ways, run->bench->ways[w].word, json_way(row, w));
		if (w)
			(void)json_object_set_new(ratios, run->bench->ways[w].word, json_ratio(row, w));
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "name", row->name, "group",
			 row->group->word, "title", row->title, "unit", row->group->unit, "better",
			 row->group->less_is_better ? "less" : "more", "message_bytes",
			 row->bytes ? json_integer((json_int_t)row->bytes) : json_null(), "ways", ways, "ratios",
			 ratios, "target", json_target(row), "met",
			 verdict == BENCH_NOT_JUDGED || verdict == BENCH_OPEN ? json_null() :
										json_boolean(verdict == BENCH_MET),
			 "joined", (json_int_t)row->joined, "skipped",
			 row->skipped ? json_string(row->skipped) : json_null());
}

static json_t *json_machine(const struct bench_run *run)
{
	struct utsname kernel;
	char cpu[256];

	(void)uname(&kernel);
	bench_cpu_model(cpu, sizeof(cpu));
	return json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f}", "kernel", kernel.release, "machine", kernel.machine,
			 "cpu", cpu, "processors", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "load_before",
			 run->load_before, "load_after", run->load_after, "stolen_percent", run->stolen_percent);
}

json_t *bench_json(const struct bench_run *run)
{
	json_t *rows = json_array(), *ways = json_array();

	for (size_t i = 0; i < run->n_rows; i++)
		(void)json_array_append_new(rows, json_row(run, &run->rows[i]));
	for (size_t w = 0; w < run->bench->n_ways; w++)
		(void)json_array_append_new(ways, json_string(run->bench->ways[w].word));
	return json_pack("{s:s, s:o, s:I, s:f, s:I, s:o, s:s, s:s, s:o}", "benchmark", run->bench->name, "machine",
			 json_machine(run), "rounds", (json_int_t)run->rounds, "seconds", run->opts->seconds, "pairs",
			 (json_int_t)run->opts->pairs, "ways", ways, "baseline", run->bench->ways[0].word, "subject",
			 run->bench->ways[run->bench->subject].word, "rows", rows);
}
