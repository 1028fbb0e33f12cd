// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The report: one HTML page with everything in it. No script, nothing fetched; the colours follow the reader's choice of light or
 * dark, those of the plots too, whose text and axes take the page's.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/utsname.h>
#include <time.h>

#include "bench/bench.h"

static const char style[] =
	":root{color-scheme:light dark;--line:#c9d1d9;--soft:#57606a;--head:#f0f3f6;--good:#1a7f37;--bad:#b35900}"
	"@media(prefers-color-scheme:dark){:root{--line:#3d444d;--soft:#9198a1;--head:#1c2128;--good:#4ac26b;--bad:#e3a04f}"
	"body{background:#0d1117;color:#e6edf3}}"
	"body{font:16px/1.5 system-ui,sans-serif;max-width:74rem;margin:0 auto;padding:1.5rem}"
	"h1{margin:0 0 .25rem}h2{margin:2.5rem 0 .5rem}p{max-width:48rem}"
	"table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}"
	"caption{text-align:left;color:var(--soft);padding-bottom:.4rem}"
	"th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}"
	"thead th{background:var(--head)}td.n,th.n{text-align:right;white-space:nowrap}tbody th{font-weight:500;white-space:nowrap}"
	".wide{overflow-x:auto}.soft{color:var(--soft)}.yes{color:var(--good)}.no{color:var(--bad)}"
	"figure{margin:1rem 0}figure svg{display:block;width:100%;height:auto}figcaption{color:var(--soft)}"
	"figure svg text{fill:currentColor}figure svg g[color=black]{color:inherit}"
	"figure svg [stroke=black]{stroke:currentColor}figure svg .gridline{stroke:var(--line)}"
	"pre{overflow:auto;max-height:30rem;border:1px solid var(--line);padding:.75rem;font-size:.8rem}";

/* What is particular to how one is measured. */
static const struct {
	const char *bench, *text;
} abouts[] = {
	{ "accel",
	  "Both ends are processes of their own on this machine; plain TCP and AF_UNIX are measured while no waggle "
	  "runs at all." },
	{ "sizes",
	  "Both ends are processes of their own, each on a processor of its own; plain TCP and AF_UNIX are measured "
	  "while no waggle runs at all." },
	{ "connect",
	  "Single calls, by the median of thousands; in the tables are 10000 services of 10 backends each." },
	{ "classic",
	  "Client, balancer and two web servers are network namespaces on one bridge; wrk runs with one thread, each nginx with one "
	  "worker, haproxy with one thread. What a way needs runs only while it is measured. For XDP the hosts send whole "
	  "checksums, and what is larger than the MTU is cut before it, for it can deal with neither; everything else keeps the offloads of veth. The "
	  "programs whose sockets are joined are named to waggle, so that it does not watch them first. Published gains are those "
	  "of the tutorial that the comparison comes from (feiskyer/ebpf-apps), with containers of a machine of its own: +10.8 % "
	  "by joining nginx's sockets, +30.8 % by XDP, both over the first way." },
	{ "redirect",
	  "The same transparent haproxy is reached by a rule of nftables and by waggle's redirect; it reads "
	  "SO_ORIGINAL_DST in both, and its own connections are told by its user." },
	{ "observe",
	  "waggle runs and joins in all ways. Processor time is that of all that the lab runs, those that watch too, for a request." },
	{ "policy",
	  "Single calls, by the median of thousands, of programs that the policy is about; in both ways the first entry allows them." },
};

static void put_text(FILE *f, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<':
			(void)fputs("&lt;", f);
			break;
		case '>':
			(void)fputs("&gt;", f);
			break;
		case '&':
			(void)fputs("&amp;", f);
			break;
		case '"':
			(void)fputs("&quot;", f);
			break;
		default:
			(void)fputc(*text, f);
		}
	}
}

static void put_head(FILE *f, const struct bench_run *run)
{
	(void)fprintf(
		f,
		"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		"<title>waggle bench %s</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n<h1>waggle bench %s</h1>\n<p>",
		run->bench->name, style, run->bench->name);
	put_text(f, run->bench->help);
	(void)fputs("</p>\n", f);
}

static void put_fact(FILE *f, const char *name, const char *fmt, ...) _printf_(3, 4);
static void put_fact(FILE *f, const char *name, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)fprintf(f, "<tr><th scope=\"row\">%s</th><td>", name);
	put_text(f, text);
	(void)fputs("</td></tr>\n", f);
}

static bool is_virtual(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/cpuinfo", "re");
	_cleanup_free_ char *line = NULL;
	size_t room = 0;

	while (f && getline(&line, &room, f) > 0)
		if (strncmp(line, "flags", 5) == 0)
			return strstr(line, " hypervisor") != NULL;
	return false;
}

static void put_machine(FILE *f, const struct bench_run *run)
{
	double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
	struct utsname kernel;
	time_t now = time(NULL);
	char cpu[256], when[64];
	struct tm tm;

	(void)uname(&kernel);
	bench_cpu_model(cpu, sizeof(cpu));
	(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &tm));
	(void)fputs("<h2>The machine</h2>\n<table>\n<tbody>\n", f);
	put_fact(f, "Kernel", "Linux %s, %s", kernel.release, kernel.machine);
	put_fact(f, "Processors", "%ld, %s%s", sysconf(_SC_NPROCESSORS_ONLN), cpu,
		 is_virtual() ? ", in a virtual machine" : "");
	put_fact(f, "Memory", "%.1f GiB", memory / (1 << 30));
	put_fact(f, "Load of a minute", "%.1f before, %.1f after", run->load_before, run->load_after);
	put_fact(f, "Taken by the hypervisor", "%.1f %% of the processor time meanwhile", run->stolen_percent);
	put_fact(f, "Measured", "%s, by waggle " WAGGLE_VERSION, when);
	(void)fputs("</tbody>\n</table>\n", f);
}

static void put_method(FILE *f, const struct bench_run *run)
{
	const struct bench *bench = run->bench;

	(void)fprintf(
		f,
		"<h2>How it was measured</h2>\n<p>%u round%s of %g s for each way of each row (wrk takes whole seconds). The ways "
		"take turns within a round, forwards and backwards, so what else the machine does hits all of them alike: "
		"compare ratios rather than numbers. Figures are medians of the rounds; a ratio says how many times as good a "
		"way is as the first (",
		run->rounds, run->rounds == 1 ? "" : "s", run->opts->seconds);
	put_text(f, bench->ways[0].title);
	(void)fputs("), more is always better. The interval holds the median ratio of a round with the probability in brackets, for "
		    "whatever distribution; 95 % or more takes six rounds.</p>\n",
		    f);
	for (size_t i = 0; i < ARRAY_SIZE(abouts); i++)
		if (streq(abouts[i].bench, bench->name))
			(void)fprintf(f, "<p>%s</p>\n", abouts[i].text);
}

static void put_number(FILE *f, double v)
{
	(void)fprintf(f, "<td class=\"n\">%.*f</td>", v < 10 ? 2 : v < 1000 ? 1 : 0, v);
}

static void put_none(FILE *f, size_t n)
{
	while (n--)
		(void)fputs("<td class=\"n soft\">-</td>", f);
}

static void put_ratio(FILE *f, const struct bench_row *row, size_t way)
{
	struct stats_interval interval;

	if (!way || !bench_ratio_interval(row, way, &interval)) {
		put_none(f, 2);
		return;
	}
	(void)fprintf(f, "<td class=\"n\">%.2f</td><td class=\"n\">%.2f to %.2f (%.0f %%)</td>", bench_ratio(row, way),
		      interval.low, interval.high, 100 * interval.probability);
}

static void put_table(FILE *f, const char *caption, const char *const *heads, size_t texts)
{
	(void)fputs("<div class=\"wide\"><table>\n<caption>", f);
	put_text(f, caption);
	(void)fputs("</caption>\n<thead><tr>", f);
	for (size_t i = 0; heads[i]; i++) {
		(void)fprintf(f, "<th scope=\"col\"%s>", i < texts ? "" : " class=\"n\"");
		put_text(f, heads[i]);
		(void)fputs("</th>", f);
	}
	(void)fputs("</tr></thead>\n<tbody>\n", f);
}

static void put_table_end(FILE *f)
{
	(void)fputs("</tbody>\n</table></div>\n", f);
}

static void put_gain(FILE *f, double times)
{
	(void)fprintf(f, "<td class=\"n\">%+.1f %%</td>", 100 * (times - 1));
}

/* A line each way; what was published stands beside, as gains over the first. */
static void put_series(FILE *f, const struct bench_run *run, const struct bench_row *row)
{
	const char *heads[] = { "Way",	     "Median", "Ratio",
				"Interval",  "CPU us", row->published ? "Gain here" : NULL,
				"Published", NULL };

	put_table(f, row->group->unit, heads, 1);
	for (size_t w = 0; w < run->bench->n_ways; w++) {
		(void)fputs("<tr><th scope=\"row\">", f);
		put_text(f, run->bench->ways[w].title);
		(void)fputs("</th>", f);
		if (row->ways_got[w].n) {
			put_number(f, row->ways_got[w].stats.median);
			put_ratio(f, row, w);
			put_number(f, row->ways_got[w].cpu_stats.median);
		} else {
			put_none(f, 4);
		}
		if (row->published && w && row->ways_got[w].n)
			put_gain(f, bench_ratio(row, w));
		else if (row->published)
			put_none(f, 1);
		if (row->published && row->published[w] > 0)
			put_gain(f, row->published[w]);
		else if (row->published)
			put_none(f, 1);
		(void)fputs("</tr>\n", f);
	}
	put_table_end(f);
}

static void put_target(FILE *f, const struct bench_run *run, const struct bench_row *row)
{
	enum bench_verdict verdict = bench_judge(run, row);

	switch (row->target) {
	case BENCH_RATIO_AT_LEAST:
		(void)fprintf(f, "<td class=\"n\">ratio at least %.2f</td>", row->target_value);
		break;
	case BENCH_EXTRA_AT_MOST:
		(void)fprintf(f, "<td class=\"n\">at most %.3g more</td>", row->target_value);
		break;
	case BENCH_AT_MOST:
		(void)fprintf(f, "<td class=\"n\">at most %.3g</td>", row->target_value);
		break;
	case BENCH_CPU_AT_LEAST:
		(void)fprintf(f, "<td class=\"n\">CPU ratio at least %.2f</td>", row->target_value);
		break;
	case BENCH_NO_TARGET:
		put_none(f, 1);
		break;
	}
	(void)fprintf(f, "<td class=\"n %s\">%s</td>",
		      verdict == BENCH_MET    ? "yes" :
		      verdict == BENCH_MISSED ? "no" :
						"soft",
		      row->skipped ? "left out" : bench_verdict_word(verdict));
}

static void put_rows(FILE *f, const struct bench_run *run, size_t first, size_t end)
{
	/* The rows of a sweep are told from each other by their names alone. */
	bool told = !run->rows[first].group->sweep;
	const char *heads[BENCH_WAYS_MAX + 8] = { "Row", told ? "What" : NULL };
	size_t n = told ? 2 : 1;

	for (size_t w = 0; w < run->bench->n_ways; w++)
		heads[n++] = run->bench->ways[w].title;
	heads[n++] = "Ratio";
	heads[n++] = "Interval";
	heads[n++] = "Target";
	heads[n++] = "Met";
	put_table(f, run->rows[first].group->unit, heads, told ? 2 : 1);
	for (size_t i = first; i < end; i++) {
		const struct bench_row *row = &run->rows[i];

		(void)fprintf(f, "<tr><th scope=\"row\">%s</th>", row->name);
		if (told) {
			(void)fputs("<td>", f);
			put_text(f, row->title);
			(void)fputs("</td>", f);
		}
		for (size_t w = 0; w < run->bench->n_ways; w++) {
			if (row->ways_got[w].n)
				put_number(f, row->ways_got[w].stats.median);
			else
				put_none(f, 1);
		}
		put_ratio(f, row, run->bench->subject);
		put_target(f, run, row);
		(void)fputs("</tr>\n", f);
	}
	put_table_end(f);
}

/* gnuplot's file from its root element on; one that was not made is left out. */
static int put_plot(FILE *f, const struct bench_run *run, size_t first, struct err *err)
{
	const struct bench_group *group = run->rows[first].group;
	char file[PATH_MAX], line[8192];
	_cleanup_fclose_ FILE *svg = NULL;
	bool begun = false;
	int r;

	(void)snprintf(file, sizeof(file), "%s/report.svg", run->lab->dir);
	(void)unlink(file);
	r = bench_plot_group(run, first, file, true, err);
	if (r < 0)
		return r;
	svg = fopen(file, "re");
	if (!svg)
		return 0;
	(void)fputs("<figure>\n", f);
	while (fgets(line, sizeof(line), svg)) {
		if (!begun && strncmp(line, "<svg", 4) == 0) {
			begun = true;
			(void)fputs("<svg role=\"img\" aria-label=\"", f);
			put_text(f, group->title);
			(void)fputs("\"\n", f);
		} else if (begun) {
			(void)fputs(line, f);
		}
	}
	(void)fprintf(f, "<figcaption>%s</figcaption>\n</figure>\n",
		      bench_is_series(run->bench) ? "Bars: medians. Lines: from the smallest sample to the largest." :
		      group->sweep		  ? "Points: medians. Lines: from the smallest sample to the largest." :
						    "How many times as good as the first way, by the medians.");
	return 0;
}

static int put_group(FILE *f, const struct bench_run *run, size_t first, struct err *err)
{
	size_t end = bench_group_end(run, first);
	int r;

	(void)fputs("<section>\n<h2>", f);
	put_text(f, run->rows[first].group->title);
	(void)fputs("</h2>\n", f);
	r = put_plot(f, run, first, err);
	if (bench_is_series(run->bench))
		for (size_t i = first; i < end; i++)
			put_series(f, run, &run->rows[i]);
	else
		put_rows(f, run, first, end);
	for (size_t i = first; i < end; i++) {
		if (!run->rows[i].skipped)
			continue;
		(void)fprintf(f, "<p class=\"soft\">%s was left out: ", run->rows[i].name);
		put_text(f, run->rows[i].skipped);
		(void)fputs("</p>\n", f);
	}
	(void)fputs("</section>\n", f);
	return r;
}

static int put_samples(FILE *f, const struct bench_run *run, struct err *err)
{
	json_t *root = bench_json(run);
	_cleanup_free_ char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;

	json_decref(root);
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	(void)fputs("<h2>Every sample</h2>\n<details>\n<summary>What <code>--json</code> prints of this run</summary>\n<pre>",
		    f);
	put_text(f, text);
	(void)fputs("</pre>\n</details>\n", f);
	return 0;
}

int bench_report(const struct bench_run *run, const char *dir, struct err *err)
{
	char file[PATH_MAX + 64];
	FILE *f;
	int r = 0;

	(void)snprintf(file, sizeof(file), "%s/%s.html", dir, run->bench->name);
	f = fopen(file, "we");
	if (!f)
		return err_set(err, -errno, "cannot write '%s': %s", file, strerror(errno));
	put_head(f, run);
	put_machine(f, run);
	put_method(f, run);
	for (size_t first = 0; r >= 0 && first < run->n_rows; first = bench_group_end(run, first))
		r = put_group(f, run, first, err);
	if (r >= 0)
		r = put_samples(f, run, err);
	(void)fputs("</main>\n</body>\n</html>\n", f);
	if ((ferror(f) | fclose(f)) && r >= 0)
		return err_set(err, -EIO, "cannot write '%s'", file);
	return r;
}
