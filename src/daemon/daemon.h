/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The long-running process: one thread, one event loop (libev), around the hooks. */
#pragma once

#include "hook/accel.h"

/* How long leaving may take before sockets that cannot leave are left behind, passing everything to TCP. */
#define DAEMON_LEAVE_MS 5000

/* Where what was learned is kept: /var/lib/waggle, unless WAGGLE_STATE_DIR says otherwise. */
#define DAEMON_STATE_DIR "/var/lib/waggle"
const char *daemon_state_dir(void);

/* What belongs to the pinned tables, beside the control socket: gone at the next boot, as they are. */
#define DAEMON_KEEP_FILE "services.json"

/*
 * Runs the accelerator until SIGTERM, SIGINT or an unload request, then leaves the kernel; a second one of them
 * ends the waiting. Prints "ready" on stdout when attached. Returns 0 after an orderly end, -errno and a
 * sentence otherwise (-EALREADY: one runs).
 */
int daemon_accel(const struct accel_opts *opts, struct err *err);

struct config;

/*
 * `waggle run`: balances by the configuration, which it takes, until SIGTERM, SIGINT or an unload request. At the
 * former two balancing stays in the kernel for the next process to take over. path is read again at SIGHUP. Otherwise
 * as daemon_accel().
 */
int daemon_run(const char *path, struct config *config, struct err *err);
