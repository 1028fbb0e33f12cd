/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was of late: rates, made of samples of the hooks' counts once a second; series of them for charts; and the last
 * events. Bounded by the numbers below, however long the daemon runs; nothing in the kernel is switched on for it.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

#define HISTORY_WINDOW 5   /* samples that a rate is the mean over: about as many seconds */
#define HISTORY_SERIES 180 /* samples of a series */
#define HISTORY_EVENTS 256 /* that are kept, and told by GET /v1/events/recent */

struct backend;
struct history;
struct run;
struct service;

/* Which counts there are rates of: the field of the API that is counted, and that of its rate. */
#define HISTORY_COUNT_LIST(X)                        \
	X(PICKS, picks, "picks_per_second")          \
	X(FAILURES, failures, "failures_per_second") \
	X(IN, in_bytes, "in_bytes_per_second")       \
	X(OUT, out_bytes, "out_bytes_per_second")

enum history_count {
#define X(id, field, word) HISTORY_##id,
	HISTORY_COUNT_LIST(X)
#undef X
		_HISTORY_COUNT_MAX,
};
extern const char *const history_words[_HISTORY_COUNT_MAX];

/* A second, over the window. */
struct history_rates {
	double v[_HISTORY_COUNT_MAX];
};

int history_new(struct run *run, struct history **ret, struct err *err);
struct history *history_free(struct history *h);

/* A backend is new, or about to be freed. */
void history_add(struct history *h, struct backend *b);
void history_remove(struct history *h, struct backend *b);

/* To be called about once a second. */
void history_tick(struct history *h);

/* Takes the event, one as GET /v1/events tells them. */
void history_event(struct history *h, json_t *event);

/* Rises with each event: who has seen all up to it need not ask for more. */
uint64_t history_changes(const struct history *h);

/* Zero as long as there are not two samples. */
void history_backend_rates(const struct backend *b, struct history_rates *ret);
void history_service_rates(const struct service *sv, struct history_rates *ret);

/* {"picks_per_second": N, ...} is added to the object. */
void history_rates_json(const struct history_rates *rates, json_t *o);

/* Of all services together: the same, and how many sockets were joined. */
json_t *history_totals_json(const struct history *h);

/* The caller's. service NULL: all together. */
json_t *history_series_json(const struct history *h, const struct service *service);
json_t *history_events_json(const struct history *h);
json_t *history_changes_json(const struct history *h);
