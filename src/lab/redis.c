// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/redis.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#define PORT "6379"
#define SOCKET "redis.sock"
#define LOG "redis.log"
#define ANSWER "redis.csv"
#define START_MS 10000
#define STEP_MS 10
#define GRACE_MS 60000

/* With stdout in the answer's file. */
static int run_benchmark(const struct lab *lab, const char *host, const char *const *argv, struct err *err)
{
	char answer[PATH_MAX], last[256];
	struct prog_spec spec = {
		.argv = argv,
		.netns_fd = lab_netns(lab, host),
		.cgroup_fd = lab->programs_fd,
		.log = answer,
	};
	int r;

	(void)snprintf(answer, sizeof(answer), "%s/" ANSWER, lab->dir);
	(void)unlink(answer);
	r = prog_run(&spec, GRACE_MS, err);
	if (r != -EIO)
		return r;
	lab_last_line(lab, ANSWER, last, sizeof(last));
	return err_set(err, r, "redis-benchmark failed: it says: %s", last);
}

/* It makes its socket as the last thing before it serves. */
static int await_socket(const struct lab *lab, struct prog *prog, struct err *err)
{
	struct timespec step = { .tv_nsec = STEP_MS * 1000000L };
	char path[PATH_MAX], last[256];

	(void)snprintf(path, sizeof(path), "%s/" SOCKET, lab->dir);
	for (int waited = 0; waited < START_MS && prog_runs(prog); waited += STEP_MS) {
		if (access(path, F_OK) == 0)
			return 0;
		(void)nanosleep(&step, NULL);
	}
	(void)prog_stop(prog, REDIS_STOP_MS);
	lab_last_line(lab, LOG, last, sizeof(last));
	return err_set(err, -EIO, "redis does not come up: it says: %s", *last ? last : "nothing");
}

int redis_start(const struct lab *lab, const char *host, struct prog *ret, struct err *err)
{
	char path[PATH_MAX], log[PATH_MAX];
	const char *const argv[] = { "redis-server", "--port",	     PORT,     "--bind", "0.0.0.0", "--protected-mode",
				     "no",	     "--unixsocket", path,     "--save", "",	    "--appendonly",
				     "no",	     "--dir",	     lab->dir, NULL };
	const char *const fill[] = { "redis-benchmark", "-s", path, "-t", "set", "-c", "1", "-n", "1", "--csv", NULL };
	struct prog_spec spec = {
		.argv = argv,
		.netns_fd = lab_netns(lab, host),
		.cgroup_fd = lab->programs_fd,
		.log = log,
	};
	int r;

	(void)snprintf(path, sizeof(path), "%s/" SOCKET, lab->dir);
	(void)snprintf(log, sizeof(log), "%s/" LOG, lab->dir);
	/* One that was killed has left its own. */
	(void)unlink(path);
	r = prog_start(&spec, ret, err);
	if (r >= 0)
		r = await_socket(lab, ret, err);
	return r < 0 ? r : run_benchmark(lab, host, fill, err);
}

/* "GET","123456.78",... */
static int read_rate(const struct lab *lab, double *ret, struct err *err)
{
	char line[256];
	double rate;

	lab_last_line(lab, ANSWER, line, sizeof(line));
	if (sscanf(line, "\"GET\",\"%lf\"", &rate) != 1 || !(rate > 0))
		return err_set(err, -EIO, "redis-benchmark's result is not what it should be: %s", line);
	*ret = rate;
	return 0;
}

int redis_get(const struct lab *lab, const struct redis_load *load, double *ret, struct err *err)
{
	char path[PATH_MAX], clients[16], pipeline[16], requests[24];
	const char *const by_tcp[] = { "redis-benchmark",
				       "-h",
				       load->at ? load->at : "127.0.0.1",
				       "-p",
				       PORT,
				       "-t",
				       "get",
				       "-c",
				       clients,
				       "-P",
				       pipeline,
				       "-n",
				       requests,
				       "--csv",
				       NULL };
	const char *const by_unix[] = { "redis-benchmark", "-s", path,	   "-t",    "get", "-c", clients, "-P",
					pipeline,	   "-n", requests, "--csv", NULL };
	int r;

	(void)snprintf(path, sizeof(path), "%s/" SOCKET, lab->dir);
	(void)snprintf(clients, sizeof(clients), "%u", load->clients);
	(void)snprintf(pipeline, sizeof(pipeline), "%u", load->pipeline);
	(void)snprintf(requests, sizeof(requests), "%" PRIu64, load->requests);
	r = run_benchmark(lab, load->host, load->by_unix ? by_unix : by_tcp, err);
	return r < 0 ? r : read_rate(lab, ret, err);
}
