// SPDX-License-Identifier: GPL-2.0-or-later
#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"

#define CONNS_LIMIT 1000

struct conns_args {
	bool json;
	const char *service;
	uint64_t limit;
};

static const struct opt conns_opts[] = {
	{ "json", OPT_FLAG, NULL, "as JSON, one connection a line", offsetof(struct conns_args, json), 0, 0 },
	{ "service", OPT_STRING, "SERVICE", "only those of this service", offsetof(struct conns_args, service), 0, 0 },
	{ "limit", OPT_U64, "N", "at most so many (default: 1000; 0: all)", offsetof(struct conns_args, limit), 0,
	  1ULL << 40 },
	{ 0 },
};

static char *conns_path(const struct conns_args *args)
{
	_cleanup_free_ char *name = args->service ? ctl_escape(args->service) : NULL;
	char *path;

	if ((args->service && !name) || asprintf(&path, "/v1/conns?limit=%llu%s%s", (unsigned long long)args->limit,
						 name ? "&service=" : "", name ? name : "") < 0)
		return NULL;
	return path;
}

static int conns_run(const struct conns_args *args)
{
	_cleanup_free_ char *path = conns_path(args);
	json_t *root = NULL;
	struct err err = {};
	int r;

	if (!path)
		return cmd_fail(EXIT_FAILED, "conns: out of memory");
	if (args->json) {
		r = ctl_copy(path, stdout, &err);
		return r < 0 ? cmd_fail(EXIT_FAILED, "conns: %s", err.text) : EXIT_DONE;
	}
	r = ctl_call(path, NULL, &root, &err);
	if (r >= 0)
		r = ctl_render_conns(root, stdout, &err);
	json_decref(root);
	return r < 0 ? cmd_fail(EXIT_FAILED, "conns: %s", err.text) : EXIT_DONE;
}

static int conns_fn(int argc, char **argv)
{
	struct conns_args args = { .limit = CONNS_LIMIT };
	int first, r = opt_parse(&cmd_conns, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : conns_run(&args);
}

const struct cmd cmd_conns = {
	.name = "conns",
	.args = "",
	.help = "list the connections of the packet hook",
	.opts = conns_opts,
	.fn = conns_fn,
};
