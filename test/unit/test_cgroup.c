// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/util.h"
#include "unit.h"

static char *root;
static char below[64], full[512];

/* A cgroup of the test's own, below the root of the v2 tree. */
static int setup(void **state)
{
	if (cgroup_root(&root, NULL) < 0)
		return -1;
	(void)snprintf(below, sizeof(below), "/waggle-unit-%d", getpid());
	(void)snprintf(full, sizeof(full), "%s%s", root, below);
	if (geteuid() == 0 && mkdir(full, 0755) < 0)
		return -1;
	return 0;
}

static int teardown(void **state)
{
	(void)rmdir(full);
	free(root);
	return 0;
}

static uint64_t id_of(const char *path)
{
	struct {
		struct file_handle fh;
		uint64_t id;
	} h = { .fh.handle_bytes = sizeof(uint64_t) };
	int mount;

	assert_int_equal(name_to_handle_at(AT_FDCWD, path, &h.fh, &mount, 0), 0);
	return h.id;
}

static void test_root(void **state)
{
	struct statfs fs;

	assert_int_equal(statfs(root, &fs), 0);
	assert_int_equal(fs.f_type, CGROUP2_SUPER_MAGIC);
}

static void test_open(void **state)
{
	const char *const dirs[] = { NULL, "/", full, below, below + 1 };

	unit_need_root();
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_close_ int fd = -1;
		struct stat is, want;

		assert_int_equal(cgroup_open(dirs[i], &fd, NULL), 0);
		assert_int_equal(fstat(fd, &is), 0);
		assert_int_equal(stat(i < 2 ? root : full, &want), 0);
		assert_true(is.st_ino == want.st_ino && is.st_dev == want.st_dev);
	}
}

static void test_refuses(void **state)
{
	struct err err = {};
	int fd = -1;

	assert_int_equal(cgroup_open("/proc", &fd, &err), -EINVAL);
	assert_non_null(strstr(err.text, "'/proc' is not a cgroup v2 directory"));
	assert_int_equal(cgroup_open("/etc/passwd", &fd, &err), -EINVAL);
	assert_int_equal(cgroup_open("/no/such/group", &fd, &err), -ENOENT);
	assert_non_null(strstr(err.text, "there is no cgroup '/no/such/group'"));
	assert_int_equal(fd, -1);
}

static void test_path(void **state)
{
	_cleanup_free_ char *path = NULL, *top = NULL, *gone = NULL;
	uint64_t id;

	unit_need_root();
	id = id_of(full);
	path = cgroup_path(id);
	assert_string_equal(path, below);
	top = cgroup_path(id_of(root));
	assert_string_equal(top, "/");
	assert_int_equal(rmdir(full), 0);
	gone = cgroup_path(id);
	assert_string_equal(gone, "?");
}

/* Those that others hold are left out, whatever the order; also one that is only named alike. */
static void test_set(void **state)
{
	char alike[600], inner[600];
	struct cgroup_set s;
	struct err err = {};

	unit_need_root();
	(void)snprintf(alike, sizeof(alike), "%s-too", full);
	(void)snprintf(inner, sizeof(inner), "%s/inner", full);
	assert_int_equal(mkdir(alike, 0755), 0);
	assert_int_equal(mkdir(inner, 0755), 0);
	assert_int_equal(cgroup_set_open(NULL, 0, &s, NULL), 0);
	assert_int_equal(s.n, 1);
	assert_string_equal(s.v[0].path, root);
	cgroup_set_done(&s);
	assert_int_equal(cgroup_set_open((const char *const[]){ inner, full, below, alike, inner }, 5, &s, NULL), 0);
	assert_int_equal(s.n, 2);
	assert_string_equal(s.v[0].path, full);
	assert_int_equal(s.v[0].id, id_of(full));
	assert_string_equal(s.v[1].path, alike);
	assert_true(s.v[0].fd >= 0 && s.v[1].fd >= 0);
	cgroup_set_done(&s);
	assert_int_equal(cgroup_set_open((const char *const[]){ full, "/no/such/group" }, 2, &s, &err), -ENOENT);
	assert_non_null(strstr(err.text, "'/no/such/group'"));
	assert_int_equal(rmdir(inner), 0);
	assert_int_equal(rmdir(alike), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root), cmocka_unit_test(test_open), cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_set),  cmocka_unit_test(test_path),
	};

	return cmocka_run_group_tests_name("cgroup", tests, setup, teardown);
}
