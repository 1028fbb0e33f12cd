/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connect hook: a local client that calls connect() or sendto() to a service gets a backend there and then, and
 * no packet is ever rewritten. Programs and links are pinned beside the tables (hook/lb.h) and outlive the process.
 */
#pragma once

#include "hook/lb.h"

struct connect;

struct connect_opts {
	const char *const *cgroups; /* directories as cgroup_open() takes them */
	size_t n_cgroups;	    /* 0: the root of the cgroup v2 tree */
};

/*
 * Loads the programs on lb's maps and attaches them; where an earlier process left pinned links, each is switched to
 * the new program in one step (bpf_link_update), and links to cgroups that are no longer named are taken away after.
 * A cgroup below another one that is named needs nothing of its own.
 * On failure what was attached before goes on as it was.
 */
int connect_open(struct lb *lb, const struct connect_opts *opts, struct connect **ret, struct err *err);

/* Other cgroups from now on. */
int connect_set_cgroups(struct connect *c, const struct connect_opts *opts, struct err *err);

/*
 * The hook is no longer wanted, or is to go: its links and what it knew of sockets are removed. Connections go on with
 * their backends, but are no longer counted, and getpeername() tells the backend. An open struct connect stays
 * loaded; connect_close() it, and connect_open() another when the hook is wanted again.
 */
int connect_detach(struct lb *lb, struct err *err);

/* From here on connect() of this socket of ours goes where it says, be that a service or not: for health checks. */
int connect_exempt(const struct connect *c, int socket_fd);

/* How long connects took, since the hook was first attached; all CPUs. */
int connect_took(const struct connect *c, struct lb_took *ret);

/* Lets go; what is pinned goes on. */
struct connect *connect_close(struct connect *c);
static inline void connect_closep(struct connect **c)
{
	(void)connect_close(*c);
}
