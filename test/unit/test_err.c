// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/err.h"

#include <errno.h>

#include "unit.h"

static void test_sets_and_returns(void **state)
{
	struct err err = {};

	assert_int_equal(err_set(&err, -ENOENT, "cannot read '%s': %s", "file", "gone"), -ENOENT);
	assert_string_equal(err.text, "cannot read 'file': gone");
	assert_int_equal(err_set(&err, 3, "later"), 3);
	assert_string_equal(err.text, "later");
}

static void test_null(void **state)
{
	assert_int_equal(err_set(NULL, -EIO, "nobody %s", "listens"), -EIO);
}

static void test_long_is_cut(void **state)
{
	char longer[2000];
	struct err err = {};

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(err_set(&err, -E2BIG, "%s", longer), -E2BIG);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sets_and_returns),
		cmocka_unit_test(test_null),
		cmocka_unit_test(test_long_is_cut),
	};

	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
