// SPDX-License-Identifier: GPL-2.0-or-later
/* waggle: one binary, one table of commands. */
#include <signal.h>

#include "base/log.h"
#include "cmd/cmd.h"
#include "sys/bpf.h"

#ifndef WAGGLE_VERSION
#define WAGGLE_VERSION "unknown"
#endif

const struct cmd *const commands[] = {
	&cmd_run,    &cmd_status,  &cmd_top,   &cmd_reload,  &cmd_drain,   &cmd_enable,	    &cmd_backend,
	&cmd_accel,  &cmd_sockets, &cmd_conns, &cmd_explain, &cmd_capture, &cmd_trace,	    &cmd_unload,
	&cmd_doctor, &cmd_demo,	   &cmd_bench, &cmd_check,   &cmd_policy,  &cmd_completion,
};

const size_t n_commands = ARRAY_SIZE(commands);

static void help(void)
{
	printf("usage: waggle COMMAND [OPTIONS]\n\n"
	       "Tells every connection on this machine where to go, in the kernel, by the shortest way.\n\nCommands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-10s %s\n", commands[i]->name, commands[i]->help);
	printf("\n'waggle COMMAND --help' tells more, and so does 'man waggle'.\n");
}

int main(int argc, char **argv)
{
	if (getenv("WAGGLE_DEBUG"))
		log_set_max(LOG_LEVEL_DEBUG);
	bpf_sys_init();
	if (argc < 2)
		return cmd_fail(EXIT_USAGE, "which command? see 'waggle --help'");
	if (streq(argv[1], "--help")) {
		help();
		return EXIT_DONE;
	}
	if (streq(argv[1], "--version")) {
		printf("waggle %s\n", WAGGLE_VERSION);
		return EXIT_DONE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (streq(argv[1], commands[i]->name))
			return commands[i]->fn(argc - 1, argv + 1);
	return cmd_fail(EXIT_USAGE, "there is no command '%s': see 'waggle --help'", argv[1]);
}
