// SPDX-License-Identifier: GPL-2.0-or-later
/* Connects that fail before TCP has begun: out of the count without being closed, and no other is taken out with them. */
#include "cn.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>

#include <bpf/bpf.h>

#include "abi/connect.h"
#include "model/addr.h"

#define AGE_MS 50

static struct cn_service lost, lost6, silent, udp;
static uint32_t id_lost, id_lost6, id_silent, id_udp;

/* Services whose backend there is no way to, and others. */
static void serve(void)
{
	cn_service(&silent, cn_vip(AF_INET, 5, IPPROTO_TCP), LB_ROUND_ROBIN, cn_serve_silent(AF_INET), 1);
	id_silent = cn_backend(cn_apply(&silent), 0);
	cn_service(&udp, cn_vip(AF_INET, 5, IPPROTO_UDP), LB_ROUND_ROBIN, cn_serve(1, AF_INET, IPPROTO_UDP), 1);
	id_udp = cn_backend(cn_apply(&udp), 1);
	cn_service(&lost, cn_vip(AF_INET, 6, IPPROTO_TCP), LB_ROUND_ROBIN, 0, 1);
	lost.backends[0].addr = cn_vip(AF_INET, 77, IPPROTO_TCP).addr;
	id_lost = lb_find_backend(cn.lb, cn_apply(&lost), &lost.backends[0].addr, lost.backends[0].port);
	cn_service(&lost6, cn_vip(AF_INET6, 6, IPPROTO_TCP), LB_ROUND_ROBIN, 0, 1);
	lost6.backends[0].addr = cn_vip(AF_INET6, 77, IPPROTO_TCP).addr;
	id_lost6 = lb_find_backend(cn.lb, cn_apply(&lost6), &lost6.backends[0].addr, lost6.backends[0].port);
}

static uint32_t settle(void)
{
	uint32_t n = 0;

	assert_int_equal(connect_settle(cn.connect, AGE_MS, &n), 0);
	return n;
}

/* Until so many were found. */
static void await_settled(uint32_t n)
{
	uint64_t until = clock_ms() + 10000;

	for (uint32_t sum = 0; (sum += settle()) != n;) {
		if (clock_ms() > until || sum > n)
			fail_msg("%u connects were found that had failed, not %u", sum, n);
		(void)usleep(5000);
	}
}

/* Longer than AGE_MS by any clock. */
static void grow_old(void)
{
	(void)usleep(4 * AGE_MS * 1000);
}

static void test_no_route(void **state)
{
	int fd = cn_socket(AF_INET, SOCK_STREAM), fd6 = cn_socket(AF_INET6, SOCK_STREAM);

	serve();
	assert_int_equal(cn_connect(fd, &lost.spec.vip), -ENETUNREACH);
	assert_int_equal(cn_connect(fd6, &lost6.spec.vip), -ENETUNREACH);
	await_settled(2);
	assert_int_equal(cn_counts(id_lost).conns, 0);
	assert_int_equal(cn_counts(id_lost6).conns, 0);
	/* Once, and no more when they are closed. */
	grow_old();
	assert_int_equal(settle(), 0);
	(void)close(fd);
	(void)close(fd6);
	assert_int_equal(cn_counts(id_lost).conns, 0);
	assert_int_equal(cn_counts(id_lost6).conns, 0);
}

/* A socket that tries again, elsewhere or there, is counted where it is, and once. */
static void test_again(void **state)
{
	int fd = cn_socket(AF_INET, SOCK_STREAM);

	serve();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(cn_connect(fd, &lost.spec.vip), -ENETUNREACH);
		assert_int_equal(cn_counts(id_lost).conns, 1);
	}
	await_settled(1);
	assert_int_equal(cn_connect(fd, &lost.spec.vip), -ENETUNREACH);
	assert_int_equal(cn_counts(id_lost).conns, 1);
	await_settled(1);
	assert_int_equal(cn_connect(fd, &silent.spec.vip), 0);
	assert_int_equal(cn_counts(id_lost).conns, 0);
	assert_int_equal(cn_counts(id_silent).conns, 1);
	cn_assert_peer(fd, &silent.spec.vip);
	(void)close(fd);
	cn_await_conns(id_silent, 0);
	assert_int_equal(cn_counts(id_lost).conns, 0);
}

/* No local port is left: the kernel says so itself, for TCP had begun. */
static void test_no_port(void **state)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fds[2] = { cn_socket(AF_INET, SOCK_STREAM), cn_socket(AF_INET, SOCK_STREAM) }, one = 1;
	socklen_t len = sizeof(any);

	serve();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
		assert_int_equal(bind(fds[i], (struct sockaddr *)&any, sizeof(any)), 0);
		assert_int_equal(getsockname(fds[i], (struct sockaddr *)&any, &len), 0);
	}
	assert_int_equal(cn_connect(fds[0], &silent.spec.vip), 0);
	assert_int_equal(cn_connect(fds[1], &silent.spec.vip), -EADDRNOTAVAIL);
	assert_int_equal(cn_counts(id_silent).conns, 1);
	for (int i = 0; i < 2; i++)
		(void)close(fds[i]);
	cn_await_conns(id_silent, 0);
}

/* Neither what is open, nor what waits for an answer, nor UDP, however old. */
static void test_others(void **state)
{
	int waiting[3], lost_fd = cn_socket(AF_INET, SOCK_STREAM), datagrams = cn_socket(AF_INET, SOCK_DGRAM);

	serve();
	/* Room for one that nobody accepts; the SYNs of more are dropped. */
	assert_int_equal(listen(cn_servers[0].fd, 0), 0);
	for (int i = 0; i < 3; i++) {
		int r;

		waiting[i] = cn_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
		r = cn_connect(waiting[i], &silent.spec.vip);
		assert_true(r == 0 || r == -EINPROGRESS);
	}
	assert_int_equal(cn_connect(datagrams, &udp.spec.vip), 0);
	assert_int_equal(cn_connect(lost_fd, &lost.spec.vip), -ENETUNREACH);
	await_settled(1);
	grow_old();
	assert_int_equal(settle(), 0);
	assert_int_equal(cn_counts(id_silent).conns, 3);
	assert_int_equal(cn_counts(id_udp).conns, 1);
	for (int i = 0; i < 3; i++)
		(void)close(waiting[i]);
	(void)close(datagrams);
	(void)close(lost_fd);
	cn_await_conns(id_silent, 0);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	assert_int_equal(cn_counts(id_lost).conns, 0);
}

/* The next process finds what failed before it was there. */
static void test_taken_over(void **state)
{
	const char *cgroups[] = { cn.cgroup };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	int fd = cn_socket(AF_INET, SOCK_STREAM);
	struct err err = {};
	bool taken_over;

	serve();
	assert_int_equal(cn_connect(fd, &lost.spec.vip), -ENETUNREACH);
	cn_close();
	if (lb_open(NULL, &cn.lb, &taken_over, &err) < 0 || connect_open(cn.lb, &opts, &cn.connect, &err) < 0)
		fail_msg("%s", err.text);
	await_settled(1);
	assert_int_equal(cn_counts(id_lost).conns, 0);
	(void)close(fd);
	assert_int_equal(cn_counts(id_lost).conns, 0);
}

/* No free note is left for the sockets of others. */
static void fill_notes(void)
{
	struct cn_bucket b;
	char pin[300];
	int fd;

	(void)snprintf(pin, sizeof(pin), "%s/cn_notes", cn.pins);
	fd = bpf_obj_get(pin);
	assert_true(fd >= 0);
	for (uint32_t i = 0; i < CN_BUCKETS; i++) {
		assert_int_equal(bpf_map_lookup_elem(fd, &i, &b), 0);
		for (size_t k = 0; k < CN_NOTES; k++)
			if (!b.key[k])
				b.key[k] = (1ULL << 60) | CN_NOTE_WRITTEN;
		assert_int_equal(bpf_map_update_elem(fd, &i, &b, BPF_ANY), 0);
	}
	(void)close(fd);
}

/* A socket whose record is in its storage, beside one that has a note. */
static void test_storage(void **state)
{
	int noted = cn_socket(AF_INET, SOCK_STREAM), stored = cn_socket(AF_INET, SOCK_STREAM);

	serve();
	assert_int_equal(cn_connect(noted, &lost.spec.vip), -ENETUNREACH);
	fill_notes();
	assert_int_equal(cn_connect(stored, &lost.spec.vip), -ENETUNREACH);
	assert_int_equal(lb_ctl(cn.lb)->stores, 1);
	assert_int_equal(cn_counts(id_lost).conns, 2);
	/* Both are old enough when the first one is. */
	grow_old();
	await_settled(2);
	assert_int_equal(cn_counts(id_lost).conns, 0);
	assert_int_equal(cn_connect(stored, &silent.spec.vip), 0);
	assert_int_equal(cn_counts(id_silent).conns, 1);
	(void)close(noted);
	(void)close(stored);
	cn_await_conns(id_silent, 0);
	assert_int_equal(cn_counts(id_lost).conns, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_route, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_again, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_no_port, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_others, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_taken_over, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_storage, cn_setup, cn_teardown),
	};

	return cmocka_run_group_tests_name("connect_stuck", tests, cn_away, cn_home);
}
