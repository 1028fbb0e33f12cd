/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring of a service: which backend stands at which index. Pure computation, the same on every machine for the
 * same input, so that several balancers agree.
 */
#pragma once

#include <stdint.h>

#include "abi/lb.h"
#include "base/err.h"

/* Weights are 0 (in no ring) to RING_WEIGHT_MAX. */
#define RING_WEIGHT_MAX 65535

/* A ring is at most so long; sums of weights above are scaled down. */
#define RING_MAX 655373

struct ring_backend {
	uint32_t id;	 /* what is written into the ring */
	uint32_t weight; /* 0: left out */
	/*
	 * Where the backend stands in the permutation of Maglev: a hash of its address and port, never of its id or of
	 * its place in the list, so that it is the same on every balancer and after every restart.
	 */
	uint64_t identity;
};

/* The identity of an address (v4-mapped) and a port (network byte order). */
uint64_t ring_identity(const struct lb_addr *addr, uint16_t port_be);

/*
 * Makes the ring of a scheduler. maglev and source: a Maglev table (Eisenbud et al., NSDI 2016) of table_size
 * entries, a prime from RING_TABLE_SIZES; the others: the shortest smooth interleaving that keeps the weights'
 * ratio, table_size is ignored. *ret_n is 0 and *ret NULL if no backend has a weight. The caller frees *ret.
 */
int ring_build(enum lb_scheduler scheduler, const struct ring_backend *backends, size_t n, uint32_t table_size,
	       uint32_t seed, uint32_t **ret, uint32_t *ret_n, struct err *err);

/* The sizes a Maglev table can have, smallest first, 0 at the end. All prime. */
extern const uint32_t ring_table_sizes[];
#define RING_TABLE_DEFAULT 65537
