// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include "ctl/client.h"
#include "ctl/render.h"

static const char *text_of(json_t *o, const char *key, const char *none)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : none;
}

static void line(FILE *out, const char *label, const char *text)
{
	(void)fprintf(out, "%-12s%s\n", label, text);
}

static void render_service(json_t *root, FILE *out)
{
	const char *forward = text_of(root, "forward", NULL), *scheduler = text_of(root, "scheduler", NULL);

	if (!forward)
		line(out, "service:", "none that the packet hook serves");
	else
		(void)fprintf(out, "%-12s%s (%s%s%s)\n", "service:", text_of(root, "service", "(gone)"),
			      scheduler ? scheduler : "", scheduler ? ", " : "", forward);
}

static void render_conn(json_t *root, FILE *out)
{
	const char *conn = text_of(root, "connection", NULL), *state = text_of(root, "state", NULL);
	const char *name = text_of(root, "backend_name", NULL), *source = text_of(root, "source", NULL);

	if (!conn)
		return;
	(void)fprintf(out, "%-12s%s%s%s\n", "connection:", conn, state ? ", " : "", state ? state : "");
	(void)fprintf(out, "%-12s%s%s%s%s, %s\n", "backend:", text_of(root, "backend", "(gone)"), name ? " (" : "",
		      name ? name : "", name ? ")" : "", text_of(root, "backend_state", "gone"));
	if (source)
		line(out, "source:", source);
}

static void render_hop(json_t *root, FILE *out)
{
	json_t *hop = json_object_get(root, "next_hop");

	if (json_is_object(hop))
		(void)fprintf(out, "%-12s%s on %s, from %s\n", "next hop:", text_of(hop, "mac", "?"),
			      text_of(hop, "interface", "?"), text_of(hop, "source_mac", "?"));
}

int ctl_render_explain(json_t *root, FILE *out, struct err *err)
{
	const char *client, *listen, *protocol, *interface, *hook, *verdict, *reason, *text;

	if (json_unpack(root, "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "client", &client, "listen", &listen,
			"protocol", &protocol, "interface", &interface, "hook", &hook, "verdict", &verdict, "reason",
			&reason, "text", &text))
		return ctl_mismatch(NULL, err);
	(void)fprintf(out, "%-12s%s %s -> %s, in by %s (%s)\n", "flow:", protocol, client, listen, interface, hook);
	render_service(root, out);
	render_conn(root, out);
	render_hop(root, out);
	(void)fprintf(out, "%-12s%s (%s: %s)\n", "verdict:", verdict, reason, text);
	return 0;
}
