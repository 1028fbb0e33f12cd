/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The scene of web servers, wrk as its load, and what the machine did meanwhile. */
#pragma once

#include "lab/cpu.h"
#include "lab/scene.h"
#include "lab/wrk.h"

struct bench_run;

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

/* Sets up the scene as the state of the run's group, for as long as the group is measured: its start and its stop. */
int http_scene_begin(struct bench_run *run, struct scene **ret, struct err *err);
void http_scene_end(struct bench_run *run);
