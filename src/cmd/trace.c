// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdint.h>

#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"

struct trace_args {
	bool json;
	uint64_t count;
};

static const struct opt trace_opts[] = {
	{ "json", OPT_FLAG, NULL, "as JSON, one event a line", offsetof(struct trace_args, json), 0, 0 },
	{ "count", OPT_U64, "N", "end after this many events", offsetof(struct trace_args, count), 1, UINT64_MAX },
	{ 0 },
};

struct trace {
	const struct trace_args *args;
	uint64_t seen;
	struct err err;
	int r;
};

/* A line on the way out must not wait for the next one. */
static int trace_line(const char *line, size_t n, void *data)
{
	struct trace *t = data;
	json_t *event;

	if (t->args->json) {
		(void)puts(line);
	} else {
		event = json_loadb(line, n, 0, NULL);
		t->r = ctl_render_event(event, stdout, &t->err);
		json_decref(event);
	}
	if (fflush(stdout) && t->r >= 0)
		t->r = err_set(&t->err, -1, "cannot write");
	return t->r < 0 || ++t->seen == t->args->count;
}

static int trace_fn(int argc, char **argv)
{
	struct trace_args args = {};
	struct trace t = { .args = &args };
	struct err err = {};
	int first, r = opt_parse(&cmd_trace, argc, argv, &args, &first);

	if (r < 0)
		return OPT_EXIT(r);
	if (ctl_lines("/v1/events", trace_line, &t, &err) < 0)
		return cmd_fail(EXIT_FAILED, "trace: %s", err.text);
	return t.r < 0 ? cmd_fail(EXIT_FAILED, "trace: %s", t.err.text) : EXIT_DONE;
}

const struct cmd cmd_trace = {
	.name = "trace",
	.args = "",
	.help = "show live what happens to local connections",
	.opts = trace_opts,
	.fn = trace_fn,
};
