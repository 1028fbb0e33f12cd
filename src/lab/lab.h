/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A lab: network namespaces on a bridge in a namespace of its own, a cgroup, a private directory. Everything is
 * found by the lab's name alone, so that one function takes it down after an orderly end, after a crash, and after
 * the SIGKILL of a run that is long gone. Nothing in the machine's own network namespace is touched.
 *
 *   namespaces   NAME-net (the bridge) and NAME-HOST for each host, as 'ip netns' shows them
 *   cgroup       NAME below the root of the v2 tree, with 'programs' (what is measured) and 'waggle' (what is not)
 *   directory    /run/NAME: configuration, logs, answers
 *   pins         /sys/fs/bpf/NAME: what a waggle that balances leaves in the kernel
 *
 * The flock on the cgroup's directory says that a run is alive.
 */
#pragma once

#include <limits.h>

#include "base/err.h"

#define LAB_HOSTS_MAX 8

struct lab_host {
	const char *name;
	const char *addr; /* within 198.18.0.0/15 */
};

struct lab {
	const char *name;
	const struct lab_host *hosts;
	size_t n_hosts;
	char dir[64];
	char cgroup[PATH_MAX];	      /* the lab's own cgroup */
	char programs[PATH_MAX + 16]; /* the one for waggle's --cgroup */
	int programs_fd, waggle_fd;   /* directories of the two cgroups below it */
	int netns_fd[LAB_HOSTS_MAX];
	int lock_fd;
};

/*
 * Builds the lab, runs fn in a child process, and removes the lab, however fn ended: by itself, by a crash, or
 * because SIGINT, SIGTERM, SIGHUP or SIGQUIT came. fn's result must be an exit code; it is what is returned.
 * -EBUSY: a run of that name is alive; -EINTR: a signal came; otherwise -errno and a sentence.
 * Whoever calls this must have no other children.
 */
typedef int (*lab_fn)(struct lab *lab, void *data);
int lab_run(const char *name, const struct lab_host *hosts, size_t n_hosts, lab_fn fn, void *data, struct err *err);

/* The namespace of a host, -1 if there is none of that name. The fd is the lab's. */
int lab_netns(const struct lab *lab, const char *host);

/* Writes text into a new file of the private directory, or DIR/SUB/NAME if name says so. */
int lab_write(const struct lab *lab, const char *name, const char *text, struct err *err);

/* Where the lab's waggle pins. Not made here: waggle does, if it needs it. */
#define LAB_BPF_DIR_MAX 64
void lab_bpf_dir(const struct lab *lab, char ret[static LAB_BPF_DIR_MAX]);

/* Makes a directory below the private one. */
int lab_mkdir(const struct lab *lab, const char *name, struct err *err);

/* The last line of a file of the private directory, for error messages; "" if there is none. */
void lab_last_line(const struct lab *lab, const char *name, char *ret, size_t size);

/* net.c: the namespaces and what is in them. Removing what is not there is no error. */
int lab_net_create(struct lab *lab, struct err *err);
int lab_net_remove(const struct lab *lab, struct err *err);

/*
 * veth.c: makes the lab fit for XDP on a host's eth0, until lab_xdp_end(). The others send whole checksums, for XDP cannot see
 * that one is yet to be filled in; and the bridge's port to the host has a program of its own, which passes everything: without
 * one a veth leaves what its peer sends by XDP_TX lying. Needs ethtool(8). The fd is the caller's; -1 after an error.
 */
int lab_xdp_begin(const struct lab *lab, const char *host, int *ret_fd, struct err *err);
int lab_xdp_end(const struct lab *lab, const char *host, int *fd, struct err *err);

/*
 * group.c: the cgroups. lock makes the lab's own and takes it, -EBUSY: somebody has it. clear ends every process
 * within (waggle by SIGTERM, so that it leaves the kernel in order) and removes what is below; remove ends the lock.
 */
int lab_group_lock(struct lab *lab, struct err *err);
int lab_group_create(struct lab *lab, struct err *err);
int lab_group_clear(struct lab *lab, struct err *err);
int lab_group_remove(struct lab *lab, struct err *err);
