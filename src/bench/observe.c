// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What it costs to be watched. One waggle joins the same sockets, unwatched; then with everything that asks it each second:
 * a scrape of /metrics, the status page, and top on a terminal; and then with trace as well, which is told of every connection.
 * The watchers run on the machine that is measured, so what they themselves need counts. A percent or two is far below what
 * rates of a shared machine can tell. So waggle and the servers stay up while the ways take turns, and it is the processor time
 * of all that the lab runs, watchers too, for a request that decides, by many short rounds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/http.h"
#include "bench/pair.h"
#include "bench/side.h"
#include "lab/cpu.h"
#include "lab/scene.h"
#include "lab/waggle.h"

#define PORT 9469
#define ASK_S 15 /* an answer that takes longer has failed */
#define STOP_MS 5000
#define REQUEST_BYTES 64
#define HTTP_CONNECTIONS 100

#define SETTLE_MS 700 /* those that watch have started, and have asked once */

static struct {
	size_t way;	  /* of what runs */
	struct side asks; /* /metrics and the status page */
	struct prog top, trace;
} watch = { .asks = SIDE_NONE, .top.out = -1, .trace.out = -1 };

/* Reads all of an answer; whether it is one is told by its first line. */
static int ask(const char *path)
{
	const struct sockaddr_in to = { .sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
					.sin_port = htons(PORT) };
	const struct timeval limit = { .tv_sec = ASK_S };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[16384], first[13] = "";
	size_t have = 0;
	ssize_t n;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path);
	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		return -EIO;
	while ((n = recv(fd, text, sizeof(text), 0)) > 0)
		for (ssize_t i = 0; i < n && have < sizeof(first) - 1; i++)
			first[have++] = text[i];
	if (n < 0)
		return -errno;
	return streq(first, "HTTP/1.1 200") ? 0 : -EPROTO;
}

/* Ends only if something could not be had. */
static int ask_each_second(void *data, struct pair_result *ret)
{
	static const char *const paths[] = { "/metrics",     "/",	    "/v1/status",
					     "/v1/services", "/v1/history", "/v1/events/recent",
					     "/v1/changes" };
	const struct timespec second = { .tv_sec = 1 };
	int r = 0;

	while (r >= 0) {
		for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(paths); i++)
			r = ask(paths[i]);
		(void)nanosleep(&second, NULL);
	}
	return r;
}

static int start_trace(struct bench_run *run, struct err *err)
{
	static const char *const argv[] = { "waggle", "trace", "--json", NULL };
	const struct prog_spec spec = {
		.argv = argv,
		.file = "/proc/self/exe",
		.netns_fd = -1,
		.cgroup_fd = run->lab->waggle_fd,
	};

	return prog_start(&spec, &watch.trace, err);
}

/* On a terminal of its own, which script(1) reads. */
static int start_top(struct bench_run *run, struct err *err)
{
	char self[4096], command[4200];
	const char *const argv[] = { "script", "-q", "-f", "-c", command, "/dev/null", NULL };
	static const char *const env[] = { "TERM=xterm", NULL };
	const struct prog_spec spec = {
		.argv = argv,
		.env = env,
		.netns_fd = -1,
		.cgroup_fd = run->lab->waggle_fd,
	};
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len <= 0)
		return err_set(err, -errno, "cannot read /proc/self/exe: %s", strerror(errno));
	self[len] = '\0';
	(void)snprintf(command, sizeof(command), "exec '%s' top --view pairs", self);
	return prog_start(&spec, &watch.top, err);
}

static int watch_start(struct bench_run *run, struct err *err)
{
	const struct pair_end end = { lab_netns(run->lab, "client"), run->lab->waggle_fd, -1 };
	int r = side_start(&end, ask_each_second, NULL, &watch.asks);

	if (r < 0)
		return err_set(err, r, "cannot start what asks for metrics: %s", strerror(-r));
	r = start_top(run, err);
	return r < 0 || run->way != OBSERVE_ALL ? r : start_trace(run, err);
}

/* All of them must have watched to the end. */
static int watch_stop(struct err *err)
{
	struct pair_result nothing;
	bool top = prog_runs(&watch.top) || !watch.top.pid, trace = prog_runs(&watch.trace) || !watch.trace.pid;
	int r = watch.asks.pid ? side_wait(&watch.asks, 0, &nothing) : -ETIMEDOUT;

	(void)prog_stop(&watch.top, STOP_MS);
	(void)prog_stop(&watch.trace, STOP_MS);
	if (r != -ETIMEDOUT)
		return err_set(err, r < 0 ? r : -EIO, "/metrics or the status page did not answer: %s", strerror(-r));
	return top && trace ? 0 : err_set(err, -EIO, "'waggle %s' ended while it watched", top ? "trace" : "top");
}

static int start_waggle(struct bench_run *run, struct err *err)
{
	static const char metrics[] = "metrics: { listen: 127.0.0.1:9469 }\n";
	struct waggle_trust trust = {};
	const struct scene_waggle how = {
		.balance = true,
		.join = true,
		.trust = trust.v,
		.host = "client",
		.more = metrics,
	};
	char self[4096];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int r;

	if (len <= 0)
		return err_set(err, -errno, "cannot read /proc/self/exe: %s", strerror(errno));
	self[len] = '\0';
	r = waggle_trust_add(&trust, self, err);
	if (r >= 0)
		r = waggle_trust_add(&trust, "nginx", err);
	if (r >= 0)
		r = waggle_trust_add(&trust, "wrk", err);
	if (r >= 0)
		r = scene_waggle(run->lab, &how, &run->waggle, err);
	return r;
}

static int enter(struct bench_run *run, struct err *err)
{
	const struct timespec settle = { .tv_nsec = SETTLE_MS * 1000000L };
	int r = run->waggle.pid ? 0 : start_waggle(run, err);

	if (r < 0 || watch.way == run->way)
		return r;
	if (watch.way != OBSERVE_NONE)
		r = watch_stop(err);
	watch.way = OBSERVE_NONE;
	if (r < 0 || run->way == OBSERVE_NONE)
		return r;
	watch.way = run->way;
	r = watch_start(run, err);
	(void)nanosleep(&settle, NULL);
	return r;
}

const struct bench_way observe_ways[OBSERVE_WAYS] = {
	[OBSERVE_NONE] = { "unwatched", "unwatched", false, enter },
	[OBSERVE_POLLED] = { "polled", "metrics, status page and top", false, enter },
	[OBSERVE_ALL] = { "watched", "these, and trace", false, enter },
};

static struct scene scene;
static bool scene_is_up;

void observe_done(struct bench_run *run)
{
	if (watch.way != OBSERVE_NONE)
		(void)watch_stop(NULL);
	watch.way = OBSERVE_NONE;
	if (scene_is_up)
		scene_stop(&scene);
	scene_is_up = false;
	if (run->waggle.pid)
		(void)waggle_run_stop(run->lab, &run->waggle, NULL);
}

/* For all rounds: servers that are started anew are a percent faster or slower than before. */
static int scene_up(struct bench_run *run, struct err *err)
{
	int r = scene_is_up ? 0 : scene_start(run->lab, &scene, err);

	scene_is_up |= r >= 0;
	return r;
}

static struct bench_sample sample_of(double rate, uint64_t answers, const struct cpu_lab *before,
				     const struct cpu_lab *after)
{
	double all_us = (double)(after->all_us - before->all_us), own_us = (double)(after->own_us - before->own_us);

	return (struct bench_sample){ rate, all_us / (double)answers, all_us > 0 ? own_us / all_us : 0 };
}

static int sample_http(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		       struct err *err)
{
	struct http_result result;
	struct cpu_lab before, after;
	int r = cpu_read_lab(run->lab, &before, err);

	if (r >= 0)
		r = http_ask(run->lab, SCENE_SERVED "/", HTTP_CONNECTIONS, run->opts->seconds, &result, err);
	if (r >= 0)
		r = cpu_read_lab(run->lab, &after, err);
	if (r < 0)
		return r;
	*ret = sample_of(result.rate, result.wrk.requests, &before, &after);
	return 0;
}

static int sample_connections(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
			      struct err *err)
{
	const struct pair_end end = { lab_netns(run->lab, "client"), run->lab->programs_fd, -1 };
	const struct pair_spec spec = {
		.load = PAIR_CONNECT,
		.addr = "127.0.0.1",
		.bytes = REQUEST_BYTES,
		.nodelay = true,
		.seconds = run->opts->seconds,
		.client = end,
		.server = end,
	};
	struct pair_result result;
	struct cpu_lab before, after;
	int r = cpu_read_lab(run->lab, &before, err);

	if (r >= 0)
		r = pair_run(&spec, &result, err);
	if (r >= 0)
		r = cpu_read_lab(run->lab, &after, err);
	if (r < 0)
		return r;
	if (!(result.seconds > 0) || !result.all)
		return err_set(err, -ENODATA, "nothing arrived within %g s: give more by --seconds", spec.seconds);
	*ret = sample_of((double)result.count / result.seconds, result.all, &before, &after);
	return 0;
}

static const char *const http_needs[] = { "nginx", "nginx", "wrk", "wrk", "script", "bsdutils", NULL };
static const char *const needs[] = { "script", "bsdutils", NULL };

static const struct bench_group g_http = { .word = "http",
					   .title = "wrk -c100 to a service, joined",
					   .unit = "requests/s",
					   .needs = http_needs,
					   .start = scene_up },
				g_connections = { .word = "connections",
						  .title = "connect, request, close, one at a time",
						  .unit = "connections/s",
						  .needs = needs };

int observe_rows(struct bench_run *run, struct err *err)
{
	struct bench_row rows[] = {
		{ .group = &g_http, .sample = sample_http },
		{ .group = &g_connections, .sample = sample_connections },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++) {
		rows[i].title = rows[i].group->title;
		rows[i].ways = (1U << OBSERVE_WAYS) - 1;
		rows[i].target = BENCH_CPU_AT_LEAST;
		rows[i].target_value = 0.98;
		(void)snprintf(rows[i].name, sizeof(rows[i].name), "%s", rows[i].group->word);
		r = bench_row_add(run, &rows[i], err);
	}
	return r;
}
