/* SPDX-License-Identifier: GPL-2.0-or-later */
/* redis in the lab: on all addresses of a host and on an AF_UNIX socket at once, nothing kept; and its own load. */
#pragma once

#include <stdint.h>

#include "lab/lab.h"
#include "lab/prog.h"

#define REDIS_STOP_MS 3000

/* Returns when it answers, and holds the key that redis_get() asks for. Stop it by prog_stop(). */
int redis_start(const struct lab *lab, const char *host, struct prog *ret, struct err *err);

struct redis_load {
	const char *host;
	const char *at; /* address of the server; NULL: the host's loopback */
	bool by_unix;
	unsigned int clients, pipeline;
	uint64_t requests;
};

/* Requests a second that redis-benchmark saw answered. */
int redis_get(const struct lab *lab, const struct redis_load *load, double *ret, struct err *err);
