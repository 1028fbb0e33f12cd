// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include "ctl/render.h"
#include "ctl/client.h"
#include "ctl/table.h"

static const char *plural(json_int_t n)
{
	return n == 1 ? "" : "s";
}

/* What came from the daemon never carries control characters to a terminal. */
static void print_text(FILE *out, const char *text)
{
	_cleanup_free_ char *copy = strdup(text);

	if (!copy)
		return;
	table_filter(copy, strlen(copy));
	(void)fputs(copy, out);
}

/* "45s", "12m", "3h 5m", "2d 4h" */
static void span_format(json_int_t s, char ret[32])
{
	if (s < 60)
		(void)snprintf(ret, 32, "%llds", (long long)s);
	else if (s < 3600)
		(void)snprintf(ret, 32, "%lldm", (long long)s / 60);
	else if (s < 86400)
		(void)snprintf(ret, 32, "%lldh %lldm", (long long)s / 3600, (long long)s / 60 % 60);
	else
		(void)snprintf(ret, 32, "%lldd %lldh", (long long)s / 86400, (long long)s / 3600 % 24);
}

static int render_head(json_t *root, FILE *out)
{
	json_t *config = json_object_get(root, "config");
	const char *path = json_string_value(json_object_get(config, "path"));
	const char *error = json_string_value(json_object_get(config, "error"));
	const char *version, *state, *class;
	json_int_t pid, uptime, joined, watched;
	char span[32];

	if (json_unpack(root, "{s:s, s:I, s:I, s:s, s:s, s:{s:I, s:I}}", "version", &version, "pid", &pid, "uptime_s",
			&uptime, "state", &state, "class", &class, "sockets", "joined", &joined, "watched", &watched))
		return -EPROTO;
	span_format(uptime, span);
	(void)fprintf(out, "waggle %s (pid %lld) is %s, for %s%s", version, (long long)pid, state, span,
		      path ? ", by " : "");
	if (path)
		print_text(out, path);
	(void)fputc('\n', out);
	if (error) {
		(void)fputs("the last reload failed: ", out);
		print_text(out, error);
		(void)fputc('\n', out);
	}
	if (!streq(class, "off"))
		(void)fprintf(out, "accelerator: %s: %lld socket%s joined, %lld on TCP\n", class, (long long)joined,
			      plural(joined), (long long)watched);
	return 0;
}

/* What goes on: of all services together, over the last seconds. */
static void render_rates(json_t *rates, FILE *out)
{
	char in[TABLE_BYTES_MAX], to[TABLE_BYTES_MAX];
	double picks, failures, in_bytes, out_bytes, joined;

	if (json_unpack(rates, "{s:F, s:F, s:F, s:F, s:F}", "picks_per_second", &picks, "failures_per_second",
			&failures, "in_bytes_per_second", &in_bytes, "out_bytes_per_second", &out_bytes,
			"joined_per_second", &joined))
		return;
	table_bytes((uint64_t)in_bytes, in);
	table_bytes((uint64_t)out_bytes, to);
	(void)fprintf(out,
		      "a second: %.1f picks, %.1f failed; %s bytes from clients, %s to clients; %.1f sockets joined\n",
		      picks, failures, in, to, joined);
}

static void render_hooks(json_t *hooks, FILE *out)
{
	json_t *hook;
	size_t i;

	(void)fputs("hooks:", out);
	json_array_foreach(hooks, i, hook) {
		const char *name = json_string_value(json_object_get(hook, "name"));

		(void)fprintf(out, "%s %s %s", i ? "," : "", name ? name : "?",
			      json_is_true(json_object_get(hook, "on")) ? "on" : "off");
	}
	(void)fputc('\n', out);
}

static const struct table_col cols[] = {
	{ "SERVICE", false }, { "LISTEN", false }, { "SCHEDULER", false }, { "STATE", false }, { "PICKS/S", true },
	{ "BACKEND", false }, { "STATE", false },  { "WEIGHT", true },	   { "CONNS", true },  { "PICKS/S", true },
	{ "PICKS", true },    { "FAILED", true },  { "CHECK", false },
};
#define SERVICE_COLS 5 /* of these */

static void render_check(struct table *t, json_t *check)
{
	json_t *last = json_object_get(check, "last"), *latency = json_object_get(check, "latency_ms");
	const char *error = json_string_value(json_object_get(check, "error"));

	if (!json_is_object(check))
		table_cell(t, "none");
	else if (!json_is_string(last))
		table_cell(t, "not yet");
	else if (error)
		table_cell(t, "%s", error);
	else
		table_cell(t, "%.1f ms", json_number_value(latency));
}

static int render_backend(struct table *t, json_t *b)
{
	const char *address, *state, *name = json_string_value(json_object_get(b, "name"));
	json_int_t weight, connections, picks, failures;
	double effective, rate;

	if (json_unpack(b, "{s:s, s:s, s:I, s:F, s:I, s:I, s:I, s:F}", "address", &address, "state", &state, "weight",
			&weight, "effective_weight", &effective, "connections", &connections, "picks", &picks,
			"failures", &failures, "picks_per_second", &rate))
		return -EPROTO;
	table_cell(t, "%s%s%s%s", address, name ? " (" : "", name ? name : "", name ? ")" : "");
	table_cell(t, "%s", state);
	if (effective > 0. && effective != (double)weight)
		table_cell(t, "%.1f of %lld", effective, (long long)weight);
	else
		table_cell(t, "%lld", (long long)weight);
	table_cell(t, "%lld", (long long)connections);
	table_cell(t, "%.1f", rate);
	table_cell(t, "%lld", (long long)picks);
	table_cell(t, "%lld", (long long)failures);
	render_check(t, json_object_get(b, "check"));
	return 0;
}

/* The cells of a service, or none where they have been shown. */
static int service_cells(struct table *t, json_t *service, bool show)
{
	const char *name, *listen, *protocol, *scheduler, *state;
	double rate;

	if (json_unpack(service, "{s:s, s:s, s:s, s:s, s:s, s:F}", "name", &name, "listen", &listen, "protocol",
			&protocol, "scheduler", &scheduler, "state", &state, "picks_per_second", &rate))
		return -EPROTO;
	for (size_t i = 0; !show && i < SERVICE_COLS; i++)
		table_cell(t, "%s", "");
	if (!show)
		return 0;
	table_cell(t, "%s", name);
	table_cell(t, "%s %s", protocol, listen);
	table_cell(t, "%s", scheduler);
	table_cell(t, "%s", state);
	table_cell(t, "%.1f", rate);
	return 0;
}

static int render_service(struct table *t, json_t *service)
{
	json_t *backends = json_object_get(service, "backends"), *b;
	size_t i;

	json_array_foreach(backends, i, b)
		if (service_cells(t, service, !i) < 0 || render_backend(t, b) < 0)
			return -EPROTO;
	if (json_array_size(backends))
		return 0;
	if (!json_is_array(backends) || service_cells(t, service, true) < 0)
		return -EPROTO;
	for (size_t j = SERVICE_COLS; j < ARRAY_SIZE(cols); j++)
		table_cell(t, "%s", j == SERVICE_COLS ? "(none)" : "");
	return 0;
}

static void render_troubles(json_t *services, FILE *out)
{
	json_t *service;
	size_t i;

	json_array_foreach(services, i, service) {
		const char *error = json_string_value(json_object_get(service, "error"));
		const char *name = json_string_value(json_object_get(service, "name"));

		if (!error || !name)
			continue;
		print_text(out, name);
		(void)fputs(": ", out);
		print_text(out, error);
		(void)fputc('\n', out);
	}
}

int ctl_render_status(json_t *root, FILE *out, struct err *err)
{
	json_t *services = json_object_get(root, "services"), *service;
	_cleanup_(table_done) struct table t = {};
	size_t i;

	if (render_head(root, out) < 0)
		return ctl_mismatch(NULL, err);
	if (!json_is_array(services))
		return 0;
	render_hooks(json_object_get(root, "hooks"), out);
	render_rates(json_object_get(json_object_get(root, "balancing"), "rates"), out);
	table_init(&t, cols, ARRAY_SIZE(cols));
	json_array_foreach(services, i, service)
		if (render_service(&t, service) < 0)
			return ctl_mismatch(NULL, err);
	if (t.n && table_print(&t, out) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	render_troubles(services, out);
	return 0;
}

int ctl_render_reload(json_t *root, FILE *out, struct err *err)
{
	json_int_t s_added, s_removed, s_changed, b_added, b_removed;
	json_t *warnings, *warning;
	size_t i;

	if (json_unpack(root, "{s:{s:I, s:I, s:I}, s:{s:I, s:I}, s:o}", "services", "added", &s_added, "removed",
			&s_removed, "changed", &s_changed, "backends", "added", &b_added, "removed", &b_removed,
			"warnings", &warnings))
		return ctl_mismatch(NULL, err);
	if (s_added + s_removed + s_changed + b_added + b_removed)
		(void)fprintf(out,
			      "services: %lld added, %lld removed, %lld changed; backends: %lld added, %lld removed\n",
			      (long long)s_added, (long long)s_removed, (long long)s_changed, (long long)b_added,
			      (long long)b_removed);
	else
		(void)fputs("nothing has changed\n", out);
	json_array_foreach(warnings, i, warning) {
		if (json_is_string(warning))
			print_text(out, json_string_value(warning));
		(void)fputc('\n', out);
	}
	return 0;
}

void ctl_render_reload_errors(json_t *root, FILE *out)
{
	json_t *list = json_object_get(root, "errors"), *item;
	size_t i;

	json_array_foreach(list, i, item) {
		if (json_is_string(item))
			print_text(out, json_string_value(item));
		(void)fputc('\n', out);
	}
}
