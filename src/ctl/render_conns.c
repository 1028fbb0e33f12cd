// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include "ctl/render.h"
#include "ctl/client.h"
#include "ctl/table.h"

static const struct table_col cols[] = {
	{ "SERVICE", false }, { "PROTO", false },   { "CLIENT", false }, { "LISTEN", false }, { "BACKEND", false },
	{ "SOURCE", false },  { "FORWARD", false }, { "STATE", false },	 { "IDLE", true },
};

static const char *text_of(json_t *o, const char *key, const char *none)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : none;
}

static int render_conn(struct table *t, json_t *conn)
{
	const char *protocol, *client, *listen, *forward, *state;
	json_int_t idle_ms;

	if (json_unpack(conn, "{s:s, s:s, s:s, s:s, s:s, s:I}", "protocol", &protocol, "client", &client, "listen",
			&listen, "forward", &forward, "state", &state, "idle_ms", &idle_ms))
		return -EPROTO;
	table_cell(t, "%s", text_of(conn, "service", "(gone)"));
	table_cell(t, "%s", protocol);
	table_cell(t, "%s", client);
	table_cell(t, "%s", listen);
	table_cell(t, "%s", text_of(conn, "backend", "(gone)"));
	table_cell(t, "%s", text_of(conn, "source", "-"));
	table_cell(t, "%s", forward);
	table_cell(t, "%s", state);
	table_cell(t, "%llds", (long long)idle_ms / 1000);
	return 0;
}

int ctl_render_conns(json_t *root, FILE *out, struct err *err)
{
	json_t *conns = json_object_get(root, "conns"), *more = json_object_get(root, "more"), *conn;
	_cleanup_(table_done) struct table t = {};
	json_int_t room;
	size_t i;

	if (!json_is_array(conns) || !json_is_boolean(more) || json_unpack(root, "{s:I}", "room", &room))
		return ctl_mismatch("connections", err);
	table_init(&t, cols, ARRAY_SIZE(cols));
	json_array_foreach(conns, i, conn)
		if (render_conn(&t, conn) < 0)
			return ctl_mismatch("connections", err);
	if (t.n && table_print(&t, out) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)fprintf(out, "%zu connection%s%s; the table has room for %lld\n", json_array_size(conns),
		      json_array_size(conns) == 1 ? "" : "s",
		      json_is_true(more) ? ", and there are more: see --limit" : "", (long long)room);
	return 0;
}
