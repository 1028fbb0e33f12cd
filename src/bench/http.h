/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wrk as a load, and what the machine did meanwhile. */
#pragma once

#include "lab/cpu.h"
#include "lab/wrk.h"

struct http_result {
	struct wrk_result wrk;
	double rate;		 /* requests a second; 0: none was answered */
	double cpu_us;		 /* processor time of the whole machine for a request; 0: none was answered */
	double cpu_busy_percent; /* of the whole machine, all processors together */
};

/* One run of wrk. That it met errors is told in the result, and is no error. */
int http_load(const struct lab *lab, const struct wrk_spec *spec, struct http_result *ret, struct err *err);

/*
 * wrk by one thread on the host "client", for whole seconds, and longer where not one answer is whole in so short a time.
 * -EIO: still not one, or wrk met errors.
 */
int http_ask(const struct lab *lab, const char *url, unsigned int connections, double seconds, struct http_result *ret,
	     struct err *err);
