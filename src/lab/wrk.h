/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wrk in the lab: a load, and its result as numbers (from wrk's own Lua hook, never from its printed units). */
#pragma once

#include <stdint.h>

#include "lab/lab.h"

struct wrk_spec {
	const char *host; /* where it runs */
	const char *url;  /* with its port: a small Debian has no /etc/services to find that of "http" in */
	unsigned int connections;
	unsigned int threads;
	unsigned int seconds;
	/*
	 * 0, or how many answers end it (connections and threads must be 1): they all come by one connection, the only
	 * one there is. wrk itself lasts its seconds.
	 */
	unsigned int answers;
};

struct wrk_result {
	double seconds;
	uint64_t requests;
	uint64_t bytes;
	double p50_us, p99_us;
	/* Everything below must be 0 for a result that means anything. */
	uint64_t connect_errors, read_errors, write_errors, timeouts, bad_status;
};

int wrk_run(const struct lab *lab, const struct wrk_spec *spec, struct wrk_result *ret, struct err *err);

/* The sum of all that went wrong. */
uint64_t wrk_errors(const struct wrk_result *result);
