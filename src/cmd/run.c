// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include "cmd/cmd.h"
#include "daemon/daemon.h"
#include "model/config.h"
#include "sys/caps.h"

struct run_args {
	const char *config;
};

static const struct opt run_opts[] = {
	{ "config", OPT_STRING, "FILE", "the configuration (also -c), see waggle.yaml(5)",
	  offsetof(struct run_args, config), 0, 0 },
	{ 0 },
};

static int run_run(const struct run_args *args)
{
	char lacking[CAPS_LACKING_MAX];
	struct config *config = NULL;
	struct err err = {};
	int r = cmd_config("run", args->config, &config);

	if (r != EXIT_DONE)
		return r;
	if (config->accelerate.on)
		caps_lacking(lacking, sizeof(lacking));
	else
		caps_lacking_to_balance(lacking, sizeof(lacking));
	if (lacking[0]) {
		(void)config_free(config);
		return cmd_fail(EXIT_FAILED, "run: not permitted (missing: %s): run as root", lacking);
	}
	r = daemon_run(args->config, config, &err);
	/* What the configuration names and what is not there, or not of its kind, is the caller's to put right. */
	if (r == -ENOENT || r == -EINVAL)
		return cmd_fail(EXIT_USAGE, "run: %s", err.text);
	return r < 0 ? cmd_fail(EXIT_FAILED, "run: %s", err.text) : EXIT_DONE;
}

static int run_fn(int argc, char **argv)
{
	struct run_args args = {};
	int first, r = opt_parse(&cmd_run, argc, argv, &args, &first);

	if (r < 0)
		return OPT_EXIT(r);
	if (!args.config)
		return cmd_fail(EXIT_USAGE, "run: which configuration? write 'waggle run -c FILE'");
	return run_run(&args);
}

const struct cmd cmd_run = {
	.name = "run",
	.args = "",
	.help = "balance and accelerate by a configuration, until stopped",
	.opts = run_opts,
	.letters = "c",
	.fn = run_fn,
};
