// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/waggle.h"

#include <errno.h>
#include <poll.h>

#define LOG "waggle.log"
#define READY_MS 20000
#define STOP_MS 10000

int waggle_point(const struct lab *lab, struct err *err)
{
	char run[PATH_MAX], state[PATH_MAX], bpf[LAB_BPF_DIR_MAX];
	int r;

	r = lab_mkdir(lab, "run", err);
	if (r >= 0)
		r = lab_mkdir(lab, "state", err);
	if (r < 0)
		return r;
	(void)snprintf(run, sizeof(run), "%s/run", lab->dir);
	(void)snprintf(state, sizeof(state), "%s/state", lab->dir);
	lab_bpf_dir(lab, bpf);
	if (setenv("WAGGLE_RUN_DIR", run, 1) < 0 || setenv("WAGGLE_STATE_DIR", state, 1) < 0 ||
	    setenv("WAGGLE_BPF_DIR", bpf, 1) < 0)
		return err_set(err, -errno, "out of memory");
	return 0;
}

/* Reads until the word, the end, or the timeout. */
static int await_ready(int fd, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	char text[256] = "";
	size_t len = 0;

	while (len < sizeof(text) - 1) {
		int n = poll(&pollfd, 1, timeout_ms);
		ssize_t got;

		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		got = read(fd, text + len, sizeof(text) - 1 - len);
		if (got <= 0)
			return got < 0 ? -errno : -EPIPE;
		len += (size_t)got;
		text[len] = '\0';
		if (strstr(text, "ready\n"))
			return 0;
	}
	return -EPROTO;
}

/* argv[1] is the command, for messages. host may be NULL. Returns when it is ready. */
static int start(const struct lab *lab, const char *host, const char *const *argv, struct prog *ret, struct err *err)
{
	char log[PATH_MAX], last[256];
	struct prog_spec spec = {
		.argv = argv,
		.file = "/proc/self/exe",
		.netns_fd = host ? lab_netns(lab, host) : -1,
		.cgroup_fd = lab->waggle_fd,
		.log = log,
		.want_stdout = true,
	};
	struct prog prog = { .out = -1 };
	int r;

	(void)snprintf(log, sizeof(log), "%s/" LOG, lab->dir);
	r = prog_start(&spec, &prog, err);
	if (r < 0)
		return r;
	r = await_ready(prog.out, READY_MS);
	if (r < 0) {
		(void)prog_stop(&prog, STOP_MS);
		lab_last_line(lab, LOG, last, sizeof(last));
		return err_set(err, r, "'waggle %s' does not get ready: it says: %s", argv[1],
			       *last ? last : strerror(-r));
	}
	*ret = prog;
	return 0;
}

int waggle_trust_add(struct waggle_trust *trust, const char *program, struct err *err)
{
	size_t n = 0;

	while (trust->v[n])
		n++;
	if (n == WAGGLE_TRUST_MAX)
		return err_set(err, -E2BIG, "at most %d programs can be trusted", WAGGLE_TRUST_MAX);
	if (prog_find(program, trust->paths[n], sizeof(trust->paths[n])) == 0)
		trust->v[n] = trust->paths[n];
	return 0;
}

int waggle_start(const struct lab *lab, const char *const *trust, struct prog *ret, struct err *err)
{
	const char *argv[4 + 2 * WAGGLE_TRUST_MAX + 1] = { "waggle", "accel", "--cgroup", lab->programs };

	for (size_t i = 0; trust && trust[i]; i++) {
		if (i == WAGGLE_TRUST_MAX)
			return err_set(err, -E2BIG, "at most %d programs can be trusted", WAGGLE_TRUST_MAX);
		argv[4 + 2 * i] = "--trust";
		argv[5 + 2 * i] = trust[i];
	}
	return start(lab, NULL, argv, ret, err);
}

int waggle_run_start_on(const struct lab *lab, const char *host, const char *config, struct prog *ret, struct err *err)
{
	char path[PATH_MAX];
	const char *const argv[] = { "waggle", "run", "-c", path, NULL };
	int r = lab_write(lab, "waggle.yaml", config, err);

	(void)snprintf(path, sizeof(path), "%s/waggle.yaml", lab->dir);
	return r < 0 ? r : start(lab, host, argv, ret, err);
}

int waggle_run_start(const struct lab *lab, const char *config, struct prog *ret, struct err *err)
{
	return waggle_run_start_on(lab, NULL, config, ret, err);
}

/* How it ended must be 0. */
static int stopped(const struct lab *lab, int r, struct err *err)
{
	char last[256];

	if (!r)
		return 0;
	lab_last_line(lab, LOG, last, sizeof(last));
	return err_set(err, r < 0 ? r : -EIO, "waggle ended with %d: it says: %s", r, *last ? last : "nothing");
}

int waggle_stop(const struct lab *lab, struct prog *waggle, struct err *err)
{
	return stopped(lab, prog_stop(waggle, STOP_MS), err);
}

int waggle_run_stop(const struct lab *lab, struct prog *waggle, struct err *err)
{
	const char *const argv[] = { "waggle", "unload", NULL };
	char log[PATH_MAX];
	struct prog_spec spec = {
		.argv = argv,
		.file = "/proc/self/exe",
		.netns_fd = -1,
		.cgroup_fd = lab->waggle_fd,
		.log = log,
	};
	int r;

	(void)snprintf(log, sizeof(log), "%s/" LOG, lab->dir);
	r = prog_run(&spec, STOP_MS, err);
	if (r < 0) {
		(void)prog_stop(waggle, STOP_MS);
		return stopped(lab, r, err);
	}
	return stopped(lab, prog_wait(waggle, STOP_MS), err);
}
