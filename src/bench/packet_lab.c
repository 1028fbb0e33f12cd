// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packet hook with real programs around it: wrk asks two web servers through the balancer's TC, and beside that through
 * haproxy, nginx and nftables in the same place. What a way needs runs only while it is measured.
 */
#include <errno.h>

#include "bench/bench.h"
#include "bench/http.h"
#include "bench/packet_rows.h"
#include "lab/scene.h"
#include "lab/waggle.h"

#define CONNECTIONS 100
#define SETUP_MS 5000

enum other { STRAIGHT, NGINX, HAPROXY, NFTABLES };

static const char *const at[] = {
	[STRAIGHT] = SCENE_STRAIGHT,
	[NGINX] = SCENE_KEPT,
	[HAPROXY] = SCENE_HAPROXY,
	[NFTABLES] = SCENE_NAT,
};

struct ask {
	enum other other;
	const char *path;
	double seconds; /* at least: until windows are as large as they get; 0: as long as the others */
};

/* How the lab is now. */
static struct {
	struct scene scene;
	struct prog waggle;
	bool is_up, nat;
} lab;

static int balancers_down(const struct bench_run *run, struct err *err)
{
	int r = prog_stop(&lab.scene.balancer, NGINX_STOP_MS);

	if (r >= 0)
		r = prog_stop(&lab.scene.haproxy, HAPROXY_STOP_MS);
	if (r >= 0 && lab.waggle.pid)
		r = waggle_run_stop(run->lab, &lab.waggle, err);
	if (r >= 0 && lab.nat) {
		r = scene_nat(run->lab, false, err);
		lab.nat = r < 0;
	}
	return r;
}

static int tell(const struct lab *l, const char *host, const char *setting, struct err *err)
{
	const char *const argv[] = { "sysctl", "-qw", setting, NULL };
	const struct prog_spec spec = { .argv = argv, .netns_fd = lab_netns(l, host), .cgroup_fd = l->waggle_fd };

	return prog_run(&spec, SETUP_MS, err);
}

/*
 * The balancer's own programs leave ports to the packet hook, as they do on a usual machine. And servers forget a connection
 * that is over: or those of the other way, a minute old, would refuse the same port and address.
 */
static int settings(const struct lab *l, struct err *err)
{
	int r = tell(l, "balancer", "net.ipv4.ip_local_port_range=32768 60999", err);

	if (r >= 0)
		r = tell(l, "http1", "net.ipv4.tcp_max_tw_buckets=0", err);
	return r < 0 ? r : tell(l, "http2", "net.ipv4.tcp_max_tw_buckets=0", err);
}

static int waggle_up(const struct bench_run *run, struct err *err)
{
	const struct scene_waggle how = { .balance = true, .packet_hook = "tc" };
	int r = scene_forward(run->lab, err);

	return r < 0 ? r : scene_waggle(run->lab, &how, &lab.waggle, err);
}

/* The one balancer that a way needs, new: it has no connections from before. */
static int balancer_up(const struct bench_run *run, const struct ask *ask, size_t way, struct err *err)
{
	int r = balancers_down(run, err);

	if (r < 0)
		return r;
	if (way == PACKET_WAGGLE)
		return waggle_up(run, err);
	switch (ask->other) {
	case STRAIGHT:
		return 0;
	case NGINX:
		return scene_balancer(run->lab, &lab.scene, err);
	case HAPROXY:
		return scene_haproxy(run->lab, &lab.scene, err);
	case NFTABLES:
		r = scene_nat(run->lab, true, err);
		lab.nat = r >= 0;
		return r;
	}
	return -EINVAL;
}

static int scene_up(struct bench_run *run, struct err *err)
{
	int r = settings(run->lab, err);

	if (r >= 0)
		r = scene_start(run->lab, &lab.scene, err);
	lab.is_up = r >= 0;
	return r;
}

static void scene_down(struct bench_run *run)
{
	(void)balancers_down(run, NULL);
	if (lab.is_up)
		scene_stop(&lab.scene);
	lab.is_up = false;
}

static int sample_wrk(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		      struct err *err)
{
	const struct ask *ask = row->data;
	double seconds = run->opts->seconds;
	struct http_result result;
	char url[128];
	int r = balancer_up(run, ask, way, err);

	if (r < 0)
		return r;
	(void)snprintf(url, sizeof(url), "%s%s", way == PACKET_WAGGLE ? SCENE_PACKETS : at[ask->other], ask->path);
	/* Unless it is only to be seen that all works. */
	if (run->opts->seconds >= 0.1 && seconds < ask->seconds)
		seconds = ask->seconds;
	r = http_ask(run->lab, url, CONNECTIONS, seconds, &result, err);
	if (r < 0)
		return r;
	ret->value = result.rate;
	ret->cpu_us = result.cpu_us;
	return 0;
}

static const char *const needs[] = { "nginx", "nginx",	  "haproxy", "haproxy", "wrk", "wrk",
				     "nft",   "nftables", "sysctl",  "procps",	NULL };

static const struct bench_group g_lab = {
	.word = "lab",
	.title = "wrk, 100 connections, through the balancer's TC",
	.unit = "requests/s",
	.needs = needs,
	.start = scene_up,
	.stop = scene_down,
};

int packet_lab_rows(struct bench_run *run, struct err *err)
{
	static const struct {
		const char *name, *title;
		double target;
		struct ask ask;
	} rows[] = {
		{ "lab-haproxy", "beside haproxy, mode tcp", 1.6, { HAPROXY, "/", 0 } },
		{ "lab-nginx", "beside nginx with keepalive", 1.6, { NGINX, "/", 0 } },
		{ "lab-nftables", "beside nftables, DNAT and masquerade", 1.2, { NFTABLES, "/", 0 } },
		{ "lab-1m", "bodies of 1 MiB, beside no balancer at all", 0.75, { STRAIGHT, "/1m", 4 } },
		{ "lab-connections", "a connection for each request, beside nftables", 1.5, { NFTABLES, "/close", 0 } },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++) {
		struct bench_row row = {
			.group = &g_lab,
			.title = rows[i].title,
			.ways = 1U << PACKET_BASE | 1U << PACKET_WAGGLE,
			.target = BENCH_RATIO_AT_LEAST,
			.target_value = rows[i].target,
			.sample = sample_wrk,
			.data = &rows[i].ask,
		};

		(void)snprintf(row.name, sizeof(row.name), "%s", rows[i].name);
		r = bench_row_add(run, &row, err);
	}
	return r;
}

void packet_lab_done(struct bench_run *run)
{
	scene_down(run);
}
