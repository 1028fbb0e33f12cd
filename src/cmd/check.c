// SPDX-License-Identifier: GPL-2.0-or-later
/* Says everything that is wrong with a configuration, and touches nothing. */
#include <jansson.h>

#include "cmd/cmd.h"
#include "model/config.h"

struct check_args {
	const char *config;
	bool json;
};

static const struct opt check_opts[] = {
	{ "config", OPT_STRING, "FILE", "the configuration (also -c), see waggle.yaml(5)",
	  offsetof(struct check_args, config), 0, 0 },
	{ "json", OPT_FLAG, NULL, "print what was read, with every default filled in",
	  offsetof(struct check_args, json), 0, 0 },
	{ 0 },
};

static int check_json(const struct config *c)
{
	json_t *root = config_to_json(c);
	int r = root ? json_dumpf(root, stdout, JSON_INDENT(2)) : -1;

	json_decref(root);
	return r < 0 || putchar('\n') == EOF || fflush(stdout) ? cmd_fail(EXIT_FAILED, "check: cannot write the JSON") :
								 EXIT_DONE;
}

static void check_summary(const char *path, const struct config *c)
{
	size_t backends = 0;

	for (size_t i = 0; i < c->n_services; i++)
		backends += c->services[i].n_backends;
	printf("%s: right: %zu service%s with %zu backend%s", path, c->n_services, c->n_services == 1 ? "" : "s",
	       backends, backends == 1 ? "" : "s");
	if (c->n_redirects)
		printf(", %zu redirect%s", c->n_redirects, c->n_redirects == 1 ? "" : "s");
	if (c->n_policies)
		printf(", %zu polic%s", c->n_policies, c->n_policies == 1 ? "y" : "ies");
	if (c->files.n > 1)
		printf(", from %zu files", c->files.n);
	printf("\n");
}

static int check_run(const struct check_args *args)
{
	_cleanup_(config_freep) struct config *c = NULL;
	int r = cmd_config("check", args->config, &c);

	if (r != EXIT_DONE)
		return r;
	if (args->json)
		return check_json(c);
	check_summary(args->config, c);
	return EXIT_DONE;
}

static int check_fn(int argc, char **argv)
{
	struct check_args args = {};
	int first, r = opt_parse(&cmd_check, argc, argv, &args, &first);

	if (r < 0)
		return OPT_EXIT(r);
	if (!args.config)
		return cmd_fail(EXIT_USAGE, "check: which file? write 'waggle check -c FILE'");
	return check_run(&args);
}

const struct cmd cmd_check = {
	.name = "check",
	.args = "",
	.help = "tell everything that is wrong with a configuration",
	.opts = check_opts,
	.letters = "c",
	.fn = check_fn,
};
