/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two processes, each in its namespace, its cgroup and on its processor, and one load between them over TCP or
 * AF_UNIX. Their sockets do not block and wait by epoll, as those of servers do, and their buffers are aligned
 * to pages: processors copy slower between addresses of unlike alignment, which would be measured instead.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

enum pair_load {
	PAIR_PING_PONG, /* a message there, the same back */
	PAIR_STREAM,	/* messages one way, as fast as the reader takes them */
	PAIR_CONNECT,	/* connect, a message there, one back, the server closes */
};

struct pair_end {
	int netns_fd;  /* -1: ours */
	int cgroup_fd; /* -1: ours */
	int cpu;       /* -1: any */
};

struct pair_spec {
	enum pair_load load;
	const char *addr; /* the server's IPv4 address, unless there is a path */
	const char *path; /* of an AF_UNIX socket; NULL: TCP */
	size_t bytes;	  /* of a message, at least 1 */
	bool nodelay;
	double seconds; /* measured; a tenth of it more goes before */
	struct pair_end client, server;
};

struct pair_result {
	uint64_t count; /* trips, or connections; 0 of a stream */
	uint64_t bytes; /* that arrived at the reader of a stream */
	double seconds;
	uint64_t all;	    /* trips, connections or bytes, with those before what is measured */
	double cpu_seconds; /* processor time of both processes for all of these */
};

/* Returns when both processes have ended, within bounded time. */
int pair_run(const struct pair_spec *spec, struct pair_result *ret, struct err *err);

/*
 * Makes idle connections, each within one process, over IPv4 loopback of the namespace, and tells by how many bytes the
 * kernel's own memory (slab that cannot be reclaimed, and per-CPU) has grown for each. Returns when they are closed and
 * that memory has settled again.
 */
int pair_idle(const struct pair_end *end, uint64_t pairs, double *ret_bytes, struct err *err);
