/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every hook is to the daemon's loop: one table of functions. A hook is opened by its own open function,
 * for each has options of its own, and closed by its own close; in between the loop knows it by this alone.
 */
#pragma once

#include "base/err.h"

struct hook {
	const char *name;
	unsigned int tick_ms; /* how often tick wants to be called */

	/* From here on connections are seen. Everything was loaded and filled before. */
	int (*attach)(void *self, struct err *err);
	/* Readable when dispatch has something to do. */
	int (*event_fd)(const void *self);
	int (*dispatch)(void *self);
	int (*tick)(void *self);
	/* Stops taking new work at the first call, and lets go of what it can; call again while *ret_left. */
	int (*leave)(void *self, size_t *ret_left, size_t *ret_asleep);
};

/* A hook that is open: the table and what it works on. */
struct hook_run {
	const struct hook *hook;
	void *self;
};
