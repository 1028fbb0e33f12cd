/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sidecar: what programs on the client open to http1 goes through a transparent haproxy on the client, either because nftables'
 * REDIRECT sends it there or because waggle does. Same proxy, same configuration of it: it reads SO_ORIGINAL_DST, and its own
 * connections are told by its user. nginx on http1 answers on port 80, and on port 81 ends each connection after one answer.
 */
#pragma once

#include <stdint.h>

#include "lab/lab.h"
#include "lab/prog.h"

#define SIDECAR_PORT 15001
#define SIDECAR_REDIS_PORT 6379
#define SIDECAR_POSTGRES_PORT 5432

struct sidecar {
	struct prog server, proxy;
};

/* The server and the proxy, to which nothing leads yet. */
int sidecar_start(const struct lab *lab, struct sidecar *ret, struct err *err);
void sidecar_stop(struct sidecar *sidecar);

/* The way to the proxy by nftables, or no more. */
int sidecar_nat(const struct lab *lab, bool on, struct err *err);

/* The way to the proxy by waggle, which joins both hops; waggle_run_stop() ends it. */
int sidecar_waggle(const struct lab *lab, struct prog *ret, struct err *err);

/* How many connections the proxy has taken since it started. */
int sidecar_taken(const struct lab *lab, uint64_t *ret, struct err *err);
