// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A reader that stops reading, again and again: each time its writer must stop too, before more than
 * max(4 MiB, both socket buffers) wait, and go on when the reader does; and every byte must arrive.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "tool.h"
#include "base/clock.h"

#define LIMIT (4ULL << 20)
#define OVER (64ULL << 10) /* a socket that has any room takes a whole packet */
#define STOPS 3
#define STILL_MS 400 /* without a byte accepted: it has stopped */
#define STUCK_MS 10000

enum mode {
	MODE_BLOCKING,
	MODE_LEVEL,
	MODE_EDGE,
};

struct slow {
	enum mode mode;
	uint64_t chunk, total, key;
	int writer, reader;
	_Atomic uint64_t accepted;
	_Atomic bool waits; /* the writer has been told to wait, by EAGAIN */
};

static void wait_writable(struct slow *s, int ep)
{
	struct epoll_event ev;

	s->waits = true;
	if (epoll_wait(ep, &ev, 1, STUCK_MS) != 1)
		tool_die("EPOLLOUT did not come back for %d ms, %llu bytes accepted", STUCK_MS,
			 (unsigned long long)s->accepted);
	s->waits = false;
}

static void *write_all(void *data)
{
	struct slow *s = data;
	_cleanup_free_ uint8_t *buf = malloc(s->chunk);
	_cleanup_close_ int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLOUT | (s->mode == MODE_EDGE ? (uint32_t)EPOLLET : 0) };

	if (!buf || ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, s->writer, &ev) < 0)
		tool_die("cannot prepare the writer: %s", strerror(errno));
	while (s->accepted < s->total) {
		uint64_t n = s->total - s->accepted < s->chunk ? s->total - s->accepted : s->chunk;
		ssize_t r;

		stream_fill(buf, n, s->key, s->accepted);
		r = send(s->writer, buf, n, MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN && s->mode != MODE_BLOCKING)
			wait_writable(s, ep);
		else if (r < 0)
			tool_die("send after %llu bytes: %s", (unsigned long long)s->accepted, strerror(errno));
		else
			s->accepted += (uint64_t)r;
	}
	(void)shutdown(s->writer, SHUT_WR);
	return NULL;
}

static int buffer_bytes(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0)
		tool_die("getsockopt: %s", strerror(errno));
	return value;
}

/* Waits until the writer stands still, and returns how much waits at most. */
static uint64_t must_stop(struct slow *s, uint64_t received)
{
	uint64_t last = s->accepted, first = last, start = clock_ms(), since = start, limit, waiting;

	while (clock_ms() - since < STILL_MS) {
		if (clock_ms() - start > STUCK_MS)
			tool_die("the writer neither goes on nor stops: %llu bytes in %d ms",
				 (unsigned long long)(s->accepted - first), STUCK_MS);
		if (s->accepted != last) {
			last = s->accepted;
			since = clock_ms();
		}
		tool_sleep_us(5000);
	}
	waiting = s->accepted - received;
	limit = (uint64_t)buffer_bytes(s->writer, SO_SNDBUF) + (uint64_t)buffer_bytes(s->reader, SO_RCVBUF);
	limit = (limit > LIMIT ? limit : LIMIT) + OVER;
	if (waiting > limit)
		tool_die("%llu bytes wait for a reader that does not read: more than %llu", (unsigned long long)waiting,
			 (unsigned long long)limit);
	if (s->accepted == s->total)
		tool_die("the writer was never stopped");
	if (s->mode != MODE_BLOCKING && !s->waits)
		tool_die("the writer stands still, but was not told to wait");
	return waiting;
}

static uint64_t read_some(struct slow *s, uint64_t received, uint64_t until)
{
	static uint8_t buf[100000];

	while (received < until) {
		struct pollfd p = { .fd = s->reader, .events = POLLIN };
		size_t n = until - received < sizeof(buf) ? (size_t)(until - received) : sizeof(buf);
		ssize_t r;
		size_t good;

		if (poll(&p, 1, STUCK_MS) != 1)
			tool_die("no byte for %d ms: %llu accepted, %llu received", STUCK_MS,
				 (unsigned long long)s->accepted, (unsigned long long)received);
		r = recv(s->reader, buf, n, MSG_DONTWAIT);
		if (r < 0 && errno == EAGAIN)
			continue;
		if (r <= 0)
			tool_die("recv after %llu bytes: %s", (unsigned long long)received,
				 r ? strerror(errno) : "end of stream");
		good = stream_check(buf, (size_t)r, s->key, received);
		if (good != (size_t)r)
			tool_die("wrong byte at %llu", (unsigned long long)(received + good));
		received += (uint64_t)r;
	}
	return received;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "mode", 1, NULL, 'm' },
		{ "chunk", 1, NULL, 'c' },
		{ "bytes", 1, NULL, 'b' },
		{ 0 },
	};
	struct slow s = { .chunk = 65536, .total = 48 << 20, .key = stream_key(1, 1, 0) };
	uint64_t waiting[STOPS], received = 0;
	pthread_t thread;
	int c, pair[2];
	char end;

	tool_init("slow_reader");
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'm':
			s.mode = streq(optarg, "blocking") ? MODE_BLOCKING :
				 streq(optarg, "level")	   ? MODE_LEVEL :
							     MODE_EDGE;
			break;
		case 'c':
			s.chunk = tool_number("--chunk", optarg, 1, 8 << 20);
			break;
		case 'b':
			s.total = tool_number("--bytes", optarg, 1, 1 << 30);
			break;
		default:
			tool_usage("usage: slow_reader [--mode blocking|level|edge] [--chunk N] [--bytes N]");
		}
	}
	tool_pair(pair);
	s.writer = pair[0];
	s.reader = pair[1];
	tool_nonblock(s.writer, s.mode != MODE_BLOCKING);
	if (pthread_create(&thread, NULL, write_all, &s))
		tool_die("cannot make a thread");
	for (unsigned int i = 0; i < STOPS; i++) {
		waiting[i] = must_stop(&s, received);
		received = read_some(&s, received, received + waiting[i] + (1 << 20));
	}
	received = read_some(&s, received, s.total);
	if (recv(s.reader, &end, 1, 0) != 0)
		tool_die("no end of stream after the last byte");
	(void)pthread_join(thread, NULL);
	printf("{\"ok\": true, \"bytes\": %llu, \"waiting\": [%llu, %llu, %llu]}\n", (unsigned long long)received,
	       (unsigned long long)waiting[0], (unsigned long long)waiting[1], (unsigned long long)waiting[2]);
	return 0;
}
