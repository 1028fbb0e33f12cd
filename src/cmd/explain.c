// SPDX-License-Identifier: GPL-2.0-or-later
#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"

struct explain_args {
	bool json;
	const char *protocol, *interface;
};

static const struct opt explain_opts[] = {
	{ "protocol", OPT_STRING, "tcp|udp", "of the flow (default: tcp)", offsetof(struct explain_args, protocol), 0,
	  0 },
	{ "interface", OPT_STRING, "NAME", "where it would come in (default: where the client is)",
	  offsetof(struct explain_args, interface), 0, 0 },
	{ "json", OPT_FLAG, NULL, "as JSON", offsetof(struct explain_args, json), 0, 0 },
	{ 0 },
};

static char *explain_path(const struct explain_args *args, const char *client, const char *service)
{
	_cleanup_free_ char *from = ctl_escape(client), *to = ctl_escape(service);
	_cleanup_free_ char *protocol = ctl_escape(args->protocol ? args->protocol : "tcp");
	_cleanup_free_ char *interface = args->interface ? ctl_escape(args->interface) : NULL;
	char *path;

	if (!from || !to || !protocol || (args->interface && !interface) ||
	    asprintf(&path, "/v1/explain?client=%s&service=%s&protocol=%s%s%s", from, to, protocol,
		     interface ? "&interface=" : "", interface ? interface : "") < 0)
		return NULL;
	return path;
}

static int explain_run(const struct explain_args *args, const char *client, const char *service)
{
	_cleanup_free_ char *path = explain_path(args, client, service);
	json_t *root = NULL;
	struct err err = {};
	int r;

	if (!path)
		return cmd_fail(EXIT_FAILED, "explain: out of memory");
	if (args->json) {
		r = ctl_copy(path, stdout, &err);
		return r < 0 ? cmd_fail(EXIT_FAILED, "explain: %s", err.text) : EXIT_DONE;
	}
	r = ctl_call(path, NULL, &root, &err);
	if (r >= 0)
		r = ctl_render_explain(root, stdout, &err);
	json_decref(root);
	return r < 0 ? cmd_fail(EXIT_FAILED, "explain: %s", err.text) : EXIT_DONE;
}

static int explain_fn(int argc, char **argv)
{
	struct explain_args args = {};
	int first, r = opt_parse(&cmd_explain, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : explain_run(&args, argv[first], argv[first + 1]);
}

const struct cmd cmd_explain = {
	.name = "explain",
	.args = "CLIENT:PORT ADDRESS:PORT",
	.help = "tell where a flow would go, and why",
	.opts = explain_opts,
	.min = 2,
	.max = 2,
	.fn = explain_fn,
};
