/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables that every hook balances by (abi/lb.h), from user space: made or taken over, filled, changed and read.
 * Knows nothing of configuration, health or names: it is told which backends of a service are to be picked.
 *
 * Kernel objects: the maps are pinned in LB_PIN_DIR and outlive the process; the next one takes them over, with every
 * service, backend and count in them. Single-threaded.
 */
#pragma once

#include <stdint.h>

#include "abi/lb.h"
#include "base/err.h"

/* WAGGLE_BPF_DIR replaces it. Made with mode 0700; must be on a bpffs. */
#define LB_PIN_DIR "/sys/fs/bpf/waggle"

struct lb;

/* Room; 0: the default. What is pinned already keeps its size. */
struct lb_limits {
	uint32_t services;     /* 4096 */
	uint32_t backends;     /* 16384 */
	uint32_t ring_entries; /* 4 Mi */
};

/*
 * Takes over what is pinned, or makes it. *ret_taken_over tells which. -EPROTO and a sentence: what is pinned is of
 * another version and stays as it is.
 */
int lb_open(const struct lb_limits *limits, struct lb **ret, bool *ret_taken_over, struct err *err);

/* Lets go of the fds; what is pinned goes on working. */
struct lb *lb_close(struct lb *lb);
static inline void lb_closep(struct lb **lb)
{
	(void)lb_close(*lb);
}

/* Removes the pins of this directory, maps and links of every hook: balancing ends when nobody holds them. */
int lb_unpin(struct err *err);

/* fd of a shared map by its name ("lb_vips"), for bpf_map__reuse_fd(); owned by lb. -ENOENT: no such map. */
int lb_map_fd(const struct lb *lb, const char *name);

/* The directory of pins, for hooks that pin their links. */
const char *lb_pin_dir(void);

/* Mapped; host order. */
struct lb_ctl *lb_ctl(struct lb *lb);

struct lb_backend_spec {
	struct lb_addr addr;
	uint16_t port;	 /* host order */
	uint32_t weight; /* share of the ring; 0: in no ring (down or draining) */
	uint16_t flags;	 /* enum lb_backend_flag; LB_BACKEND_V4 is set by lb_apply() */
};

struct lb_service_spec {
	struct lb_vip vip;
	struct lb_plan plan; /* scheduler, forward, flags, seed, limits; ids and ring are set by lb_apply() */
	uint32_t table_size;
	const struct lb_backend_spec *backends; /* all of them, in whatever state; addresses differ */
	size_t n_backends;
};

/*
 * Makes a service as the spec says, or changes it to that: atomically for every pick. Backends are known again by
 * address and port, and keep their ids and counts; one that is no longer in the spec leaves the ring at once, and its
 * id is given back when its last connection has ended. On failure (-ENOSPC: a table is full) nothing has changed.
 */
int lb_apply(struct lb *lb, const struct lb_service_spec *spec, uint32_t *ret_service, struct err *err);

/* Takes a service away; connections go on. */
int lb_remove(struct lb *lb, const struct lb_vip *vip, struct err *err);

/*
 * Between these, replaced rings and plans wait for one grace period together, at the end: for many changes. Each
 * change is atomic by itself, and seen at once.
 */
void lb_begin(struct lb *lb);
int lb_end(struct lb *lb, struct err *err);

/* Which services there are, also those of a process before this one: fn until it returns non-zero. */
int lb_each_service(struct lb *lb, int (*fn)(uint32_t service, const struct lb_vip *vip, void *data), void *data);

/* Id of a backend, LB_NONE if there is none such. */
uint32_t lb_find_backend(const struct lb *lb, uint32_t service, const struct lb_addr *addr, uint16_t port);

/* What the hooks counted. conns is of both hooks together. */
struct lb_counts {
	uint64_t conns, picks, failures;
	uint64_t avoid_until_ns;
	struct lb_traffic traffic; /* sum of all CPUs */
};
int lb_backend_counts(const struct lb *lb, uint32_t backend, struct lb_counts *ret);

/* The same without traffic, which costs no system call. */
int lb_backend_load(const struct lb *lb, uint32_t backend, struct lb_counts *ret);

/* The health check found the backend well again (or ill: until_ns in the future). 0: no longer avoided. */
void lb_backend_avoid(struct lb *lb, uint32_t backend, uint64_t until_ns);

int lb_stats(const struct lb *lb, uint64_t ret[_LB_STAT_MAX]);

/* Gives back ids of backends that have left and have no connection any more. To be called now and then. */
void lb_collect(struct lb *lb);

/* Events of the hooks. */
int lb_event_fd(const struct lb *lb);
typedef void (*lb_event_fn)(const struct lb_event *event, void *data);
int lb_dispatch(struct lb *lb, lb_event_fn fn, void *data);
