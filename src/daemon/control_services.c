// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Services and backends over the control socket. A list is written service by service while it is read; if the set of
 * services changes meanwhile the connection breaks, and the client asks again.
 */
#include <errno.h>

#include "base/clock.h"
#include "daemon/control_priv.h"
#include "daemon/run.h"
#include "daemon/services_json.h"

enum MHD_Result control_no_services(struct MHD_Connection *conn)
{
	return control_error(conn, MHD_HTTP_CONFLICT,
			     "this waggle has no configuration, and no services: start one with 'waggle run -c FILE'");
}

struct list {
	struct control *c;
	const struct service *next;
	bool is_backends; /* of all services, one after the other */
	bool begun, ended, any;
	uint64_t generation;
	char *text;
};

static void list_free(void *data)
{
	struct list *l = data;

	l->c->n_dumps--;
	free(l->text);
	free(l);
}

/* ",\n" between items, but not before the first. */
static int list_items(struct list *l, const struct service *sv)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	if (!f)
		return -ENOMEM;
	for (const struct backend *b = sv->backends; l->is_backends && b; b = b->hh.next) {
		json_t *o = backend_json(b);

		(void)fputs(l->any ? ",\n" : "\n", f);
		(void)json_dumpf(o, f, CONTROL_JSON);
		json_decref(o);
		l->any = true;
	}
	if (!l->is_backends) {
		json_t *o = service_json(sv);

		(void)fputs(l->any ? ",\n" : "\n", f);
		(void)json_dumpf(o, f, CONTROL_JSON);
		json_decref(o);
		l->any = true;
	}
	if (fclose(f)) {
		free(text);
		return -ENOMEM;
	}
	free(l->text);
	l->text = text;
	return 0;
}

static int list_next(void *data, const char **ret, size_t *ret_n)
{
	struct list *l = data;
	struct services *services = l->c->host.run->services;

	if (l->ended)
		return 0;
	if (!l->begun) {
		l->begun = true;
		*ret = l->is_backends ? "{\"backends\":[" : "{\"services\":[";
		*ret_n = strlen(*ret);
		return 1;
	}
	if (l->generation != services_generation(services))
		return -ESTALE;
	/* A service without backends is an empty piece, which would be the end. */
	while (l->is_backends && l->next && !l->next->backends)
		l->next = l->next->hh.next;
	if (!l->next) {
		l->ended = true;
		*ret = "\n]}\n";
		*ret_n = strlen(*ret);
		return 1;
	}
	if (list_items(l, l->next) < 0)
		return -ENOMEM;
	l->next = l->next->hh.next;
	*ret = l->text;
	*ret_n = strlen(l->text);
	return 1;
}

static enum MHD_Result reply_list(struct control *c, struct MHD_Connection *conn, bool is_backends)
{
	struct list *l;

	if (!c->host.run)
		return control_no_services(conn);
	if (c->n_dumps >= CONTROL_DUMPS_MAX)
		return control_error(conn, MHD_HTTP_SERVICE_UNAVAILABLE, "%d clients read lists already: try again",
				     CONTROL_DUMPS_MAX);
	l = new0(struct list);
	if (!l)
		return MHD_NO;
	l->c = c;
	l->is_backends = is_backends;
	l->next = services_first(c->host.run->services);
	l->generation = services_generation(c->host.run->services);
	c->n_dumps++;
	return control_reply_pieces(conn, list_next, list_free, l);
}

enum MHD_Result control_get_services(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	(void)req;
	return reply_list(c, conn, false);
}

enum MHD_Result control_get_backends(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	(void)req;
	return reply_list(c, conn, true);
}

enum MHD_Result control_no_service(struct MHD_Connection *conn, const struct request *req)
{
	return control_error(conn, MHD_HTTP_NOT_FOUND, "there is no service '%.100s': see /v1/services", req->args[0]);
}

enum MHD_Result control_get_service(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	const struct service *sv;

	if (!c->host.run)
		return control_no_services(conn);
	sv = services_find(c->host.run->services, req->args[0]);
	return sv ? control_reply(conn, MHD_HTTP_OK, service_json(sv)) : control_no_service(conn, req);
}

/* *ret is the reply if the request names no backend of ours; otherwise *ret_backend is set. */
static bool find_backend(struct control *c, struct MHD_Connection *conn, struct request *req,
			 struct backend **ret_backend, enum MHD_Result *ret)
{
	struct service *sv;
	struct err err;
	int r;

	if (!c->host.run) {
		*ret = control_no_services(conn);
		return false;
	}
	sv = services_find(c->host.run->services, req->args[0]);
	if (!sv) {
		*ret = control_no_service(conn, req);
		return false;
	}
	r = service_find_backend(sv, req->args[1], ret_backend, &err);
	if (r < 0)
		*ret = control_error(conn, r == -ENOENT ? MHD_HTTP_NOT_FOUND : MHD_HTTP_BAD_REQUEST, "%s", err.text);
	return r >= 0;
}

/* The reply shows what is so from now on: it is applied at once. */
static enum MHD_Result reply_backend(struct control *c, struct MHD_Connection *conn, const struct backend *b)
{
	struct run *run = c->host.run;
	struct err err = {};

	if (services_apply(run->services, &err) < 0)
		return control_error(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "%s", err.text);
	hooks_applied(run);
	return control_reply(conn, MHD_HTTP_OK, backend_json(b));
}

static enum MHD_Result post_drain(struct control *c, struct MHD_Connection *conn, struct request *req, bool on)
{
	struct backend *b = NULL;
	enum MHD_Result ret;
	struct err err;

	if (!find_backend(c, conn, req, &b, &ret))
		return ret;
	if (wire_nothing_parse(req->body, req->n, &err) < 0)
		return control_error(conn, MHD_HTTP_BAD_REQUEST, "%s", err.text);
	services_drain(c->host.run->services, b, on, clock_ms());
	return reply_backend(c, conn, b);
}

enum MHD_Result control_post_drain(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	return post_drain(c, conn, req, true);
}

enum MHD_Result control_post_enable(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	return post_drain(c, conn, req, false);
}

enum MHD_Result control_post_weight(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	struct backend *b = NULL;
	enum MHD_Result ret;
	struct err err;
	uint32_t weight = 0;

	if (!find_backend(c, conn, req, &b, &ret))
		return ret;
	if (wire_weight_parse(req->body, req->n, &weight, &err) < 0)
		return control_error(conn, MHD_HTTP_BAD_REQUEST, "%s", err.text);
	services_set_weight(c->host.run->services, b, weight, clock_ms());
	return reply_backend(c, conn, b);
}

enum MHD_Result control_post_reload(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	json_t *answer = NULL;
	struct err err;
	int r;

	if (!c->host.run)
		return control_no_services(conn);
	if (wire_nothing_parse(req->body, req->n, &err) < 0)
		return control_error(conn, MHD_HTTP_BAD_REQUEST, "%s", err.text);
	r = run_reload(c->host.run, &answer);
	return control_reply(conn,
			     r >= 0	  ? MHD_HTTP_OK :
			     r == -EINVAL ? MHD_HTTP_UNPROCESSABLE_CONTENT :
			     r == -ENOSPC ? MHD_HTTP_INSUFFICIENT_STORAGE :
					    MHD_HTTP_INTERNAL_SERVER_ERROR,
			     answer);
}
