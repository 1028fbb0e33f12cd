// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/ports.h"

#include <errno.h>

#include "abi/accel.h"
#include "unit.h"

static uint8_t map[AC_PORTS];

static int setup(void **state)
{
	memset(map, 0, sizeof(map));
	return 0;
}

static size_t count(uint8_t bit)
{
	size_t n = 0;

	for (size_t p = 0; p < AC_PORTS; p++)
		n += (map[p] & bit) != 0;
	return n;
}

static void test_list(void **state)
{
	assert_int_equal(ports_parse("80,443,8000-8100", map, AC_PORT_ONLY, NULL), 0);
	assert_int_equal(count(AC_PORT_ONLY), 103);
	assert_int_equal(map[80], AC_PORT_ONLY);
	assert_int_equal(map[443], AC_PORT_ONLY);
	assert_int_equal(map[7999], 0);
	assert_int_equal(map[8000], AC_PORT_ONLY);
	assert_int_equal(map[8100], AC_PORT_ONLY);
	assert_int_equal(map[8101], 0);
}

static void test_ends(void **state)
{
	assert_int_equal(ports_parse("1-65535", map, AC_PORT_EXCLUDE, NULL), 0);
	assert_int_equal(count(AC_PORT_EXCLUDE), 65535);
	assert_int_equal(map[0], 0);
}

static void test_bits_add_up(void **state)
{
	assert_int_equal(ports_parse("80", map, AC_PORT_ONLY, NULL), 0);
	assert_int_equal(ports_parse("80", map, AC_PORT_EXCLUDE, NULL), 0);
	assert_int_equal(ports_parse("81-81", map, AC_PORT_ONLY, NULL), 0);
	assert_int_equal(map[80], AC_PORT_ONLY | AC_PORT_EXCLUDE);
	assert_int_equal(map[81], AC_PORT_ONLY);
}

static void test_refuses(void **state)
{
	static const char *const bad[] = { "",	      ",",    "80,", ",80", "80,,81", "0",
					   "65536",   "80-",  "-80", "-",   "90-80",  "0-80",
					   "1-65536", "http", "80 ", " 80", "80;81",  "80-90-100" };
	struct err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = '\0';
		if (ports_parse(bad[i], map, AC_PORT_ONLY, &err) != -EINVAL)
			fail_msg("'%s' was taken for ports", bad[i]);
		assert_non_null(strstr(err.text, "is not a port"));
	}
	assert_int_equal(count(0xff), 0);
}

/* What came before the bad item must not stay behind. */
static void test_failure_changes_nothing(void **state)
{
	struct err err = {};

	assert_int_equal(ports_parse("80", map, AC_PORT_ONLY, NULL), 0);
	assert_int_equal(ports_parse("1-1000,99999", map, AC_PORT_ONLY, &err), -EINVAL);
	assert_int_equal(count(0xff), 1);
	assert_non_null(strstr(err.text, "'99999' in '1-1000,99999'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_list, setup),
		cmocka_unit_test_setup(test_ends, setup),
		cmocka_unit_test_setup(test_bits_add_up, setup),
		cmocka_unit_test_setup(test_refuses, setup),
		cmocka_unit_test_setup(test_failure_changes_nothing, setup),
	};

	return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
