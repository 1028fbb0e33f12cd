// SPDX-License-Identifier: GPL-2.0-or-later
#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"

struct sockets_args {
	bool json, programs;
};

static const struct opt sockets_opts[] = {
	{ "json", OPT_FLAG, NULL, "as JSON, one pair a line", offsetof(struct sockets_args, json), 0, 0 },
	{ "programs", OPT_FLAG, NULL, "what was learned of programs, instead of the sockets",
	  offsetof(struct sockets_args, programs), 0, 0 },
	{ 0 },
};

static int sockets_run(const struct sockets_args *args)
{
	const char *path = args->programs ? "/v1/executables" : "/v1/sockets";
	json_t *root = NULL;
	struct err err = {};
	int r;

	if (args->json) {
		r = ctl_copy(path, stdout, &err);
		return r < 0 ? cmd_fail(EXIT_FAILED, "sockets: %s", err.text) : EXIT_DONE;
	}
	r = ctl_call(path, NULL, &root, &err);
	if (r >= 0)
		r = args->programs ? ctl_render_programs(root, stdout, &err) : ctl_render_sockets(root, stdout, &err);
	json_decref(root);
	return r < 0 ? cmd_fail(EXIT_FAILED, "sockets: %s", err.text) : EXIT_DONE;
}

static int sockets_fn(int argc, char **argv)
{
	struct sockets_args args = {};
	int first, r = opt_parse(&cmd_sockets, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : sockets_run(&args);
}

const struct cmd cmd_sockets = {
	.name = "sockets",
	.args = "",
	.help = "list local pairs of sockets: joined, or why not",
	.opts = sockets_opts,
	.fn = sockets_fn,
};
