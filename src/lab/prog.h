/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programs of the lab: started without a shell, in a namespace and a cgroup, and never outliving their parent
 * (PR_SET_PDEATHSIG). Waiting is bounded always.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

struct prog_spec {
	const char *const *argv; /* argv[0] is looked up in PATH and in the sbin directories */
	const char *file;	 /* executed in the place of argv[0], if given */
	const char *const *env;	 /* "KEY=VALUE"..., added to ours; may be NULL */
	int netns_fd;		 /* -1: ours */
	int cgroup_fd;		 /* a cgroup v2 directory; -1: ours */
	const char *log;	 /* stdout and stderr are appended here; NULL: /dev/null */
	const char *input;	 /* text for stdin; NULL: /dev/null. At most a pipe's worth (64 KB). */
	bool want_stdout;	 /* stdout is prog.out, to be read by us */
};

struct prog {
	pid_t pid; /* 0: not running */
	int out;   /* want_stdout: the reading end; otherwise -1 */
};

/* Returns when the program has been executed; -ENOENT: there is no such program. */
int prog_start(const struct prog_spec *spec, struct prog *ret, struct err *err);

/* Waits for its end; returns the exit status, 128 + signal as a shell would, or -ETIMEDOUT (it still runs). */
int prog_wait(struct prog *prog, int timeout_ms);

/* Is it still running? Once it is not, prog_wait() tells how it ended, at once. */
bool prog_runs(const struct prog *prog);

/* SIGTERM, and SIGKILL when it has not ended within the time; returns as prog_wait(). Nothing to do for pid 0. */
int prog_stop(struct prog *prog, int timeout_ms);

/* Starts and waits; 0 if it ended with 0, otherwise -EIO (-ETIMEDOUT) and a sentence. */
int prog_run(const struct prog_spec *spec, int timeout_ms, struct err *err);

/* Finds a program as prog_start() does; -ENOENT. */
int prog_find(const char *name, char *ret, size_t size);

/* Moves the calling process, of one thread, into a namespace and a cgroup, as prog_start() does; -1: stays. */
int prog_enter(int netns_fd, int cgroup_fd);
