// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Programs of one habit each, on connections to themselves; every byte is compared.
 *   uses waitall        reads with MSG_WAITALL
 *   uses lowat          reads with SO_RCVLOWAT
 *   uses plainly        reads as most do: the same without either, and without sleeping in recv(2)
 *   uses requests N     N connections to one listener, of one request and one answer each; then one that lasts until
 *                       a line comes on stdin, and talks all the time
 *   uses sleep          one that sleeps in recv(2) at both ends. For each line on stdin it talks, says "asleep" on
 *                       stdout, and does so; it ends with the input
 *   uses stream         streams small writes until a line comes on stdin, then asks and answers until the next one
 *   uses turn           as sleep, but it polls, all the time, until the first line comes
 */
#include <errno.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool.h"

#define ROUNDS 50
#define PART 60

static void compare(const uint8_t *got, uint64_t key, uint64_t offset, size_t n)
{
	size_t good = stream_check(got, n, key, offset);

	if (good != n)
		tool_die("wrong byte at offset %llu", (unsigned long long)(offset + good));
}

/* Two sends, of which the reader wants the sum; a reader without a habit of its own takes what it gets. */
static void read_parts(const char *habit)
{
	bool waitall = streq(habit, "waitall"), lowat = streq(habit, "lowat");
	uint64_t key = stream_key(1, 1, 0);
	uint8_t out[2 * PART], in[2 * PART];
	int fds[2];

	tool_pair(fds);
	tool_nonblock(fds[1], !waitall && !lowat);
	if (lowat)
		tool_set(fds[1], SOL_SOCKET, SO_RCVLOWAT, 2 * PART);
	for (uint64_t at = 0; at < ROUNDS * 2 * PART; at += 2 * PART) {
		stream_fill(out, sizeof(out), key, at);
		tool_send_all(fds[0], out, PART);
		tool_send_all(fds[0], out + PART, PART);
		for (size_t done = 0; done < sizeof(in);) {
			ssize_t r = recv(fds[1], in + done, sizeof(in) - done, waitall ? MSG_WAITALL : 0);

			if (r < 0 && errno == EAGAIN && !waitall && !lowat)
				continue;
			if (r <= 0)
				tool_die("recv: %s", r ? strerror(errno) : "end of stream");
			/* That is what both of them promise. */
			if ((waitall || lowat) && r != sizeof(in))
				tool_die("recv gave %zd bytes and not %zu", r, sizeof(in));
			done += (size_t)r;
		}
		compare(in, key, at, sizeof(in));
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
}

/* A message there and the same back, each in one send. */
static void ask(int client, int server, uint64_t id)
{
	uint8_t out[PART], in[PART];
	uint64_t key = stream_key(2, id, 0);

	stream_fill(out, sizeof(out), key, 0);
	tool_send_all(client, out, sizeof(out));
	tool_recv_all(server, in, sizeof(in));
	compare(in, key, 0, sizeof(in));
	tool_send_all(server, in, sizeof(in));
	tool_recv_all(client, in, sizeof(in));
	compare(in, key, 0, sizeof(in));
}

static void connect_to(int listener, uint16_t port, int ret[2])
{
	struct sockaddr_storage to;
	socklen_t len = tool_addr(FAMILY_4, NULL, port, &to);

	ret[0] = tool_connect(&to, len);
	ret[1] = ret[0] < 0 ? -1 : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (ret[1] < 0)
		tool_die("cannot connect: %s", strerror(errno));
	tool_nonblock(ret[0], true);
	tool_nonblock(ret[1], true);
}

static void requests(uint64_t n)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	uint16_t port;
	int fds[2], listener = tool_listen(FAMILY_4, NULL, 0, &port);
	uint64_t id;

	for (id = 0; id < n; id++) {
		connect_to(listener, port, fds);
		ask(fds[0], fds[1], id);
		(void)close(fds[0]);
		(void)close(fds[1]);
	}
	connect_to(listener, port, fds);
	while (!poll(&p, 1, 5))
		ask(fds[0], fds[1], id++);
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)close(listener);
}

/* The other process: gives back what it gets, and waits as it is told to; see sleep_or_turn(). */
static void echo(int fd, _Atomic bool *turned)
{
	uint8_t buf[PART];

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t r;

		if (!*turned && poll(&p, 1, 100) < 1)
			continue;
		r = recv(fd, buf, sizeof(buf), 0);
		if (r < 0)
			tool_die("blocking recv: %s", strerror(errno));
		if (!r)
			exit(0);
		tool_send_all(fd, buf, (size_t)r);
	}
}

static void talk(int fd, uint64_t id, bool turned)
{
	uint8_t out[PART], in[PART];

	stream_fill(out, sizeof(out), stream_key(3, id, 0), 0);
	tool_send_all(fd, out, sizeof(out));
	for (size_t done = 0; done < sizeof(in);) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t r;

		if (!turned && poll(&p, 1, 100) < 1)
			continue;
		r = recv(fd, in + done, sizeof(in) - done, 0);
		if (r <= 0)
			tool_die("blocking recv: %s", r ? strerror(errno) : "end of stream");
		done += (size_t)r;
	}
	compare(in, stream_key(3, id, 0), 0, sizeof(in));
}

static void sleep_or_turn(bool turns)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	_Atomic bool *turned = tool_shared(sizeof(*turned));
	uint64_t id = 0;
	char line[16];
	int fds[2], status;
	pid_t pid;

	*turned = !turns;
	tool_pair(fds);
	pid = fork();
	if (!pid) {
		(void)close(fds[0]);
		echo(fds[1], turned);
	}
	(void)close(fds[1]);
	while (turns && !poll(&p, 1, 1))
		talk(fds[0], id++, false);
	*turned = true;
	while (fgets(line, sizeof(line), stdin)) {
		for (int i = 0; i < ROUNDS; i++, tool_sleep_us(2000))
			talk(fds[0], id++, true);
		printf("asleep\n");
		(void)fflush(stdout);
	}
	(void)shutdown(fds[0], SHUT_WR);
	if (waitpid(pid, &status, 0) != pid || status)
		tool_die("the other process ended with status %x", (unsigned int)status);
	if (recv(fds[0], line, 1, 0))
		tool_die("no end of stream");
}

static bool line_came(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char c = 0;

	if (!poll(&p, 1, 0))
		return false;
	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		;
	return true;
}

static void stream_then_ask(void)
{
	uint64_t key = stream_key(4, 0, 0), sent = 0, got = 0, id = 0;
	uint8_t out[PART], in[64 * PART];
	uint16_t port;
	int fds[2], listener = tool_listen(FAMILY_4, NULL, 0, &port);

	connect_to(listener, port, fds);
	while (got < sent || !line_came()) {
		ssize_t r;

		for (int i = 0; i < 50; i++, sent += sizeof(out)) {
			stream_fill(out, sizeof(out), key, sent);
			tool_send_all(fds[0], out, sizeof(out));
		}
		while (got < sent && (r = recv(fds[1], in, sizeof(in), 0)) > 0) {
			compare(in, key, got, (size_t)r);
			got += (size_t)r;
		}
		tool_sleep_us(500);
	}
	while (!line_came()) {
		ask(fds[0], fds[1], id++);
		tool_sleep_us(2000);
	}
}

int main(int argc, char **argv)
{
	tool_init("uses");
	if (argc == 2 && (streq(argv[1], "waitall") || streq(argv[1], "lowat") || streq(argv[1], "plainly")))
		read_parts(argv[1]);
	else if (argc == 3 && streq(argv[1], "requests"))
		requests(tool_number("requests", argv[2], 1, 100000));
	else if (argc == 2 && (streq(argv[1], "sleep") || streq(argv[1], "turn")))
		sleep_or_turn(streq(argv[1], "turn"));
	else if (argc == 2 && streq(argv[1], "stream"))
		stream_then_ask();
	else
		tool_usage("usage: uses waitall | lowat | plainly | requests N | sleep | turn | stream");
	return 0;
}
