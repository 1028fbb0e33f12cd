// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A sidecar: wrk asks nginx on another host, and what it opens goes through a transparent haproxy on its own host. Once
 * because nftables' REDIRECT sends it there, and once because waggle does, and joins both hops. Same proxy, same
 * configuration of it: it reads SO_ORIGINAL_DST, and its own connections are told by its user.
 */
#include <errno.h>

#include "bench/bench.h"
#include "bench/http.h"
#include "lab/haproxy.h"
#include "lab/nginx.h"
#include "lab/scene.h"
#include "lab/waggle.h"

#define PROXY_PORT 15001
#define PROXY_USER "nobody"
#define SETUP_MS 5000
#define CONNECTIONS 100

/* Port 81 ends each connection after one answer. */
static const char server_http[] = "	server {\n"
				  "		listen 80 backlog=4096;\n"
				  "		location / { return 200 \"the bee dances\\n\"; }\n"
				  "	}\n"
				  "	server {\n"
				  "		listen 81 backlog=4096;\n"
				  "		keepalive_timeout 0;\n"
				  "		location / { return 200 \"the bee dances\\n\"; }\n"
				  "	}\n";

static const char nat_rules[] = "table ip sidecar {\n"
				"	chain output {\n"
				"		type nat hook output priority -100;\n"
				"		ip daddr " SCENE_HTTP1 " meta skuid != " PROXY_USER
				" tcp dport { 80, 81 } redirect to :%d\n"
				"	}\n"
				"}\n";

static const char waggle_form[] = "redirect:\n"
				  "  - cgroup: %1$s\n"
				  "    to: 127.0.0.1:%2$d\n"
				  "    ports: [ 80, 81 ]\n"
				  "    exclude-users: [ " PROXY_USER " ]\n"
				  /* There are no services: nobody has to ask for them. */
				  "connect: { cgroups: [ %6$s/waggle ] }\n"
				  "accelerate:\n"
				  "  cgroups: [ %1$s ]\n"
				  "  trust: [ %3$s, %4$s, %5$s ]\n";

/* Which way the redirect is made now. */
static bool nat_is_on;

static int run_in_client(struct bench_run *run, const char *const *argv, const char *input, struct err *err)
{
	const struct prog_spec spec = { .argv = argv,
					.netns_fd = lab_netns(run->lab, "client"),
					.cgroup_fd = run->lab->waggle_fd,
					.input = input };

	return prog_run(&spec, SETUP_MS, err);
}

static int nat_off(struct bench_run *run, struct err *err)
{
	const char *const argv[] = { "nft", "delete", "table", "ip", "sidecar", NULL };
	int r = nat_is_on ? run_in_client(run, argv, NULL, err) : 0;

	nat_is_on = nat_is_on && r < 0;
	return r;
}

static int enter_nat(struct bench_run *run, struct err *err)
{
	const char *const load[] = { "nft", "-f", "-", NULL };
	/* Or the table of connections is full of those that have ended, and the benchmark is of that. */
	const char *const brief[] = { "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1", NULL };
	char rules[512];
	int r = run->waggle.pid ? waggle_run_stop(run->lab, &run->waggle, err) : 0;

	if (r < 0 || nat_is_on)
		return r;
	(void)snprintf(rules, sizeof(rules), nat_rules, PROXY_PORT);
	r = run_in_client(run, load, rules, err);
	nat_is_on = r >= 0;
	return r < 0 ? r : run_in_client(run, brief, NULL, err);
}

static int enter_waggle(struct bench_run *run, struct err *err)
{
	char wrk[4096], nginx[4096], haproxy[4096];
	_cleanup_free_ char *config = NULL;
	int r = nat_off(run, err);

	if (r < 0 || run->waggle.pid)
		return r;
	if (prog_find("wrk", wrk, sizeof(wrk)) < 0 || prog_find("nginx", nginx, sizeof(nginx)) < 0 ||
	    prog_find("haproxy", haproxy, sizeof(haproxy)) < 0)
		return err_set(err, -ENOENT, "wrk, nginx or haproxy is missing");
	if (asprintf(&config, waggle_form, run->lab->programs, PROXY_PORT, wrk, nginx, haproxy, run->lab->cgroup) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return waggle_run_start(run->lab, config, &run->waggle, err);
}

const struct bench_way redirect_ways[REDIRECT_WAYS] = {
	[REDIRECT_NFTABLES] = { "nftables", "nftables REDIRECT", false, enter_nat },
	[REDIRECT_WAGGLE] = { "waggle", "waggle", false, enter_waggle },
};

void redirect_done(struct bench_run *run)
{
	if (run->waggle.pid)
		(void)waggle_run_stop(run->lab, &run->waggle, NULL);
	(void)nat_off(run, NULL);
}

struct sidecar {
	struct prog server, proxy;
};

static int sidecar_start(struct bench_run *run, struct err *err)
{
	static const char *const to_where_it_wanted[] = { "0.0.0.0:0", NULL };
	const struct haproxy_spec proxy = { .name = "sidecar",
					    .host = "client",
					    .port = PROXY_PORT,
					    .user = PROXY_USER,
					    .servers = to_where_it_wanted };
	const struct nginx_spec server = { "http1", "http1", server_http };
	struct sidecar *s = new0(struct sidecar);
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	run->group_state = s;
	r = nginx_start(run->lab, &server, &s->server, err);
	return r < 0 ? r : haproxy_start(run->lab, &proxy, &s->proxy, err);
}

static void sidecar_stop(struct bench_run *run)
{
	struct sidecar *s = run->group_state;

	if (!s)
		return;
	(void)prog_stop(&s->proxy, HAPROXY_STOP_MS);
	(void)prog_stop(&s->server, NGINX_STOP_MS);
	free(s);
	run->group_state = NULL;
}

struct ask {
	const char *url;
	unsigned int connections;
	bool latency;
};

static int sample_wrk(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		      struct err *err)
{
	const struct ask *ask = row->data;
	struct http_result result;
	int r = http_ask(run->lab, ask->url, ask->connections, run->opts->seconds, &result, err);

	if (r < 0)
		return r;
	ret->value = ask->latency ? result.wrk.p50_us : result.rate;
	return ret->value > 0 ? 0 : err_set(err, -ENODATA, "wrk has measured nothing");
}

static const char *const needs[] = { "nginx", "nginx",	  "haproxy", "haproxy", "wrk", "wrk",
				     "nft",   "nftables", "sysctl",  "procps",	NULL };

static const struct bench_group g_requests = {
	.word = "requests",
	.title = "wrk through a transparent haproxy",
	.unit = "requests/s",
	.needs = needs,
	.start = sidecar_start,
	.stop = sidecar_stop,
};

static const struct bench_group g_latency = {
	.word = "latency",
	.title = "wrk through a transparent haproxy, p50",
	.unit = "us",
	.less_is_better = true,
	.needs = needs,
	.start = sidecar_start,
	.stop = sidecar_stop,
};

static const struct ask close_each = { "http://" SCENE_HTTP1 ":81/", CONNECTIONS, false };
static const struct ask keep = { "http://" SCENE_HTTP1 ":80/", CONNECTIONS, false };
static const struct ask keep_one = { "http://" SCENE_HTTP1 ":80/", 1, true };
static const struct ask keep_p50 = { "http://" SCENE_HTTP1 ":80/", CONNECTIONS, true };

int redirect_rows(struct bench_run *run, struct err *err)
{
	static const struct {
		const struct bench_group *group;
		const char *name, *title;
		double target;
		const struct ask *ask;
	} rows[] = {
		{ &g_requests, "connections", "a connection for each request, 100 at a time", 1.1, &close_each },
		{ &g_requests, "keepalive", "100 connections kept alive", 1.5, &keep },
		{ &g_latency, "latency-1", "p50 of one connection kept alive", 1.0, &keep_one },
		{ &g_latency, "latency-100", "p50 of 100 connections kept alive", 1.0, &keep_p50 },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++) {
		struct bench_row row = {
			.group = rows[i].group,
			.title = rows[i].title,
			.ways = 1U << REDIRECT_NFTABLES | 1U << REDIRECT_WAGGLE,
			.target = BENCH_RATIO_AT_LEAST,
			.target_value = rows[i].target,
			.sample = sample_wrk,
			.data = rows[i].ask,
		};

		(void)snprintf(row.name, sizeof(row.name), "%s", rows[i].name);
		r = bench_row_add(run, &row, err);
	}
	return r;
}
