/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A libmicrohttpd server in a libev loop, without a thread of its own: its epoll descriptor is one more that the loop
 * watches, and what it wants to do later is one more timer.
 */
#pragma once

#include <ev.h>
#include <microhttpd.h>

#include "base/err.h"

struct http_nest {
	struct ev_loop *loop;
	struct MHD_Daemon *mhd;
	ev_io io;
	ev_timer due;
};

/* Takes the server, which must have been started with MHD_USE_EPOLL. Does not move in memory until it is stopped. */
int http_nest_start(struct http_nest *n, struct ev_loop *loop, struct MHD_Daemon *mhd, struct err *err);

/* Lets the server do what is due. */
void http_nest_run(struct http_nest *n);

/* Soon, from the loop: for a connection that was resumed, which the server only notes. */
void http_nest_wake(struct http_nest *n);

/* Watches no more; the server goes on existing until http_nest_stop(). */
void http_nest_unwatch(struct http_nest *n);

/* Closes its listening socket and every connection. */
void http_nest_stop(struct http_nest *n);
