// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Plots by gnuplot. A sweep over sizes becomes a curve for each way, from the smallest to the largest sample around the
 * median; other rows become bars of how many times as good each way is as the first.
 */
#include <errno.h>

#include "bench/bench.h"

#define PLOT_MS 30000

static void put_head(FILE *f, const struct bench_run *run, const struct bench_group *group, const char *dir)
{
	(void)fprintf(f,
		      "set terminal svg noenhanced size 900,560 dynamic background rgb 'white' font 'sans,14'\n"
		      "set output '%s/%s-%s.svg'\n"
		      "set title \"%s\"\n"
		      "set grid\n"
		      "set key left top\n",
		      dir, run->bench->name, group->word, group->title);
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

static int plot_group(const struct bench_run *run, size_t first, size_t end, const char *dir, struct err *err)
{
	const struct bench_group *group = run->rows[first].group;
	_cleanup_free_ char *script = NULL;
	size_t size = 0;
	FILE *f;

	if (!way_measured(run, first, end, 0))
		return 0;
	f = open_memstream(&script, &size);
	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	put_head(f, run, group, dir);
	if (group->sweep)
		put_sweep(f, run, first, end);
	else
		put_bars(f, run, first, end);
	if (fclose(f) != 0)
		return err_set(err, -ENOMEM, "out of memory");
	return run_gnuplot(run, script, err);
}

int bench_plot(const struct bench_run *run, const char *dir, struct err *err)
{
	size_t end;
	int r = 0;

	for (size_t first = 0; r >= 0 && first < run->n_rows; first = end) {
		for (end = first; end < run->n_rows && run->rows[end].group == run->rows[first].group; end++)
			;
		r = plot_group(run, first, end, dir, err);
	}
	return r;
}
