/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the checks, and by nobody else. */
#pragma once

#include <curl/curl.h>

#include "daemon/health.h"

/* In flight at a time; the others wait for their turn. Each is a socket. */
#define HEALTH_RUNNING_MAX 1024
#define HEALTH_BODY_MAX 65536

struct check {
	struct health *health;
	struct backend *backend;
	ev_timer due; /* the next start; while it runs: the end of its time */
	ev_io io;     /* TCP: connecting */
	int fd;	      /* TCP; -1 */
	CURL *easy;   /* HTTP, while it runs */
	struct curl_slist *headers, *connect_to;
	char *body; /* what came, while a text is looked for */
	size_t n_body;
	bool enough; /* HTTP: the rest of the answer is not wanted */
	char problem[CURL_ERROR_SIZE];
	double begin; /* CLOCK_MONOTONIC, seconds */
	bool running, again;
	struct check *next, *prev; /* waits for its turn */
	bool waiting;
};

struct health {
	struct health_host host;
	bool started;
	size_t n_running, n_added;
	struct check *first, *last; /* wait for their turn */
	CURLM *multi;
	ev_timer curl_due;
	CURL **idle; /* handles to be used again */
	size_t n_idle;
};

/* Ends the running check. error NULL: the backend is well. */
void check_end(struct check *c, const char *error);

/* Starts those that wait, as many as may run. */
void health_next(struct health *h);

/* health_http.c */
int health_http_init(struct health *h);
void health_http_done(struct health *h);
/* -errno: it could not be started, and problem tells why. */
int check_http_start(struct check *c);
void check_http_stop(struct check *c);
