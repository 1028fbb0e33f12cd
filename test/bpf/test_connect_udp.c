// SPDX-License-Identifier: GPL-2.0-or-later
/* The connect hook and UDP: connected sockets, sockets that send without, both at once, both families. */
#include "cn.h"

#include <arpa/inet.h>
#include <errno.h>

#include "model/addr.h"

static struct cn_service service, other;

static uint32_t serve(int family, enum lb_scheduler scheduler, size_t n, struct lb_vip *ret)
{
	*ret = cn_vip(family, 5, IPPROTO_UDP);
	cn_service(&service, *ret, scheduler, cn_serve(n, family, IPPROTO_UDP), n);
	return cn_apply(&service);
}

static void send_to(int fd, const struct sockaddr_storage *addr, socklen_t n)
{
	assert_int_equal(sendto(fd, "?", 1, 0, (const struct sockaddr *)addr, n), 1);
}

/* The number in the answer, which must come from this address. */
static int hear_from(int fd, const struct sockaddr_storage *want, socklen_t n_want)
{
	struct sockaddr_storage from = {};
	socklen_t n = sizeof(from);
	unsigned char number;

	assert_int_equal(recvfrom(fd, &number, 1, 0, (struct sockaddr *)&from, &n), 1);
	assert_int_equal(n, n_want);
	assert_memory_equal(&from, want, n);
	return number;
}

static void test_connected(void **state)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < 2; i++) {
		_cleanup_close_ int fd = cn_socket(families[i], SOCK_DGRAM);
		struct sockaddr_storage addr;
		struct lb_vip vip;
		uint32_t id = serve(families[i], LB_ROUND_ROBIN, 1, &vip);
		int number = (int)cn_n_servers - 1;
		socklen_t n = cn_sockaddr(&vip, &addr);

		assert_int_equal(cn_connect(fd, &vip), 0);
		cn_assert_peer(fd, &vip);
		assert_int_equal(cn_counts(cn_backend(id, number)).conns, 1);
		assert_int_equal(send(fd, "?", 1, 0), 1);
		assert_int_equal(hear_from(fd, &addr, n), number);
		closep(&fd);
		fd = -1;
		cn_await_conns(cn_backend(id, number), 0);
	}
}

/* A UDP socket may connect as often as it likes: to one service, another, none, and be dissolved. */
static void test_reconnected(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct lb_vip a, b = cn_vip(AF_INET, 6, IPPROTO_UDP), direct = { .proto = IPPROTO_UDP };
	uint32_t id_a = cn_backend(serve(AF_INET, LB_ROUND_ROBIN, 1, &a), 0), id_b;
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct sockaddr_storage addr;
	socklen_t n;

	cn_service(&other, b, LB_ROUND_ROBIN, cn_serve(1, AF_INET, IPPROTO_UDP), 1);
	id_b = cn_backend(cn_apply(&other), 1);
	assert_int_equal(cn_connect(fd, &a), 0);
	assert_int_equal(cn_connect(fd, &b), 0);
	assert_int_equal(cn_counts(id_a).conns, 0);
	assert_int_equal(cn_counts(id_b).conns, 1);
	cn_assert_peer(fd, &b);
	/* Straight to the backend: it is told as what it is. */
	direct.addr = cn_servers[1].addr;
	direct.port = htons(cn_servers[1].port);
	assert_int_equal(cn_connect(fd, &direct), 0);
	assert_int_equal(cn_counts(id_b).conns, 0);
	cn_assert_peer(fd, &direct);
	assert_int_equal(cn_connect(fd, &b), 0);
	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
	n = cn_sockaddr(&direct, &addr);
	send_to(fd, &addr, n);
	assert_int_equal(hear_from(fd, &addr, n), 1);
	closep(&fd);
	fd = -1;
	cn_await_conns(id_b, 0);
}

/* Without connect(): one backend as long as the flow goes on, and answers from the service. */
static void test_unconnected(void **state)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < 2; i++) {
		_cleanup_close_ int fd = cn_socket(families[i], SOCK_DGRAM);
		struct sockaddr_storage addr;
		struct lb_vip vip;
		int number;
		socklen_t n;

		(void)serve(families[i], LB_ROUND_ROBIN, 4, &vip);
		n = cn_sockaddr(&vip, &addr);
		send_to(fd, &addr, n);
		number = hear_from(fd, &addr, n);
		for (int k = 0; k < 10; k++) {
			send_to(fd, &addr, n);
			assert_int_equal(hear_from(fd, &addr, n), number);
		}
		assert_int_equal(cn_stat(LB_STAT_PICKED), i + 1);
		assert_int_equal(cn_stat(LB_STAT_AGAIN), 10 * (i + 1));
	}
}

/* A socket of both families sends to an IPv4 service: the kernel takes it to the hook of IPv4, and the answer back. */
static void test_unconnected_mapped(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET6, SOCK_DGRAM);
	struct sockaddr_storage addr;
	struct lb_vip vip;
	socklen_t n;

	(void)serve(AF_INET, LB_ROUND_ROBIN, 1, &vip);
	n = cn_sockaddr_mapped(&vip, &addr);
	for (int i = 0; i < 3; i++) {
		send_to(fd, &addr, n);
		assert_int_equal(hear_from(fd, &addr, n), 0);
	}
}

/* Many services, one socket, answers in any order. */
static void test_many_services(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct sockaddr_storage addr[8];
	socklen_t n[8];

	(void)cn_serve(8, AF_INET, IPPROTO_UDP);
	for (int i = 0; i < 8; i++) {
		struct lb_vip vip = cn_vip(AF_INET, 10 + i, IPPROTO_UDP);

		cn_service(&service, vip, LB_RANDOM, i, 1);
		(void)cn_apply(&service);
		n[i] = cn_sockaddr(&vip, &addr[i]);
	}
	for (int i = 0; i < 8; i++)
		send_to(fd, &addr[i], n[i]);
	for (int i = 0; i < 8; i++) {
		struct sockaddr_storage from = {};
		socklen_t len = sizeof(from);
		unsigned char number;

		assert_int_equal(recvfrom(fd, &number, 1, 0, (struct sockaddr *)&from, &len), 1);
		assert_true(number < 8);
		assert_memory_equal(&from, &addr[number], len);
	}
}

/* A connected socket that also sends elsewhere. */
static void test_connected_and_not(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct lb_vip a, b = cn_vip(AF_INET, 6, IPPROTO_UDP), direct = { .proto = IPPROTO_UDP };
	struct sockaddr_storage addr, to;
	socklen_t n, n_to;

	(void)serve(AF_INET, LB_ROUND_ROBIN, 2, &a);
	n = cn_sockaddr(&a, &addr);
	assert_int_equal(cn_connect(fd, &a), 0);
	/* By its address, although connected: a flow of its own, whose backend the connection refuses to hear. */
	send_to(fd, &addr, n);
	assert_int_equal(send(fd, "?", 1, 0), 1);
	(void)hear_from(fd, &addr, n);
	/* To a socket that is not connected everything is told by who it was sent to. */
	closep(&fd);
	fd = cn_socket(AF_INET, SOCK_DGRAM);
	cn_service(&other, b, LB_ROUND_ROBIN, 0, 1);
	(void)cn_apply(&other);
	n_to = cn_sockaddr(&b, &to);
	send_to(fd, &to, n_to);
	assert_int_equal(hear_from(fd, &to, n_to), 0);
	direct.addr = cn_servers[1].addr;
	direct.port = htons(cn_servers[1].port);
	n_to = cn_sockaddr(&direct, &to);
	send_to(fd, &to, n_to);
	assert_int_equal(hear_from(fd, &to, n_to), 1);
}

/* A flow leaves its backend when that is down or gone, and not when it drains. */
static void test_flow_moves(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct sockaddr_storage addr;
	struct lb_vip vip;
	int number, next;
	socklen_t n;

	(void)serve(AF_INET, LB_ROUND_ROBIN, 3, &vip);
	n = cn_sockaddr(&vip, &addr);
	send_to(fd, &addr, n);
	number = hear_from(fd, &addr, n);
	service.backends[number].weight = 0;
	service.backends[number].flags = LB_BACKEND_DRAINING;
	(void)cn_apply(&service);
	send_to(fd, &addr, n);
	assert_int_equal(hear_from(fd, &addr, n), number);
	service.backends[number].flags = LB_BACKEND_DOWN;
	(void)cn_apply(&service);
	send_to(fd, &addr, n);
	next = hear_from(fd, &addr, n);
	assert_int_not_equal(next, number);
	/* Taken out: only the first one is left, and it is well again. */
	service.spec.n_backends = 1;
	service.backends[0] = (struct lb_backend_spec){ .addr = cn_servers[number].addr,
							.port = cn_servers[number].port,
							.weight = 1 };
	(void)cn_apply(&service);
	send_to(fd, &addr, n);
	assert_int_equal(hear_from(fd, &addr, n), number);
}

static void test_flow_ends(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct sockaddr_storage addr;
	struct lb_vip vip;
	socklen_t n;
	int number;

	(void)serve(AF_INET, LB_ROUND_ROBIN, 2, &vip);
	service.spec.plan.udp_idle_ms = 20;
	(void)cn_apply(&service);
	n = cn_sockaddr(&vip, &addr);
	send_to(fd, &addr, n);
	number = hear_from(fd, &addr, n);
	/* Longer than the idle time by any clock. */
	(void)usleep(200000);
	send_to(fd, &addr, n);
	assert_int_not_equal(hear_from(fd, &addr, n), number);
	assert_int_equal(cn_stat(LB_STAT_AGAIN), 0);
}

/* More flows than there is room for: each still gets its answer. */
static void test_flows_overflow(void **state)
{
	struct sockaddr_storage addr;
	struct lb_vip vip;
	socklen_t n;

	(void)serve(AF_INET, LB_RANDOM, 4, &vip);
	n = cn_sockaddr(&vip, &addr);
	for (int i = 0; i < 40000; i++) {
		_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);

		send_to(fd, &addr, n);
		(void)hear_from(fd, &addr, n);
	}
	assert_int_equal(cn_stat(LB_STAT_PICKED), 40000);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_connected, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_reconnected, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_unconnected, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_unconnected_mapped, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_many_services, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_connected_and_not, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_flow_moves, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_flow_ends, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_flows_overflow, cn_setup, cn_teardown),
	};

	return cmocka_run_group_tests_name("connect_udp", tests, cn_away, cn_home);
}
