// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/wire_queue.h"

#include <inttypes.h>

#define QUEUE_ROOM_MIN 4096
#define QUEUE_LOST_MAX 64 /* the longest line that tells of a loss */

void wire_queue_init(struct wire_queue *q, size_t max)
{
	*q = (struct wire_queue){ .max = max };
}

void wire_queue_done(struct wire_queue *q)
{
	free(q->buf);
	*q = (struct wire_queue){};
}

/* Makes room for n more bytes at the end; false: it would be too much. */
static bool queue_reserve(struct wire_queue *q, size_t n)
{
	size_t room = q->room ? q->room : QUEUE_ROOM_MIN;
	char *buf;

	if (q->n + n > q->max)
		return false;
	if (q->start + q->n + n <= q->room)
		return true;
	if (q->n)
		memmove(q->buf, q->buf + q->start, q->n);
	q->start = 0;
	if (q->n + n <= q->room)
		return true;
	while (room < q->n + n)
		room *= 2;
	buf = realloc(q->buf, room);
	if (!buf)
		return false;
	q->buf = buf;
	q->room = room;
	return true;
}

static void queue_put(struct wire_queue *q, const char *line, size_t n)
{
	memcpy(q->buf + q->start + q->n, line, n);
	q->n += n;
}

/* Tells what was lost, if that and `more` bytes fit. */
static bool queue_tell_lost(struct wire_queue *q, size_t more)
{
	char line[QUEUE_LOST_MAX];
	int n;

	if (!q->lost)
		return queue_reserve(q, more);
	n = snprintf(line, sizeof(line), "{\"event\":\"lost\",\"count\":%" PRIu64 "}\n", q->lost);
	if (!queue_reserve(q, (size_t)n + more))
		return false;
	queue_put(q, line, (size_t)n);
	q->lost = 0;
	return true;
}

void wire_queue_add(struct wire_queue *q, const char *line, size_t n)
{
	if (queue_tell_lost(q, n))
		queue_put(q, line, n);
	else
		q->lost++;
}

void wire_queue_add_lost(struct wire_queue *q, uint64_t count)
{
	q->lost += count;
}

size_t wire_queue_take(struct wire_queue *q, char *ret, size_t max)
{
	size_t n;

	if (!q->n)
		(void)queue_tell_lost(q, 0);
	n = q->n < max ? q->n : max;
	if (!n)
		return 0;
	memcpy(ret, q->buf + q->start, n);
	q->start += n;
	q->n -= n;
	if (!q->n)
		q->start = 0;
	return n;
}
