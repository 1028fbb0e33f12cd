/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * torture: what its two processes share. Both derive the plan of a connection from (seed, id), so each end
 * knows every byte it must get and how the other end will leave.
 */
#pragma once

#include <stdatomic.h>

#include "tool.h"

#define TORTURE_MAX_BYTES (1U << 20)
#define TORTURE_RECORDS 4096
#define TORTURE_MAGIC 0x77616767U

enum style {
	STYLE_BLOCKING,	  /* a thread for each direction */
	STYLE_LEVEL,	  /* epoll */
	STYLE_EDGE,	  /* epoll, edge-triggered, until EAGAIN */
	STYLE_EDGE_SHORT, /* edge-triggered, and a short read means drained */
	_STYLE_MAX,
};

enum ending {
	END_HALF,  /* each shuts its side down when it has sent all, and reads to the end of stream */
	END_CLOSE, /* the closer leaves as soon as it has got all; the other sees the end of stream */
	END_RESET, /* the closer leaves in the middle, with SO_LINGER 0; the other gets a prefix */
	_END_MAX,
};

struct side_plan {
	enum style style;
	uint32_t bytes;	   /* to send */
	uint32_t reset_at; /* END_RESET, the closer: leaves after this many */
	uint32_t send_max; /* largest chunk */
	uint32_t recv_max;
	uint32_t pause_1in; /* one call in so many is followed by a pause; 0: none */
	uint32_t pause_us;
	uint32_t sndbuf, rcvbuf; /* 0: as they are */
	bool nodelay;
	bool hello_by_bytes; /* the hello goes out in one-byte sends */
	bool peeks;
};

struct plan {
	uint64_t id;
	enum ending ending;
	unsigned int closer; /* 0: client, 1: server */
	struct side_plan side[2];
};

/* The first bytes of the client's stream: tells the server which plan it is. */
struct hello {
	uint32_t magic;
	uint32_t check;
	uint64_t id;
};

enum phase {
	PHASE_FREE,
	PHASE_CONNECT,
	PHASE_HELLO,
	PHASE_TALK,
	PHASE_END,
};

/* One end of one live connection, for the watchdog. */
struct record {
	_Atomic uint32_t phase;
	_Atomic uint32_t pid;
	_Atomic int32_t fd;
	_Atomic uint64_t id;
	_Atomic uint64_t sent, received;
	_Atomic uint64_t ticks;
	_Atomic uint32_t is_server;
};

struct shared {
	_Atomic uint32_t stop;	   /* no new connections */
	_Atomic uint32_t finished; /* the client is done; the server ends when its last connection does */
	_Atomic uint32_t failed;
	_Atomic uint32_t told; /* the report of the first failure is being written */
	_Atomic uint64_t bytes, connections, resets, orphans, client_resets, eagains;
	_Atomic uint32_t port;
	struct record records[TORTURE_RECORDS];
};

struct torture {
	uint64_t seed;
	uint64_t seconds, slots, stall_ms;
	enum tool_family family;
	const char *client_netns, *server_netns, *client_cgroup, *server_cgroup;
	const char *listen, *connect;
	uint16_t listen_port, connect_port;
	bool no_reset;
	bool no_blocking;  /* every recv and send is made by epoll */
	bool allow_eagain; /* a blocking recv may fail with EAGAIN: counted, and tried again */
	struct shared *shared;
};

void plan_make(const struct torture *t, uint64_t id, struct plan *ret);
const char *plan_format(const struct plan *plan, char *buf, size_t n);

struct record *record_get(struct torture *t, uint64_t id, int fd, bool is_server);
void record_put(struct record *rec);

/*
 * Runs one end (0: client, 1: server) of the connection to its end and closes fd. The client's hello is not
 * part of it. Any wrong byte, early end or unexpected error ends the program.
 */
void end_run(struct torture *t, const struct plan *plan, unsigned int me, int fd, struct record *rec);

/* Marks the whole run failed and ends this process; the others follow. */
void torture_fail(struct torture *t, const char *fmt, ...) _printf_(2, 3) _noreturn_;
