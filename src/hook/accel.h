/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The accelerator's user-space half: loads the programs, decides what was learned of executables, moves live
 * sockets in and out, and takes everything out of the kernel again. Single-threaded; not reentrant.
 *
 * Kernel objects live as long as struct accel, with one exception that the kernel makes: a joined socket
 * holds the programs and maps it uses. accel_leave() takes the sockets out; after SIGKILL accel_sweep() of
 * the next process does.
 */
#pragma once

#include <stdint.h>
#include <time.h>

#include "abi/accel.h"
#include "base/err.h"
#include "hook/hook.h"

struct accel;

/* For the loop; its self is a struct accel. */
extern const struct hook hook_accel;

struct accel_opts {
	const char *const *cgroups; /* as cgroup_open() takes them; those below another of them need not be there */
	size_t n_cgroups;	    /* 0: root of the cgroup v2 tree */
	const uint8_t *ports;	    /* AC_PORTS entries of AC_PORT_*, or NULL */
	const char *state_dir;	    /* where what was learned is kept; NULL: nowhere */
	const char *const *trust;   /* executables that need not be learned */
	size_t n_trust;
	uint32_t max_sockets; /* 0: the default */
};

/* What this kernel allows. Found out by trying (accel_probe), never by version. */
enum accel_class {
	ACCEL_FULL,    /* everything */
	ACCEL_LIMITED, /* joins, but programs that could splice are left on TCP: they cannot be caught in time */
	ACCEL_REFUSED, /* would not be safe: nothing is joined */
};

struct accel_probe {
	enum accel_class class;
	bool one_queue;	     /* TCP's bytes and joined bytes share one queue, and are counted right */
	bool fionread;	     /* FIONREAD counts joined bytes */
	bool fionread_patch; /* it does not, but the answer can be completed on its way out */
	bool fentry;	     /* splice(2) is seen before it looks */
	bool sock_destroy;   /* a connection can be reset from an iterator */
	bool cast;	     /* peers are read by plain loads */
	bool recv_flags;     /* a tracepoint shows the flags of recv(2) */
	char reason[256];    /* why not FULL, for people; "" if FULL */
};

/* Tries what the accelerator needs, on a connection of its own in a namespace of its own; leaves nothing behind. */
int accel_probe(struct accel_probe *ret, struct err *err);

/* Loads and fills; nothing is attached yet. */
int accel_open(const struct accel_opts *opts, struct accel **ret, struct err *err);

/* The cgroups, as they were given, for people; valid as long as a. */
const char *accel_cgroups(const struct accel *a);

/* From here on connections are seen, and joined as their programs earn it. */
int accel_attach(struct accel *a, struct err *err);

/* Readable when events wait; give it to the event loop and call accel_dispatch(). */
int accel_event_fd(const struct accel *a);

/* Handles waiting events, at most a ring's worth; passes each on to the callback. */
typedef void (*accel_event_fn)(const struct ac_event *event, void *data);
void accel_on_event(struct accel *a, accel_event_fn fn, void *data);
int accel_dispatch(struct accel *a);

/* To be called about every ACCEL_TICK_MS: joins what has been earned meanwhile, keeps what was learned. */
#define ACCEL_TICK_MS 100
int accel_tick(struct accel *a);

/*
 * Someone wants to see events of these types (1 << enum ac_event_type). They do not make accel_event_fd() readable: call
 * accel_dispatch() now and then.
 */
void accel_trace(struct accel *a, uint32_t types);

/* Reads; arrays are the caller's to free. */
int accel_sockets(struct accel *a, struct ac_sock_dump **ret, size_t *ret_n);
int accel_stats(struct accel *a, uint64_t ret[_AC_STAT_MAX]);
/* Round trips, of all processors together. */
int accel_trips(struct accel *a, struct ac_trips *ret);

struct accel_exe {
	struct ac_exe_key key;
	struct ac_exe exe;
	char *path; /* NULL: no process runs it now, and none was seen to */
};
int accel_exes(struct accel *a, struct accel_exe **ret, size_t *ret_n);
void accel_exes_free(struct accel_exe *exes, size_t n);

const struct accel_probe *accel_probed(const struct accel *a);

/*
 * Joined pairs, by the cookie of either end: they go back to TCP by the next ticks, and stay there. Others are let
 * alone. cookies are sorted.
 */
int accel_evict(struct accel *a, uint64_t *cookies, size_t n);

/*
 * New connections are not joined and every send goes by TCP from the first call on. Takes out the sockets that
 * can leave now, from the second call on; returns how many are still joined, with the number of those whose reader
 * sleeps. Call again after some milliseconds while any are.
 */
int accel_leave(struct accel *a, size_t *ret_left, size_t *ret_asleep);

/* Releases everything; sockets that are still joined go on by TCP, and keep their programs until they close. */
struct accel *accel_close(struct accel *a);

static inline void accel_closep(struct accel **a)
{
	(void)accel_close(*a);
}

/*
 * Takes out what a dead process left: sockets that it had joined. Ours and those of living processes are not
 * touched. Returns the number of dead owners found; *ret_left sockets could not leave yet.
 */
int accel_sweep(size_t *ret_left, struct err *err);
