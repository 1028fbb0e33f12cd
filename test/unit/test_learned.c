// SPDX-License-Identifier: GPL-2.0-or-later
/* The file of learned executables, in a directory of the test's own. */
#include "model/learned.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/util.h"
#include "unit.h"

static char dir[64], path[128], path_new[160];

static int setup(void **state)
{
	(void)snprintf(dir, sizeof(dir), "/tmp/waggle-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/learned.json", dir);
	(void)snprintf(path_new, sizeof(path_new), "%s.new", path);
	return 0;
}

static int teardown(void **state)
{
	(void)unlink(path);
	(void)rmdir(path);
	(void)unlink(path_new);
	return rmdir(dir);
}

static const struct learned two[] = {
	{ .path = (char *)"/usr/sbin/nginx",
	  .ino = 12,
	  .size = 1000,
	  .mtime = 1700000000,
	  .dev = 0x800001,
	  .state = AC_EXE_TRUSTED,
	  .comm = "nginx" },
	{ .path = (char *)"/opt/a \"b\"\\c\n/proxy",
	  .ino = 1ULL << 40,
	  .size = 0,
	  .mtime = 0,
	  .dev = UINT32_MAX,
	  .state = AC_EXE_SPLICES,
	  .comm = "fifteen-letters" },
};

static void test_round_trip(void **state)
{
	struct learned *v = NULL;
	struct err err = {};
	size_t n = 0;

	assert_int_equal(learned_write(path, two, 2), 0);
	assert_int_equal(learned_read(path, &v, &n, &err), 0);
	assert_int_equal(n, 2);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(v[i].path, two[i].path);
		assert_string_equal(v[i].comm, two[i].comm);
		assert_true(v[i].ino == two[i].ino && v[i].size == two[i].size && v[i].mtime == two[i].mtime);
		assert_int_equal(v[i].dev, two[i].dev);
		assert_int_equal(v[i].state, two[i].state);
	}
	learned_free(v, n);
}

static void test_empty_list(void **state)
{
	struct learned *v = NULL;
	size_t n = 7;

	assert_int_equal(learned_write(path, NULL, 0), 0);
	assert_int_equal(learned_read(path, &v, &n, NULL), 0);
	assert_int_equal(n, 0);
	learned_free(v, n);
}

static void test_no_file(void **state)
{
	struct learned *v = NULL;
	struct err err = {};
	size_t n = 7;

	assert_int_equal(learned_read(path, &v, &n, &err), -ENOENT);
	assert_null(v);
	assert_int_equal(n, 7);
	assert_non_null(strstr(err.text, path));
}

static void test_words(void **state)
{
	for (uint32_t i = 0; i < _AC_EXE_MAX; i++)
		assert_non_null(learned_state_word(i));
	assert_null(learned_state_word(_AC_EXE_MAX));
	assert_string_equal(learned_state_word(AC_EXE_ABLE), "may-splice");
}

#define ONE(path, ino, dev, size, mtime, state)                                                                  \
	"{\"version\":1,\"executables\":[{\"path\":" path ",\"inode\":" ino ",\"device\":" dev ",\"size\":" size \
	",\"mtime\":" mtime ",\"name\":\"n\",\"state\":" state "}]}"

static void test_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"[]",
		"{}",
		"{\"version\":1}",
		"{\"version\":2,\"executables\":[]}",
		"{\"version\":\"1\",\"executables\":[]}",
		"{\"version\":1,\"executables\":{}}",
		"{\"version\":1,\"executables\":[1]}",
		"{\"version\":1,\"executables\":[{}]}",
		"{\"version\":1,\"version\":1,\"executables\":[]}",
		"{\"version\":1,\"executables\":[]} trailing",
		ONE("\"relative\"", "1", "1", "1", "1", "\"trusted\""),
		ONE("\"\"", "1", "1", "1", "1", "\"trusted\""),
		ONE("1", "1", "1", "1", "1", "\"trusted\""),
		ONE("\"/a\"", "0", "1", "1", "1", "\"trusted\""),
		ONE("\"/a\"", "-1", "1", "1", "1", "\"trusted\""),
		ONE("\"/a\"", "1.5", "1", "1", "1", "\"trusted\""),
		ONE("\"/a\"", "99999999999999999999", "1", "1", "1", "\"trusted\""),
		ONE("\"/a\"", "1", "4294967296", "1", "1", "\"trusted\""),
		ONE("\"/a\"", "1", "1", "-1", "1", "\"trusted\""),
		ONE("\"/a\"", "1", "1", "1", "-1", "\"trusted\""),
		ONE("\"/a\"", "1", "1", "1", "1", "\"believed\""),
		ONE("\"/a\"", "1", "1", "1", "1", "1"),
		ONE("\"/a\\u0000b\"", "1", "1", "1", "1", "\"trusted\""),
	};
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct learned *v = NULL;
		size_t n = 7;

		err.text[0] = '\0';
		if (learned_parse(bad[i], strlen(bad[i]), &v, &n, &err) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_null(v);
		assert_int_equal(n, 7);
		assert_string_not_equal(err.text, "");
	}
}

/* The second of two is bad: the first must not leak (AddressSanitizer sees it) nor be returned. */
static void test_refuses_late(void **state)
{
	static const char text[] =
		"{\"version\":1,\"executables\":[{\"path\":\"/a\",\"inode\":1,\"device\":1,\"size\":1,"
		"\"mtime\":1,\"name\":\"n\",\"state\":\"trusted\"},{\"path\":\"/b\"}]}";
	struct learned *v = NULL;
	struct err err = {};
	size_t n = 7;

	assert_int_equal(learned_parse(text, sizeof(text) - 1, &v, &n, &err), -EINVAL);
	assert_null(v);
	assert_non_null(strstr(err.text, "executable 2"));
}

static void test_reads_only_given_bytes(void **state)
{
	static const char text[] = "{\"version\":1,\"executables\":[]}garbage";
	struct learned *v = NULL;
	size_t n = 7;

	assert_int_equal(learned_parse(text, sizeof(text) - 1 - strlen("garbage"), &v, &n, NULL), 0);
	assert_int_equal(n, 0);
	learned_free(v, n);
}

static void test_makes_its_directory(void **state)
{
	char deep_dir[96], deep[160];
	struct stat st;

	(void)snprintf(deep_dir, sizeof(deep_dir), "%s/state", dir);
	(void)snprintf(deep, sizeof(deep), "%s/learned.json", deep_dir);
	assert_int_equal(learned_write(deep, two, 2), 0);
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(deep_dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(unlink(deep), 0);
	assert_int_equal(rmdir(deep_dir), 0);
}

/* File systems take any byte but NUL and '/', and a program names itself as it likes. */
static void test_not_utf8(void **state)
{
	struct learned odd[] = {
		{ .path = "/usr/bin/caf\xe9",
		  .ino = 5,
		  .dev = 6,
		  .size = 7,
		  .mtime = 8,
		  .comm = "caf\xe9",
		  .state = AC_EXE_SPLICES },
		{ .path = "/usr/bin/caf\xc3\xa9",
		  .ino = 9,
		  .dev = 6,
		  .size = 7,
		  .mtime = 8,
		  .comm = "\xff\xfe",
		  .state = AC_EXE_UNFIT },
	};
	struct learned *v = NULL;
	size_t n = 0;

	assert_int_equal(learned_write(path, odd, ARRAY_SIZE(odd)), 0);
	assert_int_equal(learned_read(path, &v, &n, NULL), 0);
	assert_int_equal(n, ARRAY_SIZE(odd));
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(v[i].path, odd[i].path);
		assert_int_equal(v[i].ino, odd[i].ino);
		assert_int_equal(v[i].state, odd[i].state);
	}
	assert_string_equal(v[0].comm, "caf?");
	assert_string_equal(v[1].comm, "??");
	learned_free(v, n);
}

/* Whoever has the old file open goes on reading it whole: it is replaced, not written over. */
static void test_replaces_at_once(void **state)
{
	struct stat before, after, held;
	_cleanup_close_ int fd = -1;

	assert_int_equal(learned_write(path, two, 2), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &before), 0);
	assert_int_equal(learned_write(path, two, 1), 0);
	assert_int_equal(fstat(fd, &held), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_true(held.st_size == before.st_size && held.st_nlink == 0);
	assert_true(after.st_ino != before.st_ino && after.st_size < before.st_size);
	assert_int_equal(access(path_new, F_OK), -1);
}

static void test_failed_write_leaves_nothing(void **state)
{
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(learned_write(path, two, 2), -EISDIR);
	assert_int_equal(access(path_new, F_OK), -1);
}

/* Someone else's symbolic link at the temporary name is not followed. */
static void test_follows_no_link(void **state)
{
	char victim[128];

	(void)snprintf(victim, sizeof(victim), "%s/victim", dir);
	assert_int_equal(symlink(victim, path_new), 0);
	assert_int_equal(learned_write(path, two, 2), -ELOOP);
	assert_int_equal(access(victim, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_empty_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_file, setup, teardown),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_refuses_late),
		cmocka_unit_test(test_reads_only_given_bytes),
		cmocka_unit_test_setup_teardown(test_not_utf8, setup, teardown),
		cmocka_unit_test_setup_teardown(test_makes_its_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaces_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_write_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_follows_no_link, setup, teardown),
	};

	return cmocka_run_group_tests_name("learned", tests, NULL, NULL);
}
