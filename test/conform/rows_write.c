// SPDX-License-Identifier: GPL-2.0-or-later
/* Rows about writing: how much is taken, when the writer waits, and that what arrives is right. */
#include "conform.h"
#include "base/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

/* Reads n bytes and says whether they are put()'s. */
static void take_right(struct pair *p, int fd, size_t n)
{
	_cleanup_free_ uint8_t *buf = malloc(n + 1);

	tool_recv_all(fd, buf, n);
	note_text(p, stream_check(buf, n, stream_key(0, 0, 0), 0) == n ? "right" : "WRONG BYTES");
}

static void take_all(void *data)
{
	struct pair *p = data;

	take_right(p, p->b, 1 << 20);
}

static size_t fill(int fd)
{
	static char buf[65536];
	size_t n = 0;
	ssize_t r;

	tool_nonblock(fd, true);
	while ((r = send(fd, buf, sizeof(buf), MSG_NOSIGNAL)) > 0)
		n += (size_t)r;
	return errno == EAGAIN ? n : 0;
}

static void swallow(int fd, size_t n)
{
	_cleanup_free_ uint8_t *buf = malloc(n + 1);

	tool_recv_all(fd, buf, n);
}

static void outq(struct pair *p)
{
	size_t n;

	put(p->a, 1000);
	settle();
	note(p, "taken", ioctl_int(p->a, SIOCOUTQ));
	n = fill(p->a);
	note_text(p, ioctl_int(p->a, SIOCOUTQ) > 0 ? "full: some" : "full: none");
	swallow(p->b, n + 1000);
	tool_sleep_us(300000);
	note(p, "drained", ioctl_int(p->a, SIOCOUTQ));
}

static void pollout(struct pair *p)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	size_t n = fill(p->a);

	note_text(p, n ? "EAGAIN" : "no EAGAIN");
	(void)epoll_ctl(ep, EPOLL_CTL_ADD, p->a, &ev);
	note(p, "poll", poll_in(p->a, 100, POLLOUT));
	swallow(p->b, n);
	note(p, "poll", poll_in(p->a, 2000, POLLOUT));
	note(p, "edge", epoll_wait(ep, &ev, 1, 2000));
	note_text(p, send(p->a, "x", 1, 0) == 1 ? "goes on" : "does not go on");
}

static void send_timeout(struct pair *p)
{
	struct timeval tv = { .tv_usec = 200000 };
	static char buf[65536];
	uint64_t start, took;

	(void)fill(p->a);
	tool_nonblock(p->a, false);
	(void)setsockopt(p->a, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	tool_sleep_us(300000);
	start = clock_ms();
	while (send(p->a, buf, sizeof(buf), MSG_NOSIGNAL) > 0)
		start = clock_ms();
	took = clock_ms() - start;
	note(p, "send", -1);
	note_text(p, took >= 190 && took < 2000 ? "in time" : "after %llu ms", (unsigned long long)took);
}

static void many_iovecs(struct pair *p)
{
	static uint8_t bytes[64 * 4096];
	struct iovec iov[64];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 64 };

	stream_fill(bytes, sizeof(bytes), stream_key(0, 0, 0), 0);
	for (int i = 0; i < 64; i++)
		iov[i] = (struct iovec){ bytes + i * 100, 100 };
	note(p, "writev", writev(p->a, iov, 64));
	take_right(p, p->b, 6400);
	for (int i = 0; i < 64; i++)
		iov[i] = (struct iovec){ bytes + i * 4096, 4096 };
	note(p, "sendmsg", sendmsg(p->a, &msg, 0));
	take_right(p, p->b, sizeof(bytes));
}

static void large_blocking(struct pair *p)
{
	_cleanup_free_ uint8_t *buf = malloc(1 << 20);
	ssize_t r;

	stream_fill(buf, 1 << 20, stream_key(0, 0, 0), 0);
	later(20, take_all, p);
	r = send(p->a, buf, 1 << 20, 0);
	/* The reader notes first, whichever of the two is done first. */
	for (int tries = 0; !p->seen[0] && tries < 2000; tries++)
		tool_sleep_us(1000);
	note_text(p, "send=%zd", r);
}

static void large_nonblocking(struct pair *p)
{
	_cleanup_free_ uint8_t *buf = malloc(1 << 20);
	ssize_t r;

	stream_fill(buf, 1 << 20, stream_key(0, 0, 0), 0);
	r = send(p->a, buf, 1 << 20, MSG_DONTWAIT);
	note_text(p, r > 0 ? "some" : "none");
	take_right(p, p->b, (size_t)r);
	take(p, p->b, 1, MSG_DONTWAIT);
}

static void zero(struct pair *p)
{
	note(p, "send", send(p->a, "", 0, 0));
	note(p, "poll", poll_in(p->b, 100, POLLIN));
	put(p->a, 3);
	settle();
	take(p, p->b, 10, 0);
}

static void from_file(struct pair *p)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	_cleanup_free_ uint8_t *buf = malloc(100000);
	off_t offset = 0;

	stream_fill(buf, 100000, stream_key(0, 0, 0), 0);
	(void)write(fd, buf, 100000);
	while (offset < 100000)
		if (sendfile(p->a, fd, &offset, (size_t)(100000 - offset)) <= 0)
			break;
	note(p, "sent", offset);
	take_right(p, p->b, 100000);
}

static void splice_in(struct pair *p)
{
	_cleanup_free_ uint8_t *buf = malloc(10000);
	int fds[2];

	if (pipe(fds))
		return;
	stream_fill(buf, 10000, stream_key(0, 0, 0), 0);
	(void)write(fds[1], buf, 10000);
	note(p, "splice", splice(fds[0], NULL, p->a, NULL, 10000, 0));
	take_right(p, p->b, 10000);
}

static void zerocopy(struct pair *p)
{
	_cleanup_free_ uint8_t *buf = malloc(20000);
	char control[128];
	struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };

	stream_fill(buf, 20000, stream_key(0, 0, 0), 0);
	tool_set(p->a, SOL_SOCKET, SO_ZEROCOPY, 1);
	note(p, "send", send(p->a, buf, 20000, MSG_ZEROCOPY));
	take_right(p, p->b, 20000);
	note(p, "poll", poll_in(p->a, 1000, 0));
	note(p, "completion", recvmsg(p->a, &msg, MSG_ERRQUEUE | MSG_DONTWAIT));
}

static void cork(struct pair *p)
{
	tool_set(p->a, IPPROTO_TCP, TCP_CORK, 1);
	put(p->a, 3);
	note(p, "corked", poll_in(p->b, 50, POLLIN));
	tool_set(p->a, IPPROTO_TCP, TCP_CORK, 0);
	note(p, "open", poll_in(p->b, 1000, POLLIN));
	take(p, p->b, 10, 0);
}

static void more(struct pair *p)
{
	note(p, "send", send(p->a, "abc", 3, MSG_MORE));
	note(p, "send", send(p->a, "def", 3, 0));
	settle();
	take(p, p->b, 10, 0);
}

static void nodelay(struct pair *p)
{
	int value = 0;
	socklen_t len = sizeof(value);

	tool_set(p->a, IPPROTO_TCP, TCP_NODELAY, 1);
	note(p, "get", getsockopt(p->a, IPPROTO_TCP, TCP_NODELAY, &value, &len));
	note(p, "value", value);
	put(p->a, 3);
	put(p->a, 3);
	settle();
	take(p, p->b, 10, 0);
}

static void info(struct pair *p)
{
	struct tcp_info a = {}, b = {};
	socklen_t len = sizeof(a);

	put(p->a, 1000);
	settle();
	take(p, p->b, 2000, 0);
	settle();
	(void)getsockopt(p->a, IPPROTO_TCP, TCP_INFO, &a, &len);
	len = sizeof(b);
	(void)getsockopt(p->b, IPPROTO_TCP, TCP_INFO, &b, &len);
	note(p, "state", a.tcpi_state);
	note(p, "acked", (long)a.tcpi_bytes_acked);
	note(p, "received", (long)b.tcpi_bytes_received);
	note(p, "sent", (long)a.tcpi_bytes_sent);
}

static void read_1mib(void *data)
{
	_cleanup_free_ uint8_t *buf = malloc(1 << 20);

	tool_recv_all(((struct pair *)data)->b, buf, 1 << 20);
}

static void after_pause(struct pair *p)
{
	/* By TCP once it is full, directly again when it is not: the bytes stay in order. */
	_cleanup_free_ uint8_t *buf = malloc(1 << 20);

	for (int i = 0; i < 20; i++) {
		stream_fill(buf, 1 << 20, stream_key(0, 0, 0), (uint64_t)i << 20);
		later(5 * i, read_1mib, p);
		tool_send_all(p->a, buf, 1 << 20);
	}
	tool_sleep_us(500000);
	note(p, "left", ioctl_int(p->b, FIONREAD));
}

const struct row rows_write[] = {
	{ .name = "SIOCOUTQ", .fn = outq },
	{ .name = "EPOLLOUT after full", .fn = pollout },
	{ .name = "SO_SNDTIMEO", .fn = send_timeout },
	{ .name = "writev and sendmsg, 64 fragments", .fn = many_iovecs },
	{ .name = "one send of 1 MiB, blocking", .fn = large_blocking },
	{ .name = "one send of 1 MiB, non-blocking", .fn = large_nonblocking },
	{ .name = "20 MiB and several readers", .fn = after_pause },
	{ .name = "send of nothing", .fn = zero },
	{ .name = "sendfile", .fn = from_file },
	{ .name = "splice into the socket", .fn = splice_in },
	{ .name = "MSG_ZEROCOPY", .fn = zerocopy, .unjoins = true },
	{ .name = "TCP_CORK holds back", .fn = cork, .differs = "what is sent directly is not delayed", .always = true },
	{ .name = "MSG_MORE", .fn = more },
	{ .name = "TCP_NODELAY", .fn = nodelay },
	{ .name = "TCP_INFO byte counts", .fn = info, .differs = "TCP did not carry the bytes", .always = true },
	{ 0 },
};
