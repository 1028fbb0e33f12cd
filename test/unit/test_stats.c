// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/stats.h"

#include "base/util.h"
#include "unit.h"

static void check(const double *v, size_t n, struct stats want)
{
	struct stats got;

	assert_int_equal(stats_of(v, n, &got), 0);
	assert_float_equal(got.min, want.min, 1e-9);
	assert_float_equal(got.q1, want.q1, 1e-9);
	assert_float_equal(got.median, want.median, 1e-9);
	assert_float_equal(got.q3, want.q3, 1e-9);
	assert_float_equal(got.max, want.max, 1e-9);
}

static void test_few(void **state)
{
	static const double one[] = { 7 }, two[] = { 9, 1 };

	check(one, 1, (struct stats){ .min = 7, .q1 = 7, .median = 7, .q3 = 7, .max = 7 });
	check(two, 2, (struct stats){ .min = 1, .q1 = 3, .median = 5, .q3 = 7, .max = 9 });
}

/* The values that R's quantile() gives. */
static void test_many(void **state)
{
	static const double odd[] = { 5, -1, 3, 100, 4 }, even[] = { 0.4, 0.1, 0.3, 0.2 };

	check(odd, 5, (struct stats){ .min = -1, .q1 = 3, .median = 4, .q3 = 5, .max = 100 });
	check(even, 4, (struct stats){ .min = 0.1, .q1 = 0.175, .median = 0.25, .q3 = 0.325, .max = 0.4 });
}

static void test_leaves_samples(void **state)
{
	double v[] = { 3, 1, 2 };
	struct stats got;

	assert_int_equal(stats_of(v, 3, &got), 0);
	assert_true(v[0] == 3 && v[1] == 1 && v[2] == 2);
}

/* As in tables of the sign test: of 5 samples 93.75 %, of 6 all, of 9 the second to the eighth, of 20 the sixth to the 15th. */
static void test_interval(void **state)
{
	static const struct {
		size_t n;
		double low, high, probability;
	} rows[] = {
		{ 1, 1, 1, 0 },
		{ 2, 1, 2, 0.5 },
		{ 5, 1, 5, 0.9375 },
		{ 6, 1, 6, 0.96875 },
		{ 8, 1, 8, 0.9921875 },
		{ 9, 2, 8, 0.9609375 },
		{ 20, 6, 15, 0.95861053466796875 },
	};
	struct stats_interval got;
	double v[20];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		/* Backwards, for they are sorted. */
		for (size_t j = 0; j < rows[i].n; j++)
			v[j] = (double)(rows[i].n - j);
		assert_int_equal(stats_median_interval(v, rows[i].n, &got), 0);
		assert_float_equal(got.low, rows[i].low, 1e-9);
		assert_float_equal(got.high, rows[i].high, 1e-9);
		assert_float_equal(got.probability, rows[i].probability, 1e-9);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_leaves_samples),
		cmocka_unit_test(test_interval),
	};

	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
