// SPDX-License-Identifier: GPL-2.0-or-later
/* wrk asks nginx on another host through a transparent proxy on its own: by nftables, and by waggle (lab/sidecar.h). */
#include <errno.h>

#include "bench/bench.h"
#include "bench/http.h"
#include "lab/scene.h"
#include "lab/sidecar.h"
#include "lab/waggle.h"

#define CONNECTIONS 100

/* Which way the redirect is made now. */
static bool nat_is_on;

static int nat_off(struct bench_run *run, struct err *err)
{
	int r = nat_is_on ? sidecar_nat(run->lab, false, err) : 0;

	nat_is_on = nat_is_on && r < 0;
	return r;
}

static int enter_nat(struct bench_run *run, struct err *err)
{
	int r = run->waggle.pid ? waggle_run_stop(run->lab, &run->waggle, err) : 0;

	if (r < 0 || nat_is_on)
		return r;
	nat_is_on = true;
	return sidecar_nat(run->lab, true, err);
}

static int enter_waggle(struct bench_run *run, struct err *err)
{
	int r = nat_off(run, err);

	return r < 0 || run->waggle.pid ? r : sidecar_waggle(run->lab, &run->waggle, err);
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

static int sidecar_up(struct bench_run *run, struct err *err)
{
	struct sidecar *s = new0(struct sidecar);

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	run->group_state = s;
	return sidecar_start(run->lab, s, err);
}

static void sidecar_down(struct bench_run *run)
{
	if (run->group_state)
		sidecar_stop(run->group_state);
	free(run->group_state);
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
	.start = sidecar_up,
	.stop = sidecar_down,
};

static const struct bench_group g_latency = {
	.word = "latency",
	.title = "wrk through a transparent haproxy, p50",
	.unit = "us",
	.less_is_better = true,
	.needs = needs,
	.start = sidecar_up,
	.stop = sidecar_down,
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
