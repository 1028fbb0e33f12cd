// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The accelerator alone: its events and tick, signals, and the control socket, which goes on answering while the
 * sockets leave.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <signal.h>

#include <ev.h>

#include "base/log.h"
#include "daemon/control.h"
#include "daemon/hooked.h"

struct daemon {
	struct ev_loop *loop;
	struct hooked accel;
	struct control *control;
	ev_signal term, intr;
};

const char *daemon_state_dir(void)
{
	const char *dir = secure_getenv("WAGGLE_STATE_DIR");

	return dir && dir[0] ? dir : DAEMON_STATE_DIR;
}

static void on_event(const struct ac_event *event, void *data)
{
	struct daemon *d = data;

	control_event(d->control, event);
}

static void on_left(void *data)
{
	struct daemon *d = data;

	ev_break(d->loop, EVBREAK_ALL);
}

static void daemon_unload(void *data, bool now)
{
	struct daemon *d = data;

	/* Whoever only repeats a request is no more in a hurry than before. */
	if (!d->accel.leaving || now)
		hooked_leave(&d->accel, now);
}

static bool daemon_leaving(void *data, size_t *ret_left, size_t *ret_asleep)
{
	const struct daemon *d = data;

	*ret_left = d->accel.left;
	*ret_asleep = d->accel.asleep;
	return d->accel.leaving;
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)revents;
	hooked_leave(&d->accel, false);
}

/* From the first moment on, so that a stop during the start is an orderly one: the loop finds it when it runs. */
static void daemon_watch_signals(struct daemon *d)
{
	/* A client that hangs up is no reason to die. */
	(void)signal(SIGPIPE, SIG_IGN);
	ev_signal_init(&d->term, on_signal, SIGTERM);
	ev_signal_init(&d->intr, on_signal, SIGINT);
	d->term.data = d->intr.data = d;
	ev_signal_start(d->loop, &d->term);
	ev_signal_start(d->loop, &d->intr);
}

int daemon_accel(const struct accel_opts *opts, struct err *err)
{
	_cleanup_(accel_closep) struct accel *a = NULL;
	_cleanup_(control_closep) struct control *control = NULL;
	struct daemon d = {};
	struct control_host host = {
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
	accel_on_event(a, on_event, &d);
	host.loop = d.loop;
	r = control_serve(control, &host, err);
	if (r < 0)
		return r;
	hooked_watch(&d.accel, d.loop, &(struct hook_run){ &hook_accel, a }, on_left, &d);
	r = accel_attach(a, err);
	if (r < 0)
		return r;
	if (accel_probed(a)->class != ACCEL_FULL)
		log_warn("%s", accel_probed(a)->reason);
	printf("ready\n");
	(void)fflush(stdout);
	(void)ev_run(d.loop, 0);
	return 0;
}
