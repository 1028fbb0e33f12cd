// SPDX-License-Identifier: GPL-2.0-or-later
/* Rows about endings: half-close, close, reset, and what the other side is told. */
#include "conform.h"

#include <poll.h>
#include <signal.h>

static volatile sig_atomic_t sigpipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

static void send_after_shut(struct pair *p)
{
	(void)signal(SIGPIPE, on_sigpipe);
	(void)shutdown(p->a, SHUT_WR);
	note(p, "send", send(p->a, "x", 1, 0));
	note(p, "SIGPIPE", sigpipes);
	note(p, "nosignal", send(p->a, "x", 1, MSG_NOSIGNAL));
	note(p, "SIGPIPE", sigpipes);
	note(p, "poll", poll_in(p->b, 500, POLLIN | POLLRDHUP));
	take(p, p->b, 10, 0);
}

static void half_close(struct pair *p)
{
	put(p->a, 3);
	(void)shutdown(p->a, SHUT_WR);
	settle();
	take(p, p->b, 10, 0);
	take(p, p->b, 10, 0);
	put(p->b, 7);
	settle();
	take(p, p->a, 10, 0);
	(void)shutdown(p->b, SHUT_WR);
	settle();
	take(p, p->a, 10, 0);
	note(p, "poll", poll_in(p->a, 0, POLLIN | POLLOUT | POLLRDHUP));
}

static void eof_after_close(struct pair *p)
{
	/* Less than a first window: TCP sends the end behind all of it, before a byte is read. */
	put(p->a, 50000);
	(void)close(p->a);
	settle();
	note(p, "poll", poll_in(p->b, 500, POLLIN | POLLRDHUP));
	for (size_t n = 0; n < 50000;) {
		char buf[30000];
		ssize_t r = recv(p->b, buf, sizeof(buf), 0);

		if (r <= 0)
			break;
		n += (size_t)r;
		if (n == 50000)
			note_text(p, "all");
	}
	take(p, p->b, 10, 0);
	take(p, p->b, 10, 0);
}

static void reset_by(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	(void)close(fd);
}

static void reset(struct pair *p)
{
	reset_by(p->a);
	settle();
	note(p, "poll", poll_in(p->b, 500, POLLIN | POLLRDHUP));
	take(p, p->b, 10, 0);
	take(p, p->b, 10, 0);
	note(p, "send", send(p->b, "x", 1, MSG_NOSIGNAL));
}

static void reset_with_data(struct pair *p)
{
	put(p->a, 3);
	settle();
	reset_by(p->a);
	settle();
	take(p, p->b, 10, 0);
	take(p, p->b, 10, 0);
}

static void close_b(void *data)
{
	(void)close(*(int *)data);
}

static void reset_b(void *data)
{
	reset_by(*(int *)data);
}

static void shut_b(void *data)
{
	(void)shutdown(*(int *)data, SHUT_RDWR);
}

static void close_wakes(struct pair *p)
{
	later(100, close_b, &p->b);
	take(p, p->a, 10, 0);
}

static void reset_wakes(struct pair *p)
{
	later(100, reset_b, &p->b);
	take(p, p->a, 10, 0);
}

static void own_shutdown_wakes(struct pair *p)
{
	later(100, shut_b, &p->a);
	take(p, p->a, 10, 0);
}

static void close_unread(struct pair *p)
{
	put(p->a, 1000);
	settle();
	(void)close(p->b);
	settle();
	note(p, "poll", poll_in(p->a, 500, POLLIN | POLLRDHUP));
	take(p, p->a, 10, 0);
	note(p, "send", send(p->a, "x", 1, MSG_NOSIGNAL));
}

static void send_to_closed(struct pair *p)
{
	(void)close(p->b);
	settle();
	note(p, "first", send(p->a, "x", 1, MSG_NOSIGNAL));
	settle();
	note(p, "second", send(p->a, "x", 1, MSG_NOSIGNAL));
	take(p, p->a, 10, 0);
}

static void shut_read(struct pair *p)
{
	(void)shutdown(p->b, SHUT_RD);
	take(p, p->b, 10, 0);
	put(p->a, 5);
	settle();
	take(p, p->b, 10, 0);
	take(p, p->b, 10, 0);
}

static void shut_read_with_data(struct pair *p)
{
	put(p->a, 5);
	settle();
	(void)shutdown(p->b, SHUT_RD);
	take(p, p->b, 10, 0);
	take(p, p->b, 10, 0);
}

static void full_then_close(struct pair *p)
{
	static char buf[65536];
	size_t n = 0, got = 0;
	ssize_t r;

	while ((r = send(p->a, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		n += (size_t)r;
	(void)close(p->a);
	while ((r = recv(p->b, buf, sizeof(buf), 0)) > 0)
		got += (size_t)r;
	note(p, "end", r);
	note_text(p, got == n ? "all" : "NOT ALL");
}

#define EAGAIN_AT_WAKE "tcp_msg_wait_data() waits once: a wake-up without bytes ends in EAGAIN"

const struct row rows_end[] = {
	{ .name = "send after SHUT_WR", .fn = send_after_shut },
	{ .name = "half-close, both ways", .fn = half_close },
	{ .name = "end of stream after close", .fn = eof_after_close },
	{ .name = "close with a full buffer", .fn = full_then_close },
	{ .name = "reset", .fn = reset },
	{ .name = "reset after data", .fn = reset_with_data },
	{ .name = "close wakes the other's recv", .fn = close_wakes },
	{ .name = "reset wakes the other's recv", .differs = EAGAIN_AT_WAKE, .fn = reset_wakes },
	{ .name = "shutdown wakes the own recv", .differs = EAGAIN_AT_WAKE, .fn = own_shutdown_wakes },
	{ .name = "close with unread data",
	  .fn = close_unread,
	  .differs = "TCP does not know of the unread bytes, and ends the stream instead of resetting it",
	  .always = true },
	{ .name = "send to a closed peer", .fn = send_to_closed },
	{ .name = "SHUT_RD", .fn = shut_read },
	{ .name = "SHUT_RD with unread data", .fn = shut_read_with_data },
	{ 0 },
};
