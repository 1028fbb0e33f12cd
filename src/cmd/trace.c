// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdint.h>

#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"
#include "model/wire_filter.h"

/* More than can be read, and little enough that to watch a busy machine costs it next to nothing (waggle bench observe). */
#define TRACE_RATE 1000

struct trace_args {
	bool json;
	uint64_t count, rate;
	struct opt_list filters[_WIRE_FILTER_KINDS];
};

static const struct opt trace_opts[] = {
	{ "json", OPT_FLAG, NULL, "as JSON, one event a line", offsetof(struct trace_args, json), 0, 0 },
#define FILTER(kind) offsetof(struct trace_args, filters[kind]), 0, 0
	{ "service", OPT_LIST, "SERVICE", "only events of this service", FILTER(WIRE_FILTER_SERVICE) },
	{ "address", OPT_LIST, "ADDRESS", "only with this address, network, or address and port",
	  FILTER(WIRE_FILTER_ADDRESS) },
	{ "process", OPT_LIST, "PROCESS", "only of this program or process id", FILTER(WIRE_FILTER_PROCESS) },
	{ "event", OPT_LIST, "EVENT", "only of this kind; each of these may be given several times",
	  FILTER(WIRE_FILTER_EVENT) },
	{ "rate", OPT_U64, "N", "at most so many events a second, the others are counted; 0: all (default 1000)",
	  offsetof(struct trace_args, rate), 0, UINT32_MAX },
	{ "count", OPT_U64, "N", "end after this many events", offsetof(struct trace_args, count), 1, UINT64_MAX },
	{ 0 },
};

struct trace {
	const struct trace_args *args;
	uint64_t seen;
	struct err err;
	int r;
};

/* What came at once goes out at once, and must not wait for what comes next. */
static int trace_line(const char *line, size_t n, void *data)
{
	struct trace *t = data;
	json_t *event;

	if (!line) {
		if (fflush(stdout) && t->r >= 0)
			t->r = err_set(&t->err, -1, "cannot write");
		return t->r < 0;
	}
	if (t->args->json) {
		(void)puts(line);
	} else {
		event = json_loadb(line, n, 0, NULL);
		t->r = ctl_render_event(event, stdout, &t->err);
		json_decref(event);
	}
	if (++t->seen == t->args->count && fflush(stdout) && t->r >= 0)
		t->r = err_set(&t->err, -1, "cannot write");
	return t->r < 0 || t->seen == t->args->count;
}

static void trace_args_done(struct trace_args *args)
{
	for (size_t i = 0; i < _WIRE_FILTER_KINDS; i++)
		opt_list_done(&args->filters[i]);
}

/* "/v1/events?rate=1000&event=closed&service=web": the daemon leaves out what is not wanted, and it takes nobody's room. */
static char *trace_path(const struct trace_args *args)
{
	char *path = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&path, &n);

	if (!f)
		return NULL;
	(void)fprintf(f, "/v1/events?rate=%" PRIu64, args->rate);
	for (size_t k = 0; k < _WIRE_FILTER_KINDS; k++)
		for (size_t i = 0; i < args->filters[k].n; i++) {
			_cleanup_free_ char *value = ctl_escape(args->filters[k].v[i]);

			(void)fprintf(f, "&%s=%s", wire_filter_words[k], value ? value : "");
		}
	if (fclose(f)) {
		free(path);
		return NULL;
	}
	return path;
}

/* What the daemon would refuse is bad usage. */
static int trace_check(const struct trace_args *args)
{
	_cleanup_(wire_filter_done) struct wire_filter filter = {};
	struct err err = {};

	for (size_t k = 0; k < _WIRE_FILTER_KINDS; k++)
		for (size_t i = 0; i < args->filters[k].n; i++)
			if (wire_filter_add(&filter, wire_filter_words[k], args->filters[k].v[i], &err) < 0)
				return cmd_fail(EXIT_USAGE, "trace: %s", err.text);
	return EXIT_DONE;
}

static int trace_run(const struct trace_args *args)
{
	_cleanup_free_ char *path = trace_path(args);
	struct trace t = { .args = args };
	struct err err = {};
	int code = trace_check(args);

	if (code)
		return code;
	if (!path)
		return cmd_fail(EXIT_FAILED, "out of memory");
	if (ctl_lines(path, trace_line, &t, &err) < 0)
		return cmd_fail(EXIT_FAILED, "trace: %s", err.text);
	return t.r < 0 ? cmd_fail(EXIT_FAILED, "trace: %s", t.err.text) : EXIT_DONE;
}

static int trace_fn(int argc, char **argv)
{
	_cleanup_(trace_args_done) struct trace_args args = { .rate = TRACE_RATE };
	int first, r = opt_parse(&cmd_trace, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : trace_run(&args);
}

const struct cmd cmd_trace = {
	.name = "trace",
	.args = "",
	.help = "show live what happens to local connections",
	.opts = trace_opts,
	.fn = trace_fn,
};
