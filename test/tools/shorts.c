// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Thousands of short connections, of which the first bytes matter most: one-byte sends right after connect(2),
 * data in the third ACK, a listener that sleeps until data is there, a reader that takes few bytes at a time.
 * With several --pair, each pair of namespaces does the same at the same time with the same four-tuples, and each
 * message says which pair it belongs to. Prints what was verified as JSON; ends with 1 at the first wrong byte.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tool.h"
#include "base/clock.h"

#define PAIRS_MAX 8
#define BYTES_MAX 65536
#define HELD 8 /* connections that the server keeps open after the client has reset them */
#define MAGIC 0x77686f72U
#define STEP_TIMEOUT_MS 10000

struct head {
	uint32_t magic;
	uint32_t pair;
	uint64_t seq;
};

struct shared {
	_Atomic uint64_t arrived[PAIRS_MAX]; /* the connection that the client of this pair is about to make */
	_Atomic uint64_t verified, retries, restarts, done;
	_Atomic uint32_t ready[PAIRS_MAX], failed;
};

struct shorts {
	uint64_t connections, bytes, seed, restart_every, think_us;
	uint16_t port, source_port;
	enum tool_family family;
	const char *client_netns[PAIRS_MAX], *server_netns[PAIRS_MAX];
	const char *client_cgroup, *server_cgroup, *listen, *connect;
	bool defer_accept, third_ack, one_send;
	unsigned int n_pairs;
	struct shared *shared;
};

static void message_fill(const struct shorts *s, unsigned int pair, uint64_t seq, unsigned int direction, uint8_t *buf)
{
	struct head head = { .magic = MAGIC + direction, .pair = pair, .seq = seq };

	memcpy(buf, &head, sizeof(head));
	stream_fill(buf + sizeof(head), s->bytes - sizeof(head), stream_key(s->seed, seq * PAIRS_MAX + pair, direction),
		    0);
}

static void wrong(struct shorts *s, const char *who, unsigned int pair, uint64_t seq, size_t at, const uint8_t *got,
		  const uint8_t *want)
{
	char left[80], right[80];
	const struct head *head = (const void *)got;
	size_t from = at < 8 ? 0 : at - 8, a = 0, b = 0;

	for (size_t i = from; i < from + 16 && i < s->bytes; i++) {
		a += (size_t)snprintf(left + a, sizeof(left) - a, "%02x ", i <= at ? got[i] : 0);
		b += (size_t)snprintf(right + b, sizeof(right) - b, "%02x ", want[i]);
	}
	atomic_store(&s->shared->failed, 1);
	tool_die("%s of pair %u: connection %llu: wrong byte at %zu; from %zu: %s; expected: %s%s", who, pair,
		 (unsigned long long)seq, at, from, left, right,
		 at >= 4 && head->magic - MAGIC < 2 && head->pair != pair ? "; it is ANOTHER PAIR's message" : "");
}

enum got {
	GOT_ALL,
	GOT_END, /* before the first byte */
	GOT_RESET,
};

/* Reads a message few bytes at a time, each compared on arrival. *seq 0: the head tells, and sets it. */
static enum got message_recv(struct shorts *s, int fd, struct rng *rng, const char *who, unsigned int pair,
			     uint64_t *seq, unsigned int direction)
{
	static uint8_t got[BYTES_MAX], want[BYTES_MAX];
	bool made = *seq;

	if (made)
		message_fill(s, pair, *seq, direction, want);
	for (size_t done = 0; done < s->bytes;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		size_t room = (made ? s->bytes : sizeof(struct head)) - done,
		       n = 1 + rng_below(rng, done < 64 ? 7 : BYTES_MAX);
		struct head head;
		ssize_t r;

		if (poll(&p, 1, STEP_TIMEOUT_MS) != 1)
			tool_die("%s of pair %u: connection %llu: no byte for %d ms, %zu of %llu received", who, pair,
				 (unsigned long long)*seq, STEP_TIMEOUT_MS, done, (unsigned long long)s->bytes);
		r = recv(fd, got + done, n < room ? n : room, MSG_DONTWAIT);
		if (r < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (r < 0 && errno != ECONNRESET)
			tool_die("%s of pair %u: recv: %s", who, pair, strerror(errno));
		if (r <= 0)
			return r < 0 ? GOT_RESET : GOT_END;
		if (!made && done + (size_t)r >= sizeof(struct head)) {
			memcpy(&head, got, sizeof(head));
			*seq = head.seq;
			message_fill(s, pair, *seq, direction, want);
			made = true;
			for (size_t i = 0; i < sizeof(struct head); i++)
				if (got[i] != want[i])
					wrong(s, who, pair, *seq, i, got, want);
		}
		for (size_t i = done; made && i < done + (size_t)r; i++)
			if (got[i] != want[i])
				wrong(s, who, pair, *seq, i, got, want);
		done += (size_t)r;
		if (s->think_us && done < 64)
			tool_sleep_us(rng_below(rng, s->think_us));
	}
	atomic_fetch_add(&s->shared->verified, s->bytes);
	return GOT_ALL;
}

static void reset_at_close(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0)
		tool_die("SO_LINGER: %s", strerror(errno));
}

/* Lets the head arrive before the first byte is taken. */
static void head_wait(int fd)
{
	struct head head;

	for (int tries = 0; tries < 1000; tries++) {
		ssize_t r = recv(fd, &head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);

		if (r == sizeof(head) || !r || (r < 0 && errno != EAGAIN))
			return;
		tool_sleep_us(100);
	}
}

/* The first bytes one by one, the rest in pieces. False: errno tells. */
static bool message_send(const struct shorts *s, int fd, struct rng *rng, const uint8_t *buf, bool thinks)
{
	for (size_t done = 0; done < s->bytes;) {
		size_t n = done < 3 ? 1 : 1 + rng_below(rng, s->bytes - done);
		ssize_t r = send(fd, buf + done, n, MSG_NOSIGNAL);

		if (r < 0)
			return false;
		done += (size_t)r;
		if (thinks && done >= 3)
			tool_sleep_us(rng_below(rng, s->think_us));
	}
	return true;
}

/* In several sends, or a listener is taken for one whose connections are too short to be joined. */
static bool reply_send(const struct shorts *s, int fd, struct rng *rng, const uint8_t *buf)
{
	if (s->one_send)
		return send(fd, buf, s->bytes, MSG_NOSIGNAL) == (ssize_t)s->bytes;
	tool_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	return message_send(s, fd, rng, buf, false);
}

/* Serves until told to restart: then listener and connections are gone, and a new process begins. */
static void server(struct shorts *s, unsigned int pair)
{
	struct rng rng = { mix64(s->seed + pair) };
	_cleanup_free_ uint8_t *buf = malloc(BYTES_MAX);
	int held[HELD], listener;

	memset(held, -1, sizeof(held));
	tool_enter_cgroup(s->server_cgroup);
	tool_enter_netns(s->server_netns[pair]);
	listener = tool_listen(s->family, s->listen, s->port, NULL);
	if (s->defer_accept)
		tool_set(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
	s->shared->ready[pair] = 1;
	for (uint64_t i = 0; !s->restart_every || i < s->restart_every; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		uint64_t seq = 0;

		if (fd < 0)
			tool_die("accept: %s", strerror(errno));
		/* Half of the time the reader starts before everything has come. */
		if (rng_below(&rng, 2))
			head_wait(fd);
		if (message_recv(s, fd, &rng, "server", pair, &seq, 0) != GOT_ALL) {
			(void)close(fd);
			continue;
		}
		message_fill(s, pair, seq, 1, buf);
		if (!reply_send(s, fd, &rng, buf) && errno != ECONNRESET && errno != EPIPE)
			tool_die("server send: %s", strerror(errno));
		if (held[i % HELD] >= 0)
			(void)close(held[i % HELD]);
		held[i % HELD] = fd;
	}
	for (unsigned int i = 0; i < HELD; i++)
		if (held[i] >= 0)
			(void)close(held[i]);
	(void)close(listener);
	exit(0);
}

static int client_connect(struct shorts *s, uint64_t seq)
{
	struct sockaddr_storage to, from;
	socklen_t len = tool_addr(s->family, s->connect, s->port, &to);
	_cleanup_close_ int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	tool_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	/* Without quick ACKs the third one waits for data to go with. */
	if (s->third_ack)
		tool_set(fd, IPPROTO_TCP, TCP_QUICKACK, 0);
	if (s->source_port) {
		from = to;
		if (from.ss_family == AF_INET)
			((struct sockaddr_in *)&from)->sin_addr.s_addr = INADDR_ANY;
		else
			((struct sockaddr_in6 *)&from)->sin6_addr = in6addr_any;
		((struct sockaddr_in *)&from)->sin_port = htons((uint16_t)(s->source_port + seq % 16));
		tool_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		if (bind(fd, (void *)&from, len) < 0)
			return -1;
	}
	reset_at_close(fd);
	if (connect(fd, (void *)&to, len) < 0)
		return -1;
	return TAKE_FD(fd);
}

/* False: the server was restarting, try again. */
static bool client_one(struct shorts *s, unsigned int pair, uint64_t seq, struct rng *rng, uint8_t *buf)
{
	_cleanup_close_ int fd = client_connect(s, seq);
	enum got got;

	if (fd < 0) {
		if (s->restart_every && (errno == ECONNREFUSED || errno == ECONNRESET))
			return false;
		tool_die("client of pair %u: connect: %s", pair, strerror(errno));
	}
	message_fill(s, pair, seq, 0, buf);
	if (!message_send(s, fd, rng, buf, s->think_us)) {
		if (s->restart_every && (errno == ECONNRESET || errno == EPIPE))
			return false;
		tool_die("client of pair %u: send: %s", pair, strerror(errno));
	}
	got = message_recv(s, fd, rng, "client", pair, &seq, 1);
	if (got != GOT_ALL && !s->restart_every)
		tool_die("client of pair %u: connection %llu: %s instead of the reply", pair, (unsigned long long)seq,
			 got == GOT_END ? "end of stream" : "reset");
	return got == GOT_ALL;
}

static void client(struct shorts *s, unsigned int pair)
{
	_cleanup_free_ uint8_t *buf = malloc(BYTES_MAX);
	struct rng rng = { mix64(s->seed + 100 + pair) };

	tool_enter_cgroup(s->client_cgroup);
	tool_enter_netns(s->client_netns[pair]);
	for (uint64_t seq = 1; seq <= s->connections; seq++) {
		s->shared->arrived[pair] = seq;
		for (unsigned int i = 0; i < s->n_pairs; i++)
			while (s->shared->arrived[i] < seq && !s->shared->failed)
				(void)sched_yield();
		while (!client_one(s, pair, seq, &rng, buf)) {
			if (atomic_fetch_add(&s->shared->retries, 1) > s->connections * PAIRS_MAX)
				tool_die("client of pair %u: too many tries", pair);
			tool_sleep_us(500);
		}
		atomic_fetch_add(&s->shared->done, 1);
	}
	exit(0);
}

static pid_t spawn(struct shorts *s, void (*fn)(struct shorts *s, unsigned int pair), unsigned int pair)
{
	pid_t pid = fork();

	if (pid < 0)
		tool_die("fork: %s", strerror(errno));
	if (!pid) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(s, pair);
	}
	return pid;
}

static bool run(struct shorts *s)
{
	pid_t servers[PAIRS_MAX], clients[PAIRS_MAX];
	unsigned int running = s->n_pairs;
	bool ok = true;

	for (unsigned int i = 0; i < s->n_pairs; i++)
		servers[i] = spawn(s, server, i);
	for (unsigned int i = 0; i < s->n_pairs; i++)
		for (int tries = 0; !s->shared->ready[i]; tries++) {
			if (tries > 5000)
				tool_die("the server of pair %u did not come up", i);
			tool_sleep_us(1000);
		}
	for (unsigned int i = 0; i < s->n_pairs; i++)
		clients[i] = spawn(s, client, i);
	while (running && ok) {
		int status;
		pid_t pid = wait(&status);

		ok = WIFEXITED(status) && !WEXITSTATUS(status);
		for (unsigned int i = 0; i < s->n_pairs; i++) {
			if (pid == clients[i]) {
				running--;
				clients[i] = 0;
			} else if (pid == servers[i]) {
				atomic_fetch_add(&s->shared->restarts, 1);
				servers[i] = ok ? spawn(s, server, i) : 0;
			}
		}
	}
	s->shared->failed = !ok;
	for (unsigned int i = 0; i < s->n_pairs; i++) {
		if (clients[i])
			(void)kill(clients[i], SIGKILL);
		if (servers[i])
			(void)kill(servers[i], SIGKILL);
	}
	while (wait(NULL) > 0)
		;
	return ok;
}

static void add_pair(struct shorts *s, char *text)
{
	char *comma = strchr(text, ',');

	if (s->n_pairs == PAIRS_MAX || !comma)
		tool_usage("'%s' does not fit --pair: give CLIENT_NETNS,SERVER_NETNS", text);
	*comma = '\0';
	s->client_netns[s->n_pairs] = text;
	s->server_netns[s->n_pairs++] = comma + 1;
}

static void parse(struct shorts *s, int argc, char **argv)
{
	static const struct option options[] = {
		{ "connections", 1, NULL, 'c' },
		{ "bytes", 1, NULL, 'b' },
		{ "seed", 1, NULL, 'r' },
		{ "family", 1, NULL, 'f' },
		{ "pair", 1, NULL, 'p' },
		{ "port", 1, NULL, 'P' },
		{ "source-port", 1, NULL, 's' },
		{ "listen", 1, NULL, 'l' },
		{ "connect", 1, NULL, 'a' },
		{ "defer-accept", 0, NULL, 'd' },
		{ "third-ack", 0, NULL, 't' },
		{ "restart-every", 1, NULL, 'R' },
		{ "client-cgroup", 1, NULL, 'g' },
		{ "server-cgroup", 1, NULL, 'G' },
		{ "think-us", 1, NULL, 'T' },
		{ "one-send", 0, NULL, 'o' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			s->connections = tool_number("--connections", optarg, 1, 1000000);
			break;
		case 'b':
			s->bytes = tool_number("--bytes", optarg, sizeof(struct head), BYTES_MAX);
			break;
		case 'r':
			s->seed = tool_number("--seed", optarg, 0, UINT64_MAX);
			break;
		case 'f':
			s->family = tool_family_parse(optarg);
			break;
		case 'p':
			add_pair(s, optarg);
			break;
		case 'P':
			s->port = (uint16_t)tool_number("--port", optarg, 1, 65535);
			break;
		case 's':
			s->source_port = (uint16_t)tool_number("--source-port", optarg, 1, 65000);
			break;
		case 'l':
			s->listen = optarg;
			break;
		case 'a':
			s->connect = optarg;
			break;
		case 'd':
			s->defer_accept = true;
			break;
		case 't':
			s->third_ack = true;
			break;
		case 'R':
			s->restart_every = tool_number("--restart-every", optarg, 1, 1000000);
			break;
		case 'o':
			s->one_send = true;
			break;
		case 'T':
			s->think_us = tool_number("--think-us", optarg, 1, 1000000);
			break;
		case 'g':
			s->client_cgroup = optarg;
			break;
		case 'G':
			s->server_cgroup = optarg;
			break;
		default:
			tool_usage("see the list of options in test/tools/shorts.c");
		}
	}
	if (!s->n_pairs)
		s->n_pairs = 1;
}

int main(int argc, char **argv)
{
	struct shorts s = { .connections = 1000, .bytes = 100, .port = 7411, .seed = clock_ms() };
	bool ok;

	tool_init("shorts");
	parse(&s, argc, argv);
	s.shared = tool_shared(sizeof(*s.shared));
	ok = run(&s);
	printf("{\"ok\": %s, \"seed\": %llu, \"connections\": %llu, \"bytes\": %llu, \"retries\": %llu, \"restarts\": %llu}\n",
	       ok ? "true" : "false", (unsigned long long)s.seed, (unsigned long long)s.shared->done,
	       (unsigned long long)s.shared->verified, (unsigned long long)s.shared->retries,
	       (unsigned long long)s.shared->restarts);
	return ok ? 0 : 1;
}
