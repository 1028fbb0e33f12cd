// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include "base/num.h"

static void closedirp(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

uint64_t proc_start_time(pid_t pid)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], line[1024], state, *p;
	unsigned long long start;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		return 0;
	p = strrchr(line, ')'); /* the name before it may contain anything */
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			 &state, &start) != 2)
		return 0;
	if (state == 'Z' || state == 'X') /* dead, but for its parent's notice */
		return 0;
	return start;
}

int proc_each(int (*fn)(pid_t pid, void *data), void *data)
{
	_cleanup_(closedirp) DIR *dir = opendir("/proc");
	struct dirent *e;

	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		uint64_t pid;
		int r;

		if (num_parse_u64(e->d_name, 1, INT32_MAX, &pid) < 0)
			continue;
		r = fn((pid_t)pid, data);
		if (r)
			return r;
	}
	return 0;
}

static int proc_sockets_add(struct proc_sockets *s, uint64_t inode, pid_t pid, const char *comm)
{
	if (s->n == s->room) {
		size_t room = s->room ? s->room * 2 : 256;
		struct proc_socket *v = reallocarray(s->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->room = room;
	}
	s->v[s->n] = (struct proc_socket){ .inode = inode, .pid = pid };
	(void)snprintf(s->v[s->n].comm, sizeof(s->v[s->n].comm), "%s", comm);
	s->n++;
	return 0;
}

static void proc_comm(pid_t pid, char *ret, int size)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[64];

	ret[0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (f && fgets(ret, size, f))
		ret[strcspn(ret, "\n")] = '\0';
}

static int proc_sockets_pid(pid_t pid, void *data)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	char path[64], comm[16], link[64];
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return 0; /* gone, or not ours to see */
	proc_comm(pid, comm, sizeof(comm));
	while ((e = readdir(dir))) {
		unsigned long long inode;
		ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		int r;

		if (n <= 0)
			continue;
		link[n] = '\0';
		if (sscanf(link, "socket:[%llu]", &inode) != 1)
			continue;
		r = proc_sockets_add(data, inode, pid, comm);
		if (r < 0)
			return r;
	}
	return 0;
}

static int proc_socket_compare(const void *a, const void *b)
{
	const struct proc_socket *x = a, *y = b;

	if (x->inode != y->inode)
		return x->inode < y->inode ? -1 : 1;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

int proc_sockets_read(struct proc_sockets *ret)
{
	struct proc_sockets s = {};
	int r = proc_each(proc_sockets_pid, &s);

	if (r < 0) {
		proc_sockets_done(&s);
		return r;
	}
	if (s.n)
		qsort(s.v, s.n, sizeof(*s.v), proc_socket_compare);
	*ret = s;
	return 0;
}

const struct proc_socket *proc_sockets_find(const struct proc_sockets *s, uint64_t inode)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->v[mid].inode < inode)
			low = mid + 1;
		else
			high = mid;
	}
	return low < s->n && s->v[low].inode == inode ? &s->v[low] : NULL;
}

void proc_sockets_done(struct proc_sockets *s)
{
	free(s->v);
	*s = (struct proc_sockets){};
}

struct netns_search {
	uint32_t inum;
	int fd;
};

static bool netns_try(const char *path, struct netns_search *search)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (stat(path, &st) < 0 || (uint32_t)st.st_ino != search->inum)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || (uint32_t)st.st_ino != search->inum)
		return false;
	search->fd = TAKE_FD(fd);
	return true;
}

static int netns_try_pid(pid_t pid, void *data)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	return netns_try(path, data);
}

int netns_open(uint32_t inum)
{
	struct netns_search search = { .inum = inum, .fd = -1 };
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *e;

	if (netns_try("/proc/self/ns/net", &search) || proc_each(netns_try_pid, &search) > 0)
		return search.fd;
	/* A namespace may have a name and no process. */
	dir = opendir("/run/netns");
	while (dir && (e = readdir(dir))) {
		char path[512];

		(void)snprintf(path, sizeof(path), "/run/netns/%s", e->d_name);
		if (netns_try(path, &search))
			return search.fd;
	}
	return -ENOENT;
}

int netns_enter(int fd)
{
	_cleanup_close_ int was = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (was < 0 || setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	return TAKE_FD(was);
}

void netns_return(int was_fd)
{
	/* Cannot fail: the namespace is ours to enter, and the fd keeps it alive. */
	if (setns(was_fd, CLONE_NEWNET) < 0)
		abort();
	(void)close(was_fd);
}
