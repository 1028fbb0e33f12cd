// SPDX-License-Identifier: GPL-2.0-or-later
/* Rows about reading: what waits, how much, and who is told. */
#include "conform.h"
#include "base/clock.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include <linux/sockios.h>

static void put_100(void *data)
{
	put(*(int *)data, 100);
}

static void put_50(void *data)
{
	put(*(int *)data, 50);
}

static void peek(struct pair *p)
{
	put(p->a, 5);
	settle();
	take(p, p->b, 3, MSG_PEEK);
	take(p, p->b, 10, MSG_PEEK);
	take(p, p->b, 10, 0);
	take(p, p->b, 10, MSG_PEEK | MSG_DONTWAIT);
}

static void peek_over_sends(struct pair *p)
{
	for (int i = 0; i < 5; i++)
		put(p->a, 100);
	settle();
	take(p, p->b, 1000, MSG_PEEK);
	take(p, p->b, 250, MSG_PEEK);
	take(p, p->b, 1000, 0);
}

static void fionread(struct pair *p)
{
	note(p, "empty", ioctl_int(p->b, FIONREAD));
	put(p->a, 1000);
	settle();
	note(p, "sent", ioctl_int(p->b, FIONREAD));
	take(p, p->b, 300, 0);
	note(p, "left", ioctl_int(p->b, FIONREAD));
	put(p->a, 500);
	settle();
	note(p, "more", ioctl_int(p->b, FIONREAD));
	take(p, p->b, 5000, 0);
	note(p, "drained", ioctl_int(p->b, FIONREAD));
}

static void before_accept(struct pair *p)
{
	p->a = tool_connect(&p->to, p->to_len);
	put(p->a, 1000);
	settle();
	p->b = accept(p->listener, NULL, NULL);
	note(p, "accepted", ioctl_int(p->b, FIONREAD));
	note(p, "poll", poll_in(p->b, 1000, POLLIN));
	take(p, p->b, 300, 0);
	note(p, "left", ioctl_int(p->b, FIONREAD));
	put(p->a, 500);
	settle();
	note(p, "more", ioctl_int(p->b, FIONREAD));
	take(p, p->b, 5000, 0);
}

static void level(struct pair *p)
{
	note(p, "empty", poll_in(p->b, 0, POLLIN | POLLOUT | POLLRDHUP));
	put(p->a, 10);
	note(p, "sent", poll_in(p->b, 1000, POLLIN));
	take(p, p->b, 4, 0);
	note(p, "part", poll_in(p->b, 0, POLLIN));
	take(p, p->b, 6, 0);
	note(p, "drained", poll_in(p->b, 0, POLLIN));
}

static void edge(struct pair *p)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	(void)epoll_ctl(ep, EPOLL_CTL_ADD, p->b, &ev);
	note(p, "empty", epoll_wait(ep, &ev, 1, 0));
	put(p->a, 10);
	note(p, "sent", epoll_wait(ep, &ev, 1, 1000));
	note(p, "again", epoll_wait(ep, &ev, 1, 50));
	take(p, p->b, 4, 0);
	note(p, "part", epoll_wait(ep, &ev, 1, 50));
	put(p->a, 10);
	note(p, "more", epoll_wait(ep, &ev, 1, 1000));
	take(p, p->b, 100, 0);
	note(p, "drained", epoll_wait(ep, &ev, 1, 50));
}

static void waitall(struct pair *p)
{
	put(p->a, 50);
	later(100, put_50, &p->a);
	take(p, p->b, 100, MSG_WAITALL);
}

static void lowat_poll(struct pair *p)
{
	tool_set(p->b, SOL_SOCKET, SO_RCVLOWAT, 100);
	put(p->a, 50);
	note(p, "half", poll_in(p->b, 100, POLLIN));
	put(p->a, 50);
	note(p, "full", poll_in(p->b, 1000, POLLIN));
}

static void lowat_recv(struct pair *p)
{
	tool_set(p->b, SOL_SOCKET, SO_RCVLOWAT, 100);
	put(p->a, 50);
	/* A hundred at once: TCP counts only what came after a reader fell asleep. */
	later(100, put_100, &p->a);
	take(p, p->b, 200, 0);
}

static void trunc_discards(struct pair *p)
{
	put(p->a, 10);
	settle();
	note(p, "discarded", recv(p->b, NULL, 4, MSG_TRUNC));
	take(p, p->b, 100, MSG_DONTWAIT);
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void interrupted(struct pair *p, int flags)
{
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = flags };
	struct itimerval timer = { .it_value = { .tv_usec = 50000 } };

	(void)sigaction(SIGALRM, &sa, NULL);
	later(200, put_50, &p->a);
	(void)setitimer(ITIMER_REAL, &timer, NULL);
	take(p, p->b, 100, 0);
}

static void restarted(struct pair *p)
{
	interrupted(p, SA_RESTART);
}

static void not_restarted(struct pair *p)
{
	interrupted(p, 0);
}

static void timeout(struct pair *p)
{
	struct timeval tv = { .tv_usec = 200000 };
	uint64_t start = clock_ms(), took;

	(void)setsockopt(p->b, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	take(p, p->b, 10, 0);
	took = clock_ms() - start;
	note_text(p, took >= 190 && took < 2000 ? "in time" : "after %llu ms", (unsigned long long)took);
	later(50, put_50, &p->a);
	take(p, p->b, 100, 0);
}

/* Its own sender is woken on the same wait queue, again and again. */
static void drain(void *data)
{
	struct pair *p = data;
	char buf[4096];
	size_t n = 0;

	while (n < 8 << 20) {
		ssize_t r = recv(p->a, buf, sizeof(buf), 0);

		if (r <= 0)
			return;
		n += (size_t)r;
	}
	put(p->a, 50);
}

static void flood(void *data)
{
	put(((struct pair *)data)->b, 8 << 20);
}

static void while_sending(struct pair *p)
{
	later(20, flood, p);
	later(200, drain, p);
	take(p, p->b, 100, 0);
}

static void take_byte(void *data)
{
	char c;
	ssize_t r = recv(*(int *)data, &c, 1, 0);

	(void)write(((int *)data)[1], r == 1 ? "1" : "E", 1);
}

static void two_readers(struct pair *p)
{
	int fds[2], job[2];
	char got[3] = "";

	if (pipe(fds))
		return;
	job[0] = p->b;
	job[1] = fds[1];
	later(0, take_byte, job);
	later(0, take_byte, job);
	settle();
	put(p->a, 1);
	settle();
	put(p->a, 1);
	for (int i = 0; i < 2; i++)
		if (poll_in(fds[0], 1000, POLLIN) > 0)
			(void)read(fds[0], got + i, 1);
	note_text(p, "got %s", got);
}

static void short_and_zero(struct pair *p)
{
	put(p->a, 5);
	settle();
	take(p, p->b, 0, 0);
	note(p, "poll", poll_in(p->b, 0, POLLIN));
	take(p, p->b, 5, 0);
	take(p, p->b, 5, MSG_DONTWAIT);
}

static void oob(struct pair *p)
{
	char c = '?';

	put(p->a, 3);
	note(p, "send", send(p->a, "x", 1, MSG_OOB));
	note(p, "poll", poll_in(p->b, 500, POLLPRI));
	note(p, "oob", recv(p->b, &c, 1, MSG_OOB));
	note_text(p, c == 'x' ? "the byte" : "another byte");
	take(p, p->b, 10, 0);
}

const struct row rows_read[] = {
	{ .name = "MSG_PEEK", .fn = peek },
	{ .name = "MSG_PEEK over several sends", .fn = peek_over_sends },
	{ .name = "FIONREAD", .fn = fionread },
	{ .name = "bytes sent before accept", .fn = before_accept, .raw = true },
	{ .name = "poll, level-triggered", .fn = level },
	{ .name = "epoll, edge-triggered", .fn = edge },
	{ .name = "MSG_WAITALL",
	  .fn = waitall,
	  .differs = "tcp_bpf_recvmsg_parser() returns what is there",
	  .unjoins = true },
	{ .name = "SO_RCVLOWAT, poll", .fn = lowat_poll, .unjoins = true },
	{ .name = "SO_RCVLOWAT, recv",
	  .fn = lowat_recv,
	  .differs = "tcp_bpf_recvmsg_parser() does not look at sk_rcvlowat, and waits once",
	  .unjoins = true },
	{ .name = "recv(NULL, n, MSG_TRUNC)",
	  .fn = trunc_discards,
	  .differs = "sk_msg_recvmsg() copies in any case",
	  .unjoins = true },
	{ .name = "recv and a signal, SA_RESTART",
	  .fn = restarted,
	  .differs = "tcp_bpf_recvmsg_parser() looks for signals before it waits, not after" },
	{ .name = "recv and a signal, no SA_RESTART",
	  .fn = not_restarted,
	  .differs = "tcp_bpf_recvmsg_parser() looks for signals before it waits, not after" },
	{ .name = "SO_RCVTIMEO", .fn = timeout },
	{ .name = "blocking recv beside a sender",
	  .fn = while_sending,
	  .differs = "tcp_msg_wait_data() waits once: a wake-up without bytes ends in EAGAIN" },
	{ .name = "two threads in recv",
	  .fn = two_readers,
	  .differs = "tcp_msg_wait_data() waits once: both are woken, and who finds nothing gets EAGAIN" },
	{ .name = "recv of nothing", .fn = short_and_zero },
	{ .name = "MSG_OOB", .fn = oob, .differs = "a send by sk_msg knows no urgent data", .unjoins = true },
	{ 0 },
};
