/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file in which what was learned of executables is kept across restarts:
 *   { "version": 1, "executables": [ { "path": "/usr/sbin/nginx", "inode": 1, "device": 1, "size": 1,
 *     "mtime": 1, "name": "nginx", "state": "trusted" } ] }
 */
#pragma once

#include <stdint.h>

#include "abi/accel.h"
#include "base/err.h"

struct learned {
	char *path;
	uint64_t ino, size, mtime;
	uint32_t dev;	/* the kernel's encoding */
	uint32_t state; /* enum ac_exe_state */
	char comm[AC_COMM_LEN];
};

/* The word for a state, as in JSON and in the man page; NULL if there is no such state. */
const char *learned_state_word(uint32_t state);

/* Parses the text; on failure (-EINVAL and a sentence) nothing is returned. */
int learned_parse(const char *text, size_t bytes, struct learned **ret, size_t *ret_n, struct err *err);

/* -ENOENT: no file yet. */
int learned_read(const char *path, struct learned **ret, size_t *ret_n, struct err *err);

/* Replaces the file at once (write, fsync, rename); makes its directory if need be. */
int learned_write(const char *path, const struct learned *v, size_t n);

void learned_free(struct learned *v, size_t n);
