// SPDX-License-Identifier: GPL-2.0-or-later
/* The connect hook and io_uring: connects that no system call of the program's makes, in its context and in a worker's. */
#include "cn.h"

#include <errno.h>
#include <sched.h>

#include <liburing.h>

static struct cn_service service;
static struct io_uring ring;

static int setup(void **state)
{
	int r = io_uring_queue_init(16, &ring, 0);

	/* Kernels and containers that refuse it have nothing to be tested. */
	if (r == -ENOSYS || r == -EPERM || r == -EACCES) {
		print_message("io_uring: %s\n", strerror(-r));
		*state = &ring;
		return 0;
	}
	assert_int_equal(r, 0);
	*state = NULL;
	return cn_setup(state);
}

static int teardown(void **state)
{
	if (*state)
		return 0;
	io_uring_queue_exit(&ring);
	return cn_teardown(state);
}

/* The ring's workers have the directories of this thread until they end: without them it may go to another tree. */
static int home(void **state)
{
	assert_int_equal(unshare(CLONE_FS), 0);
	return cn_home(state);
}

/* The result of the only request. */
static int await(void)
{
	struct __kernel_timespec patience = { .tv_sec = 10 };
	struct io_uring_cqe *cqe;
	int r;

	assert_int_equal(io_uring_wait_cqe_timeout(&ring, &cqe, &patience), 0);
	r = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return r;
}

static int uring_connect(int fd, const struct lb_vip *vip, unsigned int flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	struct sockaddr_storage addr;
	socklen_t n = cn_sockaddr(vip, &addr);

	io_uring_prep_connect(sqe, fd, (struct sockaddr *)&addr, n);
	io_uring_sqe_set_flags(sqe, flags);
	assert_int_equal(io_uring_submit(&ring), 1);
	return await();
}

static void check_connects(int family, unsigned int flags)
{
	struct lb_vip vip = cn_vip(family, 5, IPPROTO_TCP);
	uint32_t id;

	cn_service(&service, vip, LB_ROUND_ROBIN, cn_serve(2, family, IPPROTO_TCP), 2);
	id = cn_apply(&service);
	for (uint64_t i = 1; i <= 4; i++) {
		_cleanup_close_ int fd = cn_socket(family, SOCK_STREAM);

		assert_int_equal(uring_connect(fd, &vip, flags), 0);
		cn_assert_peer(fd, &vip);
		assert_in_range(cn_hear(fd), 0, 1);
		/* However often the kernel takes it up again, it is one connect(). */
		assert_int_equal(cn_counts(cn_backend(id, 0)).picks + cn_counts(cn_backend(id, 1)).picks, i);
	}
	assert_int_equal(cn_counts(cn_backend(id, 0)).picks, 2);
	cn_await_conns(cn_backend(id, 0), 0);
	cn_await_conns(cn_backend(id, 1), 0);
}

static void test_connect(void **state)
{
	if (*state)
		skip();
	check_connects(AF_INET, 0);
}

static void test_worker(void **state)
{
	if (*state)
		skip();
	check_connects(AF_INET6, IOSQE_ASYNC);
}

/* Refused by the hook, and by the backend. */
static void test_refused(void **state)
{
	_cleanup_close_ int none = -1, closed = -1;
	struct lb_vip vip = cn_vip(AF_INET, 5, IPPROTO_TCP);
	int first;

	if (*state)
		skip();
	none = cn_socket(AF_INET, SOCK_STREAM);
	closed = cn_socket(AF_INET, SOCK_STREAM);
	first = cn_serve(1, AF_INET, IPPROTO_TCP);
	cn_service(&service, vip, LB_ROUND_ROBIN, first, 0);
	(void)cn_apply(&service);
	assert_int_equal(uring_connect(none, &vip, 0), -ECONNREFUSED);
	cn_service(&service, vip, LB_ROUND_ROBIN, first, 1);
	(void)cn_apply(&service);
	cn_server_stop(first);
	assert_int_equal(uring_connect(closed, &vip, 0), -ECONNREFUSED);
	assert_int_equal(cn_stat(LB_STAT_PICKED), 1);
}

/* A datagram with an address of its own. */
static void test_sendmsg(void **state)
{
	struct lb_vip vip = cn_vip(AF_INET, 5, IPPROTO_UDP);
	_cleanup_close_ int fd = -1;
	struct sockaddr_storage addr;
	struct iovec iov = { .iov_base = (char[]){ '?' }, .iov_len = 1 };
	struct msghdr msg = { .msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1 };
	struct io_uring_sqe *sqe;

	if (*state)
		skip();
	fd = cn_socket(AF_INET, SOCK_DGRAM);
	cn_service(&service, vip, LB_ROUND_ROBIN, cn_serve(1, AF_INET, IPPROTO_UDP), 1);
	(void)cn_apply(&service);
	msg.msg_namelen = cn_sockaddr(&vip, &addr);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_sendmsg(sqe, fd, &msg, 0);
	assert_int_equal(io_uring_submit(&ring), 1);
	assert_int_equal(await(), 1);
	/* The answer comes from the service. */
	iov.iov_base = (char[8]){};
	iov.iov_len = 8;
	memset(&addr, 0, sizeof(addr));
	msg.msg_namelen = sizeof(addr);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_recvmsg(sqe, fd, &msg, 0);
	assert_int_equal(io_uring_submit(&ring), 1);
	assert_int_equal(await(), 1);
	{
		struct sockaddr_storage want;
		socklen_t n = cn_sockaddr(&vip, &want);

		assert_memory_equal(&addr, &want, n);
	}
}

int main(void)
{
#define URING_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		URING_TEST(test_connect),
		URING_TEST(test_worker),
		URING_TEST(test_refused),
		URING_TEST(test_sendmsg),
	};

	return cmocka_run_group_tests_name("connect_uring", tests, cn_away, home);
}
