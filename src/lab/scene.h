/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The classic scene: a client, a balancer and two backends, nginx on each but the client.
 *
 *   client 198.18.0.1 --- balancer 198.18.0.4 --- http1 198.18.0.2
 *                                             \-- http2 198.18.0.3
 *
 * The balancer passes port 80 on by a new HTTP/1.0 connection for each request, and port 81 by connections that
 * it keeps; port 83 haproxy has (mode tcp). Port 82 its kernel passes on to both in turn, by DNAT and masquerade. '/' is
 * a few bytes without a file, '/16k' and '/1m' are files. The service's address belongs to nobody: there is only waggle.
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
