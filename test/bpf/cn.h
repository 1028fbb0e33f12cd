/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the connect hook share. The process moves into a cgroup, a network namespace and a mount namespace
 * of its own, with a bpffs of its own; a thread serves backends on loopback, each of which says its number.
 */
#pragma once

#include "unit.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "hook/connect.h"
#include "model/ring.h"

#define CN_SERVERS_MAX 64

struct cn {
	struct lb *lb;
	struct connect *connect;
	char cgroup[512]; /* directory */
	char pins[256];
};
extern struct cn cn;

int cn_away(void **state);
int cn_home(void **state);
/* Tables with room for a few services, and the hook on the test's cgroup; ends with servers stopped and pins removed. */
int cn_setup(void **state);
int cn_teardown(void **state);
void cn_open(const struct lb_limits *limits);
void cn_close(void);

/* A backend on loopback. */
struct cn_server {
	int fd;
	struct lb_addr addr;
	uint16_t port; /* host order */
	int number;
	int proto;
};
extern struct cn_server cn_servers[CN_SERVERS_MAX];
extern size_t cn_n_servers;

/*
 * Makes n servers and has the thread serve them: TCP writes the server's number as a byte, and closes; UDP sends it back
 * for every datagram. Returns the first one's number.
 */
int cn_serve(size_t n, int family, int proto);
/* A TCP server that keeps its connections open and writes nothing. */
int cn_serve_silent(int family);
/* Stops listening: connects are refused. */
void cn_server_stop(int number);
void cn_servers_end(void);

/* An address that nothing has: 198.18.0.n or 2001:db8::n, port 80. */
struct lb_vip cn_vip(int family, int n, int proto);
socklen_t cn_sockaddr(const struct lb_vip *vip, struct sockaddr_storage *ret);
/* As a v4-mapped address for sockets of IPv6. */
socklen_t cn_sockaddr_mapped(const struct lb_vip *vip, struct sockaddr_storage *ret);

struct cn_service {
	struct lb_service_spec spec;
	struct lb_backend_spec backends[CN_SERVERS_MAX];
};
/* A service of n servers from the first on, all of weight 1, not applied yet. */
void cn_service(struct cn_service *s, struct lb_vip vip, enum lb_scheduler scheduler, int first, size_t n);
uint32_t cn_apply(struct cn_service *s);
uint32_t cn_backend(uint32_t service, int number);
struct lb_counts cn_counts(uint32_t backend);
uint64_t cn_stat(enum lb_stat stat);

int cn_socket(int family, int type);
/* 0 or -errno. */
int cn_connect(int fd, const struct lb_vip *vip);
/* Connects a socket of the service's family, and returns the number that the server says; -errno if refused. */
int cn_ask(const struct lb_vip *vip);
/* The number that comes next from fd; waits for it. */
int cn_hear(int fd);
/* What getpeername() says is the service. */
void cn_assert_peer(int fd, const struct lb_vip *vip);
/* Polls until the count of open connections is n, ten seconds at most. */
void cn_await_conns(uint32_t backend, uint64_t n);
