/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the connect hook, and by nobody else. */
#pragma once

#include "hook/connect.h"
/* The skeleton wants the types of abi/connect.h before it. */
#include "abi/connect.h"
#include "connect.skel.h"
#include "sys/cgroup.h"

#define CONNECT_PATH_MAX 512

/* A cgroup was left whose sockets are still known: until these notes have been given back. */
struct connect_leaving {
	bool is_on;
	uint64_t *cookies;
	size_t n;
	struct cgroup_set keep; /* what is named; closed, but for its ids */
};

struct connect {
	struct connect_skel *skel;
	struct lb *lb;
	struct connect_leaving leaving;
	uint64_t settle_ms; /* CLOCK_MONOTONIC: of the next look at connects that failed */
	bool has_settled;
	uint32_t settled_us; /* calls of connect() before this time have been looked at */
};

/* connect.c: the path of what is pinned under a name of its own. */
void connect_own_pin(char pin[static CONNECT_PATH_MAX], const char *name);

/* connect_link.c */
/* Removes every link to cgroups that are not named. */
int connect_prune(const struct cgroup_set *keep, struct err *err);
/* Only those of programs that pick; the others go on as those of this process. *ret_left: how many. */
int connect_stop_picking(struct connect *c, const struct cgroup_set *keep, size_t *ret_left, struct err *err);

/* connect_leave.c: cgroups that are not named (any more) are left. Takes the set. */
int connect_leave(struct connect *c, struct cgroup_set *keep, struct err *err);
void connect_leaving_done(struct connect_leaving *l);
