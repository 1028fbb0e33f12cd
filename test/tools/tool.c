// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <time.h>

#include "base/num.h"

static const char *tool_name = "tool";

void tool_init(const char *name)
{
	tool_name = name;
	(void)signal(SIGPIPE, SIG_IGN);
}

static void tool_vsay(const char *fmt, va_list ap)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "%s: ", tool_name);

	(void)vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	(void)fprintf(stderr, "%s\n", text);
}

void tool_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tool_vsay(fmt, ap);
	va_end(ap);
}

void tool_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tool_vsay(fmt, ap);
	va_end(ap);
	exit(1);
}

void tool_usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tool_vsay(fmt, ap);
	va_end(ap);
	exit(2);
}

uint64_t tool_number(const char *option, const char *text, uint64_t min, uint64_t max)
{
	uint64_t n = 0;

	if (num_parse_u64(text, min, max, &n) < 0)
		tool_usage("'%s' does not fit %s", text, option);
	return n;
}

void tool_sleep_us(uint64_t us)
{
	struct timespec ts = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

void *tool_shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		tool_die("cannot get %zu bytes of shared memory: %s", bytes, strerror(errno));
	return p;
}

uint64_t mix64(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint64_t rng_next(struct rng *rng)
{
	rng->state += 0x9e3779b97f4a7c15ULL;
	return mix64(rng->state);
}

uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

uint64_t rng_log(struct rng *rng, uint64_t max)
{
	unsigned int bits = 63 - (unsigned int)__builtin_clzll(max);
	uint64_t top = 1ULL << rng_below(rng, bits + 1);
	uint64_t n = top + rng_below(rng, top);

	return n < max ? n : max;
}

uint64_t stream_key(uint64_t seed, uint64_t id, unsigned int direction)
{
	return mix64(mix64(seed + 1) ^ mix64(id * 2 + direction + 0x5851f42d4c957f2dULL));
}

static inline uint64_t stream_block(uint64_t key, uint64_t block)
{
	return mix64(key + block * 0x9e3779b97f4a7c15ULL);
}

static inline uint8_t stream_byte(uint64_t key, uint64_t offset)
{
	return (uint8_t)(stream_block(key, offset / 8) >> offset % 8 * 8);
}

void stream_fill(void *buf, size_t n, uint64_t key, uint64_t offset)
{
	uint8_t *p = buf;
	size_t i = 0;

	for (; i < n && (offset + i) % 8; i++)
		p[i] = stream_byte(key, offset + i);
	for (; i + 8 <= n; i += 8) {
		uint64_t block = stream_block(key, (offset + i) / 8);

		memcpy(p + i, &block, 8);
	}
	for (; i < n; i++)
		p[i] = stream_byte(key, offset + i);
}

size_t stream_check(const void *buf, size_t n, uint64_t key, uint64_t offset)
{
	const uint8_t *p = buf;
	size_t i = 0;

	for (; i < n && (offset + i) % 8; i++)
		if (p[i] != stream_byte(key, offset + i))
			return i;
	for (; i + 8 <= n; i += 8) {
		uint64_t block = stream_block(key, (offset + i) / 8);

		if (memcmp(p + i, &block, 8))
			break;
	}
	for (; i < n; i++)
		if (p[i] != stream_byte(key, offset + i))
			return i;
	return n;
}

int64_t stream_find(const void *window, size_t n, uint64_t key, uint64_t length)
{
	const uint8_t *p = window;

	if (n < 15)
		return -1;
	for (uint64_t block = 0; block < length / 8; block++) {
		uint64_t want = stream_block(key, block);

		for (unsigned int shift = 0; shift < 8; shift++)
			if (!memcmp(p + shift, &want, 8) && block * 8 >= shift)
				return (int64_t)(block * 8 - shift);
	}
	return -1;
}

enum tool_family tool_family_parse(const char *text)
{
	if (streq(text, "4"))
		return FAMILY_4;
	if (streq(text, "6"))
		return FAMILY_6;
	if (streq(text, "mapped"))
		return FAMILY_MAPPED;
	tool_usage("'%s' does not fit --family: give 4, 6 or mapped", text);
}

const char *tool_family_name(enum tool_family family)
{
	return family == FAMILY_4 ? "4" : family == FAMILY_6 ? "6" : "mapped";
}

void tool_enter_netns(const char *path)
{
	_cleanup_close_ int fd = -1;

	if (!path)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		tool_die("cannot enter the network namespace '%s': %s", path, strerror(errno));
}

void tool_enter_cgroup(const char *dir)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[4096];

	if (!dir)
		return;
	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	f = fopen(path, "we");
	if (!f || fprintf(f, "0\n") < 0 || fflush(f))
		tool_die("cannot enter the cgroup '%s': %s", dir, strerror(errno));
}

socklen_t tool_addr(enum tool_family family, const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *in6 = (void *)ret;
	struct sockaddr_in *in = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (family == FAMILY_4) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		if (inet_pton(AF_INET, text ? text : "127.0.0.1", &in->sin_addr) == 1)
			return sizeof(*in);
	} else {
		const char *loopback = family == FAMILY_6 ? "::1" : "::ffff:127.0.0.1";

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		if (inet_pton(AF_INET6, text ? text : loopback, &in6->sin6_addr) == 1)
			return sizeof(*in6);
	}
	tool_usage("'%s' is no address of family %s", text, tool_family_name(family));
}

void tool_set(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
		tool_die("cannot set socket option %d/%d to %d: %s", level, option, value, strerror(errno));
}

void tool_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
		tool_die("cannot change O_NONBLOCK: %s", strerror(errno));
}

int tool_listen(enum tool_family family, const char *address, uint16_t port, uint16_t *ret_port)
{
	struct sockaddr_storage at;
	socklen_t len = tool_addr(family, family == FAMILY_MAPPED && !address ? "::" : address, port, &at);
	int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		tool_die("cannot make a socket: %s", strerror(errno));
	tool_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at.ss_family == AF_INET6)
		tool_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, family == FAMILY_6);
	if (bind(fd, (void *)&at, len) < 0 || listen(fd, 4096) < 0 || getsockname(fd, (void *)&at, &len) < 0)
		tool_die("cannot listen on port %u: %s", port, strerror(errno));
	if (ret_port)
		*ret_port = ntohs(((struct sockaddr_in *)&at)->sin_port);
	return fd;
}

int tool_connect(const struct sockaddr_storage *to, socklen_t len)
{
	_cleanup_close_ int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const void *)to, len) < 0)
		return -1;
	return TAKE_FD(fd);
}

void tool_pair(int ret[2])
{
	struct sockaddr_storage to;
	_cleanup_close_ int listener = -1;
	uint16_t port;
	socklen_t len;

	listener = tool_listen(FAMILY_4, "127.0.0.1", 0, &port);
	len = tool_addr(FAMILY_4, NULL, port, &to);
	ret[0] = tool_connect(&to, len);
	ret[1] = ret[0] < 0 ? -1 : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (ret[1] < 0)
		tool_die("cannot make a TCP pair: %s", strerror(errno));
}

/* Would the call have waited, were the descriptor a blocking one? Then does that. On a blocking one EAGAIN is a fault. */
static bool tool_wait(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return errno == EAGAIN && (fcntl(fd, F_GETFL) & O_NONBLOCK) && (poll(&p, 1, -1) >= 0 || errno == EINTR);
}

void tool_send_all(int fd, const void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = send(fd, (const char *)buf + done, n - done, MSG_NOSIGNAL);

		if (r < 0 && (errno == EINTR || tool_wait(fd, POLLOUT)))
			continue;
		if (r <= 0)
			tool_die("cannot send: %s", strerror(errno));
		done += (size_t)r;
	}
}

void tool_recv_all(int fd, void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = recv(fd, (char *)buf + done, n - done, 0);

		if (r < 0 && (errno == EINTR || tool_wait(fd, POLLIN)))
			continue;
		if (r <= 0)
			tool_die("cannot receive: %s", r ? strerror(errno) : "end of stream");
		done += (size_t)r;
	}
}
