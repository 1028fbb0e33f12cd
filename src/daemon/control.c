// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The HTTP server in the daemon's loop, and its routes.
 *
 * A request is answered when it has been read as a whole, so that a refused one changes nothing.
 */
#include "daemon/control_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "model/wire.h"

#define CONTROL_MEMORY_BYTES (128U << 10) /* a connection's, for headers and what is being written */
#define CONTROL_BODY_END (1U << 20)	  /* who sends more than this is hung up on */

struct route {
	const char *path, *method;
	enum MHD_Result (*fn)(struct control *c, struct MHD_Connection *conn, struct request *req);
};

static enum MHD_Result reply_text(struct MHD_Connection *conn, unsigned int status, char *text, const char *allow)
{
	struct MHD_Response *response = NULL;
	enum MHD_Result r;

	if (text)
		response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	if (allow)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
	r = MHD_queue_response(conn, status, response);
	MHD_destroy_response(response);
	return r;
}

/* As text with a newline, for people with curl. */
static char *json_line(json_t *body)
{
	char *text = body ? json_dumps(body, CONTROL_JSON) : NULL, *line = NULL;

	json_decref(body);
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	return line;
}

enum MHD_Result control_reply(struct MHD_Connection *conn, unsigned int status, json_t *body)
{
	return reply_text(conn, status, json_line(body), NULL);
}

enum MHD_Result control_error(struct MHD_Connection *conn, unsigned int status, const char *fmt, ...)
{
	struct err err;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err.text, sizeof(err.text), fmt, ap);
	va_end(ap);
	return control_reply(conn, status, wire_error(err.text));
}

struct pieces {
	control_piece_fn next;
	void (*done)(void *data);
	void *data;
	const char *piece; /* what is left of the one being written */
	size_t n;
};

static ssize_t pieces_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct pieces *p = cls;
	size_t n = 0;

	(void)pos;
	while (n < max) {
		size_t part;

		if (!p->n) {
			int r = p->next(p->data, &p->piece, &p->n);

			if (r < 0)
				return MHD_CONTENT_READER_END_WITH_ERROR;
			if (r == 0)
				break;
		}
		part = p->n < max - n ? p->n : max - n;
		memcpy(buf + n, p->piece, part);
		p->piece += part;
		p->n -= part;
		n += part;
	}
	return n ? (ssize_t)n : MHD_CONTENT_READER_END_OF_STREAM;
}

static void pieces_free(void *cls)
{
	struct pieces *p = cls;

	p->done(p->data);
	free(p);
}

enum MHD_Result control_reply_pieces(struct MHD_Connection *conn, control_piece_fn next, void (*done)(void *data),
				     void *data)
{
	struct pieces *p = new0(struct pieces);
	struct MHD_Response *response = NULL;
	enum MHD_Result ret;

	if (!p) {
		done(data);
		return MHD_NO;
	}
	*p = (struct pieces){ .next = next, .done = done, .data = data };
	response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, CONTROL_BLOCK_BYTES, pieces_read, p, pieces_free);
	if (!response) {
		pieces_free(p);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	ret = MHD_queue_response(conn, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return ret;
}

static enum MHD_Result control_post_unload(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	struct err err;

	(void)c;
	if (wire_unload_parse(req->body, req->n, &req->now, &err) < 0)
		return control_error(conn, MHD_HTTP_BAD_REQUEST, "%s", err.text);
	req->unload = true;
	return control_reply(conn, MHD_HTTP_ACCEPTED,
			     json_pack("{s:I, s:s}", "pid", (json_int_t)getpid(), "state", "leaving"));
}

/* A * stands for one part of the path, which is kept in the request. */
static const struct route routes[] = {
	{ "/v1/status", "GET", control_get_status },
	{ "/v1/sockets", "GET", control_get_sockets },
	{ "/v1/conns", "GET", control_get_conns },
	{ "/v1/explain", "GET", control_get_explain },
	{ "/v1/capture", "GET", control_get_capture },
	{ "/v1/executables", "GET", control_get_executables },
	{ "/v1/events", "GET", control_get_events },
	{ "/v1/services", "GET", control_get_services },
	{ "/v1/services/*", "GET", control_get_service },
	{ "/v1/services/*/history", "GET", control_get_history },
	{ "/v1/backends", "GET", control_get_backends },
	{ "/v1/history", "GET", control_get_history },
	{ "/v1/events/recent", "GET", control_get_recent },
	{ "/v1/changes", "GET", control_get_changes },
	{ "/v1/services/*/backends/*/drain", "POST", control_post_drain },
	{ "/v1/services/*/backends/*/enable", "POST", control_post_enable },
	{ "/v1/services/*/backends/*/weight", "POST", control_post_weight },
	{ "/v1/reload", "POST", control_post_reload },
	{ "/v1/unload", "POST", control_post_unload },
};

static const struct route *route_find(const char *url, struct request *req)
{
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
		if (wire_path_matches(routes[i].path, url, req->args))
			return &routes[i];
	return NULL;
}

static enum MHD_Result control_route(struct control *c, struct MHD_Connection *conn, const char *url,
				     const char *method, struct request *req)
{
	const struct route *route = route_find(url, req);
	bool is_get = route && streq(route->method, "GET");

	if (!route)
		return control_error(conn, MHD_HTTP_NOT_FOUND,
				     "there is no '%.200s': see /v1/status, /v1/services, /v1/backends, /v1/sockets, "
				     "/v1/conns, /v1/explain, /v1/capture, /v1/executables, /v1/events, /v1/reload and "
				     "/v1/unload",
				     url);
	/* HEAD is GET without the body, which the library leaves out. */
	if (streq(method, route->method) || (is_get && streq(method, "HEAD")))
		return route->fn(c, conn, req);
	return reply_text(conn, MHD_HTTP_METHOD_NOT_ALLOWED,
			  json_line(wire_error(is_get ? "this can only be read: use GET" :
							"this is a request to act: use POST")),
			  is_get ? "GET, HEAD" : "POST");
}

/* One byte more than is allowed is kept, so that it can be told. */
static enum MHD_Result request_body(struct request *req, const char *data, size_t *n)
{
	size_t room = req->n <= WIRE_REQUEST_MAX ? WIRE_REQUEST_MAX + 1 - req->n : 0;

	if (!req->body && !(req->body = malloc(WIRE_REQUEST_MAX + 1)))
		return MHD_NO;
	memcpy(req->body + (req->n <= WIRE_REQUEST_MAX ? req->n : 0), data, *n < room ? *n : room);
	req->n += *n;
	*n = 0;
	return req->n > CONTROL_BODY_END ? MHD_NO : MHD_YES;
}

/* Called first with the headers, then for each part of the body, then once more. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
				  const char *version, const char *data, size_t *n, void **req_cls)
{
	struct request *req = *req_cls;

	(void)version;
	if (!req) {
		*req_cls = new0(struct request);
		return *req_cls ? MHD_YES : MHD_NO;
	}
	if (*n)
		return request_body(req, data, n);
	if (req->n > WIRE_REQUEST_MAX)
		return control_error(conn, MHD_HTTP_CONTENT_TOO_LARGE,
				     "the body is too long: %d bytes are enough for any", WIRE_REQUEST_MAX);
	return control_route(cls, conn, url, method, req);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **req_cls, enum MHD_RequestTerminationCode code)
{
	struct request *req = *req_cls;
	struct control *c = cls;

	(void)conn;
	(void)code;
	if (!req)
		return;
	if (req->unload)
		c->host.unload(c->host.data, req->now);
	free(req->body);
	free(req);
	*req_cls = NULL;
}

static void on_log(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *fmt, va_list ap)
{
	char line[512];

	(void)cls;
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	log_debug("control socket: %s", line);
}

int control_claim(struct control **ret, struct err *err)
{
	_cleanup_(control_closep) struct control *c = new0(struct control);

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->start_ms = clock_ms();
	c->fd = control_socket_open(wire_run_dir(), &c->path, err);
	if (c->fd < 0)
		return c->fd;
	*ret = TAKE_PTR(c);
	return 0;
}

int control_serve(struct control *c, const struct control_host *host, struct err *err)
{
	struct MHD_Daemon *mhd;
	int r;

	c->host = *host;
	mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
			       c, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, c->fd,
			       MHD_OPTION_NOTIFY_COMPLETED, on_completed, c, MHD_OPTION_CONNECTION_LIMIT,
			       (unsigned int)CONTROL_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
			       (unsigned int)CONTROL_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
			       (size_t)CONTROL_MEMORY_BYTES, MHD_OPTION_END);
	if (!mhd)
		return err_set(err, -EIO, "cannot serve the control socket '%s'", c->path);
	c->fd = -1;
	r = http_nest_start(&c->nest, host->loop, mhd, err);
	if (r < 0)
		return r;
	control_events_init(c);
	control_captures_init(c);
	return 0;
}

struct control *control_close(struct control *c)
{
	if (!c)
		return NULL;
	if (c->nest.mhd) {
		/* Resumes them, for no connection may be asleep when the server stops; what they say last is written. */
		control_events_end(c);
		control_captures_end(c, "stopped");
		for (int i = 0; i < 3; i++)
			(void)MHD_run(c->nest.mhd);
		http_nest_unwatch(&c->nest);
		ev_timer_stop(c->host.loop, &c->lost);
	}
	/* Before the listening socket is closed: after that the path may be another waggle's. */
	if (c->path)
		(void)unlink(c->path);
	if (c->nest.mhd)
		http_nest_stop(&c->nest);
	closep(&c->fd);
	free(c->path);
	free(c);
	return NULL;
}
