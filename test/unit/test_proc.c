// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"
#include "unit.h"

static void test_start_time(void **state)
{
	uint64_t own = proc_start_time(getpid());

	assert_true(own > 0);
	assert_true(proc_start_time(getpid()) == own);
	assert_true(proc_start_time(1) > 0);
	/* Beyond the largest pid there can be. */
	assert_true(proc_start_time(1 << 30) == 0);
}

/* The name in /proc/PID/stat may look like the fields that follow it. */
static void test_start_time_odd_name(void **state)
{
	uint64_t own = proc_start_time(getpid());

	assert_int_equal(prctl(PR_SET_NAME, "a) R 1 (2 3"), 0);
	assert_true(proc_start_time(getpid()) == own);
	assert_int_equal(prctl(PR_SET_NAME, "test_proc"), 0);
}

static int find_self(pid_t pid, void *data)
{
	int *seen = data;

	(*seen)++;
	return pid == getpid() ? 42 : 0;
}

static void test_each(void **state)
{
	int seen = 0;

	assert_int_equal(proc_each(find_self, &seen), 42);
	assert_true(seen >= 1);
}

static void test_sockets(void **state)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct proc_socket *found;
	struct proc_sockets s = {};
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(proc_sockets_read(&s), 0);
	assert_true(s.n >= 1);
	for (size_t i = 1; i < s.n; i++)
		assert_true(s.v[i - 1].inode <= s.v[i].inode);
	found = proc_sockets_find(&s, st.st_ino);
	assert_non_null(found);
	assert_int_equal(found->pid, getpid());
	assert_string_equal(found->comm, "test_proc");
	assert_null(proc_sockets_find(&s, UINT64_MAX));
	assert_null(proc_sockets_find(&s, 0));
	proc_sockets_done(&s);
	assert_null(proc_sockets_find(&s, st.st_ino));
}

static uint32_t netns_inum(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint32_t)st.st_ino;
}

static void test_netns_own(void **state)
{
	_cleanup_close_ int fd = netns_open(netns_inum("/proc/self/ns/net"));
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_ino, netns_inum("/proc/self/ns/net"));
	assert_int_equal(netns_open(1), -ENOENT);
}

/* A child in a namespace of its own, killed at the end. */
static pid_t start_elsewhere(void)
{
	int ready[2];
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], &c, 1) != 1)
			_exit(1);
		(void)pause();
		_exit(0);
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	(void)close(ready[0]);
	return pid;
}

static void test_netns_enter(void **state)
{
	uint32_t here = netns_inum("/proc/self/ns/net"), there;
	_cleanup_close_ int fd = -1;
	char path[64];
	pid_t pid;
	int was;

	unit_need_root();
	pid = start_elsewhere();
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	there = netns_inum(path);
	assert_int_not_equal(here, there);
	fd = netns_open(there);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	assert_true(fd >= 0);
	was = netns_enter(fd);
	assert_true(was >= 0);
	assert_int_equal(netns_inum("/proc/self/ns/net"), there);
	netns_return(was);
	assert_int_equal(netns_inum("/proc/self/ns/net"), here);
}

static void test_netns_enter_refuses(void **state)
{
	_cleanup_close_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(netns_enter(fd) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_time),
		cmocka_unit_test(test_start_time_odd_name),
		cmocka_unit_test(test_each),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_netns_own),
		cmocka_unit_test(test_netns_enter),
		cmocka_unit_test(test_netns_enter_refuses),
	};

	return cmocka_run_group_tests_name("proc", tests, NULL, NULL);
}
