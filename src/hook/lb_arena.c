// SPDX-License-Identifier: GPL-2.0-or-later
#include "hook/lb_arena.h"

#include <errno.h>

/*
 * Freeing must not fail, and needs room for one more extent. There is at most one free extent more than there are used
 * ones, so room is kept for that when an extent is taken: `room` is always at least used + 1.
 */
static int arena_reserve(struct lb_arena *a, size_t room)
{
	struct lb_extent *more;

	if (room <= a->room)
		return 0;
	room = room > 2 * a->room ? room : 2 * a->room;
	more = reallocarray(a->free, room, sizeof(*more));
	if (!more)
		return -ENOMEM;
	a->free = more;
	a->room = room;
	return 0;
}

int lb_arena_init(struct lb_arena *a, uint32_t n)
{
	*a = (struct lb_arena){};
	if (arena_reserve(a, 16) < 0)
		return -ENOMEM;
	if (n)
		a->free[a->n++] = (struct lb_extent){ .first = 0, .n = n };
	a->lines_free = n;
	return 0;
}

void lb_arena_done(struct lb_arena *a)
{
	free(a->free);
	*a = (struct lb_arena){};
}

static void arena_remove(struct lb_arena *a, size_t i)
{
	a->n--;
	memmove(&a->free[i], &a->free[i + 1], (a->n - i) * sizeof(*a->free));
}

static void arena_insert(struct lb_arena *a, size_t i, struct lb_extent e)
{
	memmove(&a->free[i + 1], &a->free[i], (a->n - i) * sizeof(*a->free));
	a->free[i] = e;
	a->n++;
}

/* Index of the first free extent that begins after `line`. */
static size_t arena_after(const struct lb_arena *a, uint32_t line)
{
	size_t low = 0, high = a->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (a->free[middle].first > line)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

int lb_arena_alloc(struct lb_arena *a, uint32_t n, uint32_t *ret_first)
{
	for (size_t i = 0; i < a->n; i++) {
		struct lb_extent *e = &a->free[i];

		if (e->n < n)
			continue;
		a->used++;
		if (arena_reserve(a, a->used + 1) < 0) {
			a->used--;
			return -ENOMEM;
		}
		e = &a->free[i];
		*ret_first = e->first;
		e->first += n;
		e->n -= n;
		if (!e->n)
			arena_remove(a, i);
		a->lines_free -= n;
		return 0;
	}
	return -ENOSPC;
}

int lb_arena_take(struct lb_arena *a, uint32_t first, uint32_t n)
{
	size_t i = arena_after(a, first);
	struct lb_extent before, after;

	if (!i)
		return -EEXIST;
	before = a->free[--i];
	/* In this order nothing can overflow. */
	if (first - before.first >= before.n || n > before.n - (first - before.first))
		return -EEXIST;
	if (arena_reserve(a, a->used + 2) < 0)
		return -ENOMEM;
	a->used++;
	after = (struct lb_extent){ .first = first + n, .n = before.n - (first - before.first) - n };
	before.n = first - before.first;
	arena_remove(a, i);
	if (after.n)
		arena_insert(a, i, after);
	if (before.n)
		arena_insert(a, i, before);
	a->lines_free -= n;
	return 0;
}

void lb_arena_free(struct lb_arena *a, uint32_t first, uint32_t n)
{
	struct lb_extent e = { .first = first, .n = n };
	size_t i = arena_after(a, first);

	if (!n)
		return;
	a->used--;
	a->lines_free += n;
	if (i < a->n && e.first + e.n == a->free[i].first) {
		e.n += a->free[i].n;
		arena_remove(a, i);
	}
	if (i > 0 && a->free[i - 1].first + a->free[i - 1].n == e.first)
		a->free[i - 1].n += e.n;
	else
		arena_insert(a, i, e);
}
