/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET /metrics in the Prometheus text format, and the status page (daemon/page.h), by a server of its own in the daemon's
 * loop. It only reads: what it tells is what the control API tells (control_status(), service_json()), written otherwise.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct run;
struct metrics;

/* As run->config says; off: *ret is NULL. Names the address when it cannot be had. */
int metrics_open(struct run *run, struct metrics **ret, struct err *err);

/* run->config is new. If another port cannot be had the old one goes on; warnings gets a sentence. */
void metrics_configure(struct run *run, json_t *warnings);

struct metrics *metrics_close(struct metrics *m);

/*
 * metrics_text.c: everything, the caller's to free. Above METRICS_SERIES_MAX backends there are sums per service
 * instead, and above as many services nothing by service.
 */
#define METRICS_SERIES_MAX 1000
int metrics_text(struct run *run, char **ret, size_t *ret_n);
