// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/side.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/util.h"
#include "lab/prog.h"

/* Less than PIPE_BUF, so it comes whole or not at all. */
struct report {
	int r;
	struct pair_result result;
};

static int pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

static int become(const struct pair_end *end, pid_t parent)
{
	sigset_t none;
	int r;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return -ESRCH;
	r = prog_enter(end->netns_fd, end->cgroup_fd);
	return r < 0 ? r : pin(end->cpu);
}

static int child(const struct pair_end *end, pid_t parent, side_fn fn, void *data, int fd)
{
	struct report report = {};

	report.r = become(end, parent);
	if (report.r >= 0)
		report.r = fn(data, &report.result);
	return write(fd, &report, sizeof(report)) == sizeof(report) ? 0 : 1;
}

int side_start(const struct pair_end *end, side_fn fn, void *data, struct side *ret)
{
	_cleanup_close_ int from = -1, to = -1;
	pid_t pid, parent = getpid();
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	from = fds[0];
	to = fds[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(child(end, parent, fn, data, to));
	*ret = (struct side){ pid, TAKE_FD(from) };
	return 0;
}

static int read_report(int fd, int timeout_ms, struct pair_result *ret)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	struct report report;
	int n = poll(&pollfd, 1, timeout_ms);

	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	if (read(fd, &report, sizeof(report)) != sizeof(report))
		return -EPIPE;
	if (report.r >= 0)
		*ret = report.result;
	return report.r;
}

int side_wait(struct side *side, int timeout_ms, struct pair_result *ret)
{
	int r = read_report(side->report_fd, timeout_ms, ret);

	if (r >= 0) {
		(void)waitpid(side->pid, NULL, 0);
		side->pid = 0;
	}
	side_done(side);
	return r;
}

void side_done(struct side *side)
{
	if (side->pid > 0) {
		(void)kill(side->pid, SIGKILL);
		(void)waitpid(side->pid, NULL, 0);
	}
	closep(&side->report_fd);
	*side = (struct side)SIDE_NONE;
}
