/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a failure travels: functions return 0 or -errno, and those whose caller could not word the cause take a
 * struct err, into which they put one sentence (what, on which object, and the remedy where one is known).
 * Libraries never print; commands print err.text as their one line on stderr.
 */
#pragma once

#include "base/util.h"

struct err {
	char text[512];
};

/* Writes the sentence (err may be NULL) and returns r, so that callers can `return err_set(...)`. */
int err_set(struct err *err, int r, const char *fmt, ...) _printf_(3, 4);
