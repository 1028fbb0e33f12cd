/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the programs that send test traffic share: streams of which every byte is a function of (connection,
 * direction, offset), sockets in network namespaces, and one way to fail: a line on stderr and exit code 1.
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/util.h"

#define _noreturn_ __attribute__((noreturn))

/* Names the program in messages; call it first. */
void tool_init(const char *name);

/* "NAME: ...", to stderr. tool_die() ends the process with exit code 1, tool_usage() with 2. */
void tool_say(const char *fmt, ...) _printf_(1, 2);
void tool_die(const char *fmt, ...) _printf_(1, 2) _noreturn_;
void tool_usage(const char *fmt, ...) _printf_(1, 2) _noreturn_;

/* A decimal number in [min, max], or tool_usage() naming the option. */
uint64_t tool_number(const char *option, const char *text, uint64_t min, uint64_t max);

void tool_sleep_us(uint64_t us);

/* Memory that forked processes share, zeroed; never freed. */
void *tool_shared(size_t bytes);

/* Small, fast, repeatable: splitmix64. */
uint64_t mix64(uint64_t x);

struct rng {
	uint64_t state;
};

uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t n); /* [0, n) */
uint64_t rng_log(struct rng *rng, uint64_t max); /* [1, max], each power of two as likely as another */

/* The key of a stream; the bytes of the stream follow from it. */
uint64_t stream_key(uint64_t seed, uint64_t id, unsigned int direction);
void stream_fill(void *buf, size_t n, uint64_t key, uint64_t offset);

/* Index of the first byte that is not the stream's at this offset; n: all are. */
size_t stream_check(const void *buf, size_t n, uint64_t key, uint64_t offset);

/* Where in the first `length` bytes of a stream a window of at least 15 bytes occurs; -1: nowhere. */
int64_t stream_find(const void *window, size_t n, uint64_t key, uint64_t length);

enum tool_family {
	FAMILY_4,
	FAMILY_6,
	FAMILY_MAPPED, /* an IPv6 listener that takes IPv4 clients */
};

enum tool_family tool_family_parse(const char *text);
const char *tool_family_name(enum tool_family family);

/* Enters the network namespace at this path; NULL: stays. */
void tool_enter_netns(const char *path);

/* Moves the calling process into a cgroup v2; NULL: stays. */
void tool_enter_cgroup(const char *dir);

/* An address as a socket of this family wants it; text NULL: its loopback. */
socklen_t tool_addr(enum tool_family family, const char *text, uint16_t port, struct sockaddr_storage *ret);

/* A listening socket, and its port. */
int tool_listen(enum tool_family family, const char *address, uint16_t port, uint16_t *ret_port);

/* A connected socket of the family of the address, or -1 with errno set. */
int tool_connect(const struct sockaddr_storage *to, socklen_t len);

void tool_set(int fd, int level, int option, int value);
void tool_nonblock(int fd, bool on);

/* A connected TCP pair on loopback, made in this process. */
void tool_pair(int ret[2]);

/* All bytes or tool_die(); a non-blocking descriptor is waited for by poll(2). */
void tool_send_all(int fd, const void *buf, size_t n);
void tool_recv_all(int fd, void *buf, size_t n);
