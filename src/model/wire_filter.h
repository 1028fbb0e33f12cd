/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which events a listener of GET /v1/events wants. What is said of one thing is said by "or", different things by "and". An
 * event that has nothing of a kind is not wanted where that kind is asked for; only what was lost is always told.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "abi/lb.h"
#include "base/err.h"

#define WIRE_FILTER_MAX 16 /* values of a kind */

/* The kinds, by their names in the request: service, address, process, event. */
enum wire_filter_kind {
	WIRE_FILTER_SERVICE,
	WIRE_FILTER_ADDRESS, /* "A", "A/PREFIX", "A:PORT": of either end, or of the backend */
	WIRE_FILTER_PROCESS, /* name, or pid */
	WIRE_FILTER_EVENT,
	_WIRE_FILTER_KINDS,
};
extern const char *const wire_filter_words[_WIRE_FILTER_KINDS];

struct wire_filter_address {
	struct lb_addr addr;
	uint16_t port;	/* 0: any */
	uint8_t prefix; /* of 128 */
};

struct wire_filter {
	char *texts[_WIRE_FILTER_KINDS][WIRE_FILTER_MAX];
	size_t n[_WIRE_FILTER_KINDS];
	struct wire_filter_address addresses[WIRE_FILTER_MAX]; /* the same as texts of that kind */
};

/* The events that there are, from 0 on; NULL behind the last one. */
const char *wire_filter_event(size_t i);

void wire_filter_done(struct wire_filter *f);

/* One more value. -EINVAL and a sentence: there is no such kind or event, it is no address, or there are too many. */
int wire_filter_add(struct wire_filter *f, const char *kind, const char *value, struct err *err);

bool wire_filter_wants(const struct wire_filter *f, const json_t *event);

/* What can be told of an event before it is made into JSON, which costs far more. */
struct wire_event_view {
	const char *event;
	const char *service; /* NULL: it has none */
	const char *process; /* NULL: not known */
	uint32_t pid;	     /* 0: not known */
	bool addresses;	     /* local and remote are all that it has; false: what it has is not told here */
	struct lb_addr local, remote;
	uint16_t local_port, remote_port;
};

/* False: wire_filter_wants() would not want it. */
bool wire_filter_may_want(const struct wire_filter *f, const struct wire_event_view *v);

/* Of these words of events (NULL: no event), which f may want: 1 << index. services: these events have one. */
uint32_t wire_filter_kinds(const struct wire_filter *f, const char *const *words, size_t n, bool services);
