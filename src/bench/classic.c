// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The comparison of the tutorials: wrk asks two web servers through a balancer. First nginx, as they begin; then the same with
 * its sockets joined, and packets rewritten before they get to it, as they go on; and what they do not have: the connect hook.
 * haproxy and nftables stand beside. Everything a way needs runs only while it is measured: nftables makes the kernel track every
 * connection of the balancer, and a balancer that is not asked still has its timers.
 */
#include <errno.h>
#include <inttypes.h>

#include "bench/bench.h"
#include "bench/http.h"
#include "lab/scene.h"
#include "lab/waggle.h"

#define CONNECTIONS 100

enum balancer { NONE, NGINX, HAPROXY, NFTABLES };

static const struct series {
	const char *at;
	enum balancer balancer;
	struct scene_waggle waggle; /* all nothing: there is none */
} series[CLASSIC_WAYS] = {
	[CLASSIC_NGINX] = { SCENE_EACH, .balancer = NGINX },
	[CLASSIC_NGINX_JOINED] = { SCENE_EACH, .balancer = NGINX, .waggle = { .join = true } },
	[CLASSIC_HAPROXY] = { SCENE_HAPROXY, .balancer = HAPROXY },
	[CLASSIC_NFTABLES] = { SCENE_NAT, .balancer = NFTABLES },
	[CLASSIC_XDP_GENERIC] = { SCENE_PACKETS, .waggle = { .balance = true, .packet_hook = "xdp-generic" } },
	[CLASSIC_XDP] = { SCENE_PACKETS, .waggle = { .balance = true, .packet_hook = "xdp" } },
	[CLASSIC_TC] = { SCENE_PACKETS, .waggle = { .balance = true, .packet_hook = "tc" } },
	[CLASSIC_CONNECT] = { SCENE_SERVED, .waggle = { .balance = true } },
	[CLASSIC_CONNECT_JOINED] = { SCENE_SERVED, .waggle = { .balance = true, .join = true } },
};

/* What the tutorial (github.com/feiskyer/ebpf-apps) has published: requests a second, of its own lab of containers. */
static const double published[CLASSIC_WAYS] = {
	[CLASSIC_NGINX_JOINED] = 1.108,
	[CLASSIC_XDP_GENERIC] = 1.308,
	[CLASSIC_XDP] = 1.308,
};

/* How the lab is now. */
static struct {
	size_t way; /* whose waggle runs, if one does */
	bool nat, xdp;
	int xdp_fd;
} now = { .xdp_fd = -1 };

static bool is_xdp(const struct series *s)
{
	return s->waggle.packet_hook && strncmp(s->waggle.packet_hook, "xdp", 3) == 0;
}

static int leave(struct bench_run *run, const struct series *next, struct err *err)
{
	int r = run->waggle.pid ? waggle_run_stop(run->lab, &run->waggle, err) : 0;

	if (r >= 0 && now.nat && next->balancer != NFTABLES) {
		r = scene_nat(run->lab, false, err);
		now.nat = now.nat && r < 0;
	}
	if (r >= 0 && now.xdp && !is_xdp(next)) {
		r = lab_xdp_end(run->lab, "balancer", &now.xdp_fd, err);
		now.xdp = now.xdp && r < 0;
	}
	return r;
}

static int start_waggle(struct bench_run *run, const struct series *s, struct err *err)
{
	struct scene_waggle how = s->waggle;
	struct waggle_trust trust = {};
	int r = waggle_trust_add(&trust, "nginx", err);

	if (r >= 0)
		r = waggle_trust_add(&trust, "wrk", err);
	how.trust = trust.v;
	return r < 0 ? r : scene_waggle(run->lab, &how, &run->waggle, err);
}

static int enter(struct bench_run *run, struct err *err)
{
	const struct series *s = &series[run->way];
	int r;

	if (run->waggle.pid && now.way == run->way)
		return 0;
	r = leave(run, s, err);
	if (r >= 0 && s->balancer == NFTABLES && !now.nat) {
		r = scene_nat(run->lab, true, err);
		now.nat = r >= 0;
	}
	if (r >= 0 && s->waggle.packet_hook)
		r = scene_forward(run->lab, err);
	if (r >= 0 && is_xdp(s) && !now.xdp) {
		now.xdp = true;
		r = lab_xdp_begin(run->lab, "balancer", &now.xdp_fd, err);
	}
	if (r >= 0 && (s->waggle.balance || s->waggle.join))
		r = start_waggle(run, s, err);
	now.way = run->way;
	return r;
}

const struct bench_way classic_ways[CLASSIC_WAYS] = {
	[CLASSIC_NGINX] = { "nginx", "nginx, HTTP/1.0 to its backends", false, enter },
	[CLASSIC_NGINX_JOINED] = { "nginx-joined", "the same, its sockets joined", false, enter },
	[CLASSIC_HAPROXY] = { "haproxy", "haproxy, mode tcp", false, enter },
	[CLASSIC_NFTABLES] = { "nftables", "nftables, DNAT and masquerade", false, enter },
	[CLASSIC_XDP_GENERIC] = { "xdp-generic", "packet hook in generic XDP", false, enter },
	[CLASSIC_XDP] = { "xdp", "packet hook in native XDP", false, enter },
	[CLASSIC_TC] = { "tc", "packet hook in TC", false, enter },
	[CLASSIC_CONNECT] = { "connect", "connect hook", false, enter },
	[CLASSIC_CONNECT_JOINED] = { "connect-joined", "connect hook, and sockets joined", false, enter },
};

void classic_done(struct bench_run *run)
{
	if (run->waggle.pid)
		(void)waggle_run_stop(run->lab, &run->waggle, NULL);
}

static int scene_up(struct bench_run *run, struct err *err)
{
	struct scene *scene;
	int r = http_scene_begin(run, &scene, err);

	if (r >= 0 && series[run->way].balancer == NGINX)
		r = scene_balancer(run->lab, scene, err);
	if (r >= 0 && series[run->way].balancer == HAPROXY)
		r = scene_haproxy(run->lab, scene, err);
	return r;
}

struct ask {
	const char *path;
	unsigned int connections;
	bool latency;
};

static int sample(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		  struct err *err)
{
	const struct ask *ask = row->data;
	struct http_result result;
	uint64_t before = 0, after = 0;
	char url[128];
	int r = 0;

	(void)snprintf(url, sizeof(url), "%s%s", series[way].at, ask->path);
	if (series[way].waggle.join)
		r = run->env->joined(&before, err);
	if (r >= 0)
		r = http_ask(run->lab, url, ask->connections, run->opts->seconds, &result, err);
	if (r >= 0 && series[way].waggle.join)
		r = run->env->joined(&after, err);
	if (r < 0)
		return r;
	if (series[way].waggle.join && after - before < ask->connections)
		return err_set(err, -EIO, "only %" PRIu64 " of %u connections were joined", after - before,
			       ask->connections);
	ret->value = ask->latency ? result.wrk.p50_us : result.rate;
	ret->cpu_us = result.cpu_us;
	return ret->value > 0 ? 0 : err_set(err, -ENODATA, "wrk has measured nothing");
}

static const char *const needs[] = { "nginx",	 "nginx",  "haproxy", "haproxy", "wrk",	    "wrk", "nft",
				     "nftables", "sysctl", "procps",  "ethtool", "ethtool", NULL };

#define SCENE .needs = needs, .start = scene_up, .stop = http_scene_end
static const struct bench_group
	g_requests = { .word = "requests", .title = "wrk, 100 connections", .unit = "requests/s", SCENE },
	g_bodies = { .word = "bodies", .title = "wrk, 100 connections, bodies of 1 MiB", .unit = "requests/s", SCENE },
	g_latency = { .word = "latency",
		      .title = "wrk, one connection, median time of an answer",
		      .unit = "us",
		      .less_is_better = true,
		      SCENE };

int classic_rows(struct bench_run *run, struct err *err)
{
	static const struct ask small = { "/", CONNECTIONS, false }, large = { "/1m", CONNECTIONS, false },
				one = { "/", 1, true };
	static const struct {
		const struct bench_group *group;
		const struct ask *ask;
		const double *published;
	} rows[] = {
		{ &g_requests, &small, published },
		{ &g_bodies, &large, NULL },
		{ &g_latency, &one, NULL },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++) {
		struct bench_row row = {
			.group = rows[i].group,
			.title = rows[i].group->title,
			.ways = (1U << CLASSIC_WAYS) - 1,
			.sample = sample,
			.data = rows[i].ask,
			.published = rows[i].published,
		};

		(void)snprintf(row.name, sizeof(row.name), "%s", rows[i].group->word);
		r = bench_row_add(run, &row, err);
	}
	return r;
}
