/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Talking to a running waggle over its control socket. Every call is one request on a connection of its own.
 *
 * Failures have their sentence: -ESRCH no waggle runs, -EACCES the socket is not ours to open, -EPROTO what came
 * is not what docs/openapi.yaml promises, -EIO the connection broke, -EREMOTEIO the daemon refused (its sentence).
 */
#pragma once

#include <errno.h>
#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"

/* The reply's JSON, the caller's to release. body NULL: GET, otherwise POST. */
int ctl_call(const char *path, json_t *body, json_t **ret, struct err *err);

/* The same, and *ret is the answer also when the daemon refused (-EREMOTEIO). */
int ctl_call_answer(const char *path, json_t *body, json_t **ret, struct err *err);

/* -EPROTO, and a sentence: its `what` (NULL: the answer as a whole) is another one than was to be expected. */
static inline int ctl_mismatch(const char *what, struct err *err)
{
	return err_set(err, -EPROTO,
		       "the answer%s%s%s not what this version of waggle expects: use the same version on both sides",
		       what ? "'s " : "", what ? what : "", what ? " are" : " is");
}

/* A part of a path with what has a meaning there written as %XX. The caller's to free; NULL: no memory. */
char *ctl_escape(const char *text);
/* "/v1/services/SERVICE/backends/BACKEND/VERB" */
char *ctl_backend_path(const char *service, const char *backend, const char *verb);

/* Copies the reply to a file as it comes. */
int ctl_copy(const char *path, FILE *out, struct err *err);

/*
 * Calls fn for each line until it returns non-zero, the daemon ends, or SIGINT or SIGTERM arrives (which this
 * blocks meanwhile): all of these return 0. A line is given without its newline, and ends with a zero. After lines that
 * came together line is NULL, once.
 */
typedef int (*ctl_line_fn)(const char *line, size_t n, void *data);
int ctl_lines(const char *path, ctl_line_fn fn, void *data, struct err *err);

/* The process that listens on the control socket. -ESRCH: none. Needs no reply from it. */
int ctl_pid(pid_t *ret, struct err *err);
