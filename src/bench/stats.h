/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said of a row's samples. */
#pragma once

#include <stddef.h>

struct stats {
	double median, q1, q3, min, max; /* of the samples, in their unit */
};

/* Holds a median with at least this probability. */
struct stats_interval {
	double low, high, probability;
};

/*
 * The narrowest interval between two of the samples, as far from either end of them, that holds the median of what they are
 * taken from with a probability of at least 0.95, by the binomial distribution; that of all samples if these are too few.
 * n must not be 0, nor more than 1000. -ENOMEM.
 */
int stats_median_interval(const double *v, size_t n, struct stats_interval *ret);

/*
 * Quartiles by linear interpolation between the sorted samples (type 7 of Hyndman and Fan, as in R and numpy), so
 * that of a single sample all five are that sample. v is not changed. n must not be 0. -ENOMEM.
 */
int stats_of(const double *v, size_t n, struct stats *ret);
