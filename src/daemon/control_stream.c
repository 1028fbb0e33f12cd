// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replies without an end: every listener has a queue of lines. While a queue is empty its connection is suspended, and
 * a line wakes it. libmicrohttpd does not look at suspended connections, so we watch whether the client hangs up.
 */
#include "daemon/control_priv.h"

#include <errno.h>
#include <sys/socket.h>

void control_stream_wake(struct control_stream *s)
{
	if (!s->suspended)
		return;
	s->suspended = false;
	ev_io_stop(s->c->host.loop, &s->gone);
	MHD_resume_connection(s->conn);
	http_nest_wake(&s->c->nest);
}

void control_stream_end(struct control_stream *s)
{
	s->ended = true;
	control_stream_wake(s);
}

/* A listener has nothing to say: whatever comes is its end. */
static void on_gone(struct ev_loop *loop, ev_io *w, int revents)
{
	struct control_stream *s = w->data;
	char byte;

	(void)loop;
	(void)revents;
	if (recv(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
		return;
	control_stream_end(s);
}

static ssize_t on_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct control_stream *s = cls;
	size_t n = wire_queue_take(&s->queue, buf, max);

	(void)pos;
	if (n)
		return (ssize_t)n;
	if (s->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	s->suspended = true;
	ev_io_start(s->c->host.loop, &s->gone);
	MHD_suspend_connection(s->conn);
	return 0;
}

static void on_free(void *cls)
{
	struct control_stream *s = cls;

	ev_io_stop(s->c->host.loop, &s->gone);
	wire_queue_done(&s->queue);
	s->done(s);
}

enum MHD_Result control_stream_reply(struct control *c, struct MHD_Connection *conn, struct control_stream *s,
				     size_t queue_bytes, void (*done)(struct control_stream *s))
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct MHD_Response *response = NULL;
	enum MHD_Result r;

	*s = (struct control_stream){ .c = c, .conn = conn, .done = done };
	wire_queue_init(&s->queue, queue_bytes);
	ev_io_init(&s->gone, on_gone, info ? info->connect_fd : -1, EV_READ);
	s->gone.data = s;
	if (info)
		response =
			MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, CONTROL_BLOCK_BYTES, on_read, s, on_free);
	if (!response) {
		on_free(s);
		return MHD_NO;
	}
	/* Long silences are in its nature; when it ends, so does the connection, which has no time limit any more. */
	(void)MHD_set_connection_option(conn, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/x-ndjson");
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	r = MHD_queue_response(conn, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return r;
}
