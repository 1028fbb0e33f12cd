// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From a configuration to balancing, and the loop that keeps it so: what is found out goes to the model, which asks to
 * be applied; signals and the control socket change it; and what it holds is kept for the next process.
 */
#include "daemon/run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/health.h"
#include "daemon/history.h"
#include "daemon/ifaddr.h"
#include "daemon/metrics.h"
#include "daemon/notify.h"
#include "daemon/resolve.h"
#include "hook/packet.h"
#include "model/wire.h"

#define KEEP_AFTER_S 1.
#define TICK_S 1.
#define CLOCK_SET_MS 500 /* a difference that means that somebody has set the clock */
/* How long the start waits for names that nothing is known of. */
#define NAMES_MS 5000
/* Room for more than there is now: what is pinned cannot grow. */
#define ROOM_FACTOR 2
#define ROOM_RING_ENTRIES 64 /* for each backend */

/* What the clock is ahead of CLOCK_MONOTONIC. The same each time, so that moments stay what they are, until it is set. */
static int64_t clock_offset_ms(void)
{
	static int64_t kept;
	int64_t now = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000) - (int64_t)clock_ms();

	if (now - kept > CLOCK_SET_MS || kept - now > CLOCK_SET_MS)
		kept = now;
	return kept;
}

json_t *run_time(uint64_t mono_ms)
{
	int64_t ms = (int64_t)mono_ms + clock_offset_ms();
	time_t seconds = (time_t)(ms / 1000);
	char text[48], whole[32];
	struct tm tm;

	if (!mono_ms || !gmtime_r(&seconds, &tm) || !strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm))
		return json_null();
	(void)snprintf(text, sizeof(text), "%s.%03uZ", whole, (unsigned int)(ms % 1000));
	return json_string(text);
}

/* What the model asks for. */

static void run_timer(struct run *run, ev_timer *w, double seconds)
{
	ev_timer_stop(run->loop, w);
	ev_timer_set(w, seconds, 0.);
	ev_timer_start(run->loop, w);
}

static void on_added(struct backend *b, void *data)
{
	struct run *run = data;

	health_add(run->health, b);
	history_add(run->history, b);
}

static void on_removed(struct backend *b, void *data)
{
	struct run *run = data;

	health_remove(run->health, b);
	history_remove(run->history, b);
}

static void on_rechecked(struct backend *b, void *data)
{
	struct run *run = data;

	health_change(run->health, b);
}

static void on_changed(const struct backend *b, enum backend_state was, const char *why, void *data)
{
	struct run *run = data;
	const char *now_word = backend_state_words[b->state], *was_word = backend_state_words[was];
	json_t *event;

	if (b->state == BACKEND_DOWN)
		log_warn("service '%s': backend %s is down: %s", b->service->name, b->text, why);
	else
		log_info("service '%s': backend %s is %s (was %s): %s", b->service->name, b->text, now_word, was_word,
			 why);
	event = json_pack("{s:s, s:o, s:s, s:s, s:s, s:s, s:s}", "event", "backend", "time", run_time(clock_ms()),
			  "service", b->service->name, "backend", b->text, "state", now_word, "was", was_word, "text",
			  why);
	history_event(run->history, json_incref(event));
	control_event_json(run->control, event);
}

static void on_wake(void *data)
{
	struct run *run = data;

	if (!ev_is_active(&run->apply))
		run_timer(run, &run->apply, 0.);
}

static void on_keep_wanted(bool at_once, void *data)
{
	struct run *run = data;

	if (at_once || !ev_is_active(&run->keep))
		run_timer(run, &run->keep, at_once ? 0. : KEEP_AFTER_S);
}

/* Timers. */

static void on_apply(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct run *run = w->data;
	struct err err = {};
	int r = services_apply(run->services, &err);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_debug("apply: %s", err.text);
	hooks_applied(run);
}

static void run_keep(struct run *run)
{
	struct err err = {};

	if (services_save(run->services, run->keep_path, &err) < 0)
		log_warn("%s", err.text);
}

static void on_keep(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	run_keep(w->data);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct run *run = w->data;

	(void)loop;
	(void)revents;
	services_tick(run->services, clock_ms());
	lb_collect(run->lb);
	history_tick(run->history);
}

static void on_hooks_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	hooks_tick(w->data);
}

static void on_watchdog(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
	notify_state("WATCHDOG=1");
}

/* Checks, and what the hooks see. */

/* A backend's address may be a service's: the check goes to the backend itself. */
static int on_check_socket(int fd, void *data)
{
	struct run *run = data;

	return run->connect ? connect_exempt(run->connect, fd) : 0;
}

static void on_report(struct backend *b, const struct check_result *result, void *data)
{
	struct run *run = data;

	services_report(run->services, b, result, clock_ms());
	/* It refused someone a moment ago, and is well now: nobody has to step over it any longer. */
	if (result->ok && b->verdict == BACKEND_UP)
		for (size_t i = 0; i < b->n_ids; i++)
			lb_backend_avoid(run->lb, b->ids[i], 0);
}

static void on_lb_event(const struct lb_event *event, void *data)
{
	struct run *run = data;
	struct backend *b = services_backend_of(run->services, event->backend);

	if (b && (event->kind == LB_EVENT_REFUSED || event->kind == LB_EVENT_TIMED_OUT))
		health_now(run->health, b);
	control_lb_event(run->control, event, services_service_of(run->services, event->service), b);
}

static void on_lb_events(struct ev_loop *loop, ev_io *w, int revents)
{
	struct run *run = w->data;
	int r = lb_dispatch(run->lb, on_lb_event, run);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_warn("cannot read events: %s", strerror(-r));
}

/* The end. Balancing stays, but for an unload. */

static void run_stop(struct run *run, bool now)
{
	run->stop = true;
	notify_state("STOPPING=1");
	if (run->accel)
		hooked_leave(&run->accel_hooked, now);
	else
		ev_break(run->loop, EVBREAK_ALL);
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int revents)
{
	(void)loop;
	(void)revents;
	run_stop(w->data, false);
}

static void on_unload(void *data, bool now)
{
	struct run *run = data;

	run->unload = true;
	/* Whoever only repeats a request is no more in a hurry than before. */
	if (!run->stop || now)
		run_stop(run, now);
}

static bool on_leaving(void *data, size_t *ret_left, size_t *ret_asleep)
{
	const struct run *run = data;

	*ret_left = run->accel ? run->accel_hooked.left : 0;
	*ret_asleep = run->accel ? run->accel_hooked.asleep : 0;
	return run->stop;
}

static void on_hangup(struct ev_loop *loop, ev_signal *w, int revents)
{
	json_t *answer = NULL;

	(void)loop;
	(void)revents;
	(void)run_reload(w->data, &answer);
	json_decref(answer);
}

/* The beginning. */

static void run_init(struct run *run)
{
	(void)signal(SIGPIPE, SIG_IGN);
	ev_signal_init(&run->term, on_signal, SIGTERM);
	ev_signal_init(&run->intr, on_signal, SIGINT);
	ev_signal_init(&run->hup, on_hangup, SIGHUP);
	ev_init(&run->apply, on_apply);
	ev_init(&run->keep, on_keep);
	ev_timer_init(&run->tick, on_tick, TICK_S, TICK_S);
	ev_timer_init(&run->hooks_tick, on_hooks_tick, RUN_TICK_MS / 1e3, RUN_TICK_MS / 1e3);
	ev_init(&run->watchdog, on_watchdog);
	ev_init(&run->lb_events, on_lb_events);
	run->term.data = run->intr.data = run->hup.data = run;
	run->apply.data = run->keep.data = run->tick.data = run->hooks_tick.data = run->lb_events.data = run;
	/* From the first moment on: whoever stops or reloads us during the start is heard when the loop runs. */
	ev_signal_start(run->loop, &run->term);
	ev_signal_start(run->loop, &run->intr);
	ev_signal_start(run->loop, &run->hup);
}

/* Every check in flight is a descriptor. */
static void run_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static uint32_t at_least(size_t n, uint32_t least)
{
	return n > least ? (n < UINT32_MAX ? (uint32_t)n : UINT32_MAX) : least;
}

static int run_open_tables(struct run *run, struct err *err)
{
	size_t n_backends = 0, ring = 0;
	struct lb_limits limits;

	for (size_t i = 0; i < run->config->n_services; i++) {
		const struct config_service *conf = &run->config->services[i];
		bool is_table = conf->scheduler == LB_MAGLEV || conf->scheduler == LB_SOURCE;

		n_backends += conf->n_backends;
		ring += is_table ? conf->table_size : conf->n_backends * ROOM_RING_ENTRIES;
	}
	limits.services = at_least(run->config->n_services * ROOM_FACTOR, 4096);
	limits.backends = at_least(n_backends * ROOM_FACTOR, 16384);
	limits.ring_entries = at_least(ring * ROOM_FACTOR, 4U << 20);
	return lb_open(&limits, &run->lb, &run->taken_over, err);
}

static int run_open_model(struct run *run, struct err *err)
{
	const struct services_host model = { on_added, on_removed,     on_rechecked, on_changed,
					     on_wake,  on_keep_wanted, run };
	const struct health_host checks = { run->loop, on_check_socket, on_report, run };
	struct services_diff diff;
	int r;

	r = health_new(&checks, &run->health, err);
	if (r >= 0)
		r = history_new(run, &run->history, err);
	if (r >= 0)
		r = services_new(run->lb, &model, &run->services, err);
	if (r < 0)
		return r;
	/* Not a reason to stay away: at worst a backend that is down is found to be so again. */
	if (services_load(run->services, run->keep_path, run->taken_over, err) < 0)
		log_warn("%s", err->text);
	r = services_configure(run->services, run->config, clock_ms(), &diff, err);
	if (r >= 0)
		r = resolve_new(run->loop, run->services, &run->resolve, err);
	if (r >= 0)
		r = ifaddr_new(run->loop, run->services, &run->ifaddr, err);
	if (r < 0)
		return r;
	r = ifaddr_sync(run->ifaddr);
	if (r >= 0)
		r = resolve_sync(run->resolve);
	return r < 0 ? err_set(err, r, "cannot find out addresses: %s", strerror(-r)) : 0;
}

/* Services whose names were never resolved have no backends yet: they begin when their names have answered. */
static void run_await_names(struct run *run)
{
	uint64_t until = clock_ms() + NAMES_MS;

	/* Nothing is to be applied before, for what a process before us has left would lose its backends. */
	ev_timer_start(run->loop, &run->tick);
	while (!run->stop && !resolve_settled(run->resolve) && clock_ms() < until) {
		ev_timer_stop(run->loop, &run->apply);
		(void)ev_run(run->loop, EVRUN_ONCE);
	}
}

static void run_watch(struct run *run)
{
	double every = (double)notify_watchdog_ms() / 2e3;

	ev_timer_start(run->loop, &run->hooks_tick);
	ev_io_set(&run->lb_events, lb_event_fd(run->lb), EV_READ);
	ev_io_start(run->loop, &run->lb_events);
	if (every > 0.) {
		ev_timer_set(&run->watchdog, every, every);
		ev_timer_start(run->loop, &run->watchdog);
	}
	health_start(run->health);
}

static int run_start(struct run *run, struct err *err)
{
	struct control_host host = {
		.loop = run->loop, .run = run, .unload = on_unload, .leaving = on_leaving, .data = run
	};
	int r;

	r = control_claim(&run->control, err);
	if (r >= 0)
		r = run_open_tables(run, err);
	if (r >= 0)
		r = run_open_model(run, err);
	if (r < 0)
		return r;
	run_await_names(run);
	if (run->stop)
		return 0;
	r = services_apply(run->services, err);
	if (r < 0)
		return r;
	lb_ctl(run->lb)->on = 1;
	r = hooks_open(run, err);
	if (r < 0)
		return r;
	hooks_applied(run);
	host.accel = run->accel;
	r = control_serve(run->control, &host, err);
	if (r < 0)
		return r;
	r = metrics_open(run, &run->metrics, err);
	if (r < 0)
		return r;
	services_forget(run->services);
	run->loaded_ms = clock_ms();
	run_watch(run);
	return 0;
}

static void run_done(struct run *run)
{
	run->metrics = metrics_close(run->metrics);
	run->control = control_close(run->control);
	hooks_close(run);
	run->resolve = resolve_free(run->resolve);
	run->ifaddr = ifaddr_free(run->ifaddr);
	/* Tells health and history of every backend that goes. */
	run->services = services_free(run->services);
	run->health = health_free(run->health);
	run->history = history_free(run->history);
	run->lb = lb_close(run->lb);
	run->config = config_free(run->config);
	run->kept = config_free(run->kept);
	free(run->keep_path);
}

/* Only what stays is worth a line. */
static int run_finish(struct run *run, struct err *err)
{
	int r = 0;

	if (run->unload) {
		(void)unlink(run->keep_path);
		packet_unload();
		r = lb_unpin(err);
	} else if (run->ready) {
		run_keep(run);
		log_info("balancing goes on in the kernel without this process, for 'waggle run' to take over again: "
			 "'waggle unload' takes it out");
	}
	return r;
}

static void run_tell_start(struct run *run)
{
	static const char over[] = "took over the tables of the waggle before";

	if (run->taken_over)
		log_info("%s", over);
	history_event(run->history, json_pack("{s:s, s:o, s:s}", "event", "start", "time", run_time(clock_ms()), "text",
					      run->taken_over ? over : "waggle has started"));
}

int daemon_run(const char *path, struct config *config, struct err *err)
{
	struct run run = { .path = path, .config = config };
	int r;

	run.loop = ev_default_loop(EVFLAG_AUTO);
	if (!run.loop || asprintf(&run.keep_path, "%s/" DAEMON_KEEP_FILE, wire_run_dir()) < 0) {
		(void)config_free(config);
		return err_set(err, -ENOMEM, "cannot make an event loop");
	}
	run_init(&run);
	run_raise_files();
	r = run_start(&run, err);
	if (r >= 0 && !run.stop) {
		run_tell_start(&run);
		run.ready = true;
		printf("ready\n");
		(void)fflush(stdout);
		notify_state("READY=1");
		(void)ev_run(run.loop, 0);
	}
	if (r >= 0) {
		r = run_finish(&run, err);
	} else if (run.lb && !run.taken_over) {
		/* What was made a moment ago and serves nobody. */
		packet_unload();
		(void)lb_unpin(NULL);
	}
	run_done(&run);
	return r;
}
