/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hook (hook/hook.h) in the loop: its events, its tick, and its leaving. Leaving is a state, not a call: a timer
 * takes out what can leave, again and again, until nothing is left, the time is up, or someone is tired of waiting.
 */
#pragma once

#include <ev.h>

#include "hook/hook.h"

struct hooked {
	struct ev_loop *loop;
	struct hook_run run;
	void (*left_fn)(void *data); /* leaving has ended, in whatever way */
	void *data;
	ev_io events;
	ev_timer tick, leave;
	bool leaving;
	double leave_until; /* CLOCK_MONOTONIC, seconds */
	size_t left, asleep;
};

/* Watches events and ticks from here on. */
void hooked_watch(struct hooked *h, struct ev_loop *loop, const struct hook_run *run, void (*left_fn)(void *data),
		  void *data);
/* The second call ends the waiting, as now does at once. */
void hooked_leave(struct hooked *h, bool now);
/* Watches no more; leaving or not. */
void hooked_stop(struct hooked *h);
