/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the tests of programs move to, and back from: cgroups and namespaces of their own. 0 or -errno. */
#pragma once

#include <stddef.h>

int place_write(const char *path, const char *text);

/* Moves this process; dir is a directory of the cgroup v2 tree. */
int place_enter_cgroup(const char *dir);

/* The directory in which this process is now. */
int place_find_cgroup(char *ret, size_t n);

/* Of the network namespace that we are in. */
int place_loopback_up(void);
