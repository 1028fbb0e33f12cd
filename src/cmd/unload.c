// SPDX-License-Identifier: GPL-2.0-or-later
/* Takes everything out of the kernel: a running waggle is asked to leave, and what a dead one left is swept up. */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "cmd/cmd.h"
#include "ctl/client.h"
#include "daemon/daemon.h"
#include "hook/accel.h"
#include "hook/lb.h"
#include "hook/packet.h"
#include "model/wire.h"
#include "sys/proc.h"

/* Beyond the time that the daemon takes for leaving. */
#define UNLOAD_EXTRA_MS 10000
/* A dead process looks alive in /proc until its parent has taken note of it. */
#define UNLOAD_REAP_MS 1000
#define UNLOAD_PAUSE_MS 50
#define UNLOAD_REAP_PAUSE_US 5000

struct unload_args {
	bool now;
};

static const struct opt unload_opts[] = {
	{ "now", OPT_FLAG, NULL, "do not wait for readers to read what is queued", offsetof(struct unload_args, now), 0,
	  0 },
	{ 0 },
};

/* The process is watched by a descriptor, so that its pid may be used again; without one, by its socket. */
static bool unload_is_gone(int pidfd, pid_t pid)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	struct err err;
	pid_t now;

	if (pidfd >= 0)
		return poll(&p, 1, UNLOAD_PAUSE_MS) == 1;
	(void)usleep(UNLOAD_PAUSE_MS * 1000);
	return ctl_pid(&now, &err) == -ESRCH || now != pid;
}

/* What the daemon says is still joined while it leaves; 0 if it says nothing any more. */
static size_t unload_left(void)
{
	json_t *status = NULL;
	json_int_t left = 0;
	struct err err;

	if (ctl_call("/v1/status", NULL, &status, &err) >= 0)
		(void)json_unpack(status, "{s:{s:I}}", "leaving", "left", &left);
	json_decref(status);
	return (size_t)left;
}

static int unload_wait(int pidfd, pid_t pid)
{
	uint64_t until = clock_ms() + DAEMON_LEAVE_MS + UNLOAD_EXTRA_MS;

	while (!unload_is_gone(pidfd, pid)) {
		if (clock_ms() < until)
			continue;
		return cmd_fail(EXIT_FAILED,
				"unload: waggle (pid %d) was asked to leave and is still there with %zu joined sockets: "
				"try 'waggle unload --now'",
				pid, unload_left());
	}
	until = clock_ms() + UNLOAD_REAP_MS;
	while (proc_start_time(pid) && clock_ms() < until)
		(void)usleep(UNLOAD_REAP_PAUSE_US);
	return EXIT_DONE;
}

/* What balances stays when its process ends, until it is taken out here. 1: there was something. */
static int unload_balancing(struct err *err)
{
	_cleanup_free_ char *kept = NULL;
	int r;

	if (access(lb_pin_dir(), F_OK) < 0 && errno == ENOENT)
		return 0;
	packet_unload();
	r = lb_unpin(err);
	if (r >= 0 && asprintf(&kept, "%s/" DAEMON_KEEP_FILE, wire_run_dir()) >= 0)
		(void)unlink(kept);
	return r < 0 ? r : 1;
}

static int unload_sweep(bool was_running, pid_t pid)
{
	struct err err = {};
	size_t left = 0;
	int balanced = unload_balancing(&err), r;

	if (balanced < 0 && !(was_running && (balanced == -EPERM || balanced == -EACCES)))
		return cmd_fail(EXIT_FAILED, "unload: %s", err.text);
	if (!was_running && balanced > 0)
		printf("took the balancing out of the kernel that a waggle before had left\n");
	r = accel_sweep(&left, &err);
	/* A member of the group may ask, but not look: then the daemon's word has to do. */
	if (r == -EPERM && was_running)
		r = 0;
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "unload: %s", err.text[0] ? err.text : strerror(-r));
	if (left)
		return cmd_fail(EXIT_FAILED,
				"unload: %zu sockets could not leave yet, for their readers sleep or have not read what "
				"is queued: they work on, by TCP; run 'waggle unload' again later",
				left);
	if (was_running)
		printf("waggle (pid %d) has left the kernel\n", pid);
	if (!was_running && r)
		printf("swept up what %d dead waggle%s had left\n", r, r == 1 ? "" : "s");
	if (!was_running && !r && !balanced)
		printf("nothing to unload: no waggle is running, and none has left anything\n");
	return EXIT_DONE;
}

static int unload_run(const struct unload_args *args)
{
	_cleanup_close_ int pidfd = -1;
	json_t *body, *reply = NULL;
	struct err err = {};
	pid_t pid = 0;
	int r = ctl_pid(&pid, &err);

	if (r == -ESRCH)
		return unload_sweep(false, 0);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "unload: %s", err.text);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	body = json_pack("{s:b}", "now", args->now);
	r = ctl_call("/v1/unload", body, &reply, &err);
	json_decref(body);
	json_decref(reply);
	/* It may have ended by itself meanwhile, which is what was wanted. */
	if (r < 0 && r != -ESRCH && r != -EIO)
		return cmd_fail(EXIT_FAILED, "unload: %s", err.text);
	r = unload_wait(pidfd, pid);
	return r ? r : unload_sweep(true, pid);
}

static int unload_fn(int argc, char **argv)
{
	struct unload_args args = {};
	int first, r = opt_parse(&cmd_unload, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : unload_run(&args);
}

const struct cmd cmd_unload = {
	.name = "unload",
	.args = "",
	.help = "take everything out of the kernel, without losing a byte",
	.opts = unload_opts,
	.fn = unload_fn,
};
