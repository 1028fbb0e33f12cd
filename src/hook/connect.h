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

/*
 * Other cgroups from now on. Sockets of one that is left keep their backends, are counted until they are closed, and are told of
 * the service as before: what that needs stays attached to it until no socket is left that was given a backend by then.
 */
int connect_set_cgroups(struct connect *c, const struct connect_opts *opts, struct err *err);

/*
 * The hook is no longer wanted, or is to go: its links and what it knew of sockets are removed. Connections go on with
 * their backends, but are no longer counted, and getpeername() tells the backend. An open struct connect stays
 * loaded; connect_close() it, and connect_open() another when the hook is wanted again.
 */
int connect_detach(struct lb *lb, struct err *err);

/* To be called a few times a second: lets go of cgroups that were left, and calls connect_settle() now and then. 0 or -errno. */
int connect_tick(struct connect *c);

/*
 * Takes connections out of the count whose connect() failed before its first packet, at least age_ms (20 or more) ago, and
 * whose socket is still open, for nobody tells the programs of that. Looks through the notes; only if one says that a
 * handshake takes so long, through the files of all processes of our pid namespace, once for each. Sockets whose record is
 * in their storage do not start such a look, but are found by it.
 */
int connect_settle(struct connect *c, uint32_t age_ms, uint32_t *ret_settled);

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
