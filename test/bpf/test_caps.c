// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which capability is for what: each function works with those named here, and does not without any one of them. The
 * unit leaves waggle all of these, and no other.
 */
#include "cn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "abi/connect.h"
#include "base/clock.h"
#include "hook/accel.h"
#include "hook/redirect.h"
#include "sys/cgroup.h"
#include "sys/proc.h"

#define BIT(cap) (1ULL << (cap))
#define BALANCING (BIT(CAP_BPF) | BIT(CAP_PERFMON) | BIT(CAP_NET_ADMIN))

static const char *const names[] = {
	[CAP_BPF] = "CAP_BPF",
	[CAP_PERFMON] = "CAP_PERFMON",
	[CAP_NET_ADMIN] = "CAP_NET_ADMIN",
	[CAP_SYS_ADMIN] = "CAP_SYS_ADMIN",
	[CAP_SYS_PTRACE] = "CAP_SYS_PTRACE",
	[CAP_DAC_READ_SEARCH] = "CAP_DAC_READ_SEARCH",
};

/* A process of another user, in a network namespace of its own, with a socket. */
static struct {
	pid_t pid;
	uint32_t netns;
	uint64_t socket;
} other;

/* As if a connect() had failed a second ago: the notes are looked through, and the sockets of all processes. */
static bool settles(struct connect *connect)
{
	struct cn_bucket b = { .key = { 1ULL << 60 | CN_NOTE_WRITTEN | CN_NOTE_COUNTED } };
	_cleanup_close_ int fd = -1;
	uint32_t zero = 0, n = 1;
	char pin[300];

	(void)snprintf(pin, sizeof(pin), "%s/cn_notes", cn.pins);
	fd = bpf_obj_get(pin);
	b.of[0].since = (uint32_t)(clock_ms() * 1000 - 1000000) | 1;
	return fd >= 0 && !bpf_map_update_elem(fd, &zero, &b, BPF_ANY) && connect_settle(connect, 20, &n) >= 0 && !n;
}

/* Services, and the connect hook. */
static bool balances(void)
{
	struct connect_opts opts = { .cgroups = (const char *const[]){ cn.cgroup }, .n_cgroups = 1 };
	static const struct lb_limits limits = { .services = 64, .backends = 512, .ring_entries = 1 << 16 };
	struct connect *connect;
	bool taken_over;
	struct lb *lb;

	return lb_open(&limits, &lb, &taken_over, NULL) >= 0 && connect_open(lb, &opts, &connect, NULL) >= 0 &&
	       settles(connect);
}

/* Redirects and policy. */
static bool redirects(void)
{
	char name[] = "any", *from[] = { name };
	struct config_cidr all = { .prefix = 0 };
	struct config_identity id = { .name = name, .cidrs = { &all, 1 } };
	struct config_policy policy = { .from = { from, 1 } };
	struct config c = { .identities = &id, .n_identities = 1, .policies = &policy, .n_policies = 1 };
	struct redirect *r;

	return redirect_open(&(struct redirect_opts){ .cgroup = cn.cgroup }, &r, NULL) >= 0 &&
	       redirect_apply(r, &c, NULL) >= 0;
}

/* The accelerator: it looks for what a process before has left. */
static bool accelerates(void)
{
	struct accel_opts opts = { .cgroups = (const char *const[]){ cn.cgroup }, .n_cgroups = 1, .max_sockets = 64 };
	struct accel *a;

	return accel_open(&opts, &a, NULL) >= 0 && accel_attach(a, NULL) >= 0;
}

/* Inbound redirects: where are the processes of a cgroup? */
static bool finds_namespaces(void)
{
	return netns_open(other.netns) >= 0;
}

/* Resetting connections, and finding listeners, in other namespaces than the own. */
static bool enters_namespaces(void)
{
	int fd = netns_open(other.netns);

	return fd >= 0 && netns_enter(fd) >= 0;
}

/* Whose is a socket? */
static bool names_processes(void)
{
	struct proc_sockets s;
	const struct proc_socket *found;

	if (proc_sockets_read(&s) < 0)
		return false;
	found = proc_sockets_find(&s, other.socket);
	return found && found->pid == other.pid;
}

/* The cgroup of a socket is a number. */
static bool names_cgroups(void)
{
	struct stat st;

	return !stat(cn.cgroup, &st) && !streq(cgroup_path(st.st_ino), "?");
}

static const struct row {
	const char *name;
	bool (*fn)(void);
	uint64_t needs;
} rows[] = {
	{ "balances", balances, BALANCING },
	{ "redirects", redirects, BALANCING },
	/* CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON too. */
	{ "accelerates", accelerates, BIT(CAP_NET_ADMIN) | BIT(CAP_SYS_ADMIN) },
	{ "finds namespaces", finds_namespaces, BIT(CAP_SYS_PTRACE) },
	{ "enters namespaces", enters_namespaces, BIT(CAP_SYS_PTRACE) | BIT(CAP_SYS_ADMIN) },
	{ "names processes", names_processes, BIT(CAP_SYS_PTRACE) },
	{ "names cgroups", names_cgroups, BIT(CAP_DAC_READ_SEARCH) },
};

static int caps_set(uint64_t caps)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {};

	for (int i = 0; i < 2; i++)
		data[i].effective = data[i].permitted = (uint32_t)(caps >> 32 * i);
	return (int)syscall(SYS_capset, &head, data);
}

/* In a process of its own, with these capabilities and no others. */
static bool works(const struct row *row, uint64_t caps)
{
	struct err err = {};
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)alarm(100);
		_exit(caps_set(caps) < 0 ? 2 : row->fn() ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (lb_unpin(&err) < 0)
		fail_msg("%s", err.text);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status) == 0;
}

static void test_each(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!works(&rows[i], rows[i].needs))
			fail_msg("%s: not with what it is said to need", rows[i].name);
		for (unsigned int cap = 0; cap < ARRAY_SIZE(names); cap++)
			if (rows[i].needs & BIT(cap) && works(&rows[i], rows[i].needs & ~BIT(cap)))
				fail_msg("%s: also without %s", rows[i].name, names[cap]);
	}
}

/* What the unit leaves it is what the rows need. */
static void test_unit(void **state)
{
	const char *path = getenv("WAGGLE_UNIT");
	_cleanup_fclose_ FILE *f = path ? fopen(path, "re") : NULL;
	char line[512], *word = NULL;
	uint64_t needs = 0, has = 0;

	if (!f)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		needs |= rows[i].needs;
	while (!word && fgets(line, sizeof(line), f))
		if (!strncmp(line, "CapabilityBoundingSet=", 22))
			word = strtok(line + 22, " \n");
	for (; word; word = strtok(NULL, " \n")) {
		uint64_t before = has;

		for (unsigned int cap = 0; cap < ARRAY_SIZE(names); cap++)
			if (names[cap] && streq(word, names[cap]))
				has |= BIT(cap);
		if (has == before)
			fail_msg("the unit leaves it %s, which nothing here needs", word);
	}
	assert_int_equal(has, needs);
}

static int away(void **state)
{
	int to[2];

	if (cn_away(state) < 0 || pipe(to) < 0)
		return -1;
	other.pid = fork();
	if (other.pid == 0) {
		struct stat netns, sock;
		int fd;

		(void)alarm(300);
		if (unshare(CLONE_NEWNET) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0 || fstat(fd, &sock) < 0 || stat("/proc/self/ns/net", &netns) < 0)
			_exit(1);
		(void)!write(to[1], &(uint64_t[]){ netns.st_ino, sock.st_ino }, 2 * sizeof(uint64_t));
		for (;;)
			(void)pause();
	}
	(void)close(to[1]);
	{
		uint64_t told[2];

		if (other.pid < 0 || read(to[0], told, sizeof(told)) != sizeof(told))
			return -1;
		other.netns = (uint32_t)told[0];
		other.socket = told[1];
	}
	(void)close(to[0]);
	return 0;
}

static int home(void **state)
{
	(void)kill(other.pid, SIGKILL);
	(void)waitpid(other.pid, NULL, 0);
	return cn_home(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_each), cmocka_unit_test(test_unit) };

	return cmocka_run_group_tests_name("caps", tests, away, home);
}
