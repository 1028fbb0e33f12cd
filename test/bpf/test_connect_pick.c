// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which backend is picked: every scheduler's shares, and what happens when one refuses. Sockets of UDP are connected
 * for most, since that asks nobody. Where chance decides, the limits are such that it fails once in 10^9 runs.
 */
#include "cn.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>

#define BACKENDS 8

static const uint32_t weights[BACKENDS] = { 1, 1, 2, 3, 5, 8, 10, 20 };
static struct cn_service service;

static uint32_t serve(int proto, enum lb_scheduler scheduler, size_t n, struct lb_vip *ret)
{
	*ret = cn_vip(AF_INET, 5, proto);
	cn_service(&service, *ret, scheduler, cn_serve(n, AF_INET, proto), n);
	return cn_apply(&service);
}

static void pick(const struct lb_vip *vip, size_t times)
{
	while (times--) {
		_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);

		assert_int_equal(cn_connect(fd, vip), 0);
	}
}

/*
 * Pearson's test of the picks against the weights. The limit is the quantile for 10^-9 (Wilson and Hilferty's
 * approximation): 59.2 for seven degrees of freedom, 50.3 for three.
 */
static void assert_shares(uint32_t id, size_t n, double limit)
{
	double sum_weights = 0, sum_picks = 0, chi2 = 0;

	for (size_t i = 0; i < n; i++) {
		sum_weights += service.backends[i].weight;
		sum_picks += (double)cn_counts(cn_backend(id, (int)i)).picks;
	}
	for (size_t i = 0; i < n; i++) {
		double want = sum_picks * service.backends[i].weight / sum_weights;
		double off = (double)cn_counts(cn_backend(id, (int)i)).picks - want;

		chi2 += off * off / want;
	}
	if (chi2 > limit)
		fail_msg("chi-square is %.1f, more than %.1f", chi2, limit);
	print_message("# chi-square %.1f\n", chi2);
}

static void test_shares(void **state)
{
	/* No connection is open when the next is made, so to least-conn all are equal. */
	static const enum lb_scheduler schedulers[] = { LB_MAGLEV, LB_RANDOM, LB_LEAST_CONN, LB_ROUND_ROBIN };

	for (size_t s = 0; s < ARRAY_SIZE(schedulers); s++) {
		struct lb_vip vip;
		uint32_t id = serve(IPPROTO_UDP, schedulers[s], BACKENDS, &vip);

		for (size_t i = 0; i < BACKENDS; i++)
			service.backends[i].weight = weights[i];
		assert_int_equal(cn_apply(&service), id);
		pick(&vip, 20000);
		assert_shares(id, BACKENDS, 59.2);
		assert_int_equal(lb_remove(cn.lb, &vip, NULL), 0);
		cn_servers_end();
	}
}

/* Exact, and spread: no backend's turn comes before the others have had theirs. */
static void test_round_robin(void **state)
{
	struct lb_vip vip;
	uint32_t id = serve(IPPROTO_UDP, LB_ROUND_ROBIN, BACKENDS, &vip);

	for (size_t i = 0; i < BACKENDS; i++)
		service.backends[i].weight = weights[i];
	(void)cn_apply(&service);
	pick(&vip, 500);
	for (size_t i = 0; i < BACKENDS; i++)
		assert_int_equal(cn_counts(cn_backend(id, (int)i)).picks, weights[i] * 10);
}

/* Open connections follow the weights, far closer than chance would have it. */
static void test_least_conn(void **state)
{
	static const uint32_t least_weights[] = { 1, 1, 2, 4 };
	struct lb_vip vip;
	uint32_t id = serve(IPPROTO_UDP, LB_LEAST_CONN, 4, &vip);
	int fds[800];

	for (size_t i = 0; i < 4; i++)
		service.backends[i].weight = least_weights[i];
	(void)cn_apply(&service);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = cn_socket(AF_INET, SOCK_DGRAM);
		assert_int_equal(cn_connect(fds[i], &vip), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		uint64_t share = least_weights[i] * 100;

		assert_in_range(cn_counts(cn_backend(id, (int)i)).conns, share - 20, share + 20);
	}
	/* One that is free of a load takes most of what comes next. */
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		closep(&fds[i]);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(cn_counts(cn_backend(id, (int)i)).conns, 0);
}

static int backend_of(int fd, const struct lb_vip *vip)
{
	assert_int_equal(cn_connect(fd, vip), 0);
	assert_int_equal(send(fd, "?", 1, 0), 1);
	return cn_hear(fd);
}

/* A socket that connects again comes to the same backend; when one leaves, few of the others' move. */
static void test_maglev(void **state)
{
	enum { SOCKETS = 800, N = 10 };
	int fds[SOCKETS], before[SOCKETS], moved = 0, left = 0;
	struct lb_vip vip;

	(void)serve(IPPROTO_UDP, LB_MAGLEV, N, &vip);
	for (int i = 0; i < SOCKETS; i++) {
		fds[i] = cn_socket(AF_INET, SOCK_DGRAM);
		before[i] = backend_of(fds[i], &vip);
		assert_int_equal(backend_of(fds[i], &vip), before[i]);
	}
	service.backends[3].weight = 0;
	(void)cn_apply(&service);
	for (int i = 0; i < SOCKETS; i++) {
		int now = backend_of(fds[i], &vip);

		assert_int_not_equal(now, 3);
		left += before[i] == 3;
		moved += before[i] != 3 && now != before[i];
		closep(&fds[i]);
	}
	print_message("# %d of %d moved, beside the %d that had to\n", moved, SOCKETS, left);
	assert_true(left > 0 && moved < SOCKETS / 20);
}

struct elsewhere {
	const struct lb_vip *vip;
	int number;
};

/* Which backend a network namespace of its own is given. */
static void *ask_elsewhere(void *data)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	struct sockaddr_storage addr;
	struct elsewhere *e = data;
	socklen_t n = cn_sockaddr(e->vip, &addr);
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return "unshare";
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 || connect(fd, (struct sockaddr *)&addr, n) < 0)
		return "connect";
	closep(&fd);
	return NULL;
}

/* All of a namespace go to one backend, those of an address to one, namespaces and addresses each to their own. */
static void test_source(void **state)
{
	uint64_t picks[4] = {}, different = 0;
	struct lb_vip vip;
	uint32_t id = serve(IPPROTO_UDP, LB_SOURCE, 4, &vip);

	pick(&vip, 100);
	for (int i = 0; i < 4; i++) {
		uint64_t n = cn_counts(cn_backend(id, i)).picks;

		assert_true(n == 0 || n == 100);
	}
	for (uint32_t a = 0; a < 800; a++) {
		struct sockaddr_in self = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f010001 + a) };
		int number[2];

		for (int k = 0; k < 2; k++) {
			_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_DGRAM);

			assert_int_equal(bind(fd, (struct sockaddr *)&self, sizeof(self)), 0);
			number[k] = backend_of(fd, &vip);
		}
		assert_int_equal(number[0], number[1]);
		picks[number[0]]++;
	}
	/* 800 addresses to four backends: 200 each; six sigmas are 74. */
	for (int i = 0; i < 4; i++)
		assert_in_range(picks[i], 120, 280);
	for (int i = 0; i < 4; i++)
		picks[i] = cn_counts(cn_backend(id, i)).picks;
	for (int i = 0; i < 20; i++) {
		struct elsewhere e = { .vip = &vip };
		pthread_t thread;
		void *failed;

		assert_int_equal(pthread_create(&thread, NULL, ask_elsewhere, &e), 0);
		assert_int_equal(pthread_join(thread, &failed), 0);
		if (failed)
			fail_msg("%s: %s", (const char *)failed, strerror(errno));
	}
	for (int i = 0; i < 4; i++)
		different += cn_counts(cn_backend(id, i)).picks > picks[i];
	assert_true(different > 1);
}

static int n_events;
static struct lb_event last_event;

static void on_event(const struct lb_event *event, void *data)
{
	last_event = *event;
	n_events++;
}

/* Waits for the next event. */
static void next_event(void)
{
	uint64_t until = clock_ms() + 10000;
	int had = n_events;

	while (n_events == had && clock_ms() < until)
		assert_true(lb_dispatch(cn.lb, on_event, NULL) >= 0);
	assert_int_equal(n_events, had + 1);
}

/* A backend that refuses is stepped over from the next connect() on, until user space says it is well. */
static void test_refusing(void **state)
{
	struct lb_vip vip;
	uint32_t id = serve(IPPROTO_TCP, LB_ROUND_ROBIN, 3, &vip), dead = cn_backend(id, 1);
	int refused = 0;

	service.spec.plan.flags |= LB_PLAN_PASSIVE;
	service.spec.plan.passive_ms = 3600000;
	(void)cn_apply(&service);
	cn_server_stop(1);
	for (int i = 0; i < 30; i++)
		refused += cn_ask(&vip) == -ECONNREFUSED;
	assert_int_equal(refused, 1);
	assert_int_equal(cn_counts(dead).picks, 1);
	assert_int_equal(cn_counts(dead).failures, 1);
	assert_int_equal(cn_counts(dead).conns, 0);
	assert_true(cn_counts(dead).avoid_until_ns > 0);
	assert_int_equal(cn_stat(LB_STAT_REFUSED), 1);
	assert_true(cn_stat(LB_STAT_AVOIDED) >= 9);
	next_event();
	assert_int_equal(last_event.kind, LB_EVENT_REFUSED);
	assert_int_equal(last_event.backend, dead);
	assert_int_equal(last_event.service, id);
	assert_int_equal(last_event.proto, IPPROTO_TCP);
	assert_true(last_event.client.v6[2] == htonl(0xffff) && last_event.client_port);
	lb_backend_avoid(cn.lb, dead, 0);
	for (int i = 0; i < 3; i++)
		refused += cn_ask(&vip) == -ECONNREFUSED;
	assert_int_equal(refused, 2);
	/* Nobody else is left: it is tried all the same. */
	for (int i = 0; i < 3; i++)
		service.backends[i].weight = i == 1;
	(void)cn_apply(&service);
	assert_int_equal(cn_ask(&vip), -ECONNREFUSED);
	assert_int_equal(cn_counts(dead).failures, 3);
}

/* Without passive health a failure is counted, and that is all. */
static void test_not_passive(void **state)
{
	struct lb_vip vip;
	uint32_t id = serve(IPPROTO_TCP, LB_ROUND_ROBIN, 3, &vip);
	int refused = 0;

	cn_server_stop(1);
	for (int i = 0; i < 30; i++)
		refused += cn_ask(&vip) == -ECONNREFUSED;
	assert_int_equal(refused, 10);
	assert_int_equal(cn_counts(cn_backend(id, 1)).failures, 10);
	assert_int_equal(cn_counts(cn_backend(id, 1)).avoid_until_ns, 0);
}

/* A backend whose queue is full does not answer. A client that gives up, by itself or when TCP does, says so. */
static void test_no_answer(void **state)
{
	struct lb_vip vip = cn_vip(AF_INET, 5, IPPROTO_TCP);
	int silent = cn_serve_silent(AF_INET), fd, fill, once = 1;
	uint32_t dead;

	assert_int_equal(listen(cn_servers[silent].fd, 0), 0);
	cn_service(&service, vip, LB_ROUND_ROBIN, silent, 1);
	service.spec.plan.flags |= LB_PLAN_PASSIVE;
	service.spec.plan.passive_ms = 1000;
	dead = cn_backend(cn_apply(&service), silent);
	fill = cn_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(cn_connect(fill, &vip), 0);
	fd = cn_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	assert_int_equal(cn_connect(fd, &vip), -EINPROGRESS);
	assert_int_equal(cn_counts(dead).conns, 2);
	/* Given up at once: nobody's fault. */
	closep(&fd);
	cn_await_conns(dead, 1);
	assert_int_equal(cn_counts(dead).failures, 0);
	fd = cn_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	assert_int_equal(cn_connect(fd, &vip), -EINPROGRESS);
	for (uint64_t until = clock_ms() + 10000;;) {
		struct tcp_info info;
		socklen_t n = sizeof(info);

		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n), 0);
		if (info.tcpi_total_retrans)
			break;
		assert_true(clock_ms() < until);
		(void)usleep(10000);
	}
	closep(&fd);
	cn_await_conns(dead, 1);
	assert_int_equal(cn_counts(dead).failures, 1);
	next_event();
	assert_int_equal(last_event.kind, LB_EVENT_TIMED_OUT);
	fd = cn_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &once, sizeof(once)), 0);
	assert_int_equal(cn_connect(fd, &vip), -ETIMEDOUT);
	assert_int_equal(cn_counts(dead).failures, 2);
	assert_int_equal(cn_counts(dead).conns, 1);
	assert_int_equal(cn_stat(LB_STAT_TIMED_OUT), 2);
	closep(&fd);
	closep(&fill);
}

static void test_trace(void **state)
{
	struct lb_vip vip;
	uint32_t id = serve(IPPROTO_UDP, LB_RANDOM, 1, &vip);

	pick(&vip, 1);
	assert_int_equal(lb_dispatch(cn.lb, on_event, NULL), 0);
	lb_ctl(cn.lb)->trace = 1U << LB_EVENT_PICK;
	pick(&vip, 1);
	next_event();
	assert_int_equal(last_event.kind, LB_EVENT_PICK);
	assert_int_equal(last_event.service, id);
	assert_int_equal(last_event.backend, cn_backend(id, 0));
	assert_int_equal(last_event.pid, getpid());
	assert_int_equal(last_event.proto, IPPROTO_UDP);
	assert_string_equal(last_event.comm, "bpf_connect_pic");
	/* Nobody reads: counted, and the connects go on. */
	pick(&vip, 5000);
	assert_true(cn_stat(LB_STAT_EVENT_LOST) > 0);
	lb_ctl(cn.lb)->trace = 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_shares, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_round_robin, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_least_conn, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_maglev, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_source, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_refusing, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_not_passive, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_no_answer, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_trace, cn_setup, cn_teardown),
	};

	return cmocka_run_group_tests_name("connect_pick", tests, cn_away, cn_home);
}
