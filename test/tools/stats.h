/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The counters of a running accelerator, told by its process: several may run on one machine. */
#pragma once

#include "abi/accel.h"
#include "tool.h"

/* Calls fn for each BPF object that the process has open: kind "prog", "map" or "link". */
void objects_each(pid_t pid, void (*fn)(const char *kind, unsigned int id, void *data), void *data);

int map_open(pid_t pid, const char *name); /* a file descriptor, or -1 */
int stats_open(pid_t pid);
uint64_t stats_read(int fd, enum ac_stat stat);
