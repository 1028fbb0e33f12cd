// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RUN_DIR "/run"
#define BPF_DIR "/sys/fs/bpf"

int lab_netns(const struct lab *lab, const char *host)
{
	for (size_t i = 0; i < lab->n_hosts; i++)
		if (streq(lab->hosts[i].name, host))
			return lab->netns_fd[i];
	return -1;
}

int lab_write(const struct lab *lab, const char *name, const char *text, struct err *err)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", lab->dir, name);
	f = fopen(path, "we");
	if (!f || fputs(text, f) < 0 || fflush(f) < 0)
		return err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}

int lab_mkdir(const struct lab *lab, const char *name, struct err *err)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", lab->dir, name);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make the directory '%s': %s", path, strerror(errno));
	return 0;
}

void lab_last_line(const struct lab *lab, const char *name, char *ret, size_t size)
{
	_cleanup_fclose_ FILE *f = NULL;
	_cleanup_free_ char *line = NULL;
	char path[PATH_MAX];
	size_t room = 0;

	*ret = '\0';
	(void)snprintf(path, sizeof(path), "%s/%s", lab->dir, name);
	f = fopen(path, "re");
	while (f && getline(&line, &room, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (*line)
			(void)snprintf(ret, size, "%s", line);
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

void lab_bpf_dir(const struct lab *lab, char ret[static LAB_BPF_DIR_MAX])
{
	(void)snprintf(ret, LAB_BPF_DIR_MAX, BPF_DIR "/%s", lab->name);
}

static int remove_dir(const char *dir, struct err *err)
{
	if (access(dir, F_OK) < 0)
		return 0;
	if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0)
		return err_set(err, -EIO, "cannot remove '%s': %s", dir, strerror(errno));
	return 0;
}

/* Everything but the lock. Goes on after a failure, and reports the first. */
static int lab_clear(struct lab *lab, struct err *err)
{
	char bpf[LAB_BPF_DIR_MAX];
	struct err later = {};
	int r, first;

	first = lab_group_clear(lab, err);
	for (size_t i = 0; i < lab->n_hosts; i++) {
		closep(&lab->netns_fd[i]);
		lab->netns_fd[i] = -1;
	}
	/* ip's own complaints go to a file of the directory, which a dead run may have lacked. */
	r = lab_mkdir(lab, "", &later);
	if (r >= 0)
		r = lab_net_remove(lab, first < 0 ? &later : err);
	if (r < 0 && first >= 0)
		first = r;
	lab_bpf_dir(lab, bpf);
	r = remove_dir(bpf, first < 0 ? &later : err);
	if (r < 0 && first >= 0)
		first = r;
	r = remove_dir(lab->dir, first < 0 ? &later : err);
	return first < 0 ? first : r;
}

static int lab_create(struct lab *lab, struct err *err)
{
	int r;

	r = lab_mkdir(lab, "", err);
	if (r >= 0)
		r = lab_group_create(lab, err);
	if (r >= 0)
		r = lab_net_create(lab, err);
	return r;
}

static void stop_signals(sigset_t *ret)
{
	(void)sigemptyset(ret);
	(void)sigaddset(ret, SIGINT);
	(void)sigaddset(ret, SIGTERM);
	(void)sigaddset(ret, SIGHUP);
	(void)sigaddset(ret, SIGQUIT);
}

static void child_run(struct lab *lab, lab_fn fn, void *data, const sigset_t *was, pid_t parent)
{
	/* The lock is its parent's alone: so it is free as soon as nobody is left who could clean up. */
	(void)close(TAKE_FD(lab->lock_fd));
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	(void)sigprocmask(SIG_SETMASK, was, NULL);
	exit(fn(lab, data));
}

/* Waits for the child, or for a signal that ends it. */
static int child_wait(pid_t pid, const sigset_t *stop, struct err *err)
{
	sigset_t set = *stop;
	int status = 0, sig;

	(void)sigaddset(&set, SIGCHLD);
	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid)
			break;
		if (got < 0)
			return err_set(err, -errno, "cannot wait for the run: %s", strerror(errno));
		sig = sigwaitinfo(&set, NULL);
		if (sig < 0 || sig == SIGCHLD)
			continue;
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return err_set(err, -EINTR, "stopped by signal %d (%s)", sig, strsignal(sig));
	}
	if (WIFSIGNALED(status) && sigismember(stop, WTERMSIG(status)))
		return err_set(err, -EINTR, "stopped by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (WIFSIGNALED(status))
		return err_set(err, -EIO, "the run was ended by signal %d (%s)", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	return WEXITSTATUS(status);
}

static int lab_supervise(struct lab *lab, lab_fn fn, void *data, const sigset_t *stop, const sigset_t *was,
			 struct err *err)
{
	pid_t pid, parent = getpid();

	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		return err_set(err, -errno, "cannot start a process: %s", strerror(errno));
	if (pid == 0)
		child_run(lab, fn, data, was, parent);
	return child_wait(pid, stop, err);
}

int lab_run(const char *name, const struct lab_host *hosts, size_t n_hosts, lab_fn fn, void *data, struct err *err)
{
	struct lab lab = {
		.name = name, .hosts = hosts, .n_hosts = n_hosts, .programs_fd = -1, .waggle_fd = -1, .lock_fd = -1
	};
	struct err clear_err = {};
	sigset_t block, stop, was;
	int r, cleared;

	if (n_hosts > LAB_HOSTS_MAX)
		return err_set(err, -E2BIG, "a lab has at most %d hosts", LAB_HOSTS_MAX);
	memset(lab.netns_fd, 0xff, sizeof(lab.netns_fd));
	(void)snprintf(lab.dir, sizeof(lab.dir), RUN_DIR "/%s", name);
	stop_signals(&stop);
	block = stop;
	(void)sigaddset(&block, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &block, &was);
	/* What the run leaves running becomes ours, so that no zombie stays where nobody reaps. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);

	r = lab_group_lock(&lab, err);
	if (r >= 0) {
		r = lab_clear(&lab, err); /* of a run that was killed */
		if (r >= 0)
			r = lab_create(&lab, err);
		if (r >= 0)
			r = lab_supervise(&lab, fn, data, &stop, &was, err);
		cleared = lab_clear(&lab, &clear_err);
		if (cleared >= 0)
			cleared = lab_group_remove(&lab, &clear_err);
		if (cleared < 0 && r >= 0)
			r = err_set(err, cleared, "%s", clear_err.text);
		closep(&lab.programs_fd);
		closep(&lab.waggle_fd);
		closep(&lab.lock_fd);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	(void)prctl(PR_SET_CHILD_SUBREAPER, 0);
	(void)sigprocmask(SIG_SETMASK, &was, NULL);
	return r;
}
