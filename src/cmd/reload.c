// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"

struct reload_args {
	bool json;
};

static const struct opt reload_opts[] = {
	{ "json", OPT_FLAG, NULL, "tell what has changed as JSON", offsetof(struct reload_args, json), 0, 0 },
	{ 0 },
};

static int reload_run(const struct reload_args *args)
{
	json_t *body = json_object(), *answer = NULL;
	struct err err = {};
	int r = ctl_call_answer("/v1/reload", body, &answer, &err);

	json_decref(body);
	/* Each line of the file that is wrong, as 'waggle check' says it. */
	if (answer && args->json)
		(void)(json_dumpf(answer, stdout, JSON_INDENT(2)), putchar('\n'));
	else if (r == -EREMOTEIO)
		ctl_render_reload_errors(answer, stderr);
	else if (r >= 0)
		r = ctl_render_reload(answer, stdout, &err);
	json_decref(answer);
	return r < 0 ? cmd_fail(EXIT_FAILED, "reload: %s", err.text) : EXIT_DONE;
}

static int reload_fn(int argc, char **argv)
{
	struct reload_args args = {};
	int first, r = opt_parse(&cmd_reload, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : reload_run(&args);
}

const struct cmd cmd_reload = {
	.name = "reload",
	.args = "",
	.help = "read the configuration again, without dropping a connection",
	.opts = reload_opts,
	.fn = reload_fn,
};
