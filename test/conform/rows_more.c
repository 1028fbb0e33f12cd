// SPDX-License-Identifier: GPL-2.0-or-later
/* Rows about processes, descriptors and other ways into the kernel. */
#include "conform.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/io_uring.h>

static void dup_and_fork(struct pair *p)
{
	int copy = dup(p->a);
	pid_t pid = fork();

	if (!pid) {
		(void)close(p->a);
		put(copy, 5);
		tool_sleep_us(200000);
		_exit(0);
	}
	(void)close(p->a);
	(void)close(copy);
	settle();
	take(p, p->b, 10, 0);
	note(p, "poll", poll_in(p->b, 0, POLLIN));
	(void)waitpid(pid, NULL, 0);
	note(p, "poll", poll_in(p->b, 500, POLLIN));
	take(p, p->b, 10, 0);
}

/* Hands fd over a unix socket to another process, which reads there. */
static void pass(struct pair *p)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fds[2], status;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, fds))
		return;
	pid = fork();
	if (!pid) {
		int fd = -1;
		char buf[16];

		if (recvmsg(fds[1], &msg, 0) == 1)
			memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
		_exit((int)recv(fd, buf, sizeof(buf), 0));
	}
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &p->b, sizeof(int));
	note(p, "passed", sendmsg(fds[0], &msg, 0));
	(void)close(p->b);
	settle();
	put(p->a, 7);
	(void)waitpid(pid, &status, 0);
	note(p, "other process got", WEXITSTATUS(status));
}

static void keepalive(struct pair *p)
{
	tool_set(p->a, SOL_SOCKET, SO_KEEPALIVE, 1);
	tool_set(p->a, IPPROTO_TCP, TCP_KEEPIDLE, 1);
	tool_set(p->a, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	tool_set(p->a, IPPROTO_TCP, TCP_KEEPCNT, 1);
	tool_sleep_us(2500000);
	put(p->a, 5);
	settle();
	take(p, p->b, 10, 0);
	put(p->b, 5);
	settle();
	take(p, p->a, 10, 0);
}

static void names(struct pair *p)
{
	struct sockaddr_in a, b;
	socklen_t len = sizeof(a);

	note(p, "sockname", getsockname(p->a, (void *)&a, &len));
	note(p, "peername", getpeername(p->b, (void *)&b, &len));
	note_text(p, a.sin_port == b.sin_port && a.sin_addr.s_addr == b.sin_addr.s_addr ? "same" : "DIFFERENT");
}

static void buffers(struct pair *p)
{
	int value = 0;
	socklen_t len = sizeof(value);

	tool_set(p->b, SOL_SOCKET, SO_RCVBUF, 100000);
	(void)getsockopt(p->b, SOL_SOCKET, SO_RCVBUF, &value, &len);
	note(p, "rcvbuf", value);
	tool_set(p->a, SOL_SOCKET, SO_SNDBUF, 50000);
	(void)getsockopt(p->a, SOL_SOCKET, SO_SNDBUF, &value, &len);
	note(p, "sndbuf", value);
	(void)getsockopt(p->b, SOL_SOCKET, SO_RCVLOWAT, &value, &len);
	note(p, "lowat", value);
}

static void splice_out(struct pair *p)
{
	int fds[2];

	if (pipe(fds))
		return;
	put(p->a, 1000);
	settle();
	note(p, "splice", splice(p->b, NULL, fds[1], NULL, 1000, SPLICE_F_NONBLOCK));
}

struct ring {
	int fd;
	uint8_t *sq, *cq;
	struct io_uring_sqe *sqes;
	struct io_uring_params params;
};

static bool ring_open(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->params);
	if (r->fd < 0)
		return false;
	r->sq = mmap(NULL, r->params.sq_off.array + 4 * r->params.sq_entries, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->params.cq_off.cqes + r->params.cq_entries * sizeof(struct io_uring_cqe),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, r->params.sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		       r->fd, IORING_OFF_SQES);
	return r->sq != MAP_FAILED && r->cq != MAP_FAILED && (void *)r->sqes != MAP_FAILED;
}

static void ring_submit(struct ring *r, uint8_t opcode, int fd, void *buf, unsigned int n)
{
	unsigned int *tail = (void *)(r->sq + r->params.sq_off.tail),
		     mask = *(unsigned int *)(r->sq + r->params.sq_off.ring_mask);
	unsigned int *array = (void *)(r->sq + r->params.sq_off.array), i = *tail & mask;

	r->sqes[i] = (struct io_uring_sqe){ .opcode = opcode, .fd = fd, .addr = (uint64_t)(uintptr_t)buf, .len = n };
	array[i] = i;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	(void)syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0);
}

static long ring_result(struct ring *r)
{
	unsigned int *head = (void *)(r->cq + r->params.cq_off.head),
		     mask = *(unsigned int *)(r->cq + r->params.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (void *)(r->cq + r->params.cq_off.cqes);
	long res;

	(void)syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	res = cqes[*head & mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

static void uring(struct pair *p)
{
	struct ring ring;
	char buf[100];

	if (!ring_open(&ring)) {
		note(p, "io_uring_setup", -1);
		return;
	}
	/* The receive waits first, so that data must wake it. */
	ring_submit(&ring, IORING_OP_RECV, p->b, buf, sizeof(buf));
	settle();
	put(p->a, 50);
	note_text(p, "recv=%ld", ring_result(&ring));
	ring_submit(&ring, IORING_OP_SEND, p->a, buf, 20);
	note_text(p, "send=%ld", ring_result(&ring));
	settle();
	ring_submit(&ring, IORING_OP_RECV, p->b, buf, sizeof(buf));
	note_text(p, "recv=%ld", ring_result(&ring));
	(void)shutdown(p->a, SHUT_WR);
	ring_submit(&ring, IORING_OP_RECV, p->b, buf, sizeof(buf));
	note_text(p, "end=%ld", ring_result(&ring));
}

const struct row rows_more[] = {
	{ .name = "dup and fork", .fn = dup_and_fork },
	{ .name = "descriptor passed on", .fn = pass },
	{ .name = "SO_KEEPALIVE", .fn = keepalive },
	{ .name = "getsockname and getpeername", .fn = names },
	{ .name = "SO_RCVBUF, SO_SNDBUF, SO_RCVLOWAT", .fn = buffers },
	{ .name = "io_uring send and recv", .fn = uring },
	{ .name = "splice out of the socket",
	  .fn = splice_out,
	  .differs = "reset is better than a wait without end",
	  .unjoins = true },
	{ 0 },
};
