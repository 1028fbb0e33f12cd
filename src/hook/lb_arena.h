/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which lines of lb_ring are free: first fit, neighbours melt together. Pure bookkeeping. */
#pragma once

#include <stdint.h>

#include "base/util.h"

struct lb_extent {
	uint32_t first, n;
};

struct lb_arena {
	struct lb_extent *free; /* sorted, with used lines between any two */
	size_t n, room, used;	/* used: extents handed out */
	uint32_t lines_free;
};

/* Lines 0 to n - 1, all free. -ENOMEM. */
int lb_arena_init(struct lb_arena *a, uint32_t n);
void lb_arena_done(struct lb_arena *a);

/* -ENOSPC: no free extent is so long; -ENOMEM. n must not be 0. */
int lb_arena_alloc(struct lb_arena *a, uint32_t n, uint32_t *ret_first);

/* Takes a certain extent, as when the state of an earlier process is read. -EEXIST: not all of it is free. */
int lb_arena_take(struct lb_arena *a, uint32_t first, uint32_t n);

/* Cannot fail: what it needs was set aside when the extent was allocated. n may be 0. */
void lb_arena_free(struct lb_arena *a, uint32_t first, uint32_t n);
