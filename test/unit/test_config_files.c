// SPDX-License-Identifier: GPL-2.0-or-later
/* Files and folders of files, in a directory of the test's own. */
#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "model/config.h"
#include "unit.h"

static char dir[64], main_path[128];
static struct config *c;
static struct config_errors e;
static struct err err;

static int setup(void **state)
{
	(void)snprintf(dir, sizeof(dir), "/tmp/waggle-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(main_path, sizeof(main_path), "%s/waggle.yaml", dir);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	c = config_free(c);
	config_errors_done(&e);
	err.text[0] = '\0';
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path below the directory; good for one use. */
static const char *at(const char *name)
{
	static char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(at(name), "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(at(name), 0644), 0);
}

static void folder(const char *name)
{
	assert_int_equal(mkdir(at(name), 0755), 0);
	assert_int_equal(chmod(at(name), 0755), 0);
}

static int load(void)
{
	return config_load(main_path, &c, &e, &err);
}

/* Finding i begins with this; %s of the format is the directory. */
static void assert_finding(size_t i, const char *fmt)
{
	char line[1024], want[512];

	assert_true(i < e.n);
	(void)snprintf(line, sizeof(line), "%s:%u:%u: %s", e.v[i].pos.file, e.v[i].pos.line, e.v[i].pos.column,
		       e.v[i].text);
	(void)snprintf(want, sizeof(want), "%s/%s", dir, fmt);
	if (strncmp(line, want, strlen(want)) != 0)
		fail_msg("not '%s...' but '%s'", want, line);
}

#define ONE(name, address) "services: [ { name: " name ", listen: '" address ":80', backends: [] } ]\n"

static void test_folder(void **state)
{
	folder("services.d");
	put("waggle.yaml", "include: services.d/\n" ONE("main", "198.18.0.1"));
	put("services.d/20-b.yaml", ONE("b", "198.18.0.2"));
	put("services.d/10-a.yaml", ONE("a", "198.18.0.3") "policy: [ { action: deny } ]\nredirect: []\n");
	put("services.d/30.yaml", "");
	put("services.d/.hidden.yaml", "nonsense");
	put("services.d/old.yaml~", "nonsense");
	put("services.d/README", "nonsense");
	put("services.d/yaml", "nonsense");
	assert_int_equal(load(), 0);
	assert_int_equal(c->n_services, 3);
	assert_string_equal(c->services[0].name, "main");
	assert_string_equal(c->services[1].name, "a");
	assert_string_equal(c->services[2].name, "b");
	assert_int_equal(c->n_policies, 1);
	assert_int_equal(c->files.n, 4);
	assert_string_equal(c->files.v[0], main_path);
	assert_string_equal(c->files.v[1], at("services.d/10-a.yaml"));
	assert_string_equal(c->services[2].pos.file, at("services.d/20-b.yaml"));
}

static void test_absolute_folder(void **state)
{
	char text[128];

	folder("d");
	put("d/a.yaml", ONE("a", "198.18.0.1"));
	(void)snprintf(text, sizeof(text), "include: %s/d\n", dir);
	put("waggle.yaml", text);
	assert_int_equal(load(), 0);
	assert_int_equal(c->n_services, 1);
}

static void test_findings_of_several_files(void **state)
{
	folder("d");
	put("waggle.yaml", "include: d\n" ONE("a", "198.18.0.1") "metrics: { listen: x }\n");
	put("d/2.yaml", ONE("a", "198.18.0.2"));
	put("d/1.yaml", "metrics: {}\n" ONE("b", "198.18.0.1"));
	put("d/3.yaml", "services: [\n");
	assert_int_equal(load(), -EINVAL);
	assert_null(c);
	assert_int_equal(e.n, 5);
	assert_finding(0, "waggle.yaml:3:20: 'x' has no port");
	assert_finding(1,
		       "d/1.yaml:1:1: unknown key 'metrics' in an included file: it can have services, redirect, policy");
	assert_finding(
		2,
		"d/1.yaml:2:32: '198.18.0.1:80' by tcp is the address of another service already, at /tmp/waggle-test-");
	assert_finding(3, "d/2.yaml:1:21: there is a service 'a' already, at /tmp/waggle-test-");
	assert_finding(4, "d/3.yaml:2:1: did not find expected node content");
}

static void test_no_recursion(void **state)
{
	folder("d");
	put("waggle.yaml", "include: d\n");
	put("d/1.yaml", "include: .\n");
	assert_int_equal(load(), -EINVAL);
	assert_int_equal(e.n, 1);
	assert_finding(0, "d/1.yaml:1:1: unknown key 'include' in an included file");
}

/* An identity that is named in one file may stand in another that could not be read: that is not told of too. */
static void test_no_cascade(void **state)
{
	put("waggle.yaml", "include: missing\npolicy: [ { action: deny, from: web } ]\n");
	assert_int_equal(load(), -EINVAL);
	assert_int_equal(e.n, 1);
	assert_finding(0, "waggle.yaml:1:10: cannot read the folder '");
}

static void test_files_that_are_none(void **state)
{
	folder("d");
	folder("d/b.yaml");
	put("waggle.yaml", "include: d\n");
	assert_int_equal(symlink("nowhere", at("d/a.yaml")), 0);
	assert_int_equal(mkfifo(at("d/c.yaml"), 0644), 0);
	put("d/d.yaml", "services: []\n");
	assert_int_equal(chmod(at("d/d.yaml"), 0646), 0);
	put("d/e.yaml", "services: []\n");
	assert_int_equal(load(), -EINVAL);
	assert_int_equal(e.n, 4);
	assert_finding(0, "waggle.yaml:1:10: cannot read '");
	assert_non_null(strstr(e.v[0].text, "a.yaml': No such file or directory"));
	assert_non_null(strstr(e.v[1].text, "b.yaml' is a directory: name a file"));
	assert_non_null(strstr(e.v[2].text, "c.yaml' is not a regular file: remove it from the folder"));
	assert_non_null(strstr(e.v[3].text, "d.yaml' can be written by everybody: run chmod o-w on it"));
}

/* A link to a file elsewhere is how files of such folders are switched on and off. */
static void test_follows_links(void **state)
{
	folder("available");
	folder("enabled");
	put("waggle.yaml", "include: enabled\n");
	put("available/a.yaml", ONE("a", "198.18.0.1"));
	assert_int_equal(symlink("../available/a.yaml", at("enabled/a.yaml")), 0);
	assert_int_equal(load(), 0);
	assert_int_equal(c->n_services, 1);
}

static void test_writable_by_others(void **state)
{
	folder("d");
	put("waggle.yaml", "include: d\n");
	assert_int_equal(chmod(at("d"), 0777), 0);
	assert_int_equal(load(), -EINVAL);
	assert_int_equal(e.n, 1);
	assert_non_null(strstr(e.v[0].text, "d' can be written by everybody: run chmod o-w on it"));
	config_errors_done(&e);
	assert_int_equal(chmod(main_path, 0666), 0);
	assert_int_equal(load(), -EPERM);
	assert_non_null(strstr(err.text, "waggle.yaml' can be written by everybody"));
	assert_int_equal(e.n, 0);
}

static void test_writable_by_group(void **state)
{
	unit_need_root();
	put("waggle.yaml", "services: []\n");
	assert_int_equal(chmod(main_path, 0664), 0);
	assert_int_equal(load(), 0);
	c = config_free(c);
	assert_int_equal(chown(main_path, 0, 12345), 0);
	assert_int_equal(chmod(main_path, 0664), 0);
	assert_int_equal(load(), -EPERM);
	assert_non_null(strstr(err.text, "can be written by its group: run chmod g-w on it"));
}

static void test_unreadable(void **state)
{
	assert_int_equal(load(), -ENOENT);
	assert_non_null(strstr(err.text, "cannot read '"));
	folder("waggle.yaml");
	assert_int_equal(load(), -EISDIR);
	assert_non_null(strstr(err.text, "is a directory: name a file"));
}

static void test_too_large(void **state)
{
	_cleanup_fclose_ FILE *f = fopen(main_path, "we");

	assert_non_null(f);
	for (int i = 0; i < 11 * 1024; i++)
		(void)fprintf(f, "#%1022s\n", "");
	assert_int_equal(fflush(f), 0);
	assert_int_equal(chmod(main_path, 0644), 0);
	assert_int_equal(load(), -EFBIG);
	assert_non_null(strstr(err.text, "is larger than 10 MB: spread it over files of a folder"));
}

/* Ten thousand services; nothing of it may take a time that grows with the square. */
static void test_large(void **state)
{
	FILE *f = fopen(main_path, "we");

	assert_non_null(f);
	(void)fputs("services:\n", f);
	for (int i = 0; i < 10000; i++) {
		(void)fprintf(f, "- name: s%d\n  listen: 198.18.%d.%d:80\n  backends:\n", i, i / 250, i % 250 + 1);
		for (int k = 0; k < 10; k++)
			(void)fprintf(f, "  - { address: 10.%d.%d.%d:8080, weight: %d }\n", k, i / 250, i % 250 + 1, k);
	}
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(main_path, 0644), 0);
	assert_int_equal(load(), 0);
	assert_int_equal(c->n_services, 10000);
	assert_int_equal(c->services[9999].n_backends, 10);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_folder),	  TEST(test_absolute_folder),	 TEST(test_findings_of_several_files),
		TEST(test_no_recursion),  TEST(test_no_cascade),	 TEST(test_files_that_are_none),
		TEST(test_follows_links), TEST(test_writable_by_others), TEST(test_writable_by_group),
		TEST(test_unreadable),	  TEST(test_too_large),		 TEST(test_large),
	};

	return cmocka_run_group_tests_name("config_files", tests, NULL, NULL);
}
