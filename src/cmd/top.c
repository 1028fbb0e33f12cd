// SPDX-License-Identifier: GPL-2.0-or-later
#include <time.h>

#include "cmd/cmd.h"
#include "ctl/top.h"

#define TOP_INTERVAL_MAX 3600

struct top_args {
	bool once, json, reverse;
	uint64_t interval_s;
	const char *view, *sort, *filter;
};

static const struct opt top_opts[] = {
	{ "once", OPT_FLAG, NULL, "look for one interval, print that and end", offsetof(struct top_args, once), 0, 0 },
	{ "json", OPT_FLAG, NULL, "with --once: as JSON", offsetof(struct top_args, json), 0, 0 },
	{ "interval", OPT_U64, "SECONDS", "time between two looks (1)", offsetof(struct top_args, interval_s), 1,
	  TOP_INTERVAL_MAX },
	{ "view", OPT_STRING, "VIEW", "services, backends or pairs (services)", offsetof(struct top_args, view), 0, 0 },
	{ "sort", OPT_STRING, "FIELD", "sort by this field of --json", offsetof(struct top_args, sort), 0, 0 },
	{ "reverse", OPT_FLAG, NULL, "sort the other way round", offsetof(struct top_args, reverse), 0, 0 },
	{ "filter", OPT_STRING, "TEXT", "only rows that contain it", offsetof(struct top_args, filter), 0, 0 },
	{ 0 },
};

static int top_prepare(const struct top_args *args, struct top *t)
{
	size_t view = 0, col = 0;

	while (args->view && view < _TOP_VIEW_MAX && !streq(top_views[view].name, args->view))
		view++;
	if (view == _TOP_VIEW_MAX)
		return cmd_fail(EXIT_USAGE, "top: there is no view '%s': services, backends or pairs", args->view);
	while (args->sort && col < top_views[view].n_cols && !streq(top_views[view].cols[col].field, args->sort))
		col++;
	if (col == top_views[view].n_cols)
		return cmd_fail(EXIT_USAGE,
				"top: %s have no field '%s': 'waggle top --once --json' shows those they have",
				top_views[view].name, args->sort);
	if (args->json && !args->once)
		return cmd_fail(EXIT_USAGE, "top: --json goes with --once");
	if (args->filter && strlen(args->filter) >= sizeof(t->filter))
		return cmd_fail(EXIT_USAGE, "top: --filter is longer than %zu characters", sizeof(t->filter) - 1);
	t->view = (enum top_view_id)view;
	t->sort = col;
	t->reverse = args->reverse;
	(void)snprintf(t->filter, sizeof(t->filter), "%s", args->filter ? args->filter : "");
	return EXIT_DONE;
}

/* Two looks: rates are between them. */
static int top_once(const struct top_args *args, struct top *t, struct err *err)
{
	struct timespec wait = { .tv_sec = (time_t)args->interval_s };
	int r = top_look(t, err);

	if (r < 0)
		return r;
	while (nanosleep(&wait, &wait) < 0)
		;
	r = top_look(t, err);
	if (r < 0)
		return r;
	return args->json ? top_print_json(t, stdout, err) : top_print(t, stdout, err);
}

static int top_run(const struct top_args *args)
{
	_cleanup_(top_done) struct top t = {};
	struct err err = {};
	int r, code = top_prepare(args, &t);

	if (code)
		return code;
	r = args->once ? top_once(args, &t, &err) : top_screen(&t, (unsigned int)args->interval_s * 1000, &err);
	return r < 0 ? cmd_fail(EXIT_FAILED, "top: %s", err.text) : EXIT_DONE;
}

static int top_fn(int argc, char **argv)
{
	struct top_args args = { .interval_s = 1 };
	int first, r = opt_parse(&cmd_top, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : top_run(&args);
}

const struct cmd cmd_top = {
	.name = "top",
	.args = "",
	.help = "watch services, backends and pairs of sockets live",
	.opts = top_opts,
	.fn = top_fn,
};
