// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Readers that a joined socket is hard on. Each mode is a run of its own and ends with 0 or with what was wrong:
 *   reader splice-asleep   reads by splice(2) from a joined socket that has nothing: it must get what comes then
 *   reader splice-queued   the same where bytes are queued that it cannot reach: it must get an error
 *   reader splice-proxy    a proxy that splices from its first call on, in both directions
 *   reader fionread        FIONREAD is exact whatever came directly, by TCP, and both
 *   reader fionread-edge   a reader by edge-triggered epoll that believes FIONREAD, as nginx does
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <linux/sockios.h>
#include <linux/tcp.h>

#include "tool.h"
#include "base/clock.h"

#define WAIT_MS 15000
#define QUEUED 1000
#define KEPT_MS 3000 /* what was learned of a program is kept only while it runs */
#define PROXY_CONNECTIONS 20
#define PROXY_BYTES 100000
#define FIONREAD_STEPS 400
#define FIONREAD_SEND_MAX (256 << 10)
#define EDGE_BYTES (24U << 20)
#define EDGE_BUF 16384

static uint64_t tcp_bytes_sent(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		tool_die("TCP_INFO: %s", strerror(errno));
	return info.tcpi_bytes_sent;
}

static int ioctl_int(int fd, unsigned long request)
{
	int value = -1;

	if (ioctl(fd, request, &value) < 0)
		tool_die("ioctl: %s", strerror(errno));
	return value;
}

static void ping(int from, int to)
{
	char c = 'p';

	tool_send_all(from, &c, 1);
	tool_recv_all(to, &c, 1);
}

/* Talks until TCP carries none of it any more; meanwhile as one that cannot sleep in recv(2), which would not be joined. */
static void wait_joined(int a, int b)
{
	uint64_t until = clock_ms() + WAIT_MS;

	tool_nonblock(a, true);
	tool_nonblock(b, true);
	for (;;) {
		uint64_t sent_a = tcp_bytes_sent(a), sent_b = tcp_bytes_sent(b);

		ping(a, b);
		ping(b, a);
		if (tcp_bytes_sent(a) == sent_a && tcp_bytes_sent(b) == sent_b)
			break;
		if (clock_ms() > until)
			tool_die("the pair was not joined within %d ms", WAIT_MS);
		tool_sleep_us(2000);
	}
	tool_nonblock(a, false);
	tool_nonblock(b, false);
}

static void send_stream(int fd, size_t n)
{
	_cleanup_free_ uint8_t *buf = malloc(n);

	stream_fill(buf, n, stream_key(0, 1, 0), 0);
	tool_send_all(fd, buf, n);
}

struct splicer {
	int fd, pipe[2];
	size_t want;
	ssize_t result; /* bytes, or -errno */
	pthread_t thread;
};

static void *splicer_main(void *data)
{
	struct splicer *s = data;
	ssize_t r;

	for (size_t done = 0; done < s->want; done += (size_t)r) {
		r = splice(s->fd, NULL, s->pipe[1], NULL, s->want - done, SPLICE_F_MOVE);
		s->result = r < 0 ? -errno : (ssize_t)done + r;
		if (r <= 0)
			break;
	}
	return NULL;
}

static void splicer_start(struct splicer *s, int fd, size_t want)
{
	*s = (struct splicer){ .fd = fd, .want = want };
	if (pipe2(s->pipe, O_CLOEXEC) < 0 || pthread_create(&s->thread, NULL, splicer_main, s))
		tool_die("cannot start a splicing thread");
}

static ssize_t splicer_end(struct splicer *s)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_MS / 1000;
	if (pthread_timedjoin_np(s->thread, NULL, &until))
		tool_die("splice(2) still sleeps after %d ms, with %d bytes to be read (FIONREAD)", WAIT_MS,
			 ioctl_int(s->fd, FIONREAD));
	return s->result;
}

static void pipe_check(int fd, size_t n)
{
	_cleanup_free_ uint8_t *buf = malloc(n);

	for (size_t done = 0; done < n;) {
		ssize_t r = read(fd, buf + done, n - done);

		if (r <= 0)
			tool_die("the pipe has %zu bytes instead of %zu", done, n);
		done += (size_t)r;
	}
	if (stream_check(buf, n, stream_key(0, 1, 0), 0) != n)
		tool_die("splice(2) gave wrong bytes");
}

static void do_splice_asleep(void)
{
	struct splicer s;
	int p[2];

	tool_pair(p);
	wait_joined(p[0], p[1]);
	splicer_start(&s, p[1], QUEUED);
	tool_sleep_us(1500000);
	send_stream(p[0], QUEUED);
	if (splicer_end(&s) != QUEUED)
		tool_die("splice(2) gave %zd instead of %d", s.result, QUEUED);
	pipe_check(s.pipe[0], QUEUED);
	ping(p[0], p[1]);
	ping(p[1], p[0]);
}

static void do_splice_queued(void)
{
	struct pollfd peer;
	struct splicer s;
	uint64_t before;
	int p[2];
	char c;

	tool_pair(p);
	wait_joined(p[0], p[1]);
	before = tcp_bytes_sent(p[0]);
	send_stream(p[0], QUEUED);
	if (tcp_bytes_sent(p[0]) != before)
		tool_die("the bytes went by TCP");
	splicer_start(&s, p[1], QUEUED);
	(void)splicer_end(&s);
	if (s.result != -ECONNABORTED && s.result != -ECONNRESET)
		tool_die("splice(2) gave %zd instead of an error", s.result);
	peer = (struct pollfd){ .fd = p[0], .events = POLLIN };
	if (poll(&peer, 1, WAIT_MS) != 1 || recv(p[0], &c, 1, MSG_DONTWAIT) != -1 || errno != ECONNRESET)
		tool_die("the peer does not learn that the connection is reset: %s", strerror(errno));
}

static void child(void (*fn)(int listener, uint16_t port), int listener, uint16_t port)
{
	pid_t pid = fork();

	if (pid < 0)
		tool_die("cannot fork: %s", strerror(errno));
	if (pid)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	fn(listener, port);
	exit(0);
}

static int connect_to(uint16_t port)
{
	struct sockaddr_storage to;
	socklen_t len = tool_addr(FAMILY_4, NULL, port, &to);
	int fd = tool_connect(&to, len);

	if (fd < 0)
		tool_die("connect: %s", strerror(errno));
	return fd;
}

static void echo_main(int listener, uint16_t port)
{
	(void)port;
	for (;;) {
		_cleanup_close_ int fd = accept(listener, NULL, NULL);
		char buf[4096];
		ssize_t r;

		while ((r = recv(fd, buf, sizeof(buf), 0)) > 0)
			tool_send_all(fd, buf, (size_t)r);
	}
}

static bool pass_on(int from, int to, int pipe_fds[2])
{
	ssize_t n = splice(from, NULL, pipe_fds[1], NULL, 65536, SPLICE_F_MOVE);

	while (n > 0) {
		ssize_t r = splice(pipe_fds[0], NULL, to, NULL, (size_t)n, SPLICE_F_MOVE);

		if (r <= 0)
			return false;
		n -= r;
		if (!n)
			return true;
	}
	return false;
}

static void proxy_main(int listener, uint16_t port)
{
	int pipe_fds[2];

	if (pipe(pipe_fds) < 0)
		tool_die("cannot make a pipe");
	for (;;) {
		_cleanup_close_ int in = accept(listener, NULL, NULL), out = connect_to(port);
		struct pollfd p[] = { { .fd = in, .events = POLLIN }, { .fd = out, .events = POLLIN } };
		bool open = true;

		while (open && poll(p, 2, WAIT_MS) > 0) {
			if (p[0].revents)
				open = pass_on(in, out, pipe_fds);
			if (open && p[1].revents)
				open = pass_on(out, in, pipe_fds);
		}
	}
}

/* Sends and receives at once, so that nobody waits for anybody. */
static void proxy_client(uint16_t port)
{
	_cleanup_close_ int fd = connect_to(port);
	static uint8_t out[PROXY_BYTES], in[PROXY_BYTES];
	size_t sent = 0, got = 0;

	stream_fill(out, sizeof(out), stream_key(0, 1, 0), 0);
	while (got < sizeof(in)) {
		struct pollfd p = { .fd = fd, .events = (short)(POLLIN | (sent < sizeof(out) ? POLLOUT : 0)) };
		ssize_t r;

		if (poll(&p, 1, WAIT_MS) < 1)
			tool_die("the proxy stands still after %zu of %zu bytes", got, sizeof(in));
		r = p.revents & POLLOUT ? send(fd, out + sent, sizeof(out) - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
		sent += r > 0 ? (size_t)r : 0;
		if (!(p.revents & ~POLLOUT))
			continue;
		r = recv(fd, in + got, sizeof(in) - got, MSG_DONTWAIT);
		if (r <= 0)
			tool_die("through the proxy came %s", r ? strerror(errno) : "an end");
		got += (size_t)r;
	}
	if (memcmp(in, out, sizeof(in)))
		tool_die("through the proxy came wrong bytes");
}

static void do_splice_proxy(void)
{
	uint16_t back, front;
	int back_fd = tool_listen(FAMILY_4, NULL, 0, &back), front_fd = tool_listen(FAMILY_4, NULL, 0, &front);

	child(echo_main, back_fd, 0);
	child(proxy_main, front_fd, back);
	for (int i = 0; i < PROXY_CONNECTIONS; i++)
		proxy_client(front);
}

/* What was sent and not read is either at the reader or still with the writer's TCP; in flight it may be both. */
static void fionread_expect(int writer, int reader, uint64_t open_bytes)
{
	uint64_t until = clock_ms() + WAIT_MS;
	int unread, unsent;

	do {
		unread = ioctl_int(reader, FIONREAD);
		unsent = ioctl_int(writer, SIOCOUTQ);
		if (unread < 0 || (uint64_t)unread > open_bytes)
			tool_die("FIONREAD is %d where at most %llu bytes can wait", unread,
				 (unsigned long long)open_bytes);
		if ((uint64_t)unread + (uint64_t)unsent == open_bytes)
			return;
		tool_sleep_us(500);
	} while (clock_ms() < until);
	tool_die("FIONREAD is %d and SIOCOUTQ %d where %llu bytes are not read", unread, unsent,
		 (unsigned long long)open_bytes);
}

static void do_fionread(void)
{
	static uint8_t buf[FIONREAD_SEND_MAX];
	uint64_t sent = 0, got = 0, key = stream_key(0, 1, 0);
	struct rng rng = { 1 };
	int p[2];

	tool_pair(p);
	wait_joined(p[0], p[1]);
	for (int i = 0; i < FIONREAD_STEPS; i++) {
		/* Fifty steps that mostly write, fifty that mostly read. */
		bool write = rng_below(&rng, 4) ? i / 50 % 2 == 0 : i / 50 % 2;
		size_t n = rng_log(&rng, sizeof(buf));
		ssize_t r;

		if (write) {
			stream_fill(buf, n, key, sent);
			r = send(p[0], buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
			sent += r > 0 ? (uint64_t)r : 0;
		} else {
			r = recv(p[1], buf, n, MSG_DONTWAIT);
			if (r > 0 && stream_check(buf, (size_t)r, key, got) != (size_t)r)
				tool_die("wrong bytes at %llu", (unsigned long long)got);
			got += r > 0 ? (uint64_t)r : 0;
		}
		if (r <= 0 && errno != EAGAIN)
			tool_die("%s: %s", write ? "send" : "recv", r ? strerror(errno) : "an end");
		fionread_expect(p[0], p[1], sent - got);
	}
	printf("%llu bytes sent, %llu of them by TCP\n", (unsigned long long)sent,
	       (unsigned long long)tcp_bytes_sent(p[0]));
}

static void *edge_writer(void *data)
{
	uint64_t sent = 0, key = stream_key(0, 1, 0);
	struct rng rng = { 2 };
	int fd = *(int *)data;
	uint8_t *buf = malloc(1 << 20);

	while (sent < EDGE_BYTES) {
		size_t n = rng_log(&rng, 1 << 20);

		n = n < EDGE_BYTES - sent ? n : EDGE_BYTES - sent;
		stream_fill(buf, n, key, sent);
		tool_send_all(fd, buf, n);
		sent += n;
		if (!rng_below(&rng, 64))
			tool_sleep_us(rng_below(&rng, 20000));
	}
	free(buf);
	return NULL;
}

/* nginx's ngx_unix_recv(): after a full buffer FIONREAD says how much may still be read; 0 waits for an event. */
static void do_fionread_edge(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };
	int p[2], ep = epoll_create1(EPOLL_CLOEXEC);
	uint64_t got = 0, key = stream_key(0, 1, 0);
	static uint8_t buf[EDGE_BUF];
	struct rng rng = { 3 };
	pthread_t thread;

	tool_pair(p);
	wait_joined(p[0], p[1]);
	tool_nonblock(p[1], true);
	(void)epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &ev);
	if (pthread_create(&thread, NULL, edge_writer, &p[0]))
		tool_die("cannot make a thread");
	while (got < EDGE_BYTES) {
		bool ready = true;
		int available = -1;

		if (epoll_wait(ep, &ev, 1, WAIT_MS) != 1)
			tool_die("no event within %d ms after %llu bytes, with %d bytes to be read (FIONREAD)", WAIT_MS,
				 (unsigned long long)got, ioctl_int(p[1], FIONREAD));
		while (ready && available) {
			size_t size = rng_log(&rng, sizeof(buf));
			ssize_t r = recv(p[1], buf, size, 0);

			if (r < 0 && errno == EAGAIN)
				break;
			if (r <= 0 || stream_check(buf, (size_t)r, key, got) != (size_t)r)
				tool_die("wrong bytes, an end or an error after %llu bytes", (unsigned long long)got);
			got += (uint64_t)r;
			if (available >= 0) {
				available -= (int)r;
				ready = available >= 0;
				available = available < 0 ? 0 : available;
			} else if ((size_t)r == size) {
				available = ioctl_int(p[1], FIONREAD);
			}
			if ((size_t)r < size)
				ready = false;
			if (!rng_below(&rng, 512))
				tool_sleep_us(rng_below(&rng, 20000));
		}
	}
	(void)pthread_join(thread, NULL);
	printf("%u bytes read, %llu of them by TCP\n", EDGE_BYTES, (unsigned long long)tcp_bytes_sent(p[0]));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} modes[] = {
		{ "splice-asleep", do_splice_asleep }, { "splice-queued", do_splice_queued },
		{ "splice-proxy", do_splice_proxy },   { "fionread", do_fionread },
		{ "fionread-edge", do_fionread_edge },
	};

	tool_init("reader");
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(modes); i++)
		if (streq(argv[1], modes[i].name)) {
			modes[i].fn();
			if (strstr(argv[1], "splice"))
				tool_sleep_us(KEPT_MS * 1000);
			return 0;
		}
	tool_usage("usage: reader MODE: see the modes in test/tools/reader.c");
}
