/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines that wait for a client which reads slower than they come. Bounded: what does not fit is dropped as
 * a whole line and counted, and the count is told, in its place, as a {"event":"lost","count":N} line as soon
 * as there is room. A line is never cut.
 */
#pragma once

#include <stdint.h>

#include "base/util.h"

struct wire_queue {
	char *buf;
	size_t start, n, room, max; /* bytes; max: never more wait */
	uint64_t lost;
};

void wire_queue_init(struct wire_queue *q, size_t max);
void wire_queue_done(struct wire_queue *q);

/* Appends a line (which ends with '\n'), or counts it as lost. */
void wire_queue_add(struct wire_queue *q, const char *line, size_t n);

/* Something was lost before it came here. */
void wire_queue_add_lost(struct wire_queue *q, uint64_t count);

/* Moves out up to max bytes; 0: nothing waits. */
size_t wire_queue_take(struct wire_queue *q, char *ret, size_t max);
