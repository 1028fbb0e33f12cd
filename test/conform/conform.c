// SPDX-License-Identifier: GPL-2.0-or-later
/* Makes the place, starts the accelerator, runs every row on both kinds of pair, and prints the table. */
#include "conform.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <net/if.h>

#include <bpf/bpf.h>

#include "../tools/stats.h"
#include "base/clock.h"

#define PORT_JOINED 7415 /* accel_exec() */
#define PORT_PLAIN 7416
#define ROW_SECONDS 8
#define EARN_SECONDS 20

void note_text(struct pair *p, const char *fmt, ...)
{
	size_t at = strlen(p->seen);
	va_list ap;

	if (at && at < SEEN_BYTES - 1)
		p->seen[at++] = ' ';
	va_start(ap, fmt);
	(void)vsnprintf(p->seen + at, SEEN_BYTES - at, fmt, ap);
	va_end(ap);
}

void note(struct pair *p, const char *label, long value)
{
	const char *name = value < 0 ? strerrorname_np(errno) : NULL;

	if (name)
		note_text(p, "%s=%s", label, name);
	else
		note_text(p, "%s=%ld", label, value);
}

void put(int fd, size_t n)
{
	_cleanup_free_ uint8_t *buf = malloc(n + 1);

	stream_fill(buf, n, stream_key(0, 0, 0), 0);
	tool_send_all(fd, buf, n);
}

long poll_in(int fd, int timeout_ms, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, timeout_ms) < 0 ? -1 : p.revents;
}

void take(struct pair *p, int fd, size_t n, int flags)
{
	_cleanup_free_ uint8_t *buf = malloc(n + 1);
	ssize_t r = recv(fd, buf, n, flags);

	note(p, "recv", r);
}

long ioctl_int(int fd, unsigned long request)
{
	int value = -1;

	return ioctl(fd, request, &value) < 0 ? -1 : value;
}

void settle(void)
{
	tool_sleep_us(60000);
}

struct later {
	int ms;
	void (*fn)(void *data);
	void *data;
};

static void *later_main(void *data)
{
	struct later *l = data;

	tool_sleep_us((uint64_t)l->ms * 1000);
	l->fn(l->data);
	free(l);
	return NULL;
}

void later(int ms, void (*fn)(void *data), void *data)
{
	struct later *l = new0(struct later);
	sigset_t all, old;
	pthread_t thread;

	*l = (struct later){ ms, fn, data };
	/* Signals are for the thread that makes the call under test. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	if (pthread_create(&thread, NULL, later_main, l))
		tool_die("cannot make a thread");
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_detach(thread);
}

/* The process of a row: "conform --row N PORT FD", from an executable of its own. */
static int row_main(const struct row *row, uint16_t port, int fd)
{
	struct pair p = { .a = -1, .b = -1 };

	p.seen = mmap(NULL, SEEN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p.seen == MAP_FAILED)
		return 1;
	(void)alarm(ROW_SECONDS);
	p.listener = tool_listen(FAMILY_4, "127.0.0.1", port, NULL);
	p.to_len = tool_addr(FAMILY_4, "127.0.0.1", port, &p.to);
	if (!row->raw) {
		p.a = tool_connect(&p.to, p.to_len);
		p.b = p.a < 0 ? -1 : accept4(p.listener, NULL, NULL, SOCK_CLOEXEC);
		if (p.b < 0)
			return 1;
	}
	row->fn(&p);
	_exit(0);
}

/*
 * The process that earns: "conform --earn PORT", from the executable of a row. Talks like a program that polls,
 * until it is killed.
 */
static int earn_main(uint16_t port)
{
	int listener = tool_listen(FAMILY_4, "127.0.0.1", port, NULL);
	struct sockaddr_storage to;
	socklen_t len = tool_addr(FAMILY_4, "127.0.0.1", port, &to);
	char c = 'e';
	int a, b;

	(void)alarm(2 * EARN_SECONDS);
	a = tool_connect(&to, len);
	b = a < 0 ? -1 : accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (b < 0)
		return 1;
	tool_nonblock(a, true);
	for (;;) {
		tool_send_all(a, &c, 1);
		tool_recv_all(b, &c, 1);
		tool_send_all(b, &c, 1);
		tool_recv_all(a, &c, 1);
		tool_sleep_us(200);
	}
}

static const struct row *row_at(size_t n)
{
	static const struct row *const tables[] = { rows_read, rows_write, rows_end, rows_more };

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct row *row = tables[t]; row->name; row++)
			if (!n--)
				return row;
	return NULL;
}

/* Programs are judged by their file: each row has its own, so that what one does is not held against another. */
static void row_exe(size_t n, const char *kind, char path[64])
{
	(void)snprintf(path, 64, "/run/%s-%zu", kind, n);
}

static void copy_self(const char *path)
{
	_cleanup_close_ int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	off_t offset = 0;
	ssize_t r = 1;

	while (from >= 0 && to >= 0 && r > 0)
		r = sendfile(to, from, &offset, 1 << 30);
	if (r)
		tool_die("cannot copy the program to '%s': %s", path, strerror(errno));
}

/* One that hangs or dies tells so, and the others still run. */
static void row_run(size_t n, const char *kind, uint16_t port, char *ret_seen)
{
	int fd = memfd_create("seen", 0), status = 0;
	char path[64], number[24], port_text[8], fd_text[16];
	struct pair p = { .seen = ret_seen };
	pid_t pid;

	row_exe(n, kind, path);
	(void)snprintf(number, sizeof(number), "%zu", n);
	(void)snprintf(port_text, sizeof(port_text), "%u", port);
	(void)snprintf(fd_text, sizeof(fd_text), "%d", fd);
	if (fd < 0 || ftruncate(fd, SEEN_BYTES) < 0 || (pid = fork()) < 0)
		tool_die("cannot run a row: %s", strerror(errno));
	if (!pid) {
		(void)execl(path, path, "--row", number, port_text, fd_text, (char *)NULL);
		_exit(1);
	}
	(void)waitpid(pid, &status, 0);
	if (pread(fd, ret_seen, SEEN_BYTES, 0) != SEEN_BYTES)
		tool_die("cannot read what a row saw: %s", strerror(errno));
	(void)close(fd);
	if (WIFSIGNALED(status))
		note_text(&p, WTERMSIG(status) == SIGALRM ? "HANGS" : "signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		note_text(&p, "ENDS %d", WEXITSTATUS(status));
}

struct totals {
	unsigned int passed, failed, skipped;
};

/* The running accelerator, as its maps tell. */
struct told {
	int stats, exes;
};

static uint32_t exe_state(const struct told *told, const char *path)
{
	struct ac_exe_key key = {};
	struct ac_exe exe = {};
	struct stat st;

	if (stat(path, &st) < 0)
		tool_die("cannot see '%s': %s", path, strerror(errno));
	key.ino = st.st_ino;
	key.dev = major(st.st_dev) << 20 | minor(st.st_dev);
	return bpf_map_lookup_elem(told->exes, &key, &exe) ? AC_EXE_LEARNING : exe.state;
}

/* Lets the program of a row show that it polls, until it is decided what becomes of it. */
static uint32_t row_earn(size_t n, const struct told *told)
{
	uint64_t until = clock_ms() + EARN_SECONDS * 1000;
	char path[64], port_text[8];
	uint32_t state;
	pid_t pid;

	row_exe(n, "learned", path);
	(void)snprintf(port_text, sizeof(port_text), "%u", PORT_JOINED);
	pid = fork();
	if (!pid) {
		(void)execl(path, path, "--earn", port_text, (char *)NULL);
		_exit(1);
	}
	do {
		tool_sleep_us(10000);
		state = exe_state(told, path);
	} while ((state == AC_EXE_LEARNING || state == AC_EXE_RIPE) && clock_ms() < until);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return state;
}

/* Runs the row where pairs are joined; false: this one was not. */
static bool row_run_joined(size_t n, const char *kind, const struct told *told, char *ret_seen)
{
	uint64_t before = stats_read(told->stats, AC_STAT_JOINED);

	row_run(n, kind, PORT_JOINED, ret_seen);
	return stats_read(told->stats, AC_STAT_JOINED) != before;
}

/* By a program that nobody has named. False: it was not as it must be. */
static bool row_learned(const struct row *row, size_t n, const struct told *told, const char *plain)
{
	static const char *const words[_AC_EXE_MAX] = {
		"is still being watched", "is still being watched",  "joined", "splices: as plain", "unfit: as plain",
		"may splice: as plain",	  "blocking-recv: as plain",
	};
	char seen[SEEN_BYTES];
	bool joined = row_run_joined(n, "learned", told, seen), ok;
	uint32_t state;

	if (joined || !streq(seen, plain)) {
		printf("%-34s %-15s %s\n", "", "  watched", joined ? "JOINED" : seen);
		return false;
	}
	state = row_earn(n, told);
	joined = row_run_joined(n, "learned", told, seen);
	/* Whoever stays on TCP sees what it shows: on some kernels nearly everybody does. */
	ok = joined == (state == AC_EXE_TRUSTED) && streq(seen, plain) == !(row->always && joined);
	printf("%-34s %-15s %s\n", "", "  when learned", ok || !joined ? words[state] : seen);
	if (!ok)
		printf("%-34s %-15s %s, %s\n", "", "  BUT IT IS", joined ? "joined" : "not joined", seen);
	return ok;
}

static void row_compare(const struct row *row, size_t n, const struct told *told, struct totals *totals)
{
	char plain[SEEN_BYTES], joined[SEEN_BYTES], again[SEEN_BYTES];
	const char *verdict;
	bool equal, ok, fell_back = true;

	row_run(n, "plain", PORT_PLAIN, plain);
	if (!row_run_joined(n, "joined", told, joined))
		(void)snprintf(joined, sizeof(joined), "WAS NOT JOINED");
	equal = streq(plain, joined);
	if (row->unjoins)
		fell_back = !row_run_joined(n, "joined", told, again) && streq(plain, again);
	ok = equal == !row->differs && fell_back;
	verdict = !fell_back ? "STILL JOINED" :
		  ok	     ? (equal ? "equal" : "differs, known") :
		  equal	     ? "NOW EQUAL" :
			       "DIFFERS";
	printf("%-34s %-15s %s\n", row->name, verdict, plain);
	if (!equal)
		printf("%-34s %-15s %s\n", "", "  joined", joined);
	if (ok && row->differs)
		printf("%-34s %-15s %s\n", "", "  because", row->differs);
	if (row->unjoins)
		printf("%-34s %-15s %s\n", "", "  second time", fell_back ? "not joined any more: as plain" : again);
	if (row->differs)
		ok &= row_learned(row, n, told, plain);
	(void)fflush(stdout);
	if (ok)
		totals->passed++;
	else
		totals->failed++;
}

static void lo_up(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo" };

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		tool_die("cannot see lo: %s", strerror(errno));
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		tool_die("cannot bring lo up: %s", strerror(errno));
}

static char cgroup_dir[512];

static void cgroup_make(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/mounts", "re");
	char line[1024], dir[256], type[64];
	char procs[600];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %255s %63s", dir, type) == 2 && streq(type, "cgroup2"))
			break;
	if (!f || feof(f))
		tool_die("there is no cgroup v2 tree");
	(void)snprintf(cgroup_dir, sizeof(cgroup_dir), "%s/waggle-conform-%d", dir, (int)getpid());
	if (mkdir(cgroup_dir, 0755) < 0)
		tool_die("cannot make '%s': %s", cgroup_dir, strerror(errno));
	(void)snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir);
	tool_enter_cgroup(cgroup_dir);
}

/* Back to where rmdir(2) lets the test's cgroup go. */
static void cgroup_remove(void)
{
	char *slash = strrchr(cgroup_dir, '/');

	*slash = '\0';
	tool_enter_cgroup(cgroup_dir);
	*slash = '/';
	for (int tries = 0; rmdir(cgroup_dir) < 0 && tries < 200; tries++)
		tool_sleep_us(20000);
}

static void place_make(void)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0)
		tool_die("cannot make namespaces: %s", strerror(errno));
	(void)mkdir("/var/lib/waggle", 0755);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0 ||
	    mount("tmpfs", "/var/lib/waggle", "tmpfs", 0, NULL) < 0)
		tool_die("cannot mount: %s", strerror(errno));
	lo_up();
	cgroup_make();
}

/* With the file of each row trusted. */
static void accel_exec(const char *waggle, size_t rows)
{
	const char **argv = calloc(rows * 2 + 8, sizeof(*argv));
	char(*paths)[64] = calloc(rows, sizeof(*paths));
	size_t at = 0;

	argv[at++] = waggle;
	argv[at++] = "accel";
	argv[at++] = "--cgroup";
	argv[at++] = cgroup_dir;
	argv[at++] = "--port";
	argv[at++] = "7415";
	for (size_t n = 0; n < rows; n++) {
		row_exe(n, "joined", paths[n]);
		argv[at++] = "--trust";
		argv[at++] = paths[n];
	}
	(void)execv(waggle, (char **)argv);
	tool_die("cannot run '%s': %s", waggle, strerror(errno));
}

static pid_t accel_start(const char *waggle, size_t rows)
{
	_cleanup_fclose_ FILE *out = NULL;
	char line[64] = "";
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		tool_die("cannot start the accelerator: %s", strerror(errno));
	if (!pid) {
		(void)dup2(fds[1], STDOUT_FILENO);
		accel_exec(waggle, rows);
	}
	(void)close(fds[1]);
	out = fdopen(fds[0], "r");
	if (!out || !fgets(line, sizeof(line), out) || !streq(line, "ready\n")) {
		cgroup_remove();
		tool_die("'%s accel' did not come up", waggle);
	}
	return pid;
}

static size_t rows_prepare(void)
{
	char path[64];
	size_t n;

	for (n = 0; row_at(n); n++) {
		row_exe(n, "plain", path);
		copy_self(path);
		row_exe(n, "joined", path);
		copy_self(path);
		row_exe(n, "learned", path);
		copy_self(path);
	}
	return n;
}

int main(int argc, char **argv)
{
	const char *waggle = argc > 1 ? argv[1] : getenv("WAGGLE");
	const char *only = argc > 2 ? argv[2] : NULL;
	struct totals totals = {};
	struct told told;
	int status = 0;
	size_t rows;
	pid_t accel;

	tool_init("conform");
	if (argc == 5 && streq(argv[1], "--row"))
		return row_main(row_at(tool_number("--row", argv[2], 0, 1000)),
				(uint16_t)tool_number("port", argv[3], 1, 65535),
				(int)tool_number("fd", argv[4], 0, 1000));
	if (argc == 3 && streq(argv[1], "--earn"))
		return earn_main((uint16_t)tool_number("port", argv[2], 1, 65535));
	if (!waggle)
		tool_usage("usage: conform WAGGLE [ROW], or with the path of waggle in $WAGGLE");
	place_make();
	rows = rows_prepare();
	accel = accel_start(waggle, rows);
	told.stats = stats_open(accel);
	told.exes = map_open(accel, "ac_exes");
	for (size_t n = 0; told.stats >= 0 && told.exes >= 0 && n < rows; n++)
		if (!only || strstr(row_at(n)->name, only))
			row_compare(row_at(n), n, &told, &totals);
	(void)kill(accel, SIGTERM);
	(void)waitpid(accel, &status, 0);
	if (told.stats < 0 || told.exes < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) {
		tool_say("waggle accel ended with status %x", (unsigned int)status);
		totals.failed++;
	}
	cgroup_remove();
	printf("%u passed, %u failed, %u skipped\n", totals.passed, totals.failed, totals.skipped);
	return totals.failed ? 1 : 0;
}
