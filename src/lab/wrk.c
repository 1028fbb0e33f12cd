// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/wrk.h"

#include <errno.h>

#include <jansson.h>

#include "lab/prog.h"

#define SCRIPT "wrk.lua"
#define ANSWER "wrk.json"
/* wrk waits for what is under way, and for its own timeout. */
#define GRACE_MS 15000

/* latency is in microseconds, and so is duration. */
static const char script_done[] =
	"function done(summary, latency, requests)\n"
	"	local f = assert(io.open(os.getenv('WRK_ANSWER'), 'w'))\n"
	"	local e = summary.errors\n"
	"	f:write(string.format('{\"us\": %d, \"requests\": %d, \"bytes\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, ' ..\n"
	"		'\"connect\": %d, \"read\": %d, \"write\": %d, \"timeout\": %d, \"status\": %d}',\n"
	"		summary.duration, summary.requests, summary.bytes, latency:percentile(50), latency:percentile(99),\n"
	"		e.connect, e.read, e.write, e.timeout, e.status))\n"
	"	f:close()\n"
	"end\n";

/* wrk tries each address by a connection of its own, unless its resolve() is replaced. */
static const char script_answers[] = "local left = %u\n"
				     "function wrk.resolve(host, service)\n"
				     "	wrk.addrs = wrk.lookup(host, service)\n"
				     "end\n"
				     "function response()\n"
				     "	left = left - 1\n"
				     "	if left == 0 then wrk.thread:stop() end\n"
				     "end\n";

static int write_script(const struct lab *lab, unsigned int answers, struct err *err)
{
	char text[sizeof(script_done) + sizeof(script_answers) + 16];
	int n = snprintf(text, sizeof(text), "%s", script_done);

	if (answers)
		(void)snprintf(text + n, sizeof(text) - (size_t)n, script_answers, answers);
	return lab_write(lab, SCRIPT, text, err);
}

static int read_answer(const char *path, struct wrk_result *ret, struct err *err)
{
	json_int_t us, requests, connect, read, write, timeout, status;
	json_error_t why;
	json_t *root = json_load_file(path, 0, &why);
	double bytes;
	int r;

	if (!root)
		return err_set(err, -EIO, "wrk left no result: %s", why.text);
	r = json_unpack_ex(root, &why, 0, "{s:I, s:I, s:F, s:F, s:F, s:I, s:I, s:I, s:I, s:I}", "us", &us, "requests",
			   &requests, "bytes", &bytes, "p50_us", &ret->p50_us, "p99_us", &ret->p99_us, "connect",
			   &connect, "read", &read, "write", &write, "timeout", &timeout, "status", &status);
	json_decref(root);
	if (r < 0)
		return err_set(err, -EIO, "wrk's result is not what it should be: %s", why.text);
	ret->seconds = (double)us / 1e6;
	ret->requests = (uint64_t)requests;
	ret->bytes = (uint64_t)bytes;
	ret->connect_errors = (uint64_t)connect;
	ret->read_errors = (uint64_t)read;
	ret->write_errors = (uint64_t)write;
	ret->timeouts = (uint64_t)timeout;
	ret->bad_status = (uint64_t)status;
	return 0;
}

int wrk_run(const struct lab *lab, const struct wrk_spec *spec, struct wrk_result *ret, struct err *err)
{
	char connections[24], threads[24], seconds[24], script[PATH_MAX], answer[PATH_MAX], env[PATH_MAX + 16];
	char log[PATH_MAX];
	const char *const argv[] = { "wrk",	  "-c",	 connections, "-t",   threads,	 "-d", seconds,
				     "--timeout", "10s", "-s",	      script, spec->url, NULL };
	const char *const envs[] = { env, NULL };
	struct prog_spec how = {
		.argv = argv,
		.env = envs,
		.netns_fd = lab_netns(lab, spec->host),
		.cgroup_fd = lab->programs_fd,
		.log = log,
	};
	struct wrk_result result = {};
	int r;

	(void)snprintf(connections, sizeof(connections), "%u", spec->connections);
	(void)snprintf(threads, sizeof(threads), "%u", spec->threads);
	(void)snprintf(seconds, sizeof(seconds), "%us", spec->seconds);
	(void)snprintf(script, sizeof(script), "%s/" SCRIPT, lab->dir);
	(void)snprintf(answer, sizeof(answer), "%s/" ANSWER, lab->dir);
	(void)snprintf(env, sizeof(env), "WRK_ANSWER=%s/" ANSWER, lab->dir);
	(void)snprintf(log, sizeof(log), "%s/wrk.log", lab->dir);
	r = write_script(lab, spec->answers, err);
	if (r < 0)
		return r;
	(void)unlink(answer);
	r = prog_run(&how, (int)spec->seconds * 1000 + GRACE_MS, err);
	if (r == -EIO) {
		char last[256];

		lab_last_line(lab, "wrk.log", last, sizeof(last));
		return err_set(err, r, "wrk failed: it says: %s", last);
	}
	if (r >= 0)
		r = read_answer(answer, &result, err);
	if (r >= 0)
		*ret = result;
	return r;
}

uint64_t wrk_errors(const struct wrk_result *result)
{
	return result->connect_errors + result->read_errors + result->write_errors + result->timeouts +
	       result->bad_status;
}
