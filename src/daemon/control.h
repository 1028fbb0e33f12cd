/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: HTTP and JSON on a unix socket (docs/openapi.yaml), served from the daemon's own loop.
 * Single-threaded; nothing here blocks for a client.
 */
#pragma once

#include <ev.h>
#include <jansson.h>

#include "hook/accel.h"
#include "hook/lb.h"
#include "model/wire_filter.h"

struct control;
struct run;
struct service;
struct backend;

/* Whom the control socket serves. All of it outlives the struct control. */
struct control_host {
	struct ev_loop *loop;
	struct run *run;     /* `waggle run`; NULL: the accelerator alone */
	struct accel *accel; /* NULL: it is off */
	/* Asks to leave. Called when the reply is on its way; returns at once. */
	void (*unload)(void *data, bool now);
	/* False: not leaving. */
	bool (*leaving)(void *data, size_t *ret_left, size_t *ret_asleep);
	void *data;
};

/*
 * Makes the directory and the socket, in place of one that a dead process left. From here on a second waggle is
 * refused (-EALREADY and a sentence), and clients wait to be served.
 */
int control_claim(struct control **ret, struct err *err);

int control_serve(struct control *c, const struct control_host *host, struct err *err);

/* Tells everyone who listens. Before control_serve() nobody does. */
void control_event(struct control *c, const struct ac_event *event);
/* Takes the event: one of the daemon itself, which is always told. */
void control_event_json(struct control *c, json_t *event);
/* The same of what may come a thousand times a second: not more of them than a listener wants. */
void control_event_call(struct control *c, json_t *event);
/*
 * Is it worth to make JSON of such an event, which is most of what it costs? Somebody may want it, and has room. For those
 * that have none it is lost here, as if it had been made.
 */
bool control_wants(struct control *c, const struct wire_event_view *v);
/* Of the balancing hooks; service and backend NULL: not known any more. */
void control_lb_event(struct control *c, const struct lb_event *event, const struct service *service,
		      const struct backend *backend);

/* What GET /v1/status answers; the caller's. */
int control_status(struct control *c, json_t **ret);

/* Services have changed in the tables; the packet hook goes, and captures end. */
void control_captures_changed(struct control *c);
void control_captures_end(struct control *c, const char *why);

/* The accelerator came or went. Nobody reads it at the moment. */
void control_set_accel(struct control *c, struct accel *accel);

/* Ends the streams, stops serving and removes the socket. Before accel_close(). */
struct control *control_close(struct control *c);

static inline void control_closep(struct control **c)
{
	(void)control_close(*c);
}
