/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The classic scene: a client, a balancer and two backends, nginx on each but the client.
 *
 *   client 198.18.0.1 --- balancer 198.18.0.4 --- http1 198.18.0.2
 *                                             \-- http2 198.18.0.3
 *
 * The balancer passes port 80 on by a new HTTP/1.0 connection for each request, and port 81 by connections that
 * it keeps; port 83 haproxy has (mode tcp). Port 82 its kernel passes on to both in turn, by DNAT and masquerade; port 84
 * is a service of waggle's packet hook. '/' is a few bytes without a file, '/close' the same and the end of the connection,
 * '/16k' and '/1m' are files. The service's address belongs to nobody: there is only waggle's connect hook.
 */
#pragma once

#include "lab/haproxy.h"
#include "lab/nginx.h"

#define SCENE_16K (16 << 10)
#define SCENE_1M (1 << 20)
#define SCENE_CLIENT "198.18.0.1"
#define SCENE_HTTP1 "198.18.0.2"
#define SCENE_HTTP2 "198.18.0.3"
#define SCENE_BALANCER "198.18.0.4"
#define SCENE_SERVICE "198.18.0.5"

/* Where each way through the scene begins, without a path. */
#define SCENE_EACH "http://" SCENE_BALANCER ":80"
#define SCENE_KEPT "http://" SCENE_BALANCER ":81"
#define SCENE_NAT "http://" SCENE_BALANCER ":82"
#define SCENE_HAPROXY "http://" SCENE_BALANCER ":83"
#define SCENE_PACKETS "http://" SCENE_BALANCER ":84"
#define SCENE_STRAIGHT "http://" SCENE_HTTP1 ":80"
#define SCENE_SERVED "http://" SCENE_SERVICE ":80"

extern const struct lab_host scene_hosts[4];

struct scene {
	struct prog http1, http2, balancer, haproxy;
};

/* The backends; the balancer comes with scene_balancer(). */
int scene_start(const struct lab *lab, struct scene *ret, struct err *err);

/* A new balancer in the place of the old: it has no connections from before. */
int scene_balancer(const struct lab *lab, struct scene *scene, struct err *err);

/* The same with haproxy; it is not there before. */
int scene_haproxy(const struct lab *lab, struct scene *scene, struct err *err);

void scene_stop(struct scene *scene);

/* The balancer's kernel passes packets on: for nftables and for the packet hook. */
int scene_forward(const struct lab *lab, struct err *err);

/* Port 82 of the balancer, or no more. While it is there, the balancer tracks the connections of all others too. */
int scene_nat(const struct lab *lab, bool on, struct err *err);

/* A 'waggle run' for the scene. */
struct scene_waggle {
	bool balance;		  /* the service is there, for connect() of the lab's programs, or for packets */
	const char *packet_hook;  /* of the balancer's eth0; NULL: the connect hook */
	bool join;		  /* the sockets of the lab's programs are joined */
	const char *const *trust; /* paths of programs that need not be watched before, ends with NULL; may be NULL */
	const char *more;	  /* further sections; may be NULL */
	const char *host; /* in whose network namespace it runs; NULL: ours. For packets it is the balancer's always */
};

/* Ready when it returns; waggle_run_stop() ends it. */
int scene_waggle(const struct lab *lab, const struct scene_waggle *how, struct prog *ret, struct err *err);
