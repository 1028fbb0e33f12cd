// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/num.h"

#include <errno.h>

#include "unit.h"

static void test_accepts(void **state)
{
	uint64_t v = 7;

	assert_int_equal(num_parse_u64("0", 0, UINT64_MAX, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(num_parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(num_parse_u64("0080", 1, 100, &v), 0);
	assert_int_equal(v, 80);
}

static void test_refuses(void **state)
{
	static const char *const bad[] = { "", " ", "-1", "+1", " 1", "1 ", "1x", "0x10", "1.5", "1e3", "one", "١" };
	uint64_t v = 7;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(num_parse_u64(bad[i], 0, UINT64_MAX, &v), -EINVAL);
	assert_int_equal(v, 7);
}

static void test_range(void **state)
{
	uint64_t v = 7;

	assert_int_equal(num_parse_u64("9", 10, 20, &v), -ERANGE);
	assert_int_equal(num_parse_u64("21", 10, 20, &v), -ERANGE);
	assert_int_equal(num_parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
	assert_int_equal(v, 7);
	assert_int_equal(num_parse_u64("10", 10, 20, &v), 0);
	assert_int_equal(num_parse_u64("20", 10, 20, &v), 0);
	assert_int_equal(v, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_range),
	};

	return cmocka_run_group_tests_name("num", tests, NULL, NULL);
}
