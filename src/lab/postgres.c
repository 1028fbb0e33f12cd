// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The server refuses to be root, and only root may look into the lab's directory: it runs as Debian's user for it, with the
 * capability to get to its files. In an IPC namespace of its own, or a System V segment would stay where it was killed.
 */
#include "lab/postgres.h"

#include <errno.h>
#include <glob.h>
#include <pwd.h>
#include <time.h>

#define PROGRAMS "/usr/lib/postgresql/*/bin/postgres"
#define PACKAGE "postgresql"
#define PORT "5432"
#define HOME "postgres"
#define LOG "postgres.log"
#define HBA "postgres.hba"
#define ARGS_MAX 64
#define INIT_MS 60000
#define START_MS 60000
#define STEP_MS 20

/* By the version in its path. */
static int compare(const char *a, const char *b)
{
	return strverscmp(a, b);
}

int postgres_find(struct postgres *ret, struct err *err)
{
	const char *newest = NULL;
	glob_t g = {};

	(void)glob(PROGRAMS, GLOB_NOSORT, NULL, &g);
	for (size_t i = 0; i < g.gl_pathc; i++)
		if (access(g.gl_pathv[i], X_OK) == 0 && (!newest || compare(newest, g.gl_pathv[i]) < 0))
			newest = g.gl_pathv[i];
	if (newest)
		(void)snprintf(ret->bin, sizeof(ret->bin), "%.*s", (int)(strrchr(newest, '/') - newest), newest);
	globfree(&g);
	if (!newest || !getpwnam(POSTGRES_USER))
		return err_set(err, -ENOENT,
			       "PostgreSQL is not installed: 'tools/install-deps demo' installs the package " PACKAGE);
	return 0;
}

/* Before a program of its, which argv ends with. */
static const char *const as_its_user[] = {
	"unshare",
	"--ipc",
	"--",
	"setpriv",
	"--reuid=" POSTGRES_USER,
	"--regid=" POSTGRES_USER,
	"--clear-groups",
	"--inh-caps=+dac_read_search",
	"--ambient-caps=+dac_read_search",
	/* Setting the user has taken away the one that prog_start() asks for. This one waits for no client. */
	"--pdeathsig=INT",
	"--",
};

/* A program of PostgreSQL's, from the first of argv on. */
static void put_args(const char *const *args, const char *argv[static ARGS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(as_its_user); i++)
		argv[n++] = as_its_user[i];
	for (size_t i = 0; args[i] && n < ARGS_MAX - 1; i++)
		argv[n++] = args[i];
	argv[n] = NULL;
}

static int failed(const struct lab *lab, const char *what, int r, struct err *err)
{
	char last[256];

	lab_last_line(lab, LOG, last, sizeof(last));
	return err_set(err, r, "%s: it says: %s", what, *last ? last : "nothing");
}

/* The directories are its user's. */
static int make_home(const struct lab *lab, struct err *err)
{
	const struct passwd *user = getpwnam(POSTGRES_USER);
	char path[PATH_MAX];
	int r = lab_mkdir(lab, HOME, err);

	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/" HOME, lab->dir);
	if (!user || chown(path, user->pw_uid, user->pw_gid) < 0)
		return err_set(err, -errno, "cannot give '%s' to the user " POSTGRES_USER ": %s", path,
			       strerror(errno));
	return lab_write(lab, HBA, "local all all trust\nhost all all all trust\n", err);
}

static int init(const struct lab *lab, const struct postgres *pg, const char *data, const char *log, struct err *err)
{
	_cleanup_free_ char *program = NULL;
	const char *argv[ARGS_MAX];
	const struct prog_spec spec = { .argv = argv, .netns_fd = -1, .cgroup_fd = lab->programs_fd, .log = log };
	int r;

	if (asprintf(&program, "%s/initdb", pg->bin) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	put_args((const char *const[]){ program, "-D", data, "-A", "trust", "--no-sync", "--no-instructions",
					"--locale=C", "--encoding=UTF8", "--wal-segsize=1", NULL },
		 argv);
	r = prog_run(&spec, INIT_MS, err);
	return r == -EIO ? failed(lab, "cannot make a database", r, err) : r;
}

/* The last line of its pid file, when it serves. */
static int await_ready(const struct lab *lab, struct prog *prog, struct err *err)
{
	const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };
	char line[64];

	for (int waited = 0; waited < START_MS && prog_runs(prog); waited += STEP_MS) {
		lab_last_line(lab, HOME "/data/postmaster.pid", line, sizeof(line));
		if (!strncmp(line, "ready", 5))
			return 0;
		(void)nanosleep(&step, NULL);
	}
	(void)prog_stop(prog, POSTGRES_STOP_MS);
	return failed(lab, "PostgreSQL does not come up", -EIO, err);
}

static int serve(const struct lab *lab, const char *host, const struct postgres *pg, const char *data, const char *log,
		 struct prog *ret, struct err *err)
{
	_cleanup_free_ char *program = NULL, *sockets = NULL, *hba = NULL;
	const char *argv[ARGS_MAX];
	const struct prog_spec spec = {
		.argv = argv,
		.netns_fd = lab_netns(lab, host),
		.cgroup_fd = lab->programs_fd,
		.log = log,
	};
	int r;

	if (asprintf(&program, "%s/postgres", pg->bin) < 0 ||
	    asprintf(&sockets, "unix_socket_directories=%s/" HOME, lab->dir) < 0 ||
	    asprintf(&hba, "hba_file=%s/" HBA, lab->dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	put_args((const char *const[]){ program, "-D", data, "-p", PORT, "-c", "listen_addresses=*", "-c", sockets,
					"-c", hba, "-c", "fsync=off", "-c", "ssl=off", "-c",
					"dynamic_shared_memory_type=mmap", NULL },
		 argv);
	r = prog_start(&spec, ret, err);
	return r < 0 ? r : await_ready(lab, ret, err);
}

int postgres_start(const struct lab *lab, const char *host, const struct postgres *pg, struct prog *ret,
		   struct err *err)
{
	char data[PATH_MAX], log[PATH_MAX];
	int r;

	(void)snprintf(data, sizeof(data), "%s/" HOME "/data", lab->dir);
	(void)snprintf(log, sizeof(log), "%s/" LOG, lab->dir);
	r = make_home(lab, err);
	if (r >= 0)
		r = init(lab, pg, data, log, err);
	return r < 0 ? r : serve(lab, host, pg, data, log, ret, err);
}
