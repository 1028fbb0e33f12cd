// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/programs.h"

#include <errno.h>

#include "bench/http.h"
#include "lab/redis.h"
#include "lab/scene.h"

#define HTTP_CONNECTIONS 100
#define REDIS_CLIENTS 50
/* Requests a second that redis is assumed to answer, to make a number of requests out of a time. */
#define REDIS_RATE 80000
#define REDIS_RATE_PIPED 400000

static int http_start(struct bench_run *run, struct err *err)
{
	struct scene *scene;
	int r = http_scene_begin(run, &scene, err);

	return r < 0 ? r : scene_balancer(run->lab, scene, err);
}

static int sample_http(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		       struct err *err)
{
	struct http_result result;
	int r = http_ask(run->lab, row->data, HTTP_CONNECTIONS, run->opts->seconds, &result, err);

	if (r < 0)
		return r;
	ret->value = result.rate;
	return 0;
}

static int redis_start_here(struct bench_run *run, struct err *err)
{
	struct prog *redis = new0(struct prog);

	if (!redis)
		return err_set(err, -ENOMEM, "out of memory");
	run->group_state = redis;
	return redis_start(run->lab, "client", redis, err);
}

static void redis_stop_here(struct bench_run *run)
{
	if (run->group_state)
		(void)prog_stop(run->group_state, REDIS_STOP_MS);
	free(run->group_state);
	run->group_state = NULL;
}

struct redis_kind {
	unsigned int pipeline, rate;
};

static int sample_redis(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
			struct err *err)
{
	const struct redis_kind *kind = row->data;
	const struct redis_load load = {
		.host = "client",
		.by_unix = run->bench->ways[way].by_unix,
		.clients = REDIS_CLIENTS,
		.pipeline = kind->pipeline,
		.requests = (uint64_t)(run->opts->seconds * kind->rate) + 1000,
	};

	return redis_get(run->lab, &load, &ret->value, err);
}

static const char *const http_needs[] = { "nginx", "nginx", "wrk", "wrk", NULL };
static const char *const redis_needs[] = { "redis-server", "redis-server", "redis-benchmark", "redis-tools", NULL };

static const struct bench_group g_http = {
	.word = "http",
	.title = "wrk -c100",
	.unit = "requests/s",
	.needs = http_needs,
	.start = http_start,
	.stop = http_scene_end,
};

static const struct bench_group g_redis = {
	.word = "redis",
	.title = "redis-benchmark GET -c 50",
	.unit = "requests/s",
	.needs = redis_needs,
	.start = redis_start_here,
	.stop = redis_stop_here,
};

static const struct redis_kind single = { 1, REDIS_RATE }, piped = { 16, REDIS_RATE_PIPED };

int programs_rows(struct bench_run *run, unsigned int tcp_ways, unsigned int all_ways, struct err *err)
{
	const struct {
		const struct bench_group *group;
		const char *name, *title;
		double target;
		const void *data;
	} rows[] = {
		{ &g_http, "http-straight", "wrk -c100 straight to nginx", 1.6, "http://" SCENE_HTTP1 ":80/" },
		{ &g_http, "http-keepalive", "wrk -c100 through nginx with keepalive", 1.4,
		  "http://" SCENE_BALANCER ":81/" },
		{ &g_http, "http-1m", "the same, bodies of 1 MiB", 1.5, "http://" SCENE_BALANCER ":81/1m" },
		{ &g_redis, "redis-p1", "redis-benchmark GET -c 50 -P 1", 1.3, &single },
		{ &g_redis, "redis-p16", "redis-benchmark GET -c 50 -P 16", 1.0, &piped },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++) {
		bool redis = rows[i].group == &g_redis;
		struct bench_row row = {
			.group = rows[i].group,
			.title = rows[i].title,
			.ways = redis ? all_ways : tcp_ways,
			.target = BENCH_RATIO_AT_LEAST,
			.target_value = rows[i].target,
			.sample = redis ? sample_redis : sample_http,
			.data = rows[i].data,
		};

		(void)snprintf(row.name, sizeof(row.name), "%s", rows[i].name);
		r = bench_row_add(run, &row, err);
	}
	return r;
}
