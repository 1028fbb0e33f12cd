/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The words of the control API: how sockets, executables, events and the state of the daemon are written as
 * JSON, and read again. docs/openapi.yaml says the same for people; both change together. Nothing here asks
 * the kernel: whatever is not in the records is handed in.
 *
 * Every json_t * returned is the caller's; NULL: no memory.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "abi/accel.h"
#include "base/err.h"

#define WIRE_RUN_DIR "/run/waggle" /* unless WAGGLE_RUN_DIR says otherwise */
#define WIRE_SOCKET "control.sock"

/* Longer bodies of requests are refused. */
#define WIRE_REQUEST_MAX 4096

/* Where the control socket is. */
const char *wire_run_dir(void);

/* The word and the sentence of a reason; "unknown" for a number that is none. */
const char *wire_why_word(unsigned int why);
const char *wire_why_text(unsigned int why);
const char *wire_event_word(unsigned int type);
const char *wire_stat_word(unsigned int stat);

/* "1.2.3.4:80", "[fe80::1]:80"; v4-mapped addresses are shown as IPv4. */
#define WIRE_ADDR_MAX 64
void wire_addr_format(unsigned int family, const uint32_t addr[4], uint16_t port, char ret[WIRE_ADDR_MAX]);

/* A JSON string of text that may not be UTF-8 (names of processes and files are just bytes). */
json_t *wire_string(const char *text);

/* One event as one object. offset_ns is what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC. */
json_t *wire_event(const struct ac_event *e, int64_t offset_ns);
json_t *wire_event_lost(uint64_t count);

struct wire_exe {
	struct ac_exe_key key;
	struct ac_exe exe;
	const char *path; /* NULL: not known */
};
json_t *wire_exe(const struct wire_exe *exe);

struct wire_status {
	const char *version, *class, *reason, *cgroup;
	int64_t pid;
	uint64_t uptime_s;
	bool leaving;
	uint64_t joined, watched;  /* sockets */
	uint64_t why[_AC_WHY_MAX]; /* of those that are watched */
	uint64_t left, asleep;	   /* while leaving: how many wait, and for how many a reader has to wake */
	uint64_t stats[_AC_STAT_MAX];
};
json_t *wire_status(const struct wire_status *s);

json_t *wire_error(const char *text);

/* The body of an unload request: nothing, or {"now": BOOL}. -EINVAL and a sentence otherwise. */
int wire_unload_parse(const char *text, size_t bytes, bool *ret_now, struct err *err);

/* What `waggle doctor` found. Each need is one line: what it is for, and how to get it where it is missing. */
struct wire_need {
	const char *name;
	bool has;
	const char *means;
	const char *remedy; /* NULL: none is known */
};
/* An interface, and which hook it would get. */
struct wire_nic {
	const char *name, *hook, *reason;
};

struct wire_doctor {
	const char *class, *reason, *kernel, *cgroup; /* cgroup NULL: none is mounted */
	const struct wire_need *needs;
	size_t n_needs;
	int64_t pid;	  /* of a running waggle, 0: none */
	uint64_t dead;	  /* waggles that died and left something in the kernel */
	json_t *programs; /* what a running one has learned; NULL: unknown. Borrowed. */
	const struct wire_nic *nics;
	size_t n_nics;
};
json_t *wire_doctor(const struct wire_doctor *d);
