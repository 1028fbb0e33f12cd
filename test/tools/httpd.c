// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A backend for tests: an HTTP server that answers every request with its name.
 *   httpd ADDRESS PORT NAME
 * Connections are kept alive as HTTP/1.1 has it. SIGUSR1: from now on every request is answered by 503, and by 200 again
 * after the next one. One thread; as many connections as there are descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>

#include "tool.h"

#define REQUEST_MAX 4096
#define EVENTS_MAX 64
#define FDS_MAX 65536

struct client {
	char text[REQUEST_MAX];
	size_t n;
};

static struct client *clients[FDS_MAX];
static volatile sig_atomic_t is_ill;

static void on_signal(int signal_number)
{
	(void)signal_number;
	is_ill = !is_ill;
}

static void client_end(int fd)
{
	free(clients[fd]);
	clients[fd] = NULL;
	(void)close(fd);
}

static bool wants_close(const char *request)
{
	return strcasestr(request, "\r\nConnection: close") || strstr(request, " HTTP/1.0\r\n");
}

/* Answers are small: a client that does not take one is hung up on. */
static bool answer(int fd, const char *name, bool last)
{
	char text[512];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s\n",
			 is_ill ? "503 Service Unavailable" : "200 OK", strlen(name) + 1,
			 last ? "Connection: close\r\n" : "", name);

	return send(fd, text, (size_t)n, MSG_NOSIGNAL) == n;
}

/* Every whole request in the buffer; false: the connection is to end. */
static bool serve(int fd, struct client *c, const char *name)
{
	char *end;

	while ((end = strstr(c->text, "\r\n\r\n"))) {
		size_t n = (size_t)(end + 4 - c->text);
		bool last;

		*end = '\0';
		last = wants_close(c->text);
		if (!answer(fd, name, last) || last)
			return false;
		memmove(c->text, c->text + n, c->n - n + 1);
		c->n -= n;
	}
	return c->n < sizeof(c->text) - 1;
}

static void on_readable(int fd, const char *name)
{
	struct client *c = clients[fd];
	ssize_t got = recv(fd, c->text + c->n, sizeof(c->text) - 1 - c->n, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0) {
		c->n += (size_t)got;
		c->text[c->n] = '\0';
	}
	if (got <= 0 || !serve(fd, c, name))
		client_end(fd);
}

static void on_connection(int epoll_fd, int listen_fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (fd >= FDS_MAX || !(clients[fd] = new0(struct client))) {
		(void)close(fd);
		return;
	}
	event.data.fd = fd;
	tool_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		client_end(fd);
}

int main(int argc, char **argv)
{
	struct rlimit files = { FDS_MAX, FDS_MAX };
	struct epoll_event events[EVENTS_MAX], event = { .events = EPOLLIN };
	struct sigaction action = { .sa_handler = on_signal };
	int epoll_fd, listen_fd;
	uint16_t port;

	tool_init("httpd");
	if (argc != 4)
		tool_usage("usage: httpd ADDRESS PORT NAME");
	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)sigaction(SIGUSR1, &action, NULL);
	listen_fd = tool_listen(strchr(argv[1], ':') ? FAMILY_6 : FAMILY_4, argv[1],
				(uint16_t)tool_number("PORT", argv[2], 1, 65535), &port);
	if (listen(listen_fd, SOMAXCONN) < 0)
		tool_die("listen: %s", strerror(errno));
	tool_nonblock(listen_fd, true);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	event.data.fd = listen_fd;
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0)
		tool_die("epoll: %s", strerror(errno));
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listen_fd)
				on_connection(epoll_fd, listen_fd);
			else
				on_readable(events[i].data.fd, argv[3]);
		}
	}
}
