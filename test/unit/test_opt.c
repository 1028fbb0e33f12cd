// SPDX-License-Identifier: GPL-2.0-or-later
/* The option table of the commands: what is taken, and that each refusal is one line that names the remedy. */
#include "../lib/opt_table.h"

#include <stdint.h>

#include "unit.h"

static const struct cmd cmd_none = { .name = "none", .args = "", .help = "takes no operand", .opts = table };
static const struct cmd cmd_two = {
	.name = "two", .args = "A [B]", .help = "takes two", .opts = table, .min = 1, .max = 2
};
static const struct cmd cmd_any = { .name = "any", .args = "[A...]", .help = "takes any", .max = -1 };

static struct args args;
static char printed[4096];
static int first;

/* Parses the words (NULL ends them); what is printed to either stream lands in printed. */
static int parse(const struct cmd *cmd, ...)
{
	char *argv[16] = { (char *)cmd->name };
	int argc = 1, r, out, err;
	FILE *file = tmpfile();
	va_list ap;
	size_t n;

	va_start(ap, cmd);
	while ((argv[argc] = va_arg(ap, char *)))
		argc++;
	va_end(ap);
	assert_non_null(file);
	opt_list_done(&args.port);
	args = (struct args){ .rounds = 7 };
	first = -1;
	(void)fflush(stdout);
	out = dup(STDOUT_FILENO);
	err = dup(STDERR_FILENO);
	assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
	r = opt_parse(cmd, argc, argv, &args, &first);
	(void)fflush(stdout);
	assert_true(dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0);
	(void)close(out);
	(void)close(err);
	rewind(file);
	n = fread(printed, 1, sizeof(printed) - 1, file);
	printed[n] = '\0';
	(void)fclose(file);
	return r;
}

static void assert_usage(int r, const char *says)
{
	assert_int_equal(r, OPT_EXIT(EXIT_USAGE));
	if (!strstr(printed, says))
		fail_msg("'%s' is not in: %s", says, printed);
	assert_ptr_equal(strchr(printed, '\n'), printed + strlen(printed) - 1);
	assert_int_equal(strncmp(printed, "waggle: ", 8), 0);
}

static void test_none(void **state)
{
	assert_int_equal(parse(&cmd_none, NULL), 0);
	assert_int_equal(first, 1);
	assert_false(args.json);
	assert_null(args.dir);
	assert_int_equal(args.rounds, 7);
	assert_string_equal(printed, "");
}

static void test_both_ways_of_values(void **state)
{
	assert_int_equal(parse(&cmd_none, "--dir", "/a", "--rounds=3", "--json", NULL), 0);
	assert_string_equal(args.dir, "/a");
	assert_int_equal(args.rounds, 3);
	assert_true(args.json);
	assert_int_equal(parse(&cmd_none, "--dir=/b", "--rounds", "100", NULL), 0);
	assert_string_equal(args.dir, "/b");
	assert_int_equal(args.rounds, 100);
	assert_false(args.json);
	/* A value may look like an option, and may be empty. */
	assert_int_equal(parse(&cmd_none, "--dir", "--json", NULL), 0);
	assert_string_equal(args.dir, "--json");
	assert_false(args.json);
	assert_int_equal(parse(&cmd_none, "--dir=", NULL), 0);
	assert_string_equal(args.dir, "");
}

static void test_lists(void **state)
{
	assert_int_equal(parse(&cmd_none, "--port", "80", "--port=81", "--port", "82-83", NULL), 0);
	assert_int_equal(args.port.n, 3);
	assert_string_equal(args.port.v[0], "80");
	assert_string_equal(args.port.v[1], "81");
	assert_string_equal(args.port.v[2], "82-83");
}

static void test_abbreviations_are_refused(void **state)
{
	assert_usage(parse(&cmd_none, "--js", NULL), "write '--json'");
	assert_usage(parse(&cmd_none, "--di", "/a", NULL), "write '--dir'");
	assert_usage(parse(&cmd_none, "--round=3", NULL), "write '--rounds'");
	assert_usage(parse(&cmd_none, "--hel", NULL), "write '--help'");
	assert_null(args.dir);
}

static void test_unknown(void **state)
{
	assert_usage(parse(&cmd_none, "--nonsense", NULL), "there is no option '--nonsense': see 'waggle none --help'");
	assert_usage(parse(&cmd_none, "-x", NULL), "there is no option '-x'");
	assert_usage(parse(&cmd_none, "--json=yes", NULL), "'--json=yes'");
	assert_usage(parse(&cmd_none, "--dir", NULL), "a value is missing after '--dir'");
}

/* Letters stand behind one dash together; the whole word is named, and nothing of it is left for the next call. */
static void test_letters(void **state)
{
	assert_usage(parse(&cmd_none, "-xy", NULL), "there is no option '-xy'");
	assert_usage(parse(&cmd_none, "--json", "-xyz", "--json", NULL), "there is no option '-xyz'");
	assert_usage(parse(&cmd_any, "operand", "-ab", NULL), "there is no option '-ab'");
	assert_usage(parse(&cmd_any, "operand", "-a", NULL), "there is no option '-a'");
	assert_usage(parse(&cmd_none, "-\xc3\xa4", NULL), "there is no option '-\xc3\xa4'");
	assert_int_equal(parse(&cmd_none, "--json", NULL), 0);
	assert_true(args.json);
	assert_int_equal(first, 2);
	assert_int_equal(parse(&cmd_none, NULL), 0);
	assert_int_equal(first, 1);
}

/* One option may go by its first letter. */
static void test_letter_for(void **state)
{
	const struct cmd with = { .name = "with", .args = "", .help = "", .opts = table, .letters = "d" };
	const struct cmd flag = { .name = "flag", .args = "", .help = "", .opts = table, .letters = "j" };
	const struct cmd both = { .name = "both", .args = "", .help = "", .opts = table, .letters = "djx" };

	assert_int_equal(parse(&with, "-d", "/a", "--json", NULL), 0);
	assert_string_equal(args.dir, "/a");
	assert_true(args.json);
	assert_int_equal(parse(&with, "-d/b", NULL), 0);
	assert_string_equal(args.dir, "/b");
	assert_int_equal(parse(&with, "-d", "--js", NULL), 0);
	assert_string_equal(args.dir, "--js");
	assert_usage(parse(&with, "-d", NULL), "a value is missing after '-d'");
	assert_usage(parse(&with, "-j", NULL), "there is no option '-j'");
	assert_int_equal(parse(&flag, "-j", "--dir", "/c", NULL), 0);
	assert_true(args.json);
	assert_string_equal(args.dir, "/c");
	assert_usage(parse(&flag, "-jx", NULL), "there is no option");
	assert_usage(parse(&cmd_none, "-d", "/a", NULL), "there is no option '-d'");
	assert_int_equal(parse(&both, "-jd/a", NULL), 0);
	assert_true(args.json);
	assert_string_equal(args.dir, "/a");
	assert_usage(parse(&both, "-x", NULL), "there is no option '-x'");
	assert_usage(parse(&both, "-p", "80", NULL), "there is no option '-p'");
}

static void test_numbers(void **state)
{
	static const char *const bad[] = { "0", "101", "-1", "3x", "", "99999999999999999999" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_usage(parse(&cmd_none, "--rounds", bad[i], NULL), "give a number from 1 to 100");
		assert_int_equal(args.rounds, 7);
	}
}

static void test_operands(void **state)
{
	assert_usage(parse(&cmd_none, "extra", NULL), "unexpected argument 'extra'");
	assert_usage(parse(&cmd_two, NULL), "too few arguments");
	assert_int_equal(parse(&cmd_two, "--json", "a", "b", NULL), 0);
	assert_int_equal(first, 2);
	assert_usage(parse(&cmd_two, "a", "b", "c", NULL), "unexpected argument 'c'");
	assert_int_equal(parse(&cmd_two, "--", "--json", NULL), 0);
	assert_int_equal(first, 2);
	assert_false(args.json);
	assert_int_equal(parse(&cmd_any, "a", "b", "c", "d", NULL), 0);
}

static void test_help(void **state)
{
	assert_int_equal(parse(&cmd_two, "--help", NULL), OPT_EXIT(EXIT_DONE));
	assert_non_null(strstr(printed, "usage: waggle two [OPTIONS] A [B]"));
	for (const struct opt *o = table; o->name; o++) {
		assert_non_null(strstr(printed, o->name));
		assert_non_null(strstr(printed, o->help));
	}
	assert_int_equal(parse(&cmd_any, "--help", NULL), OPT_EXIT(EXIT_DONE));
	assert_non_null(strstr(printed, "usage: waggle any [A...]"));
}

static int teardown(void **state)
{
	opt_list_done(&args.port);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),	 cmocka_unit_test(test_both_ways_of_values),
		cmocka_unit_test(test_lists),	 cmocka_unit_test(test_abbreviations_are_refused),
		cmocka_unit_test(test_unknown),	 cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_operands), cmocka_unit_test(test_help),
		cmocka_unit_test(test_letters),	 cmocka_unit_test(test_letter_for),
	};

	return cmocka_run_group_tests_name("opt", tests, NULL, teardown);
}
