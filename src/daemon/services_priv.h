/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the live model, and by nobody else. */
#pragma once

#include <jansson.h>

#include "daemon/services.h"

/* Addresses that belong to a name or to an interface. */
struct addrs {
	UT_hash_handle hh; /* by key */
	char *key;
	struct lb_addr *v;
	size_t n;
	bool known;		  /* there was an answer */
	unsigned int interval_ms; /* names: the shortest that is wanted; 0: nobody uses it any more */
	unsigned int unused;	  /* configurations in a row that do not use it */
};

struct services {
	struct lb *lb;
	struct services_host host;
	const struct config *config;
	struct service *by_name;
	struct frontend *frontends; /* of all services, and those that are to be taken away */
	struct addrs *names, *interfaces;
	struct service *dirty, *last_dirty;
	bool orphans;	  /* some frontends have no service */
	size_t n_ramping; /* backends in slow start */
	uint64_t now_ms;  /* of the last call that told */
	uint64_t generation;
	struct backend **by_backend; /* by id in the tables */
	size_t n_by_backend;
	struct frontend **by_service; /* likewise */
	size_t n_by_service;
	json_t *memory; /* what was loaded, until a configuration has been made of it */
	bool with_verdicts;
};

/* services_addrs.c */
struct addrs *addrs_find(struct addrs *head, const char *key);
int addrs_set(struct addrs **head, const char *key, const struct lb_addr *v, size_t n);
void addrs_done(struct addrs **head);
int names_collect(struct services *s, const struct config *config);

/* services.c */
void service_dirty(struct service *sv);
/* Its backends, from the configuration and the addresses of names. */
int service_rebuild(struct service *sv, struct services_diff *diff);
/*
 * Its virtual addresses. First every service lets go of what it does not want any more, then each claims: addresses
 * may change hands.
 */
void service_release(struct service *sv, bool all);
int service_claim(struct service *sv);
/* Computes the state anew, and tells if it is another one. */
void backend_refresh(struct backend *b, const char *why);
void frontend_free(struct frontend *f);

/* services_keep.c: what was known of a backend that has just been made. */
void services_recall(struct backend *b);
