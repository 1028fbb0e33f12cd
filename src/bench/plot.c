// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Plots by gnuplot. A sweep over sizes becomes a curve for each way, from the smallest to the largest sample around the
 * median; other rows become bars of how many times as good each way is as the first, and those of a series a bar each way.
 */
#include <errno.h>

#include "bench/bench.h"

#define PLOT_MS 30000

/* To be told apart on white and on black, and by those who do not see all colours. */
static const char *const colours[] = { "#3b82c4", "#d98324", "#2f9e77", "#b565a7" };

static void put_head(FILE *f, const struct bench_group *group, const char *file, bool inlined, unsigned int height)
{
	(void)fprintf(f, "set terminal svg noenhanced size 900,%u dynamic font 'sans,14'%s\n", height,
		      inlined ? "" : " background rgb 'white'");
	(void)fprintf(f, "set output '%s'\nset grid\nset key left top\n", file);
	if (!inlined)
		(void)fprintf(f, "set title \"%s\"\n", group->title);
	for (size_t i = 0; i < ARRAY_SIZE(colours); i++)
		(void)fprintf(f, "set linetype %zu lc rgb '%s'\n", i + 1, colours[i]);
}

static bool way_measured(const struct bench_run *run, size_t first, size_t end, size_t way)
{
	for (size_t i = first; i < end; i++)
		if (run->rows[i].ways_got[way].n)
			return true;
	return false;
}

static void put_sweep(FILE *f, const struct bench_run *run, size_t first, size_t end)
{
	const char *separator = "plot ";

	for (size_t w = 0; w < run->bench->n_ways; w++) {
		(void)fprintf(f, "$way%zu << EOD\n", w);
		for (size_t i = first; i < end; i++) {
			const struct bench_row *row = &run->rows[i];
			const struct stats *s = &row->ways_got[w].stats;

			if (row->ways_got[w].n)
				(void)fprintf(f, "%llu %.9g %.9g %.9g\n", (unsigned long long)row->bytes, s->median,
					      s->min, s->max);
		}
		(void)fprintf(f, "EOD\n");
	}
	(void)fprintf(f,
		      "set logscale x 2\nset logscale y 10\nset xlabel 'bytes a message'\nset ylabel '%s'\n"
		      "set xtics ('1' 1, '4' 4, '16' 16, '64' 64, '256' 256, '1K' 1024, '4K' 4096, '16K' 16384, "
		      "'64K' 65536, '256K' 262144, '1M' 1048576)\n",
		      run->rows[first].group->unit);
	for (size_t w = 0; w < run->bench->n_ways; w++) {
		if (!way_measured(run, first, end, w))
			continue;
		(void)fprintf(f, "%s$way%zu using 1:2:3:4 with yerrorlines linewidth 2 pointtype 7 title '%s'",
			      separator, w, run->bench->ways[w].title);
		separator = ", ";
	}
	(void)fputc('\n', f);
}

static void put_bars(FILE *f, const struct bench_run *run, size_t first, size_t end)
{
	const char *separator = "plot ";

	(void)fprintf(f, "$bars << EOD\n");
	for (size_t i = first; i < end; i++) {
		(void)fprintf(f, "\"%s\"", run->rows[i].name);
		for (size_t w = 0; w < run->bench->n_ways; w++)
			(void)fprintf(f, " %.9g", bench_ratio(&run->rows[i], w));
		(void)fputc('\n', f);
	}
	(void)fprintf(f,
		      "EOD\nset style data histograms\nset style fill solid 0.8\nset yrange [0:*]\n"
		      "set ylabel 'times as good as %s'\n",
		      run->bench->ways[0].title);
	for (size_t w = 0; w < run->bench->n_ways; w++) {
		if (!way_measured(run, first, end, w))
			continue;
		(void)fprintf(f, "%s$bars using %zu:xtic(1) title '%s'", separator, w + 2, run->bench->ways[w].title);
		separator = ", ";
	}
	(void)fputc('\n', f);
}

/* A bar for each way, from top to bottom, and a line from its smallest sample to its largest. */
static void put_series(FILE *f, const struct bench_run *run, const struct bench_row *row)
{
	size_t n = 0;

	(void)fprintf(f, "$ways << EOD\n");
	for (size_t w = 0; w < run->bench->n_ways; w++) {
		const struct stats *s = &row->ways_got[w].stats;

		if (row->ways_got[w].n)
			(void)fprintf(f, "%zu \"%s\" %.9g %.9g %.9g %.9g\n", n++, run->bench->ways[w].title, s->median,
				      s->min, s->max,
				      row->published ? row->published[w] * row->ways_got[0].stats.median : 0);
	}
	(void)fprintf(
		f,
		"EOD\nset style fill solid 0.8 noborder\nunset grid\nset grid x\nset xrange [0:*]\n"
		"set yrange [%zu.4:-0.6]\nset rmargin 6\nset ytics scale 0\nset xlabel '%s%s'\nset key outside top center horizontal\n",
		n ? n - 1 : 0, row->group->unit, row->group->less_is_better ? ", less is better" : "");
	(void)fprintf(f, "plot $ways using 3:1:(0):3:($1-0.35):($1+0.35):ytic(2) with boxxyerror notitle lt 1, "
			 "$ways using 3:1:4:5 with xerrorbars notitle pt 0 lw 2 lt 2");
	if (row->published)
		(void)fprintf(f, ", $ways using ($6>0?$6:1/0):1 with points pt 12 ps 1.5 lw 2 lt 4 "
				 "title 'what others got, as many times the first'");
	(void)fputc('\n', f);
}

static int run_gnuplot(const struct bench_run *run, const char *script, struct err *err)
{
	static const char *const argv[] = { "gnuplot", "-", NULL };
	char log[PATH_MAX], last[256];
	struct prog_spec spec = {
		.argv = argv,
		.netns_fd = -1,
		.cgroup_fd = run->lab->waggle_fd,
		.log = log,
		.input = script,
	};
	int r;

	(void)snprintf(log, sizeof(log), "%s/gnuplot.log", run->lab->dir);
	r = prog_run(&spec, PLOT_MS, err);
	if (r != -EIO)
		return r;
	lab_last_line(run->lab, "gnuplot.log", last, sizeof(last));
	return err_set(err, r, "gnuplot failed: it says: %s", last);
}

static int height_of(const struct bench_run *run)
{
	return bench_is_series(run->bench) ? 100 + 36 * (int)run->bench->n_ways : 560;
}

int bench_plot_group(const struct bench_run *run, size_t first, const char *file, bool inlined, struct err *err)
{
	const struct bench_group *group = run->rows[first].group;
	size_t end = bench_group_end(run, first), size = 0;
	_cleanup_free_ char *script = NULL;
	FILE *f;

	if (!way_measured(run, first, end, 0))
		return 0;
	f = open_memstream(&script, &size);
	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	put_head(f, group, file, inlined, (unsigned int)height_of(run));
	if (bench_is_series(run->bench))
		put_series(f, run, &run->rows[first]);
	else if (group->sweep)
		put_sweep(f, run, first, end);
	else
		put_bars(f, run, first, end);
	if (fclose(f) != 0)
		return err_set(err, -ENOMEM, "out of memory");
	return run_gnuplot(run, script, err);
}

int bench_plot(const struct bench_run *run, const char *dir, struct err *err)
{
	char file[PATH_MAX + 128];
	int r = 0;

	for (size_t first = 0; r >= 0 && first < run->n_rows; first = bench_group_end(run, first)) {
		(void)snprintf(file, sizeof(file), "%s/%s-%s.svg", dir, run->bench->name, run->rows[first].group->word);
		r = bench_plot_group(run, first, file, false, err);
	}
	return r;
}
