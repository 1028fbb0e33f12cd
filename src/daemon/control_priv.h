/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the control socket, and by nobody else. */
#pragma once

#include <jansson.h>
#include <microhttpd.h>

#include "daemon/control.h"
#include "daemon/http_nest.h"
#include "model/wire_queue.h"
#include "model/wire_request.h"

/* Each may hold a copy of the table of sockets. */
#define CONTROL_DUMPS_MAX 4
#define CONTROL_STREAMS_MAX 16
#define CONTROL_CONNECTIONS_MAX 64
#define CONTROL_TIMEOUT_S 30
/* What waits for one slow listener before events are dropped. */
#define CONTROL_QUEUE_BYTES (1U << 20)
#define CONTROL_BLOCK_BYTES (64U << 10)
/* How often rings are looked at while someone listens: most events wake nobody (src/bpf/ring.bpf.h). */
#define CONTROL_LOOK_S 0.1
/* How JSON is written: 0.1 as that. */
#define CONTROL_JSON (JSON_COMPACT | JSON_REAL_PRECISION(15))

struct control {
	char *path;
	int fd; /* listening; libmicrohttpd's once it serves */
	struct control_host host;
	struct http_nest nest;
	ev_timer lost, look; /* while someone listens */
	uint64_t lost_seen;
	struct stream *streams;
	size_t n_streams, n_dumps;
	struct capture *captures;
	ev_io captured; /* while somebody captures */
	uint64_t start_ms;
	size_t n_socks, n_joined;  /* counted when last asked for */
	size_t n_why[_AC_WHY_MAX]; /* of those that are not joined */
	uint64_t count_due_us;	   /* not to be counted again before */
};

struct request {
	char *body;
	size_t n;
	char args[WIRE_ARGS_MAX][WIRE_ARG_MAX]; /* the parts of the path that a route leaves open */
	bool unload, now;
};

/* control_socket.c: returns the listening fd. */
int control_socket_open(const char *dir, char **ret_path, struct err *err);

/* Replies. Each takes what it is given, and returns what libmicrohttpd wants of a handler. */
enum MHD_Result control_reply(struct MHD_Connection *conn, unsigned int status, json_t *body);
enum MHD_Result control_error(struct MHD_Connection *conn, unsigned int status, const char *fmt, ...) _printf_(3, 4);
/* What asks for the packet hook's tables is told that there are none. */
enum MHD_Result control_packet_off(struct MHD_Connection *conn);

/*
 * A long reply, made while it is read: next gives the next piece, which stays until it is called again. 1: a piece, 0:
 * that was all, negative: it cannot go on, and the client sees the connection break. done frees data, in any case.
 */
typedef int (*control_piece_fn)(void *data, const char **ret, size_t *ret_n);
enum MHD_Result control_reply_pieces(struct MHD_Connection *conn, control_piece_fn next, void (*done)(void *data),
				     void *data);

/*
 * control_stream.c: a reply of lines without an end, the first member of the listener's own struct. done frees that when
 * the client has gone, or what was queued after the end is written; and at once if there is no reply at all (MHD_NO).
 */
struct control_stream {
	struct control *c;
	struct MHD_Connection *conn;
	struct wire_queue queue;
	ev_io gone; /* active while suspended */
	bool suspended, ended;
	void (*done)(struct control_stream *s);
};
enum MHD_Result control_stream_reply(struct control *c, struct MHD_Connection *conn, struct control_stream *s,
				     size_t queue_bytes, void (*done)(struct control_stream *s));
/* There is something in its queue. */
void control_stream_wake(struct control_stream *s);
/* What is in its queue is all. */
void control_stream_end(struct control_stream *s);

/* What CLOCK_REALTIME is ahead of CLOCK_MONOTONIC. */
int64_t control_realtime_offset(void);

/* control_read.c */
enum MHD_Result control_get_status(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_get_executables(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_get_sockets(struct control *c, struct MHD_Connection *conn, struct request *req);

/* control_services.c */
enum MHD_Result control_no_services(struct MHD_Connection *conn);
enum MHD_Result control_no_service(struct MHD_Connection *conn, const struct request *req);
enum MHD_Result control_get_services(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_get_service(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_get_backends(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_post_drain(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_post_enable(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_post_weight(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_post_reload(struct control *c, struct MHD_Connection *conn, struct request *req);

/* control_conns.c */
enum MHD_Result control_get_conns(struct control *c, struct MHD_Connection *conn, struct request *req);

/* control_explain.c */
enum MHD_Result control_get_explain(struct control *c, struct MHD_Connection *conn, struct request *req);

/* control_history.c; the first one of all services, or of the one that the path names */
enum MHD_Result control_get_history(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_get_recent(struct control *c, struct MHD_Connection *conn, struct request *req);
enum MHD_Result control_get_changes(struct control *c, struct MHD_Connection *conn, struct request *req);

/* control_capture.c */
enum MHD_Result control_get_capture(struct control *c, struct MHD_Connection *conn, struct request *req);
void control_captures_init(struct control *c);

/* control_events.c */
enum MHD_Result control_get_events(struct control *c, struct MHD_Connection *conn, struct request *req);
void control_events_init(struct control *c);
void control_events_end(struct control *c);
