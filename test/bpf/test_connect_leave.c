// SPDX-License-Identifier: GPL-2.0-or-later
/* The connect hook and a cgroup that leaves it, while sockets of its programs are open: they stay known, and counted, to their end. */
#include "cn.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/stat.h>

#include "model/addr.h"
#include "place.h"

static struct cn_service udp, tcp;
static struct lb_vip vip_udp, vip_tcp;
static uint32_t id_udp, id_tcp;
static char elsewhere[600];

static void serve(void)
{
	vip_udp = cn_vip(AF_INET, 5, IPPROTO_UDP);
	vip_tcp = cn_vip(AF_INET, 5, IPPROTO_TCP);
	cn_service(&udp, vip_udp, LB_ROUND_ROBIN, cn_serve(1, AF_INET, IPPROTO_UDP), 1);
	id_udp = cn_backend(cn_apply(&udp), 0);
	cn_service(&tcp, vip_tcp, LB_ROUND_ROBIN, cn_serve_silent(AF_INET), 1);
	id_tcp = cn_backend(cn_apply(&tcp), 1);
}

static void set_cgroup(const char *dir)
{
	struct connect_opts opts = { .cgroups = &dir, .n_cgroups = 1 };
	struct err err = {};

	if (connect_set_cgroups(cn.connect, &opts, &err) < 0)
		fail_msg("%s", err.text);
}

/* From here on the hook is on another cgroup than that of the test. */
static void leave(void)
{
	(void)snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", cn.cgroup);
	assert_int_equal(mkdir(elsewhere, 0755), 0);
	set_cgroup(elsewhere);
}

static bool is_attached(const char *program)
{
	struct stat st;
	char pin[400];

	assert_int_equal(stat(cn.cgroup, &st), 0);
	(void)snprintf(pin, sizeof(pin), "%s/%s-%llu", cn.pins, program, (unsigned long long)st.st_ino);
	return !access(pin, F_OK);
}

static void ask(int fd)
{
	assert_int_equal(send(fd, "?", 1, 0), 1);
	assert_int_equal(cn_hear(fd), 0);
}

/* Without connect(): the answer comes from the service. */
static void ask_by_address(int fd)
{
	struct sockaddr_storage addr, from = {};
	socklen_t n = cn_sockaddr(&vip_udp, &addr), len = sizeof(from);
	struct sockaddr_storage backend;
	unsigned char number;

	/* After the cgroup has left, the service's address is nobody's: its answers are asked for at the backend. */
	if (is_attached("cn_sendmsg4")) {
		assert_int_equal(sendto(fd, "?", 1, 0, (struct sockaddr *)&addr, n), 1);
	} else {
		n = addr_to_sockaddr(&cn_servers[0].addr, cn_servers[0].port, &backend);
		assert_int_equal(sendto(fd, "?", 1, 0, (struct sockaddr *)&backend, n), 1);
	}
	assert_int_equal(recvfrom(fd, &number, 1, 0, (struct sockaddr *)&from, &len), 1);
	assert_memory_equal(&from, &addr, len);
}

/* Until the hook has let go of the cgroup that left. */
static void await_let_go(void)
{
	uint64_t until = clock_ms() + 10000;

	while (is_attached("cn_release") || is_attached("cn_peer4")) {
		if (clock_ms() > until)
			fail_msg("the cgroup that left still has programs");
		assert_int_equal(connect_tick(cn.connect), 0);
		(void)usleep(1000);
	}
}

static void leave_end(void)
{
	set_cgroup(cn.cgroup);
	assert_int_equal(rmdir(elsewhere), 0);
}

/* Nobody gets a backend any more; who has one keeps it, is counted, and is told of the service until he is closed. */
static void test_left(void **state)
{
	int datagrams = cn_socket(AF_INET, SOCK_DGRAM), stream = cn_socket(AF_INET, SOCK_STREAM),
	    sender = cn_socket(AF_INET, SOCK_DGRAM), other = cn_socket(AF_INET, SOCK_STREAM);

	serve();
	assert_int_equal(cn_connect(datagrams, &vip_udp), 0);
	assert_int_equal(cn_connect(stream, &vip_tcp), 0);
	ask_by_address(sender);
	leave();
	assert_false(is_attached("cn_connect4"));
	assert_int_equal(cn_connect(other, &vip_tcp), -ENETUNREACH);
	assert_int_equal(cn_counts(id_udp).conns, 1);
	assert_int_equal(cn_counts(id_tcp).conns, 1);
	cn_assert_peer(datagrams, &vip_udp);
	cn_assert_peer(stream, &vip_tcp);
	ask(datagrams);
	ask_by_address(sender);
	/* As long as one is open, and no longer. */
	(void)close(datagrams);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	(void)close(stream);
	cn_await_conns(id_tcp, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(connect_tick(cn.connect), 0);
	assert_true(is_attached("cn_recvmsg4"));
	ask_by_address(sender);
	(void)close(sender);
	await_let_go();
	assert_false(is_attached("cn_recvmsg4"));
	(void)close(other);
	leave_end();
}

/* With nothing open there is nothing to wait for. */
static void test_left_idle(void **state)
{
	serve();
	assert_int_equal(cn_ask(&vip_udp), 0);
	leave();
	assert_false(is_attached("cn_release"));
	assert_int_equal(connect_tick(cn.connect), 0);
	leave_end();
	assert_int_equal(cn_ask(&vip_udp), 0);
}

/* The next process goes on with it. */
static void test_left_taken_over(void **state)
{
	const char *cgroups[] = { elsewhere };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	int fds[2] = { cn_socket(AF_INET, SOCK_DGRAM), cn_socket(AF_INET, SOCK_DGRAM) };
	struct err err = {};
	bool taken_over;

	serve();
	for (int i = 0; i < 2; i++)
		assert_int_equal(cn_connect(fds[i], &vip_udp), 0);
	leave();
	cn_close();
	/* Nobody is there: programs count all the same. */
	(void)close(fds[0]);
	if (lb_open(NULL, &cn.lb, &taken_over, &err) < 0 || connect_open(cn.lb, &opts, &cn.connect, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(cn_counts(id_udp).conns, 1);
	assert_int_equal(connect_tick(cn.connect), 0);
	assert_true(is_attached("cn_release"));
	cn_assert_peer(fds[1], &vip_udp);
	(void)close(fds[1]);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	await_let_go();
	leave_end();
}

/* A cgroup that comes back is served as before, and is not let go of when its old sockets end. */
static void test_left_and_back(void **state)
{
	int fd = cn_socket(AF_INET, SOCK_DGRAM);

	serve();
	assert_int_equal(cn_connect(fd, &vip_udp), 0);
	leave();
	set_cgroup(cn.cgroup);
	assert_int_equal(cn_counts(id_udp).conns, 1);
	(void)close(fd);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(connect_tick(cn.connect), 0);
	assert_true(is_attached("cn_release"));
	fd = cn_socket(AF_INET, SOCK_DGRAM);
	assert_int_equal(cn_connect(fd, &vip_udp), 0);
	ask(fd);
	(void)close(fd);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	assert_int_equal(rmdir(elsewhere), 0);
}

/* The hook ends while a cgroup is being left. */
static void test_left_and_ended(void **state)
{
	int fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct err err = {};

	serve();
	assert_int_equal(cn_connect(fd, &vip_udp), 0);
	leave();
	assert_int_equal(connect_detach(cn.lb, &err), 0);
	assert_false(is_attached("cn_release"));
	assert_int_equal(cn_counts(id_udp).conns, 0);
	(void)close(fd);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	assert_int_equal(rmdir(elsewhere), 0);
}

/* A cgroup is removed, whose program has gone elsewhere with its socket; and is no longer named. */
static void test_left_and_gone(void **state)
{
	char gone[600];
	int fd;

	serve();
	(void)snprintf(gone, sizeof(gone), "%s/gone", cn.cgroup);
	assert_int_equal(mkdir(gone, 0755), 0);
	set_cgroup(gone);
	assert_int_equal(place_enter_cgroup(gone), 0);
	fd = cn_socket(AF_INET, SOCK_DGRAM);
	assert_int_equal(place_enter_cgroup(cn.cgroup), 0);
	assert_int_equal(cn_connect(fd, &vip_udp), 0);
	assert_int_equal(rmdir(gone), 0);
	leave();
	assert_int_equal(cn_counts(id_udp).conns, 1);
	cn_assert_peer(fd, &vip_udp);
	ask(fd);
	(void)close(fd);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	await_let_go();
	leave_end();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_left, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_left_idle, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_left_taken_over, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_left_and_back, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_left_and_ended, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_left_and_gone, cn_setup, cn_teardown),
	};

	return cmocka_run_group_tests_name("connect_leave", tests, cn_away, cn_home);
}
