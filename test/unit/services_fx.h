/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The live model on a table that only notes what it is told: a stand-in for hook/lb.h, and what its tests share. */
#pragma once

#include "unit.h"

#include "daemon/services.h"

/* The table. Ids: a service is its place, a backend is its place. */
#define FAKE_MAX 64

struct lb {
	struct {
		struct lb_vip vip;
		struct lb_plan plan;
		struct lb_backend_spec backends[FAKE_MAX];
		size_t n;
		bool is_used;
	} services[FAKE_MAX];
	struct {
		struct lb_addr addr;
		uint16_t port;
		uint32_t service;
	} backends[FAKE_MAX];
	size_t n_backends;
	size_t applied, removed;
	bool full;
};

extern struct lb fake;

/* What the model has told. */
struct told {
	size_t added, removed, rechecked, changed, woken, kept;
	char last[256];
};
extern struct told told;
extern const struct services_host host;

/* A configuration from text, and a model of it. */
extern struct services *model;
extern struct config *config;
extern uint64_t now_ms;

void begin(const char *text);
void reload(const char *text, struct services_diff *ret);
int apply(void);
void end(void);
/* cmocka's setup. */
int clear(void **state);

struct backend *backend(const char *service, const char *text);
/* A check of it has ended. */
void check(struct backend *b, bool ok);

/* The weights of service 1 in the table, in the order of the file. */
void weights_are(size_t n, const uint32_t *weights);
#define WEIGHTS(...)                                                           \
	do {                                                                   \
		const uint32_t _weights[] = { __VA_ARGS__ };                   \
		weights_are(sizeof(_weights) / sizeof(_weights[0]), _weights); \
	} while (0)

#define TWO                           \
	"services:\n"                 \
	"  - name: web\n"             \
	"    listen: 198.18.0.5:80\n" \
	"    backends:\n"             \
	"      - 198.18.0.2:80\n"     \
	"      - { address: 198.18.0.3:80, weight: 2 }\n"

#define HEALTH(more)                                                                    \
	"services:\n"                                                                   \
	"  - name: web\n"                                                               \
	"    listen: 198.18.0.5:80\n"                                                   \
	"    health: { tcp: true, interval: 2s, timeout: 1s, rise: 2, fall: 3 }\n" more \
	"    backends: [ 198.18.0.2:80, 198.18.0.3:80 ]\n"
