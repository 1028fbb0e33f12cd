// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Programs of one habit each, on connections to themselves; every byte is compared.
 *   uses waitall        reads with MSG_WAITALL
 *   uses lowat          reads with SO_RCVLOWAT
 *   uses plainly        reads as most do: the same without either
 *   uses requests N     N connections to one listener, of one request and one answer each; then one that lasts until
 *                       a line comes on stdin, and talks all the time
 */
#include <errno.h>
#include <poll.h>
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
	if (lowat)
		tool_set(fds[1], SOL_SOCKET, SO_RCVLOWAT, 2 * PART);
	for (uint64_t at = 0; at < ROUNDS * 2 * PART; at += 2 * PART) {
		stream_fill(out, sizeof(out), key, at);
		tool_send_all(fds[0], out, PART);
		tool_send_all(fds[0], out + PART, PART);
		for (size_t done = 0; done < sizeof(in);) {
			ssize_t r = recv(fds[1], in + done, sizeof(in) - done, waitall ? MSG_WAITALL : 0);

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

int main(int argc, char **argv)
{
	tool_init("uses");
	if (argc == 2 && (streq(argv[1], "waitall") || streq(argv[1], "lowat") || streq(argv[1], "plainly")))
		read_parts(argv[1]);
	else if (argc == 3 && streq(argv[1], "requests"))
		requests(tool_number("requests", argv[2], 1, 100000));
	else
		tool_usage("usage: uses waitall | lowat | plainly | requests N");
	return 0;
}
