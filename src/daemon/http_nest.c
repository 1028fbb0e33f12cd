// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/http_nest.h"

#include <errno.h>

/* And asks when it next wants to be called without being told. */
void http_nest_run(struct http_nest *n)
{
	MHD_UNSIGNED_LONG_LONG ms;

	(void)MHD_run(n->mhd);
	ev_timer_stop(n->loop, &n->due);
	if (MHD_get_timeout(n->mhd, &ms) == MHD_YES) {
		ev_timer_set(&n->due, (double)ms / 1e3, 0.);
		ev_timer_start(n->loop, &n->due);
	}
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	(void)revents;
	http_nest_run(w->data);
}

static void on_due(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	http_nest_run(w->data);
}

int http_nest_start(struct http_nest *n, struct ev_loop *loop, struct MHD_Daemon *mhd, struct err *err)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD);

	*n = (struct http_nest){ .loop = loop, .mhd = mhd };
	if (!info) {
		MHD_stop_daemon(mhd);
		n->mhd = NULL;
		return err_set(err, -EIO, "cannot watch a server in the event loop");
	}
	ev_io_init(&n->io, on_io, info->epoll_fd, EV_READ);
	ev_timer_init(&n->due, on_due, 0., 0.);
	n->io.data = n->due.data = n;
	ev_io_start(loop, &n->io);
	ev_timer_start(loop, &n->due);
	return 0;
}

void http_nest_wake(struct http_nest *n)
{
	ev_feed_event(n->loop, &n->due, EV_TIMER);
}

void http_nest_unwatch(struct http_nest *n)
{
	ev_io_stop(n->loop, &n->io);
	ev_timer_stop(n->loop, &n->due);
}

void http_nest_stop(struct http_nest *n)
{
	http_nest_unwatch(n);
	MHD_stop_daemon(n->mhd);
	n->mhd = NULL;
}
