// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/render.h"

#include <errno.h>
#include <time.h>

#include "ctl/client.h"
#include "ctl/table.h"

/* NULL where the field is null or absent. */
static const char *text_or_null(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static const struct table_col socket_cols[] = {
	{ "MODE", false },  { "END", false }, { "LOCAL", false }, { "REMOTE", false }, { "PROCESS", false },
	{ "JOINED", true }, { "TCP", true },  { "QUEUED", true }, { "CGROUP", false }, { "WHY", false },
};

/* reason: of the pair, told on its first line. */
static int render_end(struct table *t, json_t *end, json_t *reason, json_t *text)
{
	const char *process = text_or_null(end, "process"), *tx_reason = text_or_null(end, "tx_reason");
	const char *role, *local, *remote, *mode, *cgroup;
	char joined_text[TABLE_BYTES_MAX], tcp_text[TABLE_BYTES_MAX], queued_text[TABLE_BYTES_MAX];
	json_int_t joined, tcp, queued;
	json_t *pid;

	if (json_unpack(end, "{s:s, s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I}", "role", &role, "local", &local, "remote",
			&remote, "mode", &mode, "cgroup", &cgroup, "pid", &pid, "joined_bytes", &joined, "tcp_bytes",
			&tcp, "queued_bytes", &queued))
		return -EPROTO;
	table_bytes((uint64_t)joined, joined_text);
	table_bytes((uint64_t)tcp, tcp_text);
	table_bytes((uint64_t)queued, queued_text);
	table_cell(t, "%s", mode);
	table_cell(t, "%s", role);
	table_cell(t, "%s", local);
	table_cell(t, "%s", remote);
	if (json_is_integer(pid))
		table_cell(t, "%s(%lld)", process ? process : "?", (long long)json_integer_value(pid));
	else
		table_cell(t, "-");
	table_cell(t, "%s", joined_text);
	table_cell(t, "%s", tcp_text);
	table_cell(t, "%s", queued_text);
	table_cell(t, "%s", cgroup);
	if (json_is_string(reason))
		table_cell(t, "%s: %s", json_string_value(reason),
			   json_is_string(text) ? json_string_value(text) : "?");
	else
		table_cell(t, "%s%s", tx_reason ? "last sent by TCP: " : "", tx_reason ? tx_reason : "");
	return 0;
}

static int render_pairs(struct table *t, json_t *pairs, struct err *err)
{
	json_t *pair;
	size_t i;

	json_array_foreach(pairs, i, pair) {
		json_t *client = json_object_get(pair, "client"), *server = json_object_get(pair, "server");
		json_t *reason = json_object_get(pair, "reason"), *text = json_object_get(pair, "text");

		if ((!client && !server) || (client && render_end(t, client, reason, text) < 0) ||
		    (server && render_end(t, server, client ? NULL : reason, text) < 0))
			return ctl_mismatch("sockets", err);
	}
	return 0;
}

static const char *plural(json_int_t n)
{
	return n == 1 ? "" : "s";
}

int ctl_render_sockets(json_t *root, FILE *out, struct err *err)
{
	json_t *pairs = json_object_get(root, "pairs"), *singles = json_object_get(root, "singles");
	_cleanup_(table_done) struct table t = {};
	json_int_t n, joined, n_singles;
	int r;

	if (!json_is_array(pairs) || !json_is_array(singles) ||
	    json_unpack(root, "{s:{s:I, s:I, s:I}}", "summary", "pairs", &n, "joined", &joined, "singles", &n_singles))
		return ctl_mismatch("sockets", err);
	table_init(&t, socket_cols, ARRAY_SIZE(socket_cols));
	r = render_pairs(&t, pairs, err);
	if (r >= 0)
		r = render_pairs(&t, singles, err);
	if (r < 0)
		return r;
	if (t.n && table_print(&t, out) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)fprintf(out, "%lld pair%s: %lld joined, %lld on TCP", n, plural(n), joined, n - joined);
	if (n_singles)
		(void)fprintf(out, "; %lld socket%s without a known peer", n_singles, plural(n_singles));
	(void)fputc('\n', out);
	return 0;
}

static const struct table_col program_cols[] = {
	{ "STATE", false },
	{ "NAME", false },
	{ "READS", true },
	{ "PROGRAM", false },
};

int ctl_render_programs(json_t *root, FILE *out, struct err *err)
{
	json_t *list = json_object_get(root, "executables"), *exe;
	_cleanup_(table_done) struct table t = {};
	size_t i;

	if (!json_is_array(list))
		return ctl_mismatch("programs", err);
	table_init(&t, program_cols, ARRAY_SIZE(program_cols));
	json_array_foreach(list, i, exe) {
		const char *state, *name, *path = text_or_null(exe, "path");
		json_int_t reads;

		if (json_unpack(exe, "{s:s, s:s, s:I}", "state", &state, "name", &name, "reads", &reads))
			return ctl_mismatch("programs", err);
		table_cell(&t, "%s", state);
		table_cell(&t, "%s", name);
		table_cell(&t, "%lld", (long long)reads);
		table_cell(&t, "%s", path ? path : "(not running)");
	}
	if (t.n && table_print(&t, out) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)fprintf(out, "%zu program%s\n", json_array_size(list), plural((json_int_t)json_array_size(list)));
	return 0;
}

static int render_learned(const char *when, json_t *event, FILE *out)
{
	const char *name, *state;

	if (json_unpack(event, "{s:s, s:s}", "name", &name, "state", &state))
		return -EPROTO;
	(void)fprintf(out, "%s  %-11s  %s is %s\n", when, "learned", name, state);
	return 0;
}

static int render_socket(const char *when, const char *word, json_t *event, FILE *out)
{
	const char *role, *local, *remote, *reason, *text, *program = text_or_null(event, "program");
	char joined_text[TABLE_BYTES_MAX], tcp_text[TABLE_BYTES_MAX];
	json_int_t joined, tcp;
	bool established = streq(word, "established");

	if (json_unpack(event, "{s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "role", &role, "local", &local, "remote", &remote,
			"reason", &reason, "text", &text, "joined_bytes", &joined, "tcp_bytes", &tcp))
		return -EPROTO;
	(void)fprintf(out, "%s  %-11s  %s %s -> %s", when, word, role, local, remote);
	if (program)
		(void)fprintf(out, "  of %s", program);
	if (streq(word, "closed") || streq(word, "left")) {
		table_bytes((uint64_t)joined, joined_text);
		table_bytes((uint64_t)tcp, tcp_text);
		(void)fprintf(out, "  sent %s joined, %s by TCP", joined_text, tcp_text);
	}
	if (!streq(reason, "none"))
		(void)fprintf(out, "  %s%s: %s", established ? "not joined: " : "", reason, text);
	else if (established)
		(void)fputs("  joined", out);
	(void)fputc('\n', out);
	return 0;
}

/* A backend has changed its state. */
static int render_backend_event(const char *when, json_t *event, FILE *out)
{
	const char *service, *backend, *state, *was, *text;

	if (json_unpack(event, "{s:s, s:s, s:s, s:s, s:s}", "service", &service, "backend", &backend, "state", &state,
			"was", &was, "text", &text))
		return -EPROTO;
	(void)fprintf(out, "%s  %-11s  %s %s is %s, was %s: %s\n", when, "backend", service, backend, state, was, text);
	return 0;
}

static int render_reload_event(const char *when, json_t *event, FILE *out)
{
	const char *state, *text;

	if (json_unpack(event, "{s:s, s:s}", "state", &state, "text", &text))
		return -EPROTO;
	(void)fprintf(out, "%s  %-11s  %s: %s\n", when, "reload", state, text);
	return 0;
}

/* What a balancing hook did with a client of a service. */
static int render_pick(const char *when, const char *word, json_t *event, FILE *out)
{
	const char *service = text_or_null(event, "service"), *backend = text_or_null(event, "backend");
	const char *process = text_or_null(event, "process"), *client = text_or_null(event, "client");
	const char *protocol;
	json_int_t pid = json_integer_value(json_object_get(event, "pid"));

	if (json_unpack(event, "{s:s}", "protocol", &protocol))
		return -EPROTO;
	(void)fprintf(out, "%s  %-11s  %s %s", when, word, protocol, service ? service : "?");
	if (backend)
		(void)fprintf(out, " -> %s", backend);
	if (process)
		(void)fprintf(out, "  for %s(%lld)", process, (long long)pid);
	if (client)
		(void)fprintf(out, "  from %s", client);
	(void)fputc('\n', out);
	return 0;
}

/* What an entry of the redirects or policies did with a connection. */
static int render_rule(const char *when, const char *word, json_t *event, FILE *out)
{
	const char *process = text_or_null(event, "process"), *client = text_or_null(event, "client");
	json_int_t entry, pid = json_integer_value(json_object_get(event, "pid"));
	const char *protocol, *to, *cgroup;

	if (json_unpack(event, "{s:s, s:s, s:s, s:I}", "protocol", &protocol, "to", &to, "cgroup", &cgroup, "entry",
			&entry))
		return -EPROTO;
	(void)fprintf(out, "%s  %-11s  %s %s by entry %lld", when, word, protocol, to, (long long)entry + 1);
	if (process)
		(void)fprintf(out, "  for %s(%lld) of %s", process, (long long)pid, cgroup);
	if (client)
		(void)fprintf(out, "  from %s to %s", client, cgroup);
	(void)fputc('\n', out);
	return 0;
}

static bool is_rule(const char *word)
{
	return streq(word, "redirected") || streq(word, "proxy-down") || streq(word, "straight") ||
	       streq(word, "denied");
}

static bool is_pick(const char *word)
{
	return streq(word, "picked") || streq(word, "refused") || streq(word, "timed-out") || streq(word, "no-backend");
}

/* "12:34:56.123456" of the local day, from what wire_time() wrote. */
static void render_time(const char *iso, char ret[32])
{
	struct tm tm = {}, local;
	const char *fraction = strptime(iso, "%Y-%m-%dT%H:%M:%S", &tm);
	time_t when = timegm(&tm);
	char whole[16];

	if (!fraction || !localtime_r(&when, &local) || !strftime(whole, sizeof(whole), "%H:%M:%S", &local))
		(void)snprintf(ret, 32, "%.31s", iso);
	else
		(void)snprintf(ret, 32, "%s%.7s", whole, fraction);
}

static int render_event(json_t *event, FILE *out, struct err *err)
{
	const char *word, *iso = "";
	json_int_t count;
	char when[32];
	int r;

	if (json_unpack(event, "{s:s, s?s}", "event", &word, "time", &iso))
		return ctl_mismatch("events", err);
	if (streq(word, "lost")) {
		if (json_unpack(event, "{s:I}", "count", &count))
			return ctl_mismatch("events", err);
		(void)fprintf(out, "%-15s  %-11s  %lld event%s came faster than they were read\n", "", word, count,
			      plural(count));
		return 0;
	}
	render_time(iso, when);
	if (streq(word, "learned"))
		r = render_learned(when, event, out);
	else if (streq(word, "backend"))
		r = render_backend_event(when, event, out);
	else if (streq(word, "reload"))
		r = render_reload_event(when, event, out);
	else if (is_pick(word))
		r = render_pick(when, word, event, out);
	else if (is_rule(word))
		r = render_rule(when, word, event, out);
	else
		r = render_socket(when, word, event, out);
	return r < 0 ? ctl_mismatch("events", err) : 0;
}

int ctl_render_event(json_t *event, FILE *out, struct err *err)
{
	struct table_line line;
	int r = table_line_begin(&line, err), end;

	if (r < 0)
		return r;
	r = render_event(event, line.f, err);
	end = table_line_end(&line, r < 0 ? NULL : out, err);
	return r < 0 ? r : end;
}
