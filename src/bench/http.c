// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/http.h"

#include <errno.h>
#include <inttypes.h>

#include "bench/bench.h"

#define SECONDS_MAX 16

int http_load(const struct lab *lab, const struct wrk_spec *spec, struct http_result *ret, struct err *err)
{
	struct cpu_time before = {}, after = {};
	struct http_result got = {};
	double busy_us;
	int r = cpu_read(&before, err);

	if (r >= 0)
		r = wrk_run(lab, spec, &got.wrk, err);
	if (r >= 0)
		r = cpu_read(&after, err);
	if (r < 0)
		return r;
	busy_us = (double)(after.busy_us - before.busy_us);
	if (after.total_us > before.total_us)
		got.cpu_busy_percent = 100 * busy_us / (double)(after.total_us - before.total_us);
	if (got.wrk.requests) {
		got.rate = (double)got.wrk.requests / got.wrk.seconds;
		got.cpu_us = busy_us / (double)got.wrk.requests;
	}
	*ret = got;
	return 0;
}

int http_ask(const struct lab *lab, const char *url, unsigned int connections, double seconds, struct http_result *ret,
	     struct err *err)
{
	struct wrk_spec spec = {
		.host = "client",
		.url = url,
		.connections = connections,
		.threads = 1,
		/* wrk knows whole seconds. */
		.seconds = (unsigned int)(seconds + 0.999),
	};
	struct http_result got;
	int r;

	/* All connections get their large bodies at once: on a busy machine none may be whole in so short a time. */
	for (;; spec.seconds *= 2) {
		r = http_load(lab, &spec, &got, err);
		if (r < 0)
			return r;
		if (got.wrk.requests || wrk_errors(&got.wrk) || spec.seconds >= SECONDS_MAX)
			break;
	}
	if (!got.wrk.requests || wrk_errors(&got.wrk))
		return err_set(err, -EIO, "wrk got %" PRIu64 " answers and met %" PRIu64 " errors", got.wrk.requests,
			       wrk_errors(&got.wrk));
	*ret = got;
	return 0;
}

int http_scene_begin(struct bench_run *run, struct scene **ret, struct err *err)
{
	struct scene *scene = new0(struct scene);

	if (!scene)
		return err_set(err, -ENOMEM, "out of memory");
	/* At once: what a failed start has left is http_scene_end()'s too. */
	run->group_state = *ret = scene;
	return scene_start(run->lab, scene, err);
}

void http_scene_end(struct bench_run *run)
{
	if (run->group_state)
		scene_stop(run->group_state);
	free(run->group_state);
	run->group_state = NULL;
}
