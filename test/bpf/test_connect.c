// SPDX-License-Identifier: GPL-2.0-or-later
/* The connect hook, one call at a time: each family, TCP and every kind of UDP, names, refusals, counts. */
#include "cn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>

#include "model/addr.h"

static struct cn_service service;

/* A service of n servers of a family, asked for at an address of another. */
static uint32_t serve(int vip_family, int family, int proto, enum lb_scheduler scheduler, size_t n, struct lb_vip *ret)
{
	*ret = cn_vip(vip_family, 5, proto);
	cn_service(&service, *ret, scheduler, cn_serve(n, family, proto), n);
	return cn_apply(&service);
}

static void test_tcp4(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM);
	struct lb_vip vip;
	uint32_t id = serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);

	assert_int_equal(cn_connect(fd, &vip), 0);
	cn_assert_peer(fd, &vip);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 1);
	assert_int_equal(cn_hear(fd), 0);
	closep(&fd);
	fd = -1;
	cn_await_conns(cn_backend(id, 0), 0);
	assert_int_equal(cn_counts(cn_backend(id, 0)).picks, 1);
	assert_int_equal(cn_stat(LB_STAT_PICKED), 1);
}

static void test_tcp6(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET6, SOCK_STREAM);
	struct lb_vip vip;
	uint32_t id = serve(AF_INET6, AF_INET6, IPPROTO_TCP, LB_ROUND_ROBIN, 2, &vip);

	assert_int_equal(cn_connect(fd, &vip), 0);
	cn_assert_peer(fd, &vip);
	(void)cn_hear(fd);
	assert_true(cn_ask(&vip) != cn_ask(&vip));
	assert_int_equal(cn_counts(cn_backend(id, 0)).picks + cn_counts(cn_backend(id, 1)).picks, 3);
}

/* An IPv6 socket that asks for an IPv4 service in IPv6's words. */
static void test_mapped(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET6, SOCK_STREAM);
	struct sockaddr_in6 peer;
	socklen_t n = sizeof(peer);
	struct lb_vip vip;

	(void)serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);
	assert_int_equal(cn_connect(fd, &vip), 0);
	cn_assert_peer(fd, &vip);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &n), 0);
	assert_true(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
	assert_int_equal(cn_hear(fd), 0);
}

/* An IPv6 service whose backends are IPv4: a socket of both families reaches them, one of IPv6 alone does not. */
static void test_six_to_four(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET6, SOCK_STREAM), only = cn_socket(AF_INET6, SOCK_STREAM);
	struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	_cleanup_close_ int bound = cn_socket(AF_INET6, SOCK_STREAM);
	struct lb_vip vip;
	int one = 1;

	(void)serve(AF_INET6, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);
	assert_int_equal(cn_connect(fd, &vip), 0);
	cn_assert_peer(fd, &vip);
	assert_int_equal(cn_hear(fd), 0);
	assert_int_equal(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(cn_connect(only, &vip), -ENETUNREACH);
	assert_int_equal(bind(bound, (struct sockaddr *)&loopback, sizeof(loopback)), 0);
	assert_int_equal(cn_connect(bound, &vip), -ENETUNREACH);
	assert_int_equal(cn_stat(LB_STAT_FAMILY), 2);
}

/* Of a mixed service each socket gets what it can speak. */
static void test_mixed(void **state)
{
	struct lb_vip vip = cn_vip(AF_INET, 5, IPPROTO_TCP);

	(void)cn_serve(9, AF_INET6, IPPROTO_TCP);
	(void)cn_serve(1, AF_INET, IPPROTO_TCP);
	cn_service(&service, vip, LB_ROUND_ROBIN, 0, 10);
	(void)cn_apply(&service);
	for (int i = 0; i < 20; i++)
		assert_int_equal(cn_ask(&vip), 9);
	service.spec.n_backends = 9;
	(void)cn_apply(&service);
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
	assert_int_equal(cn_stat(LB_STAT_FAMILY), 1);
}

static void test_not_a_service(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM), server = -1;
	struct lb_vip vip, direct = { .proto = IPPROTO_TCP };
	uint32_t id = serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);

	direct.addr = cn_servers[0].addr;
	direct.port = htons(cn_servers[0].port);
	assert_int_equal(cn_connect(fd, &direct), 0);
	cn_assert_peer(fd, &direct);
	assert_int_equal(cn_hear(fd), 0);
	assert_int_equal(cn_counts(cn_backend(id, 0)).picks, 0);
	/* Another port or protocol of the service's address. */
	closep(&fd);
	fd = cn_socket(AF_INET, SOCK_STREAM);
	vip.port = htons(81);
	assert_int_equal(cn_connect(fd, &vip), -ENETUNREACH);
	vip.port = htons(80);
	vip.proto = IPPROTO_UDP;
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
}

static void test_switched_off(void **state)
{
	struct lb_vip vip;

	(void)serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);
	lb_ctl(cn.lb)->on = 0;
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
	lb_ctl(cn.lb)->on = 1;
	assert_int_equal(cn_ask(&vip), 0);
	service.spec.plan.flags = LB_PLAN_PACKET;
	(void)cn_apply(&service);
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
}

/* Refused at once: no SYN, no ICMP, and no count. */
static void test_all_down(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct sockaddr_storage addr;
	struct lb_vip vip, udp = cn_vip(AF_INET, 5, IPPROTO_UDP), six = cn_vip(AF_INET6, 5, IPPROTO_TCP);
	uint32_t id = serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);
	socklen_t n;

	service.backends[0].weight = 0;
	assert_int_equal(cn_apply(&service), id);
	assert_int_equal(cn_ask(&vip), -ECONNREFUSED);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 0);
	service.spec.vip = six;
	(void)cn_apply(&service);
	assert_int_equal(cn_ask(&six), -ECONNREFUSED);
	service.spec.vip = udp;
	(void)cn_apply(&service);
	assert_int_equal(cn_ask(&udp), -ECONNREFUSED);
	n = cn_sockaddr(&udp, &addr);
	assert_int_equal(sendto(fd, "?", 1, 0, (struct sockaddr *)&addr, n), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(cn_stat(LB_STAT_NO_BACKEND), 4);
}

static void test_bound_source(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM);
	struct sockaddr_in self = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 200) }, got;
	socklen_t n = sizeof(self);
	struct lb_vip vip;

	(void)serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);
	assert_int_equal(bind(fd, (struct sockaddr *)&self, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&self, &n), 0);
	assert_int_equal(cn_connect(fd, &vip), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&got, &n), 0);
	assert_memory_equal(&got, &self, n);
	assert_int_equal(cn_hear(fd), 0);
}

/* A socket that connected in vain, and then elsewhere: to another service, to none, and to the first again. */
static void test_connect_again(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM), plain = -1;
	struct lb_vip dead = cn_vip(AF_INET, 6, IPPROTO_TCP), vip, direct = { .proto = IPPROTO_TCP };
	uint32_t id = serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip), dead_id;

	cn_service(&service, dead, LB_ROUND_ROBIN, cn_serve_silent(AF_INET), 1);
	dead_id = cn_apply(&service);
	cn_server_stop(1);
	assert_int_equal(cn_connect(fd, &dead), -ECONNREFUSED);
	assert_int_equal(cn_counts(cn_backend(dead_id, 1)).conns, 0);
	assert_int_equal(cn_counts(cn_backend(dead_id, 1)).failures, 1);
	assert_int_equal(cn_connect(fd, &vip), 0);
	cn_assert_peer(fd, &vip);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 1);
	/* Straight to the very backend that refused before, now that it listens: no service is told. */
	plain = cn_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(cn_connect(plain, &dead), -ECONNREFUSED);
	direct.addr = cn_servers[0].addr;
	direct.port = htons(cn_servers[0].port);
	assert_int_equal(cn_connect(plain, &direct), 0);
	cn_assert_peer(plain, &direct);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 1);
}

/* connect(AF_UNSPEC) takes a connection down, and the socket may be used anew. */
static void test_dissolve(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM);
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct lb_vip vip;
	uint32_t id = serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);

	assert_int_equal(cn_connect(fd, &vip), 0);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 1);
	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 0);
	assert_int_equal(cn_connect(fd, &vip), 0);
	cn_assert_peer(fd, &vip);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 1);
}

static void test_nonblocking(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	struct pollfd p = { .events = POLLOUT };
	struct lb_vip vip;
	uint32_t id = serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);
	int error;
	socklen_t n = sizeof(error);

	p.fd = fd;
	if (cn_connect(fd, &vip) < 0)
		assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n), 0);
	assert_int_equal(error, 0);
	cn_assert_peer(fd, &vip);
	assert_int_equal(cn_counts(cn_backend(id, 0)).conns, 1);
	/* Asked how it went by connect() again, as programs do: not a second pick. */
	assert_in_range(-cn_connect(fd, &vip) == EISCONN || cn_counts(cn_backend(id, 0)).picks == 1, 1, 1);
	assert_int_equal(cn_counts(cn_backend(id, 0)).picks, 1);
	closep(&fd);
	fd = -1;
	cn_await_conns(cn_backend(id, 0), 0);
}

static void test_fast_open(void **state)
{
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM);
	struct lb_vip vip = cn_vip(AF_INET, 5, IPPROTO_TCP);
	struct sockaddr_storage addr;
	socklen_t n = cn_sockaddr(&vip, &addr);
	uint32_t id;

	cn_service(&service, vip, LB_ROUND_ROBIN, cn_serve_silent(AF_INET), 1);
	id = cn_backend(cn_apply(&service), 0);
	assert_int_equal(sendto(fd, "?", 1, MSG_FASTOPEN, (struct sockaddr *)&addr, n), 1);
	cn_assert_peer(fd, &vip);
	assert_int_equal(cn_counts(id).picks, 1);
	assert_int_equal(cn_counts(id).conns, 1);
	closep(&fd);
	fd = -1;
	cn_await_conns(id, 0);
}

static void test_mptcp(void **state)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262 /* IPPROTO_MPTCP */);
	struct lb_vip vip;
	uint32_t id;

	if (fd < 0)
		skip();
	id = serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 1, &vip);
	assert_int_equal(cn_connect(fd, &vip), 0);
	assert_int_equal(cn_hear(fd), 0);
	assert_int_equal(cn_counts(cn_backend(id, 0)).picks, 1);
	/* The socket is not the one that connect() was asked about, which is its first subflow. */
	cn_assert_peer(fd, &vip);
	closep(&fd);
	fd = -1;
	cn_await_conns(cn_backend(id, 0), 0);
}

/* Two sockets on one local port, to one service. */
static void test_reuse_port(void **state)
{
	struct sockaddr_in self = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fds[2], one = 1;
	struct lb_vip vip;
	socklen_t n = sizeof(self);

	(void)serve(AF_INET, AF_INET, IPPROTO_TCP, LB_ROUND_ROBIN, 2, &vip);
	for (int i = 0; i < 2; i++) {
		fds[i] = cn_socket(AF_INET, SOCK_STREAM);
		assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
		assert_int_equal(bind(fds[i], (struct sockaddr *)&self, n), 0);
		assert_int_equal(getsockname(fds[i], (struct sockaddr *)&self, &n), 0);
		assert_int_equal(cn_connect(fds[i], &vip), 0);
	}
	assert_true(cn_hear(fds[0]) != cn_hear(fds[1]));
	closep(&fds[0]);
	closep(&fds[1]);
}

/* Counted down when the last descriptor is gone, however that happens: fork, and SIGKILL. */
static void test_killed(void **state)
{
	int to_parent[2], silent = cn_serve_silent(AF_INET), status;
	struct lb_vip vip = cn_vip(AF_INET, 5, IPPROTO_TCP);
	pid_t pid, pids[2];
	uint32_t id;

	cn_service(&service, vip, LB_ROUND_ROBIN, silent, 1);
	id = cn_backend(cn_apply(&service), silent);
	assert_int_equal(pipe(to_parent), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)alarm(60); /* if the test fails */
		for (int i = 0; i < 10; i++)
			if (cn_connect(cn_socket(AF_INET, SOCK_STREAM), &vip) < 0)
				_exit(1);
		/* Descriptors of a child of its own too. */
		if (fork() == 0)
			(void)alarm(60);
		(void)!write(to_parent[1], &(pid_t){ getpid() }, sizeof(pid_t));
		for (;;)
			(void)pause();
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(read(to_parent[0], &pids[i], sizeof(pid_t)), sizeof(pid_t));
	assert_int_equal(cn_counts(id).conns, 10);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(cn_counts(id).conns, 10);
	assert_int_equal(kill(pids[pids[0] == pid], SIGKILL), 0);
	cn_await_conns(id, 0);
	assert_int_equal(cn_counts(id).picks, 10);
	closep(&to_parent[0]);
	closep(&to_parent[1]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tcp4, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_tcp6, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_mapped, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_six_to_four, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_mixed, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_not_a_service, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_switched_off, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_all_down, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_bound_source, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_connect_again, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_dissolve, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_nonblocking, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_fast_open, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_mptcp, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_reuse_port, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_killed, cn_setup, cn_teardown),
	};

	return cmocka_run_group_tests_name("connect", tests, cn_away, cn_home);
}
