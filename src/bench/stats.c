// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/stats.h"

#include <errno.h>

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

int stats_of(const double *v, size_t n, struct stats *ret)
{
	_cleanup_free_ double *sorted = calloc(n, sizeof(*sorted));

	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, v, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare);
	*ret = (struct stats){
		.median = quantile(sorted, n, 0.5),
		.q1 = quantile(sorted, n, 0.25),
		.q3 = quantile(sorted, n, 0.75),
		.min = sorted[0],
		.max = sorted[n - 1],
	};
	return 0;
}
