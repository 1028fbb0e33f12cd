// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The lab's cgroups: 'programs' for what is measured, 'waggle' for what is not. They also are the list of the
 * processes that a dead run has left: nobody else's can be in there.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "lab/lab.h"
#include "sys/cgroup.h"

#define PROGRAMS "programs"
#define WAGGLE "waggle"

#define EMPTY_MS 5000
/* waggle takes its time to let joined sockets be read empty. */
#define WAGGLE_MS 9000
#define STEP_MS 10

static int say(struct err *err, int r, const char *what, const char *path)
{
	return err_set(err, r, "cannot %s '%s': %s", what, path, strerror(-r));
}

/* One try; -EAGAIN: what was locked is a directory that its owner has just removed. */
static int try_lock(const char *path, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	struct stat locked, named;

	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(fd, &locked) < 0 || stat(path, &named) < 0 || locked.st_ino != named.st_ino)
		return -EAGAIN;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int lab_group_lock(struct lab *lab, struct err *err)
{
	_cleanup_free_ char *root = NULL;
	int r;

	r = cgroup_root(&root, err);
	if (r < 0)
		return r;
	(void)snprintf(lab->cgroup, sizeof(lab->cgroup), "%s/%s", root, lab->name);
	(void)snprintf(lab->programs, sizeof(lab->programs), "%s/" PROGRAMS, lab->cgroup);
	for (int tries = 0; tries < 10; tries++) {
		r = try_lock(lab->cgroup, &lab->lock_fd);
		if (r != -EAGAIN)
			break;
	}
	if (r == -EBUSY)
		return err_set(err, r, "another run is alive (it holds '%s'): wait for its end", lab->cgroup);
	return r < 0 ? say(err, r, "make the cgroup", lab->cgroup) : 0;
}

static int make_one(const struct lab *lab, const char *name, struct err *err)
{
	int fd;

	if (mkdirat(lab->lock_fd, name, 0755) < 0 && errno != EEXIST)
		return say(err, -errno, "make the cgroup", name);
	fd = openat(lab->lock_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? say(err, -errno, "open the cgroup", name) : fd;
}

int lab_group_create(struct lab *lab, struct err *err)
{
	lab->programs_fd = make_one(lab, PROGRAMS, err);
	if (lab->programs_fd < 0)
		return lab->programs_fd;
	lab->waggle_fd = make_one(lab, WAGGLE, err);
	return lab->waggle_fd < 0 ? lab->waggle_fd : 0;
}

/* Sends sig to each process of the cgroup and returns how many there were, -errno. */
static int signal_all(int group_fd, const char *name, int sig)
{
	_cleanup_fclose_ FILE *procs = NULL;
	char path[64];
	int fd, pid, n = 0;

	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", name);
	fd = openat(group_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	procs = fdopen(fd, "r");
	if (!procs) {
		(void)close(fd);
		return -ENOMEM;
	}
	while (fscanf(procs, "%d", &pid) == 1 && pid > 0) {
		n++;
		if (sig)
			(void)kill(pid, sig);
	}
	return n;
}

static void sleep_ms(int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&t, NULL);
}

/* Sends sig, again and again if it is SIGKILL (a process may have forked meanwhile), until all have ended. */
static int end_all(int group_fd, const char *name, int sig, int timeout_ms)
{
	int r = signal_all(group_fd, name, sig);

	for (int waited = 0; r > 0 && waited < timeout_ms; waited += STEP_MS) {
		sleep_ms(STEP_MS);
		r = signal_all(group_fd, name, sig == SIGKILL ? sig : 0);
	}
	return r > 0 ? -ETIMEDOUT : r;
}

int lab_group_clear(struct lab *lab, struct err *err)
{
	static const char *const names[] = { PROGRAMS, WAGGLE };
	int r;

	/* The programs first: when their sockets are closed, nothing keeps waggle from leaving at once. */
	r = end_all(lab->lock_fd, PROGRAMS, SIGKILL, EMPTY_MS);
	if (r >= 0)
		r = end_all(lab->lock_fd, WAGGLE, SIGTERM, WAGGLE_MS);
	if (r == -ETIMEDOUT)
		r = end_all(lab->lock_fd, WAGGLE, SIGKILL, EMPTY_MS);
	if (r < 0)
		return say(err, r, "end the processes of the cgroup", lab->cgroup);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		/* A process that has left its list may hold the cgroup for a moment more. */
		for (int waited = 0; waited < EMPTY_MS; waited += STEP_MS) {
			r = unlinkat(lab->lock_fd, names[i], AT_REMOVEDIR) < 0 ? -errno : 0;
			if (r != -EBUSY)
				break;
			sleep_ms(STEP_MS);
		}
		if (r < 0 && r != -ENOENT)
			return say(err, r, "remove the cgroup", names[i]);
	}
	return 0;
}

int lab_group_remove(struct lab *lab, struct err *err)
{
	int r = rmdir(lab->cgroup) < 0 ? -errno : 0;

	closep(&lab->lock_fd);
	lab->lock_fd = -1;
	return r < 0 ? say(err, r, "remove the cgroup", lab->cgroup) : 0;
}
