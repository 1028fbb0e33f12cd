// SPDX-License-Identifier: GPL-2.0-or-later
/* The benchmarks: the frame of src/bench in a lab of its own, and its result as a table, JSON and plots. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <jansson.h>

#include "bench/bench.h"
#include "cmd/cmd.h"
#include "ctl/table.h"
#include "lab/waggle.h"

#define BENCH_LAB "waggle-bench"
#define BENCH_LAB_ENV "WAGGLE_BENCH_LAB"
#define BENCH_LAB_MAX 40
#define BENCH_ROUNDS 5
#define BENCH_SECONDS 0.5
#define BENCH_SECONDS_MAX 600
#define BENCH_PAIRS 100000
#define BENCH_PAIRS_MAX 500000
/* Enough to see that all works; of what is measured nothing can be said. */
#define QUICK_ROUNDS 1
#define QUICK_SECONDS 0.02
#define QUICK_PAIRS 1000

struct bench_args {
	uint64_t rounds, limit_s, pairs;
	const char *seconds, *plot, *report, *row;
	bool json, quick;
};

struct bench_job {
	struct bench_run run;
	const struct bench_args *args;
	char plot[PATH_MAX], report[PATH_MAX];
};

static void say_progress(const char *text)
{
	cmd_progress("%s", text);
}

static void say_complaint(const char *text)
{
	cmd_progress_end();
	(void)cmd_fail(EXIT_FAILED, "bench: %s", text);
}

static const struct bench_env env = { say_progress, say_complaint, cmd_joined };

static const char *verdict_word(enum bench_verdict verdict)
{
	return verdict == BENCH_MISSED ? "NO" : verdict == BENCH_NOT_JUDGED ? "" : bench_verdict_word(verdict);
}

static void put_value(struct table *t, const struct bench_row *row, size_t way)
{
	double v = row->ways_got[way].stats.median;

	if (!row->ways_got[way].n)
		table_cell(t, "-");
	else
		table_cell(t, "%.*f", v < 10 ? 2 : v < 1000 ? 1 : 0, v);
}

static void put_judgement(struct table *t, const struct bench_run *run, const struct bench_row *row)
{
	size_t subject = run->bench->subject;
	double min, max;

	if (!bench_ratio_spread(row, subject, &min, &max)) {
		table_cell(t, "-");
		table_cell(t, "-");
	} else {
		table_cell(t, "%.2f", bench_ratio(row, subject));
		table_cell(t, "%.2f-%.2f", min, max);
	}
	if (bench_cpu_ratio(row, subject) > 0)
		table_cell(t, "%.2f", bench_cpu_ratio(row, subject));
	else
		table_cell(t, "-");
	switch (row->target) {
	case BENCH_RATIO_AT_LEAST:
		table_cell(t, ">= %.2f", row->target_value);
		break;
	case BENCH_EXTRA_AT_MOST:
		table_cell(t, "%+.3g of %.3g", row->ways_got[0].n ? bench_extra(run, row) : 0, row->target_value);
		break;
	case BENCH_AT_MOST:
		table_cell(t, "<= %.3g", row->target_value);
		break;
	case BENCH_CPU_AT_LEAST:
		table_cell(t, "CPU >= %.2f", row->target_value);
		break;
	case BENCH_NO_TARGET:
		table_cell(t, "-");
		break;
	}
	table_cell(t, "%s", row->skipped ? "left out" : verdict_word(bench_judge(run, row)));
}

static void print_machine(const struct bench_run *run)
{
	struct utsname kernel;
	char cpu[256];

	(void)uname(&kernel);
	bench_cpu_model(cpu, sizeof(cpu));
	printf("Linux %s, %ld x %s, load %.1f before and %.1f after;\n", kernel.release, sysconf(_SC_NPROCESSORS_ONLN),
	       cpu, run->load_before, run->load_after);
}

/* digits: where a percent matters, more of them. */
static void put_ratio(struct table *t, const struct bench_row *row, size_t way, int digits)
{
	struct stats_interval interval;

	if (!way || !bench_ratio_interval(row, way, &interval)) {
		table_cell(t, "-");
		table_cell(t, "-");
		table_cell(t, "-");
		return;
	}
	table_cell(t, "%.*f", digits, bench_ratio(row, way));
	table_cell(t, "%.*f-%.*f", digits, interval.low, digits, interval.high);
	table_cell(t, "%.0f%%", 100 * interval.probability);
}

static void put_cpu(struct table *t, const struct bench_row *row, size_t way, int digits)
{
	struct stats_interval interval;

	table_cell(t, "%.*f", digits - 1, row->ways_got[way].cpu_stats.median);
	if (!way || !bench_cpu_interval(row, way, &interval)) {
		table_cell(t, "-");
		table_cell(t, "-");
		return;
	}
	table_cell(t, "%.*f", digits, bench_cpu_ratio(row, way));
	table_cell(t, "%.*f-%.*f", digits, interval.low, digits, interval.high);
}

/* A row of a series: a line each way. */
static int print_series(const struct bench_run *run, const struct bench_row *row)
{
	static const struct table_col cols[] = { { "WAY", false },	{ "", false },	    { "MEDIAN", true },
						 { "RATIO", true },	{ "WITHIN", true }, { "BY", true },
						 { "PUBLISHED", true }, { "CPU US", true }, { "CPU RATIO", true },
						 { "WITHIN", true },	{ "OWN", true } };
	int digits = row->target == BENCH_CPU_AT_LEAST ? 3 : 2, r;
	struct table t;

	printf("\n%s: %s, %s%s%s\n", row->name, row->title, row->group->unit, row->skipped ? ": left out: " : "",
	       row->skipped ? row->skipped : "");
	table_init(&t, cols, ARRAY_SIZE(cols));
	for (size_t w = 0; w < run->bench->n_ways; w++) {
		table_cell(&t, "%s", run->bench->ways[w].word);
		table_cell(&t, "%s", run->bench->ways[w].title);
		put_value(&t, row, w);
		put_ratio(&t, row, w, digits);
		if (row->published && row->published[w] > 0)
			table_cell(&t, "%.2f", row->published[w]);
		else
			table_cell(&t, "-");
		put_cpu(&t, row, w, digits);
		if (row->ways_got[w].own_stats.max > 0)
			table_cell(&t, "%.2f%%", 100 * row->ways_got[w].own_stats.median);
		else
			table_cell(&t, "-");
	}
	r = table_print(&t, stdout);
	table_done(&t);
	if (row->target == BENCH_CPU_AT_LEAST)
		printf("CPU ratio of %s at least %.2f: %s\n", run->bench->ways[run->bench->subject].word,
		       row->target_value, bench_verdict_word(bench_judge(run, row)));
	return r;
}

static int print_all_series(const struct bench_run *run)
{
	int r = 0;

	print_machine(run);
	printf("medians of %u rounds of %g s. Ratio: how many times as good as the first way; within: where the ratio of a\n"
	       "round is, with the probability that stands beside; published: what others got; CPU us: %s\n"
	       "processor time for an answer; CPU ratio: how many times less than the first way, and within; own: how much\n"
	       "of it was waggle's and of those that watch it.\n",
	       run->rounds, run->opts->seconds, run->bench->series ? "the lab's" : "the whole machine's");
	for (size_t i = 0; r >= 0 && i < run->n_rows; i++)
		r = print_series(run, &run->rows[i]);
	return r;
}

static int print_table(const struct bench_run *run)
{
	const struct bench *bench = run->bench;
	struct table_col cols[BENCH_WAYS_MAX + 7] = { { "ROW", false }, { "UNIT", false } };
	size_t n = 2, met = 0, judged = 0;
	struct table t;
	int r;

	for (size_t w = 0; w < bench->n_ways; w++)
		cols[n++] = (struct table_col){ bench->ways[w].word, true };
	cols[n++] = (struct table_col){ "RATIO", true };
	cols[n++] = (struct table_col){ "SPREAD", true };
	cols[n++] = (struct table_col){ "CPU", true };
	cols[n++] = (struct table_col){ "TARGET", true };
	cols[n++] = (struct table_col){ "MET", true };
	print_machine(run);
	printf("medians of %u rounds of %g s. Ratio: how many times as good %s is as %s; spread: of single rounds;\n"
	       "CPU: how many times less processor time both ends take for the same work.\n\n",
	       run->rounds, run->opts->seconds, bench->ways[bench->subject].word, bench->ways[0].word);
	table_init(&t, cols, n);
	for (size_t i = 0; i < run->n_rows; i++) {
		const struct bench_row *row = &run->rows[i];
		enum bench_verdict verdict = bench_judge(run, row);

		table_cell(&t, "%s", row->name);
		table_cell(&t, "%s", row->group->unit);
		for (size_t w = 0; w < bench->n_ways; w++)
			put_value(&t, row, w);
		put_judgement(&t, run, row);
		judged += verdict != BENCH_NOT_JUDGED;
		met += verdict == BENCH_MET;
	}
	r = table_print(&t, stdout);
	table_done(&t);
	printf("\n%zu of %zu targets met\n", met, judged);
	return r;
}

static int print_json(const struct bench_run *run)
{
	json_t *root = bench_json(run);
	int r = root ? json_dumpf(root, stdout, JSON_INDENT(2)) : -1;

	json_decref(root);
	(void)putchar('\n');
	return r;
}

static int print_result(const struct bench_job *job)
{
	struct err err = {};
	int r = job->args->json			? print_json(&job->run) :
		bench_is_series(job->run.bench) ? print_all_series(&job->run) :
						  print_table(&job->run);

	if (r < 0)
		return cmd_fail(EXIT_FAILED, "bench: cannot write the result");
	if (job->plot[0] && bench_plot(&job->run, job->plot, &err) < 0)
		return cmd_fail(EXIT_FAILED, "bench: %s", err.text);
	if (job->report[0] && bench_report(&job->run, job->report, &err) < 0)
		return cmd_fail(EXIT_FAILED, "bench: %s", err.text);
	for (size_t i = 0; i < job->run.n_rows; i++)
		if (job->run.rows[i].failed)
			return EXIT_FAILED;
	return EXIT_DONE;
}

/* In the child of lab_run(). */
static int bench_in_lab(struct lab *lab, void *data)
{
	struct bench_job *job = data;
	struct err err = {};
	int r;

	job->run.lab = lab;
	r = waggle_point(lab, &err);
	if (r >= 0)
		r = bench_measure(&job->run, &err);
	cmd_progress_end();
	r = r < 0 ? cmd_fail(EXIT_FAILED, "bench: %s", err.text) : print_result(job);
	bench_done(&job->run);
	return r;
}

static int list_benches(void)
{
	for (const struct bench *b = benches; b->name; b++)
		printf("%-10s %s\n", b->name, b->help);
	return EXIT_DONE;
}

static int bench_needs(const struct bench_args *args)
{
	char path[4096];

	if (geteuid() != 0)
		return cmd_fail(EXIT_FAILED, "bench: needs root, for namespaces and BPF: run 'sudo waggle bench'");
	if (prog_find("ip", path, sizeof(path)) < 0)
		return cmd_fail(EXIT_FAILED, "bench: 'ip' is missing: run 'apt-get install iproute2'");
	if ((args->plot || args->report) && prog_find("gnuplot", path, sizeof(path)) < 0)
		return cmd_fail(
			EXIT_FAILED,
			"bench: 'gnuplot' is missing: run 'apt-get install gnuplot-nox', or leave --plot and --report out");
	return EXIT_DONE;
}

/* Made before anything is measured, so that it does not fail at the end. */
static int make_dir(const char *dir, char *ret, size_t n)
{
	char path[PATH_MAX];

	if (!dir)
		return EXIT_DONE;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return cmd_fail(EXIT_USAGE, "bench: cannot make the directory '%s': %s", dir, strerror(errno));
	if (!realpath(dir, path) || access(path, W_OK) < 0)
		return cmd_fail(EXIT_USAGE, "bench: cannot write to '%s': %s", dir, strerror(errno));
	/* It becomes a string of gnuplot's. */
	if (strchr(path, '\'') || strchr(path, '\n') || strlen(path) >= n)
		return cmd_fail(EXIT_USAGE, "bench: '%s' cannot be a directory for plots: give another", dir);
	(void)snprintf(ret, n, "%s", path);
	return EXIT_DONE;
}

static int parse_seconds(const char *text, double *ret)
{
	char *end;
	double v;

	if (!text)
		return 0;
	v = strtod(text, &end);
	if (end == text || *end || !isfinite(v) || v < 0.01 || v > BENCH_SECONDS_MAX)
		return -EINVAL;
	*ret = v;
	return 0;
}

/* NULL: what was asked for is no name. It becomes that of a directory, which is removed with all that is in it. */
static const char *lab_name(void)
{
	const char *name = getenv(BENCH_LAB_ENV);

	if (!name)
		return BENCH_LAB;
	if (strncmp(name, BENCH_LAB "-", sizeof(BENCH_LAB)) != 0 || strlen(name) > BENCH_LAB_MAX ||
	    name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")])
		return NULL;
	return name;
}

static int bench_run_one(const struct bench *bench, const struct bench_args *args)
{
	struct bench_opts opts = {
		.rounds = args->rounds ? (unsigned int)args->rounds :
			  args->quick  ? QUICK_ROUNDS :
					 BENCH_ROUNDS,
		.seconds = args->quick ? QUICK_SECONDS : BENCH_SECONDS,
		.limit_s = args->limit_s,
		.pairs = args->pairs ? args->pairs :
			 args->quick ? QUICK_PAIRS :
				       BENCH_PAIRS,
		.only = args->row,
	};
	struct bench_job job = { .args = args };
	const char *lab = lab_name();
	struct err err = {};
	int r;

	if (!lab)
		return cmd_fail(EXIT_USAGE,
				"bench: '%s' does not fit " BENCH_LAB_ENV ": write '" BENCH_LAB
				"-' and small letters and digits, at most %d in all",
				getenv(BENCH_LAB_ENV), BENCH_LAB_MAX);
	if (parse_seconds(args->seconds, &opts.seconds) < 0)
		return cmd_fail(EXIT_USAGE, "bench: '%s' does not fit --seconds: give a number from 0.01 to %d",
				args->seconds, BENCH_SECONDS_MAX);
	job.run = (struct bench_run){ .bench = bench, .opts = &opts, .env = &env, .waggle.out = -1 };
	r = bench_declare(&job.run, &err) < 0 ? cmd_fail(EXIT_USAGE, "bench: %s", err.text) : EXIT_DONE;
	if (r == EXIT_DONE)
		r = bench_needs(args);
	if (r == EXIT_DONE)
		r = make_dir(args->plot, job.plot, sizeof(job.plot));
	if (r == EXIT_DONE)
		r = make_dir(args->report, job.report, sizeof(job.report));
	if (r == EXIT_DONE)
		r = cmd_alone("bench");
	if (r == EXIT_DONE) {
		r = lab_run(lab, bench->hosts, bench->n_hosts, bench_in_lab, &job, &err);
		if (r < 0) {
			cmd_progress_end();
			r = cmd_fail(EXIT_FAILED, "bench: %s", err.text);
		}
	}
	bench_done(&job.run);
	return r;
}

static const struct opt bench_opts[] = {
	{ "rounds", OPT_U64, "N", "how often each row is measured (default 5)", offsetof(struct bench_args, rounds), 1,
	  BENCH_ROUNDS_MAX },
	{ "limit", OPT_U64, "S", "begin no further round after so many seconds", offsetof(struct bench_args, limit_s),
	  1, BENCH_LIMIT_MAX_S },
	{ "seconds", OPT_STRING, "S", "how long, each time (default 0.5; wrk takes whole seconds)",
	  offsetof(struct bench_args, seconds), 0, 0 },
	{ "row", OPT_STRING, "WORD", "only rows whose name contains this", offsetof(struct bench_args, row), 0, 0 },
	{ "pairs", OPT_U64, "N", "how many idle pairs the row 'memory' makes (default 100000)",
	  offsetof(struct bench_args, pairs), 1, BENCH_PAIRS_MAX },
	{ "quick", OPT_FLAG, NULL, "one short round, to see that everything works", offsetof(struct bench_args, quick),
	  0, 0 },
	{ "json", OPT_FLAG, NULL, "print every sample, and what was made of them, as JSON",
	  offsetof(struct bench_args, json), 0, 0 },
	{ "plot", OPT_STRING, "DIR", "draw SVG files into this directory, by gnuplot",
	  offsetof(struct bench_args, plot), 0, 0 },
	{ "report", OPT_STRING, "DIR", "write one HTML page with everything into this directory",
	  offsetof(struct bench_args, report), 0, 0 },
	{ 0 },
};

static int bench_fn(int argc, char **argv)
{
	struct bench_args args = {};
	const struct bench *bench;
	int first, r;

	r = opt_parse(&cmd_bench, argc, argv, &args, &first);
	if (r < 0)
		return OPT_EXIT(r);
	if (first == argc)
		return list_benches();
	bench = bench_find(argv[first]);
	if (!bench)
		return cmd_fail(EXIT_USAGE, "bench: there is no benchmark '%s': see 'waggle bench'", argv[first]);
	return bench_run_one(bench, &args);
}

const struct cmd cmd_bench = {
	.name = "bench",
	.args = "[BENCHMARK]",
	.help = "run a benchmark, each with its baseline in the same run; without a name: list them",
	.opts = bench_opts,
	.max = 1,
	.fn = bench_fn,
};
