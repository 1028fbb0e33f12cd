/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process of ours that does one thing in a namespace, a cgroup and on a processor, and reports. */
#pragma once

#include <sys/types.h>

#include "bench/pair.h"

struct side {
	pid_t pid; /* 0: none */
	int report_fd;
};
#define SIDE_NONE     \
	{             \
		0, -1 \
	}

/* fn's result, 0 or -errno, is what side_wait() returns. The process dies with its parent. */
typedef int (*side_fn)(void *data, struct pair_result *ret);
int side_start(const struct pair_end *end, side_fn fn, void *data, struct side *ret);

/* Waits for the report, then for the end; by SIGKILL if there is none in time (-ETIMEDOUT, or -EPIPE if it died). */
int side_wait(struct side *side, int timeout_ms, struct pair_result *ret);

/* Ends it, unless it has been waited for. */
void side_done(struct side *side);
