// SPDX-License-Identifier: GPL-2.0-or-later
/* Redirection of connections, one at a time: who is redirected, what both ends are told, what a missing proxy means. */
#include "rd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

static void test_v4(void **state)
{
	rd_expect_redirected("198.18.0.5", 80);
	assert_int_equal(rd_stat(RD_STAT_REDIRECTED), 1);
	assert_int_equal(rd_stat(RD_STAT_TAKEN), 1);
	assert_int_equal(rd_pending(), 0);
}

/* A socket of IPv6 gets to a proxy of IPv4, which is told of IPv6 all the same. */
static void test_v6_to_v4_proxy(void **state)
{
	rd_expect_redirected("2001:2::5", 443);
}

static void test_v6_to_v6_proxy(void **state)
{
	_cleanup_close_ int client = -1, proxy = -1;

	rd_listen6();
	client = rd_connect("2001:2::5", 443);
	assert_true(client >= 0);
	proxy = fx_accept(rd.listener6);
	rd_expect_original(proxy, "2001:2::5", 443);
	rd_expect_peer(client, "2001:2::5", 443);
}

static void test_mapped(void **state)
{
	_cleanup_close_ int client = rd_connect_mapped("198.18.0.7", 8080), proxy = -1;

	assert_true(client >= 0);
	proxy = rd_accept();
	rd_expect_original(proxy, "198.18.0.7", 8080);
	rd_expect_peer(client, "198.18.0.7", 8080);
}

/* It cannot reach a v4-mapped address: without a listener on ::1 nobody listens for it. */
static void test_v6_only(void **state)
{
	_cleanup_close_ int client = fx_tcp(AF_INET6, 0), again = fx_tcp(AF_INET6, 0), proxy = -1;
	int on = 1;

	assert_int_equal(setsockopt(client, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(again, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), 0);
	assert_int_equal(rd_connect_on(client, "2001:2::5", 80), -ECONNREFUSED);
	rd_listen6();
	assert_int_equal(rd_connect_on(again, "2001:2::5", 80), 0);
	proxy = rd_accept();
	rd_expect_original(proxy, "2001:2::5", 80);
}

/* An IPv4 client and a proxy that is written as ::1. */
static void test_v4_to_v6_proxy(void **state)
{
	rd.entries[0].addr = rd_addr("::1");
	rd_apply();
	rd_expect_redirected("198.18.0.5", 80);
	closep(&rd.listener);
	rd.listener = -1;
	assert_int_equal(rd_connect("198.18.0.5", 80), -ECONNREFUSED);
	rd_listen6();
	rd_expect_redirected("2001:2::9", 80);
}

/* The proxy's own cgroup is not app: nothing is redirected there. */
static void test_elsewhere(void **state)
{
	rd_enter(RD_PROXY_GROUP);
	rd_expect_straight("198.18.0.5", 80);
	rd_enter("");
	rd_expect_straight("198.18.0.5", 80);
	rd_enter(RD_APP);
	assert_int_equal(rd_stat(RD_STAT_REDIRECTED), 0);
}

static void test_deeper(void **state)
{
	rd_group_make(RD_APP "/a");
	rd_group_make(RD_APP "/a/b");
	rd_enter(RD_APP "/a/b");
	rd_expect_redirected("198.18.0.5", 80);
	rd_enter(RD_APP);
	rd_group_remove(RD_APP "/a/b");
	rd_group_remove(RD_APP "/a");
}

static void test_ports(void **state)
{
	struct config_port_range in[] = { { 80, 80 }, { 8000, 8100 } }, out[] = { { 8050, 8060 } };

	rd.entries[0].ports = (struct config_ports){ in, ARRAY_SIZE(in) };
	rd.entries[0].exclude_ports = (struct config_ports){ out, ARRAY_SIZE(out) };
	rd_apply();
	rd_expect_redirected("198.18.0.5", 80);
	rd_expect_straight("198.18.0.5", 79);
	rd_expect_straight("198.18.0.5", 81);
	rd_expect_straight("198.18.0.5", 7999);
	rd_expect_redirected("198.18.0.5", 8000);
	rd_expect_redirected("198.18.0.5", 8049);
	rd_expect_straight("198.18.0.5", 8050);
	rd_expect_straight("198.18.0.5", 8060);
	rd_expect_redirected("198.18.0.5", 8061);
	rd_expect_redirected("198.18.0.5", 8100);
	rd_expect_straight("198.18.0.5", 8101);
	rd_expect_straight("198.18.0.5", 65535);
	rd_expect_straight("2001:2::1", 1);
}

static void test_cidrs(void **state)
{
	struct config_cidr in[] = { rd_cidr("198.18.0.0/16"), rd_cidr("2001:2::/32") };
	struct config_cidr out[] = { rd_cidr("198.18.7.0/24"), rd_cidr("2001:2::7/128") };

	rd.entries[0].cidrs = (struct config_cidrs){ in, ARRAY_SIZE(in) };
	rd.entries[0].exclude_cidrs = (struct config_cidrs){ out, ARRAY_SIZE(out) };
	rd_apply();
	rd_expect_redirected("198.18.0.5", 80);
	rd_expect_redirected("198.18.6.255", 80);
	rd_expect_straight("198.18.7.0", 80);
	rd_expect_straight("198.18.7.255", 80);
	rd_expect_redirected("198.18.8.0", 80);
	rd_expect_straight("198.19.0.0", 80);
	rd_expect_redirected("2001:2::6", 80);
	rd_expect_straight("2001:2::7", 80);
	rd_expect_straight("2001:3::6", 80);
}

static void test_user(void **state)
{
	char user[] = "12345", *users[] = { user };

	rd.entries[0].exclude_users = (struct config_strings){ users, 1 };
	rd_apply();
	rd_expect_redirected("198.18.0.5", 80);
	assert_int_equal(setresuid(12345, 0, 0), 0);
	rd_expect_straight("198.18.0.5", 80);
	assert_int_equal(setresuid(0, 0, 0), 0);
	rd_expect_redirected("198.18.0.5", 80);
}

/* What encloses both is redirected, but for the proxy's. */
static void test_proxy_cgroup(void **state)
{
	rd.entries[0].cgroup = rd.top;
	rd.entries[0].proxy_cgroup = rd.proxy;
	rd_apply();
	rd_expect_redirected("198.18.0.5", 80);
	rd_enter(RD_PROXY_GROUP);
	rd_expect_straight("198.18.0.5", 80);
	rd_enter("");
	rd_expect_redirected("198.18.0.5", 80);
	rd_enter(RD_APP);
}

/* A proxy inside its own redirect: its connections must not come back to it. */
static void test_own(void **state)
{
	closep(&rd.listener);
	rd_enter(RD_APP);
	rd.listener = fx_tcp(AF_INET, 0);
	assert_int_equal(listen(rd.listener, 16), 0);
	rd.entries[0].port = 0;
	{
		struct sockaddr_in a;
		socklen_t len = sizeof(a);

		assert_int_equal(getsockname(rd.listener, (struct sockaddr *)&a, &len), 0);
		rd.entries[0].port = rd.port = ntohs(a.sin_port);
	}
	rd_apply();
	rd_expect_straight("198.18.0.5", 80);
	assert_int_equal(rd_stat(RD_STAT_OWN), 1);
	/* Told by its user it may share the cgroup. */
	{
		char user[] = "12345", *users[] = { user };

		rd.entries[0].exclude_users = (struct config_strings){ users, 1 };
		rd_apply();
		rd_expect_redirected("198.18.0.5", 80);
		assert_int_equal(rd_stat(RD_STAT_OWN), 1);
	}
}

static void test_fail(void **state)
{
	closep(&rd.listener);
	rd.listener = -1;
	assert_int_equal(rd_connect("198.18.0.5", 80), -ECONNREFUSED);
	assert_int_equal(rd_connect("2001:2::5", 80), -ECONNREFUSED);
	assert_int_equal(rd_stat(RD_STAT_REFUSED), 2);
	rd.entries[0].fail_open = true;
	rd_apply();
	rd_expect_straight("198.18.0.5", 80);
	rd_expect_straight("2001:2::5", 80);
	assert_int_equal(rd_stat(RD_STAT_STRAIGHT), 2);
	assert_int_equal(rd_stat(RD_STAT_REDIRECTED), 0);
}

/* A proxy that comes and goes is noticed by the next connect(), without anybody's help. */
static void test_fail_back(void **state)
{
	rd.entries[0].fail_open = true;
	rd_apply();
	for (int i = 0; i < 10; i++) {
		rd_expect_redirected("198.18.0.5", 80);
		closep(&rd.listener);
		rd_expect_straight("198.18.0.5", 80);
		rd.listener = rd_listen(AF_INET, rd.port);
	}
}

static void test_nonblocking(void **state)
{
	_cleanup_close_ int client = fx_tcp(AF_INET, 0), proxy = -1;
	socklen_t len = sizeof(int);
	int error = -1;

	assert_int_equal(fcntl(client, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(rd_connect_on(client, "198.18.0.5", 80), -EINPROGRESS);
	fx_wait(client, POLLOUT);
	assert_int_equal(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	assert_int_equal(error, 0);
	/* As programs do that ask connect() again how it went. */
	assert_int_equal(rd_connect_on(client, "198.18.0.5", 80), 0);
	assert_int_equal(rd_connect_on(client, "198.18.0.5", 80), -EISCONN);
	proxy = rd_accept();
	rd_expect_original(proxy, "198.18.0.5", 80);
	rd_expect_peer(client, "198.18.0.5", 80);
	assert_int_equal(rd_stat(RD_STAT_REDIRECTED), 1);
}

static void disconnect(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
}

/* One socket, again and again: what it asked for last counts. */
static void test_reconnect(void **state)
{
	_cleanup_close_ int client = fx_tcp(AF_INET, 0);
	struct config_cidr out[] = { rd_cidr("198.18.7.0/24") };

	rd.entries[0].exclude_cidrs = (struct config_cidrs){ out, ARRAY_SIZE(out) };
	rd_apply();
	for (uint16_t i = 0; i < 5; i++) {
		_cleanup_close_ int proxy = -1;

		assert_int_equal(rd_connect_on(client, "198.18.0.5", 80 + i), 0);
		proxy = rd_accept();
		rd_expect_original(proxy, "198.18.0.5", 80 + i);
		rd_expect_peer(client, "198.18.0.5", 80 + i);
		disconnect(client);
		/* Fails, and must leave nothing behind. */
		assert_int_equal(rd_connect_on(client, "198.18.7.5", 80), -ENETUNREACH);
	}
	/* To the proxy itself: there is nothing to tell. */
	{
		_cleanup_close_ int proxy = -1;

		assert_int_equal(rd_connect_on(client, "127.0.0.1", rd.port), 0);
		proxy = rd_accept();
		assert_true(rd_original_error(proxy) < 0);
		rd_expect_peer(client, "127.0.0.1", rd.port);
	}
	assert_int_equal(rd_pending(), 0);
}

/* Refused by a proxy that went away in between, then elsewhere, on the same socket. */
static void test_failed(void **state)
{
	_cleanup_close_ int client = fx_tcp(AF_INET, 0), proxy = -1;
	int listener = rd.listener;

	rd.listener = -1;
	rd.entries[0].port = rd.port == 65535 ? 1 : rd.port + 1;
	rd_apply();
	assert_int_equal(rd_connect_on(client, "198.18.0.5", 80), -ECONNREFUSED);
	rd.listener = listener;
	rd.entries[0].port = rd.port;
	rd_apply();
	assert_int_equal(rd_connect_on(client, "198.18.0.6", 81), 0);
	proxy = rd_accept();
	rd_expect_original(proxy, "198.18.0.6", 81);
	rd_expect_peer(client, "198.18.0.6", 81);
}

/* What a proxy accepted may be handed to another process. */
static void test_fork(void **state)
{
	_cleanup_close_ int client = rd_connect("198.18.0.5", 80), proxy = -1;
	int status = -1;
	pid_t pid;

	assert_true(client >= 0);
	proxy = rd_accept();
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct sockaddr_in sa = {};
		socklen_t len = sizeof(sa);

		if (getsockopt(proxy, IPPROTO_IP, 80, &sa, &len) < 0)
			_exit(1);
		_exit(sa.sin_port == htons(80) && sa.sin_addr.s_addr == htonl(0xc6120005) ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Buffers of every length: filled, or left alone with an error, and nothing behind them. */
static void test_buffers(void **state)
{
	_cleanup_close_ int client = rd_connect("198.18.0.5", 80), proxy = -1;

	assert_true(client >= 0);
	proxy = rd_accept();
	for (socklen_t n = 0; n <= 64; n++) {
		unsigned char buf[80];
		socklen_t len = n;
		int r;

		memset(buf, 0xaa, sizeof(buf));
		r = getsockopt(proxy, IPPROTO_IP, 80, buf, &len);
		if (n < sizeof(struct sockaddr_in)) {
			assert_int_equal(r, -1);
		} else {
			assert_int_equal(r, 0);
			assert_int_equal(len, sizeof(struct sockaddr_in));
		}
		for (size_t i = n; i < sizeof(buf); i++)
			assert_int_equal(buf[i], 0xaa);
	}
	/* Other options are the kernel's. */
	{
		int value = -1;
		socklen_t len = sizeof(value);

		assert_int_equal(getsockopt(proxy, IPPROTO_IP, IP_TTL, &value, &len), 0);
		assert_true(value > 0);
		assert_int_equal(getsockopt(proxy, IPPROTO_IP, 83, &value, &len), -1);
	}
	assert_true(rd_original_error(client) < 0);
}

int main(void)
{
#define RD_TEST(fn) cmocka_unit_test_setup_teardown(fn, rd_load, rd_unload)
	const struct CMUnitTest tests[] = {
		RD_TEST(test_v4),	   RD_TEST(test_v6_to_v4_proxy), RD_TEST(test_v6_to_v6_proxy),
		RD_TEST(test_mapped),	   RD_TEST(test_v6_only),	 RD_TEST(test_v4_to_v6_proxy),
		RD_TEST(test_elsewhere),   RD_TEST(test_deeper),	 RD_TEST(test_ports),
		RD_TEST(test_cidrs),	   RD_TEST(test_user),		 RD_TEST(test_proxy_cgroup),
		RD_TEST(test_own),	   RD_TEST(test_fail),		 RD_TEST(test_fail_back),
		RD_TEST(test_nonblocking), RD_TEST(test_reconnect),	 RD_TEST(test_failed),
		RD_TEST(test_fork),	   RD_TEST(test_buffers),
	};

	return cmocka_run_group_tests(tests, rd_away, rd_home);
}
