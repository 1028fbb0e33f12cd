/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of backends, looked up by c-ares from the loop: /etc/hosts and the servers of /etc/resolv.conf, which may change
 * meanwhile. An answer is asked for again when its TTL ends, but not sooner than after a second and not later than the
 * configuration says. A look-up that fails changes nothing, and is repeated.
 */
#pragma once

#include <ev.h>
#include <jansson.h>

#include "daemon/services.h"

struct resolve;

/* services is told of answers, and outlives it. */
int resolve_new(struct ev_loop *loop, struct services *services, struct resolve **ret, struct err *err);
struct resolve *resolve_free(struct resolve *r);

/* Which names there are may have changed: new ones are looked up at once. */
int resolve_sync(struct resolve *r);

/* Every name has an answer, or has failed once. */
bool resolve_settled(const struct resolve *r);

/* An array for GET /v1/status: each name, its addresses, and how looking up goes. */
json_t *resolve_status(const struct resolve *r);
