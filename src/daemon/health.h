/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Health checks from the loop: TCP connects of our own, HTTP and HTTPS by libcurl. What they find goes to
 * services_report(), which judges. A backend has one check, whose starts are spread over the interval.
 */
#pragma once

#include <ev.h>

#include "daemon/services.h"

struct health;

struct health_host {
	struct ev_loop *loop;
	/* The socket of a check, before it connects: it must get to the backend itself. Negative: it cannot. */
	int (*socket)(int fd, void *data);
	/* A check has ended; the model has not been told yet. */
	void (*report)(struct backend *b, const struct check_result *result, void *data);
	void *data;
};

int health_new(const struct health_host *host, struct health **ret, struct err *err);
struct health *health_free(struct health *h);

/* Nothing is checked before this. */
void health_start(struct health *h);

/* As services_host wants them. A backend without a health section is left alone. */
void health_add(struct health *h, struct backend *b);
void health_remove(struct health *h, struct backend *b);
void health_change(struct health *h, struct backend *b);

/* Someone says that it does not answer: looks at once, or again as soon as the check that is under way has ended. */
void health_now(struct health *h, struct backend *b);
