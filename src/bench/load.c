// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/util.h"

/* Nobody waits longer for the other side: then something is broken. */
#define STALL_MS 10000
#define READ_BYTES (256 << 10)
#define SMALL_BYTES 4096
/* So many small messages between two looks at the clock. */
#define SMALL_BATCH 16
/* Of loopback addresses: a port range for each, as closed connections occupy their ports for a while. */
#define CONNECT_ADDRS 16

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
};

/* A socket and what waits for it; epoll for writing is made when it is needed. */
struct chan {
	int fd, in_ep, out_ep;
	char *buf;
	size_t buf_bytes;
};
#define CHAN_NONE                   \
	{                           \
		-1, -1, -1, NULL, 0 \
	}

static void chan_done(struct chan *c)
{
	closep(&c->fd);
	closep(&c->in_ep);
	closep(&c->out_ep);
	if (c->buf)
		(void)munmap(c->buf, c->buf_bytes);
}
#define _cleanup_chan_ _cleanup_(chan_done)

static double cpu_now_s(void)
{
	return (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

static int epoll_of(int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };
	_cleanup_close_ int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	return TAKE_FD(ep);
}

static int epoll_await(int ep)
{
	struct epoll_event event;
	int n;

	do
		n = epoll_wait(ep, &event, 1, STALL_MS);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n ? 0 : -ETIMEDOUT;
}

static int chan_buffer(struct chan *c, size_t bytes)
{
	c->buf_bytes = bytes > READ_BYTES ? bytes : READ_BYTES;
	c->buf = mmap(NULL, c->buf_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (c->buf != MAP_FAILED)
		return 0;
	c->buf = NULL;
	return -ENOMEM;
}

/* Takes over the socket, and makes epoll if it is not there from the last one. */
static int chan_open(struct chan *c, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	c->fd = fd;
	if (c->in_ep < 0)
		c->in_ep = epoll_create1(EPOLL_CLOEXEC);
	return c->in_ep < 0 || epoll_ctl(c->in_ep, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Leaves epoll and the buffer for the next one: a socket that is closed is no longer in it. */
static void chan_close(struct chan *c)
{
	closep(&c->fd);
	closep(&c->out_ep);
	c->fd = c->out_ep = -1;
}

static int write_all(struct chan *c, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = send(c->fd, c->buf + done, bytes - done, MSG_NOSIGNAL);
		int r;

		if (n >= 0) {
			done += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		if (c->out_ep < 0)
			c->out_ep = epoll_of(c->fd, EPOLLOUT);
		r = c->out_ep < 0 ? c->out_ep : epoll_await(c->out_ep);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Waits, then reads what is there; 0: the end. */
static ssize_t read_some(struct chan *c, size_t at, size_t bytes)
{
	for (;;) {
		int r = epoll_await(c->in_ep);
		ssize_t n;

		if (r < 0)
			return r;
		n = recv(c->fd, c->buf + at, bytes, 0);
		if (n >= 0)
			return n;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
}

/* 1, or 0 at the end, which may only come before the first byte. */
static int read_all(struct chan *c, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = read_some(c, done, bytes - done);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return done ? -EPROTO : 0;
		done += (size_t)n;
	}
	return 1;
}

static int make_address(const struct pair_spec *spec, union address *ret, socklen_t *ret_len)
{
	memset(ret, 0, sizeof(*ret));
	if (spec->path) {
		ret->un.sun_family = AF_UNIX;
		if (strlen(spec->path) >= sizeof(ret->un.sun_path))
			return -ENAMETOOLONG;
		memcpy(ret->un.sun_path, spec->path, strlen(spec->path));
		*ret_len = sizeof(ret->un);
		return 0;
	}
	ret->in.sin_family = AF_INET;
	*ret_len = sizeof(ret->in);
	return inet_pton(AF_INET, spec->addr, &ret->in.sin_addr) == 1 ? 0 : -EINVAL;
}

static int set_nodelay(const struct pair_spec *spec, int fd)
{
	int on = 1;

	if (spec->path || !spec->nodelay)
		return 0;
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ? -errno : 0;
}

static int is_loopback(const union address *to)
{
	return to->any.sa_family == AF_INET && (ntohl(to->in.sin_addr.s_addr) >> 24) == 127;
}

static int make_listener(const struct pair_spec *spec, union address *to, socklen_t *len, int *ret)
{
	_cleanup_close_ int fd = -1;
	int r = make_address(spec, to, len);

	if (r < 0)
		return r;
	/* The client of PAIR_CONNECT comes by several addresses. */
	if (spec->load == PAIR_CONNECT && is_loopback(to))
		to->in.sin_addr.s_addr = htonl(INADDR_ANY);
	if (spec->path)
		(void)unlink(spec->path);
	fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, &to->any, *len) < 0 || listen(fd, 128) < 0 ||
	    (!spec->path && getsockname(fd, &to->any, len) < 0))
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

/* Waits for a connection; 0: the client is gone, and none is left. */
static int next_connection(const struct pair_spec *spec, int listener, int ep, int *ret)
{
	int fd, r;

	for (;;) {
		r = epoll_await(ep);
		if (r < 0)
			return r;
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			break;
		/* Not the listener, so it is the end of life_fd. */
		if (errno == EAGAIN)
			return 0;
		return -errno;
	}
	r = set_nodelay(spec, fd);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	*ret = fd;
	return 1;
}

static int serve_stream(const struct pair_spec *spec, struct chan *c, struct pair_result *ret)
{
	double start = clock_s(), begin = 0, first = 0, now = start;
	uint64_t bytes = 0, all = 0;

	for (;;) {
		ssize_t n = read_some(c, 0, READ_BYTES);

		if (n < 0)
			return (int)n;
		now = clock_s();
		if (n == 0)
			break;
		all += (uint64_t)n;
		if (!first)
			first = now;
		else if (begin)
			bytes += (uint64_t)n;
		else if (now - first >= spec->seconds / 10)
			begin = now;
	}
	/* A machine with other things to do may leave us nothing but the time before. */
	ret->bytes = bytes ? bytes : all;
	ret->all = all;
	ret->seconds = bytes ? now - begin : now - start;
	return 0;
}

static int serve_ping_pong(const struct pair_spec *spec, struct chan *c)
{
	int r;

	while ((r = read_all(c, spec->bytes)) > 0) {
		r = write_all(c, spec->bytes);
		if (r < 0)
			break;
	}
	return r;
}

/* One connection after another, each closed as soon as it is answered. */
static int serve_connect(const struct pair_spec *spec, struct chan *c, int listener, int ep)
{
	for (;;) {
		int fd, r = next_connection(spec, listener, ep, &fd);

		if (r <= 0)
			return r;
		r = chan_open(c, fd);
		if (r >= 0)
			r = read_all(c, spec->bytes);
		if (r > 0)
			r = write_all(c, spec->bytes);
		chan_close(c);
		if (r < 0)
			return r;
	}
}

/* The one connection of all loads but PAIR_CONNECT. */
static int serve_one(const struct pair_spec *spec, struct chan *c, int listener, int ep, struct pair_result *ret)
{
	int fd, r = next_connection(spec, listener, ep, &fd);

	if (r <= 0)
		return r < 0 ? r : -ECONNABORTED;
	r = chan_open(c, fd);
	if (r < 0)
		return r;
	return spec->load == PAIR_STREAM ? serve_stream(spec, c, ret) : serve_ping_pong(spec, c);
}

int load_serve(const struct pair_spec *spec, int addr_fd, int life_fd, struct pair_result *ret)
{
	_cleanup_close_ int listener = -1, ep = -1;
	_cleanup_chan_ struct chan c = CHAN_NONE;
	struct epoll_event end = { .events = EPOLLIN };
	union address to;
	double cpu;
	socklen_t len;
	int r;

	r = make_listener(spec, &to, &len, &listener);
	if (r < 0)
		return r;
	ep = epoll_of(listener, EPOLLIN);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, life_fd, &end) < 0 || write(addr_fd, &to, sizeof(to)) < 0)
		return ep < 0 ? ep : -errno;
	r = chan_buffer(&c, spec->bytes);
	cpu = cpu_now_s();
	if (r >= 0)
		r = spec->load == PAIR_CONNECT ? serve_connect(spec, &c, listener, ep) :
						 serve_one(spec, &c, listener, ep, ret);
	ret->cpu_seconds = cpu_now_s() - cpu;
	return r;
}

/* Blocks until it is established: that is not what is measured, and short. */
static int connect_to(const struct pair_spec *spec, const union address *to, int *ret)
{
	_cleanup_close_ int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = to->any.sa_family == AF_UNIX ? sizeof(to->un) : sizeof(to->in);
	int r;

	if (fd < 0)
		return -errno;
	r = set_nodelay(spec, fd);
	if (r < 0)
		return r;
	if (connect(fd, &to->any, len) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

static int drive_stream(const struct pair_spec *spec, struct chan *c)
{
	int batch = spec->bytes > SMALL_BYTES ? 1 : SMALL_BATCH, r = 0;
	double until = clock_s() + spec->seconds * 1.1;

	while (clock_s() < until)
		for (int i = 0; i < batch; i++) {
			r = write_all(c, spec->bytes);
			if (r < 0)
				return r;
		}
	if (shutdown(c->fd, SHUT_WR) < 0)
		return -errno;
	/* Until the reader has it all and closes, so that it is not we who close first. */
	return (int)read_some(c, 0, 1);
}

static int drive_ping_pong(const struct pair_spec *spec, struct chan *c, struct pair_result *ret)
{
	int batch = spec->bytes > SMALL_BYTES ? 1 : SMALL_BATCH, r;
	double start = clock_s(), begin = 0, now;
	uint64_t trips = 0, all = 0;

	do {
		for (int i = 0; i < batch; i++) {
			r = write_all(c, spec->bytes);
			if (r >= 0)
				r = read_all(c, spec->bytes);
			if (r <= 0)
				return r < 0 ? r : -ECONNRESET;
		}
		now = clock_s();
		all += (uint64_t)batch;
		if (begin)
			trips += (uint64_t)batch;
		else if (now - start >= spec->seconds / 10)
			begin = now;
	} while (!trips || now - begin < spec->seconds);
	ret->count = trips;
	ret->all = all;
	ret->seconds = now - begin;
	return 0;
}

static int drive_connect(const struct pair_spec *spec, struct chan *c, union address *to, struct pair_result *ret)
{
	bool spread = to->any.sa_family == AF_INET && to->in.sin_addr.s_addr == htonl(INADDR_ANY);
	double start = clock_s(), begin = 0, now;
	uint64_t n = 0, all = 0;
	int fd, r;

	do {
		if (spread)
			to->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + all % CONNECT_ADDRS);
		r = connect_to(spec, to, &fd);
		if (r >= 0)
			r = chan_open(c, fd);
		if (r >= 0)
			r = write_all(c, spec->bytes);
		if (r >= 0)
			r = read_all(c, spec->bytes);
		if (r > 0)
			r = (int)read_some(c, 0, 1) ? -EPROTO : 1;
		chan_close(c);
		if (r <= 0)
			return r < 0 ? r : -ECONNRESET;
		now = clock_s();
		all++;
		if (begin)
			n++;
		else if (now - start >= spec->seconds / 10)
			begin = now;
	} while (!n || now - begin < spec->seconds);
	ret->count = n;
	ret->all = all;
	ret->seconds = now - begin;
	return 0;
}

static int drive_one(const struct pair_spec *spec, struct chan *c, const union address *to, struct pair_result *ret)
{
	int fd, r = connect_to(spec, to, &fd);

	if (r >= 0)
		r = chan_open(c, fd);
	if (r < 0)
		return r;
	return spec->load == PAIR_STREAM ? drive_stream(spec, c) : drive_ping_pong(spec, c, ret);
}

int load_drive(const struct pair_spec *spec, int addr_fd, struct pair_result *ret)
{
	_cleanup_chan_ struct chan c = CHAN_NONE;
	union address to;
	double cpu;
	int r;

	if (read(addr_fd, &to, sizeof(to)) != sizeof(to))
		return -ECONNREFUSED;
	r = chan_buffer(&c, spec->bytes);
	cpu = cpu_now_s();
	if (r >= 0)
		r = spec->load == PAIR_CONNECT ? drive_connect(spec, &c, &to, ret) : drive_one(spec, &c, &to, ret);
	ret->cpu_seconds = cpu_now_s() - cpu;
	return r;
}
