// SPDX-License-Identifier: GPL-2.0-or-later
#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"

struct status_args {
	bool json;
};

static const struct opt status_opts[] = {
	{ "json", OPT_FLAG, NULL, "as JSON", offsetof(struct status_args, json), 0, 0 },
	{ 0 },
};

/* What /v1/status says, and beside it the services, where there are any. */
static int status_get(json_t **ret, struct err *err)
{
	json_t *root = NULL, *services = NULL;
	int r = ctl_call("/v1/status", NULL, &root, err);

	if (r < 0)
		return r;
	if (json_object_get(root, "balancing")) {
		r = ctl_call("/v1/services", NULL, &services, err);
		if (r >= 0)
			(void)json_object_update(root, services);
		json_decref(services);
	}
	if (r < 0)
		json_decref(root);
	else
		*ret = root;
	return r;
}

static int status_run(const struct status_args *args)
{
	json_t *root = NULL;
	struct err err = {};
	int r = status_get(&root, &err);

	if (r >= 0 && args->json)
		r = json_dumpf(root, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF || fflush(stdout) ?
			    err_set(&err, -1, "cannot write the JSON") :
			    0;
	else if (r >= 0)
		r = ctl_render_status(root, stdout, &err);
	json_decref(root);
	return r < 0 ? cmd_fail(EXIT_FAILED, "status: %s", err.text) : EXIT_DONE;
}

static int status_fn(int argc, char **argv)
{
	struct status_args args = {};
	int first, r = opt_parse(&cmd_status, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : status_run(&args);
}

const struct cmd cmd_status = {
	.name = "status",
	.args = "",
	.help = "show services, backends and their health, and the hooks",
	.opts = status_opts,
	.fn = status_fn,
};
