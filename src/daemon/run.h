/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `waggle run`, as its own files and the control socket see it: the model, what feeds it (checks, names, interfaces),
 * what it is brought to (the tables and hooks), and the loop that turns all of it. One thread.
 */
#pragma once

#include <ev.h>
#include <jansson.h>

#include "daemon/services.h"
#include "hook/accel.h"
#include "hook/connect.h"
#include "hook/lb.h"
#include "hook/packet.h"
#include "hook/redirect.h"

#include "daemon/hooked.h"

struct run {
	struct ev_loop *loop;
	const char *path; /* of the configuration */
	struct config *config;
	struct config *kept; /* an older one that a hook still goes by, for it could not take the new one; may be NULL */
	struct lb *lb;
	bool taken_over; /* the tables of a process before us */
	struct services *services;
	struct health *health;
	struct resolve *resolve;
	struct ifaddr *ifaddr;
	struct control *control;
	struct metrics *metrics; /* NULL: off */
	struct history *history;
	char *keep_path;

	/* Hooks: see hooks.c. */
	struct packet *packet;
	struct redirect *redirect;
	ev_io redirect_events;
	struct connect *connect;
	struct accel *accel;
	struct hooked accel_hooked;

	ev_signal term, intr, hup;
	ev_timer apply, keep, tick, hooks_tick, watchdog;
	ev_io lb_events;
	bool stop, unload, ready;
	uint64_t reloads, failed_reloads, loaded_ms;
	char last_error[256]; /* of the last reload; "" if it went well */
};

#define RUN_TICK_MS 100 /* of hooks that want one */

/* CLOCK_MONOTONIC milliseconds as a date and time. 0: null. */
json_t *run_time(uint64_t mono_ms);

/*
 * Reads the configuration again and does what it says. *ret is the answer for the control API in any case: what has
 * changed, or {"error", "errors"}. -EINVAL: it has errors; other -errno: it could not be done. Nothing has changed
 * then.
 */
int run_reload(struct run *run, json_t **ret);

/* For GET /v1/status: what of it is about balancing. Takes the object that the accelerator's part is in already. */
json_t *run_status(const struct run *run, json_t *status);

/*
 * The hooks that a configuration can switch on. One line of a table in hooks.c each; the daemon opens them in its
 * order, and closes them in the opposite one.
 */
struct run_hook {
	const char *name;
	bool (*wanted)(const struct config *config);
	bool (*is_on)(const struct run *run);
	/* Opens and attaches by run->config. On failure nothing is left. */
	int (*open)(struct run *run, struct err *err);
	/*
	 * run->config is new, and the hook was open by was; it is only called if the hook is wanted still. 1: what is
	 * new only comes with a restart, err has a sentence.
	 */
	int (*configure)(struct run *run, const struct config *was, struct err *err);
	/*
	 * It is not wanted any more, or was not to begin with and a process before us may have left it pinned: goes, and
	 * takes its pins out. 1 and a sentence: it only comes with a restart.
	 */
	int (*end)(struct run *run, struct err *err);
	/* Services have changed in the tables; NULL: it need not know. */
	int (*applied)(struct run *run, struct err *err);
	/* To be called every RUN_TICK_MS; NULL: not. */
	int (*tick)(struct run *run);
	/* Lets go. What is pinned goes on. */
	void (*close)(struct run *run);
	/* More about it for GET /v1/status, into an object that has name and on; NULL: nothing. */
	void (*status)(const struct run *run, json_t *ret);
};

/* hook_packet.c: the packet hook, a line of the table. */
bool run_packet_wanted(const struct config *config);
bool run_packet_is_on(const struct run *run);
int run_packet_open(struct run *run, struct err *err);
int run_packet_configure(struct run *run, const struct config *was, struct err *err);
int run_packet_end(struct run *run, struct err *err);
int run_packet_applied(struct run *run, struct err *err);
int run_packet_tick(struct run *run);
void run_packet_close(struct run *run);
void run_packet_status(const struct run *run, json_t *ret);

/* hook_redirect.c: redirects and policies, a line of the table. */
bool run_redirect_wanted(const struct config *config);
bool run_redirect_is_on(const struct run *run);
int run_redirect_open(struct run *run, struct err *err);
int run_redirect_configure(struct run *run, const struct config *was, struct err *err);
int run_redirect_end(struct run *run, struct err *err);
int run_redirect_tick(struct run *run);
void run_redirect_close(struct run *run);
/* Its events, by enum rd_event_kind; NULL: not told to anybody. */
#define RUN_REDIRECT_WORDS (RD_EVENT_DENIED + 1)
extern const char *const run_redirect_words[RUN_REDIRECT_WORDS];
void run_redirect_status(const struct run *run, json_t *ret);

int hooks_open(struct run *run, struct err *err);
/* What cannot be done now is appended to warnings, as sentences. */
void hooks_configure(struct run *run, const struct config *was, json_t *warnings);
/* Call each time services_apply() has changed something. */
void hooks_applied(struct run *run);
/* Call every RUN_TICK_MS. */
void hooks_tick(struct run *run);
void hooks_close(struct run *run);
json_t *hooks_status(const struct run *run);
