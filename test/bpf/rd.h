/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The redirect hook with its user-space half, in a namespace without any route: a connection that was not redirected
 * ends with ENETUNREACH. Below the test's own cgroup are "app", whose connections are redirected, and "proxy".
 */
#pragma once

#include "fx.h"

#include "hook/redirect.h"

#define RD_APP "app"
#define RD_PROXY_GROUP "proxy"

struct rd_fx {
	struct redirect *redirect;
	struct config config;
	struct config_redirect entries[8];
	char *app, *proxy, *top; /* cgroups, as configurations name them */
	int listener, listener6; /* of the proxy: 127.0.0.1 and ::1, the same port */
	uint16_t port;
	uint64_t stats[_RD_STAT_MAX]; /* at the test's start */
};
extern struct rd_fx rd;

/* Once a program: fx_away(), cgroups below it, and the hook. */
int rd_away(void **state);
int rd_home(void **state);

/* Per test: one entry (app to the proxy's port), and a proxy on 127.0.0.1 alone. */
int rd_load(void **state);
int rd_unload(void **state);
/* Takes over what is in rd.config. */
void rd_apply(void);
/* Another listener of the proxy, on the loopback. */
int rd_listen(int family, uint16_t port);
void rd_listen6(void);

/* Where sockets are made from here on: a cgroup below the test's own; "" for that itself. */
void rd_enter(const char *name);
char *rd_group_path(const char *name);
void rd_group_make(const char *name);
void rd_group_remove(const char *name);

/* "1.2.3.4" or "2001:db8::1"; rd_addr() as the configuration keeps them. */
struct lb_addr rd_addr(const char *text);
struct config_cidr rd_cidr(const char *text);

/* A client of app: connects and returns the socket, or -errno. mapped: IPv4 on a socket of IPv6. */
int rd_connect(const char *addr, uint16_t port);
int rd_connect_mapped(const char *addr, uint16_t port);
int rd_connect_on(int fd, const char *addr, uint16_t port);

/* The proxy accepts; of whichever of its listeners has a connection. */
int rd_accept(void);

/* SO_ORIGINAL_DST, by the family of the address; fails the test if it is not this. */
void rd_expect_original(int fd, const char *addr, uint16_t port);
/* -errno of SO_ORIGINAL_DST. */
int rd_original_error(int fd);
void rd_expect_peer(int fd, const char *addr, uint16_t port);
/* A connection of app to addr is given to the proxy, with everything right at both ends. */
void rd_expect_redirected(const char *addr, uint16_t port);
/* One is not. */
void rd_expect_straight(const char *addr, uint16_t port);

uint64_t rd_stat(enum rd_stat stat);
/* Entries of rd_pend. */
size_t rd_pending(void);
