// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/hooked.h"

#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon.h"

#define LEAVE_EVERY_S 0.02

static void on_events(struct ev_loop *loop, ev_io *w, int revents)
{
	struct hooked *h = w->data;
	int r = h->run.hook->dispatch(h->run.self);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_warn("cannot read events: %s", strerror(-r));
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct hooked *h = w->data;
	int r = h->run.hook->tick(h->run.self);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_debug("tick: %s", strerror(-r));
}

/* Lets every joined socket be read empty and leave, as far as their readers allow it. */
static void on_leave(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct hooked *h = w->data;
	int r = h->run.hook->leave(h->run.self, &h->left, &h->asleep);

	(void)revents;
	if (r < 0)
		log_warn("cannot walk the sockets: %s", strerror(-r));
	if (r >= 0 && h->left && clock_s() < h->leave_until)
		return;
	if (r >= 0 && h->left)
		log_warn("%zu sockets could not leave (%zu have a reader asleep): they go on by TCP, and keep two programs in "
			 "the kernel until they are closed or 'waggle unload' finds them awake",
			 h->left, h->asleep);
	ev_timer_stop(loop, w);
	h->left_fn(h->data);
}

void hooked_watch(struct hooked *h, struct ev_loop *loop, const struct hook_run *run, void (*left_fn)(void *data),
		  void *data)
{
	*h = (struct hooked){ .loop = loop, .run = *run, .left_fn = left_fn, .data = data };
	ev_io_init(&h->events, on_events, run->hook->event_fd(run->self), EV_READ);
	ev_timer_init(&h->tick, on_tick, run->hook->tick_ms / 1e3, run->hook->tick_ms / 1e3);
	ev_timer_init(&h->leave, on_leave, 0., LEAVE_EVERY_S);
	h->events.data = h->tick.data = h->leave.data = h;
	ev_io_start(loop, &h->events);
	ev_timer_start(loop, &h->tick);
}

void hooked_leave(struct hooked *h, bool now)
{
	if (h->leaving || now)
		h->leave_until = 0;
	else
		h->leave_until = clock_s() + DAEMON_LEAVE_MS / 1e3;
	if (h->leaving)
		return;
	h->leaving = true;
	/* Nothing may be joined any more. */
	ev_timer_stop(h->loop, &h->tick);
	ev_timer_start(h->loop, &h->leave);
}

void hooked_stop(struct hooked *h)
{
	if (!h->loop)
		return;
	ev_io_stop(h->loop, &h->events);
	ev_timer_stop(h->loop, &h->tick);
	ev_timer_stop(h->loop, &h->leave);
}
