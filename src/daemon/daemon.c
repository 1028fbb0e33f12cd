// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The loop: events of the kernel, the tick, signals, and the control socket.
 *
 * Leaving is a state of the loop, not a call: a timer takes out what can leave, again and again, while the
 * control socket goes on answering, until nothing is left, the time is up, or someone is tired of waiting.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include <ev.h>

#include "base/log.h"
#include "daemon/control.h"

#define LEAVE_EVERY_S 0.02

struct daemon {
	struct ev_loop *loop;
	struct hook_run run;
	struct control *control;
	ev_io events;
	ev_timer tick, leave;
	ev_signal term, intr;
	bool leaving;
	double leave_until; /* CLOCK_MONOTONIC, seconds */
	size_t left, asleep;
};

const char *daemon_state_dir(void)
{
	const char *dir = secure_getenv("WAGGLE_STATE_DIR");

	return dir && dir[0] ? dir : DAEMON_STATE_DIR;
}

static double daemon_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void on_events(struct ev_loop *loop, ev_io *w, int revents)
{
	struct daemon *d = w->data;
	int r = d->run.hook->dispatch(d->run.self);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_warn("cannot read events: %s", strerror(-r));
}

static void on_event(const struct ac_event *event, void *data)
{
	struct daemon *d = data;

	control_event(d->control, event);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct daemon *d = w->data;
	int r = d->run.hook->tick(d->run.self);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_debug("tick: %s", strerror(-r));
}

/* Lets every joined socket be read empty and leave, as far as their readers allow it. */
static void on_leave(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct daemon *d = w->data;
	int r = d->run.hook->leave(d->run.self, &d->left, &d->asleep);

	(void)revents;
	if (r < 0)
		log_warn("cannot walk the sockets: %s", strerror(-r));
	if (r >= 0 && d->left && daemon_now() < d->leave_until)
		return;
	if (r >= 0 && d->left)
		log_warn("%zu sockets could not leave (%zu have a reader asleep): they go on by TCP, and keep two programs in "
			 "the kernel until they are closed or 'waggle unload' finds them awake",
			 d->left, d->asleep);
	ev_break(loop, EVBREAK_ALL);
}

/* The second call ends the waiting, as now does at once. */
static void daemon_leave(void *data, bool now)
{
	struct daemon *d = data;

	if (d->leaving || now)
		d->leave_until = 0;
	else
		d->leave_until = daemon_now() + DAEMON_LEAVE_MS / 1e3;
	if (d->leaving)
		return;
	d->leaving = true;
	/* Nothing may be joined any more. */
	ev_timer_stop(d->loop, &d->tick);
	ev_timer_start(d->loop, &d->leave);
}

static void daemon_unload(void *data, bool now)
{
	struct daemon *d = data;

	/* Whoever only repeats a request is no more in a hurry than before. */
	if (!d->leaving || now)
		daemon_leave(d, now);
}

static bool daemon_leaving(void *data, size_t *ret_left, size_t *ret_asleep)
{
	const struct daemon *d = data;

	*ret_left = d->left;
	*ret_asleep = d->asleep;
	return d->leaving;
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int revents)
{
	(void)loop;
	(void)revents;
	daemon_leave(w->data, false);
}

static void daemon_watch(struct daemon *d)
{
	const struct hook *hook = d->run.hook;

	ev_io_init(&d->events, on_events, hook->event_fd(d->run.self), EV_READ);
	ev_timer_init(&d->tick, on_tick, hook->tick_ms / 1e3, hook->tick_ms / 1e3);
	d->events.data = d->tick.data = d;
	ev_io_start(d->loop, &d->events);
	ev_timer_start(d->loop, &d->tick);
}

/* From the first moment on, so that a stop during the start is an orderly one: the loop finds it when it runs. */
static void daemon_watch_signals(struct daemon *d)
{
	/* A client that hangs up is no reason to die. */
	(void)signal(SIGPIPE, SIG_IGN);
	ev_signal_init(&d->term, on_signal, SIGTERM);
	ev_signal_init(&d->intr, on_signal, SIGINT);
	ev_timer_init(&d->leave, on_leave, 0., LEAVE_EVERY_S);
	d->term.data = d->intr.data = d->leave.data = d;
	ev_signal_start(d->loop, &d->term);
	ev_signal_start(d->loop, &d->intr);
}

int daemon_accel(const struct accel_opts *opts, struct err *err)
{
	_cleanup_(accel_closep) struct accel *a = NULL;
	_cleanup_(control_closep) struct control *control = NULL;
	struct daemon d = {};
	struct control_host host = {
		.cgroup = opts->cgroup,
		.unload = daemon_unload,
		.leaving = daemon_leaving,
		.data = &d,
	};
	int r;

	d.loop = ev_default_loop(EVFLAG_AUTO);
	if (!d.loop)
		return err_set(err, -ENOMEM, "cannot make an event loop");
	daemon_watch_signals(&d);
	r = control_claim(&control, err);
	if (r < 0)
		return r;
	d.control = control;
	r = accel_open(opts, &a, err);
	if (r < 0)
		return r;
	host.accel = a;
	d.run = (struct hook_run){ &hook_accel, a };
	accel_on_event(a, on_event, &d);
	host.loop = d.loop;
	r = control_serve(control, &host, err);
	if (r < 0)
		return r;
	daemon_watch(&d);
	r = d.run.hook->attach(d.run.self, err);
	if (r < 0)
		return r;
	if (accel_probed(a)->class != ACCEL_FULL)
		log_warn("%s", accel_probed(a)->reason);
	printf("ready\n");
	(void)fflush(stdout);
	(void)ev_run(d.loop, 0);
	return 0;
}
