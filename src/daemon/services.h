/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live model: which services there are, which of their backends may be picked with which weight, and why. It is
 * made of the configuration, of what operators said (drain, enable, weight), of health checks, and of the addresses of
 * names and interfaces; services_apply() brings the tables of the hooks (hook/lb.h) in line with it.
 *
 * Knows no sockets, names or clock: what is found out is handed in. Times are CLOCK_MONOTONIC milliseconds.
 */
#pragma once

#include <stdint.h>

#include <uthash.h>

#include "hook/lb.h"
#include "model/addr.h"
#include "model/config.h"

/* The words of JSON, metrics and the man page. */
#define BACKEND_STATE_LIST(X)                                                             \
	X(UNKNOWN, "unknown")	/* is to be checked, and was not yet: gets connections */ \
	X(UP, "up")		/* passed its checks, or has none */                      \
	X(DOWN, "down")		/* failed its checks: gets no connection */               \
	X(DRAINING, "draining") /* an operator said so: its connections go on */          \
	X(DISABLED, "disabled") /* its weight is 0 */

enum backend_state {
#define X(id, word) BACKEND_##id,
	BACKEND_STATE_LIST(X)
#undef X
		_BACKEND_STATE_MAX,
};
extern const char *const backend_state_words[_BACKEND_STATE_MAX];

enum service_state {
	SERVICE_UP,	  /* every backend gets connections that should */
	SERVICE_DEGRADED, /* some are down */
	SERVICE_DOWN,	  /* nobody gets any: connects are refused */
	SERVICE_PANIC,	  /* all are down, and they are spread over all */
	_SERVICE_STATE_MAX,
};
extern const char *const service_state_words[_SERVICE_STATE_MAX];

/* What the last check of a backend found. */
struct check_result {
	bool ok;
	uint64_t at_ms; /* 0: there was none */
	uint32_t latency_us;
	char error[96]; /* "" if ok */
};

/* How many of its checks are remembered. */
#define BACKEND_RESULTS 64

struct backend_key {
	struct lb_addr addr;
	uint16_t port; /* host order */
	uint16_t pad;
};

struct check;
struct past;

struct backend {
	UT_hash_handle hh; /* in service.backends, by key, in the order of the file */
	struct service *service;
	struct backend_key key;
	char text[ADDR_TEXT_MAX]; /* address and port */
	char *name;		  /* as in the file, if it was a name; otherwise NULL */
	uint32_t weight;	  /* as in the file */
	uint32_t said_weight;	  /* by an operator, if weight_said */
	bool weight_said, drained;
	enum backend_state verdict; /* of the checks: UNKNOWN, UP or DOWN */
	enum backend_state state;
	uint64_t since_ms; /* of the state */
	uint64_t ramp_ms;  /* slow start began; 0: none is on */
	unsigned int streak;
	struct check_result last;
	uint64_t results;    /* of the last checks, one a bit, the latest lowest: 1 passed */
	uint32_t n_results;  /* how many of these bits there are */
	struct check *check; /* of who checks (daemon/health.h) */
	struct past *past;   /* of who remembers (daemon/history.h) */
	uint32_t *ids;	     /* in the tables of the hooks */
	size_t n_ids;
};

/* A virtual address of a service: most have one, one that listens on an interface has as many as that has. */
struct frontend {
	UT_hash_handle hh; /* in services.frontends, by vip */
	struct lb_vip vip;
	struct service *service; /* NULL: is to be taken away */
	struct frontend *next;	 /* of the service */
	uint32_t id;		 /* LB_NONE: not in the tables */
	struct lb_service_spec applied;
	struct lb_backend_spec *backends; /* applied.backends, owned */
	bool is_applied, failed;
};

struct service {
	UT_hash_handle hh; /* in services.by_name, in the order of the file */
	struct services *all;
	char *name;
	const struct config_service *conf;
	struct backend *backends;
	struct frontend *frontends;
	bool dirty;
	struct service *next_dirty;
	char problem[160]; /* why the tables are not as they should be; "" if they are */
};

struct services_host {
	/* A backend is to be checked from now on, is about to be freed, or is to be checked otherwise. */
	void (*added)(struct backend *b, void *data);
	void (*removed)(struct backend *b, void *data);
	void (*rechecked)(struct backend *b, void *data);
	/* For the log and the event stream. why may be "". */
	void (*changed)(const struct backend *b, enum backend_state was, const char *why, void *data);
	/* Something is to be applied: call services_apply() before long. */
	void (*wake)(void *data);
	/* What an operator said, or a verdict, is to be kept: call services_save() before long. */
	void (*keep)(bool at_once, void *data);
	void *data;
};

struct services;

/* lb outlives it. What the tables hold already is known from here on, and taken away if no service claims it. */
int services_new(struct lb *lb, const struct services_host *host, struct services **ret, struct err *err);
struct services *services_free(struct services *s);
static inline void services_freep(struct services **s)
{
	(void)services_free(*s);
}

/* What a reload did, for people. */
struct services_diff {
	size_t services_added, services_removed, services_changed;
	size_t backends_added, backends_removed;
};

/*
 * From now on as the configuration says, which outlives this until the next call. Nothing is applied yet. What
 * operators said of a backend is kept, unless its line in the file has changed. -ENOMEM: some of it is missing.
 */
int services_configure(struct services *s, const struct config *config, uint64_t now_ms, struct services_diff *ret,
		       struct err *err);

/*
 * Brings the tables in line. A service that has no room there stays as it was, is told in its problem, and is tried
 * again at its next change and by services_tick(); the first such failure is returned. Otherwise the number of
 * virtual addresses that were changed.
 */
int services_apply(struct services *s, struct err *err);

/* The addresses that a name has now; kept until the next call. */
int services_set_name(struct services *s, const char *host, const struct lb_addr *addrs, size_t n, uint64_t now_ms);
/* Calls fn for each name that is in use, with the shortest interval that is wanted. known: it had an answer. */
int services_each_name(const struct services *s,
		       int (*fn)(const char *host, unsigned int interval_ms, bool known, void *data), void *data);

/* The addresses that an interface has now. */
int services_set_interface(struct services *s, const char *name, const struct lb_addr *addrs, size_t n,
			   uint64_t now_ms);
int services_each_interface(const struct services *s, int (*fn)(const char *name, void *data), void *data);

/* A check has ended. */
void services_report(struct services *s, struct backend *b, const struct check_result *result, uint64_t now_ms);
/* When the next one is due, without jitter: sooner while its verdict is about to change. */
unsigned int services_check_delay(const struct backend *b);

/* What operators say. */
void services_drain(struct services *s, struct backend *b, bool on, uint64_t now_ms);
void services_set_weight(struct services *s, struct backend *b, uint32_t weight, uint64_t now_ms);

/* To be called about once a second: slow starts go on, and what had no room is tried again. */
void services_tick(struct services *s, uint64_t now_ms);

/* Looking. The first of all services; further ones by hh.next. */
struct service *services_first(const struct services *s);
struct service *services_find(const struct services *s, const char *name);
/* text: "ADDRESS:PORT", or a name as in the file if only one backend has it. -ENOENT, -EINVAL and a sentence. */
int service_find_backend(const struct service *service, const char *text, struct backend **ret, struct err *err);
/* By the ids of an event of the hooks; NULL: not ours any more. */
struct backend *services_backend_of(const struct services *s, uint32_t backend_id);
struct service *services_service_of(const struct services *s, uint32_t service_id);

enum service_state service_state(const struct service *service);
/* The weight that decides: of the operator, or of the file. */
uint32_t backend_weight(const struct backend *b);
/* The same after slow start, in tenths; 0 if it gets no connections. */
uint32_t backend_effective_tenths(const struct backend *b, uint64_t now_ms);
/* Sum over its virtual addresses. */
void backend_counts(const struct backend *b, struct lb_counts *ret);

/* Which rises whenever the set of services or backends changes. */
uint64_t services_generation(const struct services *s);
size_t services_count(const struct services *s, size_t ret_backends[_BACKEND_STATE_MAX]);

/*
 * What must outlive the process until the next boot: what operators said, who is down, addresses of names. load()
 * before the first services_configure(); with_verdicts: the tables too outlived the process before us.
 */
int services_load(struct services *s, const char *path, bool with_verdicts, struct err *err);
int services_save(const struct services *s, const char *path, struct err *err);

/*
 * Remembers all of that now, for backends that go and come back before services_forget(): a reload that has to be
 * taken back. services_forget() also ends what services_load() began.
 */
int services_remember(struct services *s);
void services_forget(struct services *s);
