/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What /proc tells about processes, sockets and namespaces. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* When the process started (field 22 of /proc/PID/stat), 0 if there is none: tells a reused pid apart. */
uint64_t proc_start_time(pid_t pid);

/* Calls fn for each process until it returns non-zero, and returns that. */
int proc_each(int (*fn)(pid_t pid, void *data), void *data);

/* Which process holds which socket: one pass over /proc, then look-ups by the socket's inode number. */
struct proc_socket {
	uint64_t inode;
	pid_t pid;
	char comm[16];
};
struct proc_sockets {
	struct proc_socket *v; /* sorted by inode */
	size_t n, room;
};
int proc_sockets_read(struct proc_sockets *ret);
const struct proc_socket *proc_sockets_find(const struct proc_sockets *s, uint64_t inode);
void proc_sockets_done(struct proc_sockets *s);

/*
 * Network namespaces by inode number, as /proc/PID/ns/net and /run/netns show them. netns_enter() moves the
 * calling thread and returns an fd of where it was, for netns_return(), which closes it.
 */
int netns_open(uint32_t inum);
int netns_enter(int fd);
void netns_return(int was_fd);
