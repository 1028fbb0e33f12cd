// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/prog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KILL_MS 2000

int prog_find(const char *name, char *ret, size_t size)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *dirs = NULL;
	char *rest, *dir;

	if (strchr(name, '/')) {
		(void)snprintf(ret, size, "%s", name);
		return access(ret, X_OK) < 0 ? -ENOENT : 0;
	}
	/* nginx and ip live in sbin, which an ordinary user's PATH lacks, and with it what 'su' gives. */
	if (asprintf(&dirs, "%s:/usr/sbin:/sbin:/usr/bin:/bin", path ? path : "") < 0)
		return -ENOMEM;
	rest = dirs;
	while ((dir = strsep(&rest, ":"))) {
		int n = snprintf(ret, size, "%s/%s", dir, name);

		if (*dir && n > 0 && (size_t)n < size && access(ret, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

static int open_log(const char *log)
{
	return log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) :
		     open("/dev/null", O_WRONLY | O_CLOEXEC);
}

static void child_signals(void)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
}

int prog_enter(int netns_fd, int cgroup_fd)
{
	if (cgroup_fd >= 0) {
		_cleanup_close_ int fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, "0", 1) < 0)
			return -errno;
	}
	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	return 0;
}

/* The child: returns only if something failed. */
static int child_exec(const struct prog_spec *spec, const char *file, pid_t parent, int in_fd, int out_fd)
{
	_cleanup_close_ int log_fd = -1;
	int r;

	/* The parent may have ended before the signal was asked for. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		return -ESRCH;
	r = prog_enter(spec->netns_fd, spec->cgroup_fd);
	if (r < 0)
		return r;
	log_fd = open_log(spec->log);
	if (log_fd < 0)
		return -errno;
	if (dup2(in_fd, STDIN_FILENO) < 0 || dup2(out_fd >= 0 ? out_fd : log_fd, STDOUT_FILENO) < 0 ||
	    dup2(log_fd, STDERR_FILENO) < 0)
		return -errno;
	for (size_t i = 0; spec->env && spec->env[i]; i++)
		(void)putenv((char *)spec->env[i]);
	child_signals();
	(void)execv(file, (char *const *)spec->argv);
	return -errno;
}

/* A pipe whose writing end holds the text already. */
static int input_fd(const char *text)
{
	_cleanup_close_ int read_fd = -1, write_fd = -1;
	int fds[2];
	ssize_t n;

	if (!text) {
		read_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return read_fd < 0 ? -errno : TAKE_FD(read_fd);
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	read_fd = fds[0];
	write_fd = fds[1];
	if (fcntl(write_fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	n = write(write_fd, text, strlen(text));
	if (n < 0)
		return -errno;
	return (size_t)n < strlen(text) ? -EMSGSIZE : TAKE_FD(read_fd);
}

/* What the child could not do comes through a pipe that exec closes. */
static int await_exec(pid_t pid, int report_fd)
{
	int r = 0;
	ssize_t n;

	do
		n = read(report_fd, &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	(void)waitpid(pid, NULL, 0);
	return n == sizeof(r) ? r : -EIO;
}

static int spawn(const struct prog_spec *spec, const char *file, int in_fd, int out_fd, pid_t *ret)
{
	_cleanup_close_ int report_read = -1, report_write = -1;
	pid_t pid, parent = getpid();
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	report_read = fds[0];
	report_write = fds[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		r = child_exec(spec, file, parent, in_fd, out_fd);
		_exit(write(report_write, &r, sizeof(r)) == sizeof(r) ? 127 : 126);
	}
	closep(&report_write);
	report_write = -1;
	r = await_exec(pid, report_read);
	if (r < 0)
		return r;
	*ret = pid;
	return 0;
}

int prog_start(const struct prog_spec *spec, struct prog *ret, struct err *err)
{
	_cleanup_close_ int in_fd = -1, out_read = -1, out_write = -1;
	const char *name = spec->argv[0];
	struct prog prog = { .out = -1 };
	char file[4096];
	int fds[2], r;

	if (prog_find(spec->file ? spec->file : name, file, sizeof(file)) < 0)
		return err_set(err, -ENOENT, "there is no program '%s'", name);
	in_fd = input_fd(spec->input);
	if (in_fd < 0)
		return err_set(err, in_fd, "cannot start '%s': %s", name, strerror(-in_fd));
	if (spec->want_stdout) {
		if (pipe2(fds, O_CLOEXEC) < 0)
			return err_set(err, -errno, "cannot start '%s': %s", name, strerror(errno));
		out_read = fds[0];
		out_write = fds[1];
	}
	r = spawn(spec, file, in_fd, out_write, &prog.pid);
	if (r < 0)
		return err_set(err, r, "cannot start '%s': %s", name, strerror(-r));
	prog.out = TAKE_FD(out_read);
	*ret = prog;
	return 0;
}

static int exit_code(const siginfo_t *info)
{
	return info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;
}

bool prog_runs(const struct prog *prog)
{
	siginfo_t info = {};

	return prog->pid && waitid(P_PID, (id_t)prog->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid;
}

int prog_wait(struct prog *prog, int timeout_ms)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, prog->pid, 0);
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	siginfo_t info = {};
	int n;

	if (fd < 0)
		return -errno;
	n = poll(&pollfd, 1, timeout_ms);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIMEDOUT;
	if (waitid(P_PID, (id_t)prog->pid, &info, WEXITED) < 0)
		return -errno;
	closep(&prog->out);
	*prog = (struct prog){ .out = -1 };
	return exit_code(&info);
}

int prog_stop(struct prog *prog, int timeout_ms)
{
	int r;

	if (!prog->pid)
		return 0;
	(void)kill(prog->pid, SIGTERM);
	r = prog_wait(prog, timeout_ms);
	if (r != -ETIMEDOUT)
		return r;
	(void)kill(prog->pid, SIGKILL);
	return prog_wait(prog, KILL_MS);
}

int prog_run(const struct prog_spec *spec, int timeout_ms, struct err *err)
{
	struct prog prog = { .out = -1 };
	int r = prog_start(spec, &prog, err);

	if (r < 0)
		return r;
	r = prog_wait(&prog, timeout_ms);
	if (r == -ETIMEDOUT) {
		(void)prog_stop(&prog, 0);
		return err_set(err, -ETIMEDOUT, "'%s' did not end within %d ms", spec->argv[0], timeout_ms);
	}
	if (r < 0)
		return err_set(err, r, "cannot wait for '%s': %s", spec->argv[0], strerror(-r));
	return r ? err_set(err, -EIO, "'%s' failed with exit code %d", spec->argv[0], r) : 0;
}
