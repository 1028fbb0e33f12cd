/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said of a row's samples. */
#pragma once

#include <stddef.h>

struct stats {
	double median, q1, q3, min, max; /* of the samples, in their unit */
};

/*
 * Quartiles by linear interpolation between the sorted samples (type 7 of Hyndman and Fan, as in R and numpy), so
 * that of a single sample all five are that sample. v is not changed. n must not be 0. -ENOMEM.
 */
int stats_of(const double *v, size_t n, struct stats *ret);
