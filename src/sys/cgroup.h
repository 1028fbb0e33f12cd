/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* The mount point of the cgroup v2 tree, on unified and hybrid machines alike. */
int cgroup_root(char **ret, struct err *err);

/*
 * Opens a cgroup for attaching: dir NULL means the root of the v2 tree, otherwise a directory, which may be
 * given relative to that root ("/app") or as a path of the file system. Refuses what is not cgroup v2.
 */
int cgroup_open(const char *dir, int *ret_fd, struct err *err);

/* Cgroups that are to have programs, open. */
struct cgroup_set {
	struct cgroup_at {
		int fd;
		uint64_t id;
		char *path; /* in the file system */
	} * v;
	size_t n;
};

/*
 * Opens each as cgroup_open() does; n 0: the root of the v2 tree. One that is below another of them, or the same, is left
 * out: programs of a cgroup see the sockets of those below, and two would do everything twice.
 */
int cgroup_set_open(const char *const *dirs, size_t n, struct cgroup_set *ret, struct err *err);
void cgroup_set_done(struct cgroup_set *s);

/* Is the cgroup with this id one of these, or below one? One that is gone is not. */
bool cgroup_set_covers(const struct cgroup_set *s, uint64_t id);

/* The path below the root of the cgroup with this id, "?" if it is gone. The caller frees it; NULL: no memory. */
char *cgroup_path(uint64_t id);
