// SPDX-License-Identifier: GPL-2.0-or-later
/* Command lines: words are the lines of the input. Whatever is accepted is in range and points into argv. */
#include <getopt.h>
#include <stdint.h>
#include <unistd.h>

#include "../lib/opt_table.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct cmd cmd = {
	.name = "fuzz", .args = "[A [B]]", .help = "", .opts = table, .letters = "dj", .max = 2
};

/* Refusals are printed; nobody wants to read them. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return freopen("/dev/null", "w", stdout) ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	_cleanup_free_ char *text = calloc(bytes + 1, 1);
	char *argv[34] = { (char *)"fuzz" }, *rest = text, *word;
	struct args args = { .rounds = 1 };
	int argc = 1, first = -1, r;

	if (!text)
		return 0;
	if (bytes)
		memcpy(text, data, bytes);
	while (argc < 33 && (word = strsep(&rest, "\n")))
		argv[argc++] = word;
	optind = 0; /* glibc's way of starting over after a word was left half read */
	r = opt_parse(&cmd, argc, argv, &args, &first);
	if (args.rounds < 1 || args.rounds > ROUNDS_MAX || (r == 0 && (first < 1 || first > argc || argc - first > 2)))
		abort();
	if (r > 0 || (r < 0 && OPT_EXIT(r) != EXIT_DONE && OPT_EXIT(r) != EXIT_USAGE))
		abort();
	opt_list_done(&args.port);
	return 0;
}
