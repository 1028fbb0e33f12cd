// SPDX-License-Identifier: GPL-2.0-or-later
/* Options by table, over getopt_long: names are never abbreviated, and a bad one gets one line with the remedy. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdint.h>

#include "base/num.h"
#include "cmd/cmd.h"

#define OPT_MAX 24
/* What getopt_long gives for the options of the table; a letter gives itself. */
#define OPT_HELP 1000
#define OPT_FIRST 1001

int cmd_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fputs("waggle: ", stderr);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
	return code;
}

void opt_help(const struct cmd *cmd)
{
	printf("usage: waggle %s%s%s%s\n\n%s\n", cmd->name, cmd->opts && cmd->opts[0].name ? " [OPTIONS]" : "",
	       cmd->args[0] ? " " : "", cmd->args, cmd->help);
	printf("\nOptions:\n");
	for (const struct opt *o = cmd->opts; o && o->name; o++) {
		char left[64];

		(void)snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %-26s %s\n", left, o->help);
	}
	printf("  %-26s %s\n", "--help", "show this help");
}

void opt_list_done(struct opt_list *list)
{
	free(list->v);
	*list = (struct opt_list){};
}

static int opt_store(const struct opt *o, const char *value, void *args)
{
	void *slot = (char *)args + o->offset;

	switch (o->kind) {
	case OPT_FLAG:
		*(bool *)slot = true;
		break;
	case OPT_STRING:
		*(const char **)slot = value;
		break;
	case OPT_LIST: {
		struct opt_list *list = slot;
		const char **v = reallocarray(list->v, list->n + 1, sizeof(*v));

		if (!v)
			return -ENOMEM;
		list->v = v;
		list->v[list->n++] = value;
		break;
	}
	case OPT_U64: {
		uint64_t n;

		if (num_parse_u64(value, o->min, o->max, &n) < 0)
			return -EINVAL;
		*(uint64_t *)slot = n;
		break;
	}
	}
	return 0;
}

/* The table as getopt_long wants it; val is OPT_FIRST and the index in the table. */
static void opt_to_getopt(const struct cmd *cmd, struct option *ret)
{
	int n = 0;

	for (const struct opt *o = cmd->opts; o && o->name && n < OPT_MAX; o++, n++)
		ret[n] = (struct option){ o->name, o->kind == OPT_FLAG ? no_argument : required_argument, NULL,
					  OPT_FIRST + n };
	ret[n] = (struct option){ "help", no_argument, NULL, OPT_HELP };
	ret[n + 1] = (struct option){ 0 };
}

/* Of several that begin alike, the first in the table has the letter. */
char opt_letter(const struct cmd *cmd, const struct opt *o)
{
	char letter = o->name[0];

	if (!cmd->letters || !letter || !strchr(cmd->letters, letter))
		return '\0';
	for (const struct opt *before = cmd->opts; before != o; before++)
		if (before->name[0] == letter)
			return '\0';
	return letter;
}

/* The row of the option that has a letter. */
static const struct opt *opt_with_letter(const struct cmd *cmd, int letter)
{
	const struct opt *o = cmd->opts;

	while (opt_letter(cmd, o) != (char)letter)
		o++;
	return o;
}

/* As getopt_long wants them. ':' first: a missing value is told from an unknown option. */
static void opt_letters(const struct cmd *cmd, char ret[2 * OPT_MAX + 2])
{
	size_t n = 0;

	ret[n++] = ':';
	for (const struct opt *o = cmd->opts; o && o->name && n < 2 * OPT_MAX; o++) {
		if (!opt_letter(cmd, o))
			continue;
		ret[n++] = opt_letter(cmd, o);
		if (o->kind != OPT_FLAG)
			ret[n++] = ':';
	}
	ret[n] = '\0';
}

/* getopt_long accepts unique prefixes; scripts must not come to rely on them. */
static bool opt_is_abbreviated(const char *word, const struct option *o)
{
	size_t n = strcspn(word + 2, "=");

	return strlen(o->name) != n;
}

/* The word that getopt_long has refused. Of "-xy" it has taken the x, and not gone on to the next word. */
static const char *opt_refused(char **argv)
{
	const char *word = argv[optind - 1];
	bool is_letter = optopt && optopt < OPT_HELP;

	return is_letter && !(word[0] == '-' && word[1] == (char)optopt && !word[2]) ? argv[optind] : word;
}

static int opt_one(const struct cmd *cmd, const struct option *long_opts, int val, int index, char **argv, void *args)
{
	const char *word = argv[optind - 1];
	const struct opt *o;
	int r;

	if (val == '?' || val == ':')
		return cmd_fail(EXIT_USAGE, "%s: %s '%s': see 'waggle %s --help'", cmd->name,
				val == '?' ? "there is no option" : "a value is missing after", opt_refused(argv),
				cmd->name);
	/* With its value in a word of its own the option is one word further back. */
	if (optarg && optarg == word)
		word = argv[optind - 2];
	if (strncmp(word, "--", 2) == 0 && opt_is_abbreviated(word, &long_opts[index]))
		return cmd_fail(EXIT_USAGE, "%s: there is no option '%s': write '--%s'", cmd->name, word,
				long_opts[index].name);
	if (val == OPT_HELP) {
		opt_help(cmd);
		return -1;
	}
	o = val >= OPT_FIRST ? &cmd->opts[val - OPT_FIRST] : opt_with_letter(cmd, val);
	r = opt_store(o, optarg, args);
	if (r == -EINVAL)
		return cmd_fail(EXIT_USAGE, "%s: '%s' does not fit --%s: give a number from %llu to %llu", cmd->name,
				optarg, o->name, o->min, o->max);
	return r < 0 ? cmd_fail(EXIT_FAILED, "out of memory") : 0;
}

int opt_parse(const struct cmd *cmd, int argc, char **argv, void *args, int *ret_first)
{
	struct option long_opts[OPT_MAX + 2];
	char letters[2 * OPT_MAX + 2];
	int val, index = 0, n;

	opt_to_getopt(cmd, long_opts);
	opt_letters(cmd, letters);
	/* 0, not 1: glibc then forgets the letters that an earlier call has left over too. */
	optind = 0;
	opterr = 0;
	while ((val = getopt_long(argc, argv, letters, long_opts, &index)) != -1) {
		int code = opt_one(cmd, long_opts, val, index, argv, args);

		if (code)
			return code < 0 ? OPT_EXIT(EXIT_DONE) : OPT_EXIT(code);
	}
	n = argc - optind;
	if (n < cmd->min || (cmd->max >= 0 && n > cmd->max)) {
		int code = n < cmd->min ? cmd_fail(EXIT_USAGE, "%s: too few arguments: usage: waggle %s %s", cmd->name,
						   cmd->name, cmd->args) :
					  cmd_fail(EXIT_USAGE, "%s: unexpected argument '%s': see 'waggle %s --help'",
						   cmd->name, argv[optind + cmd->max], cmd->name);
		return OPT_EXIT(code);
	}
	*ret_first = optind;
	return 0;
}
