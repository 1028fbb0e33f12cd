/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What libbpf leaves to be done: its voice, its error numbers, and finding our own leftovers. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Makes libbpf speak through our log, one level lower; keeps the last lines for bpf_sys_last(). Call first. */
void bpf_sys_init(void);

/* The last message libbpf gave at warning level, or "". Valid until the next libbpf call. */
const char *bpf_sys_last(void);

/* The id that the kernel gave to the map behind fd, 0 if it cannot be told. */
uint32_t bpf_sys_map_id(int fd);

/*
 * Calls fn for each map of the kernel with this name, with an fd that is closed afterwards, until fn returns
 * non-zero, and returns that value (0: no map, or fn always returned 0; -errno: the list cannot be read).
 */
int bpf_sys_each_map(const char *name, int (*fn)(int fd, uint32_t id, void *data), void *data);

/* Adds up the first n entries of a per-CPU array of 64-bit counters, each over all processors. On an error ret is as it was. */
int bpf_sys_sum(int map_fd, uint32_t n, uint64_t *ret);

/* Reads all that an iterator link writes into a buffer that the caller frees. */
int bpf_sys_read_iter(int link_fd, void **ret_data, size_t *ret_bytes);
