// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Many TCP connections at once between two processes, each with sizes, delays, ways of reading and writing and an
 * end of its own, every byte verified. Prints what was verified as JSON; ends with 1 at the first wrong byte, with
 * all that is known of it, and when a connection stands still.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/sockios.h>

#include "torture.h"
#include "base/clock.h"

#define LINK_US_MAX 3000

struct job {
	struct torture *t;
	uint64_t slot;
	int fd;
};

void torture_fail(struct torture *t, const char *fmt, ...)
{
	char text[1600];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* One report is enough: the others fail because this one did. */
	if (!atomic_exchange(&t->shared->told, 1))
		(void)fprintf(stderr, "torture: seed %llu: %s\n", (unsigned long long)t->seed, text);
	/* After the report: the parent kills everyone when it sees this. */
	atomic_store(&t->shared->failed, 1);
	_exit(1);
}

static uint32_t hello_check(const struct torture *t, uint64_t id)
{
	return (uint32_t)mix64(t->seed ^ mix64(id));
}

/* The server cannot know yet what was planned: a connection that ends within its hello must be one of a reset. */
static bool hello_recv(struct torture *t, int fd, struct hello *ret)
{
	uint8_t *p = (uint8_t *)ret;
	uint32_t magic = TORTURE_MAGIC;

	for (size_t done = 0; done < sizeof(*ret);) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		bool may_fail = t->no_blocking || t->allow_eagain;
		ssize_t r;

		if (t->no_blocking)
			(void)poll(&pfd, 1, -1);
		r = recv(fd, p + done, sizeof(*ret) - done, t->no_blocking ? MSG_DONTWAIT : 0);
		if (r < 0 && (errno == EINTR || (errno == EAGAIN && may_fail)))
			continue;
		if (r < 0 && errno != ECONNRESET)
			torture_fail(t, "server recv of a hello, %zu bytes in: %s", done, strerror(errno));
		if (r <= 0) {
			atomic_fetch_add(&t->shared->orphans, 1);
			return false;
		}
		for (size_t i = 0; i < (size_t)r && done + i < sizeof(magic); i++)
			if (p[done + i] != ((uint8_t *)&magic)[done + i])
				torture_fail(t, "the first bytes of a connection are wrong: %02x at %zu", p[done + i],
					     done + i);
		done += (size_t)r;
	}
	if (ret->check != hello_check(t, ret->id))
		torture_fail(t, "the first bytes of a connection are wrong: id %llx with check %x",
			     (unsigned long long)ret->id, ret->check);
	return true;
}

static void *serve(void *data)
{
	_cleanup_free_ struct job *job = data;
	struct record *rec = record_get(job->t, 0, job->fd, true);
	struct hello hello;
	struct plan plan;

	if (hello_recv(job->t, job->fd, &hello)) {
		plan_make(job->t, hello.id, &plan);
		rec->id = hello.id;
		end_run(job->t, &plan, 1, job->fd, rec);
	} else {
		(void)close(job->fd);
	}
	record_put(rec);
	return NULL;
}

static int server_main(struct torture *t)
{
	_cleanup_close_ int listener = -1;
	uint16_t port;

	tool_enter_cgroup(t->server_cgroup);
	tool_enter_netns(t->server_netns);
	listener = tool_listen(t->family, t->listen, t->listen_port, &port);
	t->shared->port = port;
	while (!t->shared->finished) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		struct job *job;
		pthread_t thread;

		if (poll(&p, 1, 50) < 1)
			continue;
		job = new0(struct job);
		if (!job)
			torture_fail(t, "out of memory");
		*job = (struct job){ .t = t, .fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC) };
		if (job->fd < 0) {
			free(job);
			continue;
		}
		if (pthread_create(&thread, NULL, serve, job))
			torture_fail(t, "cannot make a thread");
		(void)pthread_detach(thread);
	}
	for (unsigned int i = 0; i < TORTURE_RECORDS;)
		if (t->shared->records[i].phase != PHASE_FREE)
			tool_sleep_us(1000);
		else
			i++;
	return 0;
}

static void hello_send(struct torture *t, const struct plan *plan, int fd)
{
	struct hello hello = { .magic = TORTURE_MAGIC, .check = hello_check(t, plan->id), .id = plan->id };
	size_t step = plan->side[0].hello_by_bytes ? 1 : sizeof(hello);

	if (plan->side[0].nodelay)
		tool_set(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, 1);
	for (size_t done = 0; done < sizeof(hello); done += step)
		if (send(fd, (uint8_t *)&hello + done, step, MSG_NOSIGNAL) != (ssize_t)step) {
			/* Nobody but the server's planned reset may end it, and the server does not know the plan yet. */
			torture_fail(t, "client send of a hello: %s", strerror(errno));
		}
}

static int connect_one(struct torture *t, const struct plan *plan)
{
	/* A v4-mapped listener takes clients of both kinds of socket. */
	enum tool_family family = t->family == FAMILY_MAPPED && plan->id % 2 ? FAMILY_4 : t->family;
	const char *address = t->connect;
	struct sockaddr_storage to;
	char mapped[64];
	socklen_t len;

	if (t->family == FAMILY_MAPPED && address && family == FAMILY_MAPPED) {
		(void)snprintf(mapped, sizeof(mapped), "::ffff:%s", address);
		address = mapped;
	}
	len = tool_addr(family, address, t->connect_port ? t->connect_port : (uint16_t)t->shared->port, &to);
	return tool_connect(&to, len);
}

static void *client_slot(void *data)
{
	struct job *job = data;
	struct torture *t = job->t;
	struct rng rng = { mix64(t->seed + job->slot) };

	for (uint64_t seq = 0; !t->shared->stop; seq++) {
		struct record *rec;
		struct plan plan;
		int fd;

		plan_make(t, job->slot << 32 | seq, &plan);
		rec = record_get(t, plan.id, -1, false);
		fd = connect_one(t, &plan);
		if (fd < 0)
			torture_fail(t, "connect: %s", strerror(errno));
		rec->fd = fd;
		rec->phase = PHASE_HELLO;
		hello_send(t, &plan, fd);
		if (plan.ending == END_RESET && plan.closer == 0)
			atomic_fetch_add(&t->shared->client_resets, 1);
		end_run(t, &plan, 0, fd, rec);
		record_put(rec);
		atomic_fetch_add(&t->shared->connections, 1);
		if (!rng_below(&rng, 2))
			tool_sleep_us(rng_below(&rng, LINK_US_MAX));
	}
	return NULL;
}

static int client_main(struct torture *t)
{
	pthread_t *threads = calloc(t->slots, sizeof(*threads));
	struct job *jobs = calloc(t->slots, sizeof(*jobs));

	tool_enter_cgroup(t->client_cgroup);
	tool_enter_netns(t->client_netns);
	if (!threads || !jobs)
		torture_fail(t, "out of memory");
	for (uint64_t i = 0; i < t->slots; i++) {
		jobs[i] = (struct job){ .t = t, .slot = i };
		if (pthread_create(&threads[i], NULL, client_slot, &jobs[i]))
			torture_fail(t, "cannot make a thread");
	}
	for (uint64_t i = 0; i < t->slots; i++)
		(void)pthread_join(threads[i], NULL);
	free(threads);
	free(jobs);
	return 0;
}

/* What the kernel says of one end, read through a copy of its file descriptor. */
static void dump_end(struct torture *t, struct record *rec)
{
	static const char *const phases[] = { "free", "connect", "hello", "talk", "end" };
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, rec->pid, 0);
	_cleanup_close_ int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, rec->fd, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };
	int unread = -1, unsent = -1;
	char text[512];
	struct plan plan;

	if (fd >= 0) {
		(void)ioctl(fd, FIONREAD, &unread);
		(void)ioctl(fd, SIOCOUTQ, &unsent);
		(void)poll(&p, 1, 0);
	}
	plan_make(t, rec->id, &plan);
	tool_say("  %s %s id=%llx sent=%llu received=%llu FIONREAD=%d SIOCOUTQ=%d poll=%x; %s",
		 rec->is_server ? "server" : "client", phases[rec->phase], (unsigned long long)rec->id,
		 (unsigned long long)rec->sent, (unsigned long long)rec->received, unread, unsent,
		 (unsigned int)p.revents, plan_format(&plan, text, sizeof(text)));
}

/* others: how many more have stood still for half as long; all of them tell of the machine, not of a connection. */
static void stalled(struct torture *t, struct record *rec, unsigned int others)
{
	uint64_t id = rec->id;

	if (atomic_exchange(&t->shared->failed, 1))
		return;
	tool_say("seed %llu: connection %llx has stood still for %llu ms, and %u others for half of it",
		 (unsigned long long)t->seed, (unsigned long long)id, (unsigned long long)t->stall_ms, others);
	for (unsigned int i = 0; i < TORTURE_RECORDS; i++)
		if (t->shared->records[i].phase != PHASE_FREE && t->shared->records[i].id == id)
			dump_end(t, &t->shared->records[i]);
}

static bool reap(struct torture *t, pid_t *pid)
{
	int status;

	if (*pid <= 0 || waitpid(*pid, &status, WNOHANG) != *pid)
		return false;
	*pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		if (!atomic_exchange(&t->shared->failed, 1))
			tool_say("a process ended with status %x", (unsigned int)status);
	return true;
}

static volatile sig_atomic_t told_to_end;

static void on_term(int sig)
{
	(void)sig;
	told_to_end = 1;
}

/* Lets the two run for the time given, or until SIGTERM, and sees that every connection moves. */
static void watch(struct torture *t, pid_t server, pid_t client)
{
	uint64_t start = clock_ms(), *seen = calloc(TORTURE_RECORDS, sizeof(*seen)),
		 *since = calloc(TORTURE_RECORDS, sizeof(*since));

	if (!seen || !since)
		tool_die("out of memory");
	while ((server || client) && !t->shared->failed) {
		uint64_t now = clock_ms();

		if (now - start >= t->seconds * 1000 || told_to_end)
			t->shared->stop = 1;
		for (unsigned int i = 0; i < TORTURE_RECORDS; i++) {
			struct record *rec = &t->shared->records[i];

			if (rec->phase == PHASE_FREE || rec->ticks != seen[i]) {
				seen[i] = rec->ticks;
				since[i] = now;
			} else if (now - since[i] > t->stall_ms) {
				unsigned int others = 0;

				for (unsigned int j = 0; j < TORTURE_RECORDS; j++)
					others += t->shared->records[j].phase != PHASE_FREE && j != i &&
						  now - since[j] > t->stall_ms / 2;
				stalled(t, rec, others);
				break;
			}
		}
		if (reap(t, &client))
			t->shared->finished = 1;
		(void)reap(t, &server);
		tool_sleep_us(20000);
	}
	if (client > 0)
		(void)kill(client, SIGKILL);
	if (server > 0)
		(void)kill(server, SIGKILL);
	while (wait(NULL) > 0)
		;
	free(seen);
	free(since);
}

static pid_t spawn(struct torture *t, int (*fn)(struct torture *t))
{
	pid_t pid = fork();

	if (pid < 0)
		tool_die("cannot fork: %s", strerror(errno));
	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	exit(fn(t));
}

static void parse(struct torture *t, int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", 1, NULL, 's' },
		{ "connections", 1, NULL, 'c' },
		{ "seed", 1, NULL, 'r' },
		{ "family", 1, NULL, 'f' },
		{ "stall-ms", 1, NULL, 't' },
		{ "client-netns", 1, NULL, 'C' },
		{ "server-netns", 1, NULL, 'S' },
		{ "listen", 1, NULL, 'l' },
		{ "connect", 1, NULL, 'a' },
		{ "listen-port", 1, NULL, 'L' },
		{ "connect-port", 1, NULL, 'A' },
		{ "no-reset", 0, NULL, 'n' },
		{ "allow-eagain", 0, NULL, 'e' },
		{ "client-cgroup", 1, NULL, 'g' },
		{ "server-cgroup", 1, NULL, 'G' },
		{ "no-blocking", 0, NULL, 'b' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			t->seconds = tool_number("--seconds", optarg, 1, 3600);
			break;
		case 'c':
			t->slots = tool_number("--connections", optarg, 1, TORTURE_RECORDS / 4);
			break;
		case 'r':
			t->seed = tool_number("--seed", optarg, 0, UINT64_MAX);
			break;
		case 'f':
			t->family = tool_family_parse(optarg);
			break;
		case 't':
			t->stall_ms = tool_number("--stall-ms", optarg, 100, 600000);
			break;
		case 'C':
			t->client_netns = optarg;
			break;
		case 'S':
			t->server_netns = optarg;
			break;
		case 'g':
			t->client_cgroup = optarg;
			break;
		case 'G':
			t->server_cgroup = optarg;
			break;
		case 'l':
			t->listen = optarg;
			break;
		case 'a':
			t->connect = optarg;
			break;
		case 'L':
			t->listen_port = (uint16_t)tool_number("--listen-port", optarg, 1, 65535);
			break;
		case 'A':
			t->connect_port = (uint16_t)tool_number("--connect-port", optarg, 1, 65535);
			break;
		case 'n':
			t->no_reset = true;
			break;
		case 'b':
			t->no_blocking = true;
			break;
		case 'e':
			t->allow_eagain = true;
			break;
		default:
			tool_usage("see the list of options in test/tools/torture.c");
		}
	}
}

int main(int argc, char **argv)
{
	struct torture t = {
		.seconds = 5, .slots = 24, .stall_ms = 10000, .seed = clock_ms() * 1000 + (uint64_t)getpid()
	};
	pid_t server, client;
	struct shared *s;

	tool_init("torture");
	parse(&t, argc, argv);
	t.shared = s = tool_shared(sizeof(*s));
	server = spawn(&t, server_main);
	while (!s->port && waitpid(server, NULL, WNOHANG) == 0)
		tool_sleep_us(1000);
	if (!s->port)
		return 1;
	client = spawn(&t, client_main);
	(void)signal(SIGTERM, on_term);
	watch(&t, server, client);
	if (s->orphans > s->client_resets) {
		tool_say("%llu connections ended within their first bytes, but only %llu were to be reset",
			 (unsigned long long)s->orphans, (unsigned long long)s->client_resets);
		s->failed = 1;
	}
	printf("{\"ok\": %s, \"seed\": %llu, \"family\": \"%s\", \"bytes\": %llu, \"connections\": %llu, \"resets\": %llu, \"eagains\": %llu}\n",
	       s->failed ? "false" : "true", (unsigned long long)t.seed, tool_family_name(t.family),
	       (unsigned long long)s->bytes, (unsigned long long)s->connections, (unsigned long long)s->resets,
	       (unsigned long long)s->eagains);
	return s->failed ? 1 : 0;
}
