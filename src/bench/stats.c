// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/stats.h"

#include <errno.h>
#include <math.h>

#include "base/util.h"

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* part: 0 is the smallest, 1 the largest. */
static double quantile(const double *sorted, size_t n, double part)
{
	double at = part * (double)(n - 1);
	size_t below = (size_t)at;

	if (below + 1 >= n)
		return sorted[n - 1];
	return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

static double *sorted_of(const double *v, size_t n)
{
	double *sorted = calloc(n, sizeof(*sorted));

	if (sorted) {
		memcpy(sorted, v, n * sizeof(*sorted));
		qsort(sorted, n, sizeof(*sorted), compare);
	}
	return sorted;
}

int stats_median_interval(const double *v, size_t n, struct stats_interval *ret)
{
	_cleanup_free_ double *sorted = sorted_of(v, n);
	/* That so many samples lie below the median: n over i, of 2^n. */
	double part = ldexp(1, -(int)n), below = 0;
	size_t from = 0;

	if (!sorted)
		return -ENOMEM;
	*ret = (struct stats_interval){ sorted[0], sorted[n - 1], 1 - 2 * part };
	for (; from < n - 1 - from; from++) {
		below += part;
		if (1 - 2 * below < 0.95)
			break;
		*ret = (struct stats_interval){ sorted[from], sorted[n - 1 - from], 1 - 2 * below };
		part *= (double)(n - from) / (double)(from + 1);
	}
	return 0;
}

int stats_of(const double *v, size_t n, struct stats *ret)
{
	_cleanup_free_ double *sorted = sorted_of(v, n);

	if (!sorted)
		return -ENOMEM;
	*ret = (struct stats){
		.median = quantile(sorted, n, 0.5),
		.q1 = quantile(sorted, n, 0.25),
		.q3 = quantile(sorted, n, 0.75),
		.min = sorted[0],
		.max = sorted[n - 1],
	};
	return 0;
}
