// SPDX-License-Identifier: GPL-2.0-or-later
/* Looks at programs that the build made from elf_sample.c; SAMPLES is their directory. */
#include "sys/elf.h"

#include <errno.h>
#include <stdio.h>

#include "unit.h"

static int sample(const char *name)
{
	const char *dir = getenv("SAMPLES");
	char path[4096];

	if (!dir)
		fail_msg("SAMPLES is not set: run this with 'meson test'");
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return elf_can_splice(path);
}

static void test_plain(void **state)
{
	assert_int_equal(sample("elf_plain"), 0);
	assert_int_equal(elf_can_splice("/bin/true"), 0);
}

static void test_imports_splice(void **state)
{
	assert_int_equal(sample("elf_splice"), 1);
}

static void test_static_is_in_doubt(void **state)
{
	assert_int_equal(sample("elf_static"), 1);
}

static void test_go_is_in_doubt(void **state)
{
	assert_int_equal(sample("elf_go"), 1);
}

static void test_no_elf_is_in_doubt(void **state)
{
	assert_int_equal(elf_can_splice("/etc/passwd"), 1);
	assert_int_equal(elf_can_splice("/dev/null"), 1);
}

static void test_missing(void **state)
{
	assert_int_equal(elf_can_splice("/no/such/file"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_imports_splice),
		cmocka_unit_test(test_static_is_in_doubt),
		cmocka_unit_test(test_go_is_in_doubt),
		cmocka_unit_test(test_no_elf_is_in_doubt),
		cmocka_unit_test(test_missing),
	};

	return cmocka_run_group_tests_name("elf", tests, NULL, NULL);
}
