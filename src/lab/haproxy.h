/* SPDX-License-Identifier: GPL-2.0-or-later */
/* haproxy in the lab: one thread, mode tcp, connections in turn to the servers. */
#pragma once

#include <stdint.h>

#include "lab/lab.h"
#include "lab/prog.h"

#define HAPROXY_STOP_MS 3000

struct haproxy_spec {
	const char *name; /* of this instance: NAME.conf, NAME.log */
	const char *host; /* where it runs */
	unsigned int port;
	const char *user;	    /* whose its sockets are; NULL: root's */
	const char *const *servers; /* ADDRESS:PORT, ends with NULL; 0.0.0.0:0: where the client wanted to go */
};

/* Returns when it listens. Stop it by prog_stop(). */
int haproxy_start(const struct lab *lab, const struct haproxy_spec *spec, struct prog *ret, struct err *err);

/* How many connections the instance of that name has taken since it started. */
int haproxy_taken(const struct lab *lab, const char *name, uint64_t *ret, struct err *err);
