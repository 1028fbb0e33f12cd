// SPDX-License-Identifier: GPL-2.0-or-later
/* Inbound redirection: connections to a service of app come to the proxy first, but for the proxy's own. */
#include "rd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

static int service, service6;
static uint16_t service_port;
static struct config_port_range service_range[1];

/* A listener of app, at this port or, for 0, at any. */
static int listen_app(int family, uint16_t *port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *sa = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int fd = fx_tcp(family, 0), on = 1;

	v4.sin_port = v6.sin6_port = htons(*port);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, sa, len), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, sa, &len), 0);
	*port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

static int load(void **state)
{
	int r = rd_load(state);

	service_port = 0;
	service = listen_app(AF_INET, &service_port);
	service6 = listen_app(AF_INET6, &service_port);
	service_range[0] = (struct config_port_range){ service_port, service_port };
	rd.entries[0].inbound = true;
	rd.entries[0].proxy_cgroup = rd.proxy;
	rd.entries[0].ports = (struct config_ports){ service_range, 1 };
	rd_apply();
	return r;
}

static int unload(void **state)
{
	(void)close(service);
	(void)close(service6);
	return rd_unload(state);
}

/* The client of a connection that the proxy's listener has. */
static void expect_proxied(const char *addr)
{
	_cleanup_close_ int client = rd_connect(addr, service_port), proxy = -1;

	assert_true(client >= 0);
	proxy = rd_accept();
	rd_expect_original(proxy, addr, service_port);
	rd_expect_peer(client, addr, service_port);
	fx_exchange(client, proxy);
}

static void expect_served(int listener, const char *addr)
{
	_cleanup_close_ int client = rd_connect(addr, service_port), server = -1;

	assert_true(client >= 0);
	server = fx_accept(listener);
	assert_true(rd_original_error(server) < 0);
	fx_exchange(client, server);
}

static void test_to_the_proxy(void **state)
{
	for (int i = 0; i < 3; i++)
		expect_proxied("127.0.0.1");
	/* Any address of the namespace. */
	expect_proxied("127.1.2.3");
	assert_int_equal(rd_stat(RD_STAT_INBOUND), 4);
}

/* What the proxy itself opens gets to the service. */
static void test_own(void **state)
{
	rd_enter(RD_PROXY_GROUP);
	expect_served(service, "127.0.0.1");
	expect_served(service6, "::1");
	rd_enter(RD_APP);
	expect_proxied("127.0.0.1");
}

static void test_other_port(void **state)
{
	uint16_t port = 0;
	_cleanup_close_ int other = listen_app(AF_INET, &port), client = rd_connect("127.0.0.1", port), server = -1;

	assert_true(client >= 0);
	server = fx_accept(other);
	assert_true(rd_original_error(server) < 0);
}

static void test_families(void **state)
{
	int off = 0;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	int on = 1;

	/* The listener at 127.0.0.1 cannot take it. */
	assert_int_equal(rd_connect("::1", service_port), -ECONNREFUSED);
	/* One of both families, at any address, takes both. */
	closep(&rd.listener);
	rd_enter(RD_PROXY_GROUP);
	rd.listener = fx_tcp(AF_INET6, 0);
	rd_enter(RD_APP);
	any.sin6_port = htons(rd.port);
	assert_int_equal(setsockopt(rd.listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
	assert_int_equal(setsockopt(rd.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(rd.listener, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(rd.listener, 16), 0);
	expect_proxied("::1");
	expect_proxied("127.0.0.1");
}

/* A proxy that goes and comes back is noticed by the next connection. */
static void test_fail(void **state)
{
	for (int i = 0; i < 3; i++) {
		closep(&rd.listener);
		assert_int_equal(rd_connect("127.0.0.1", service_port), -ECONNREFUSED);
		rd.listener = rd_listen(AF_INET, rd.port);
		expect_proxied("127.0.0.1");
	}
	rd.entries[0].fail_open = true;
	rd_apply();
	expect_proxied("127.0.0.1");
	closep(&rd.listener);
	expect_served(service, "127.0.0.1");
	rd.listener = rd_listen(AF_INET, rd.port);
	expect_proxied("127.0.0.1");
}

/* A process of app in a namespace that is new: its services are found, and forgotten with it. */
static void test_new_namespace(void **state)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), tries = 0;

	assert_true(home >= 0);
	(void)close(service);
	(void)close(service6);
	closep(&rd.listener);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	{
		_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

		assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	}
	rd.listener = rd_listen(AF_INET, rd.port);
	service = listen_app(AF_INET, &service_port);
	service6 = listen_app(AF_INET6, &service_port);
	while (rd_stat(RD_STAT_INBOUND) == 0) {
		_cleanup_close_ int client = -1;

		assert_true(tries++ < 200);
		for (int i = 0; i < 10; i++)
			assert_int_equal(redirect_tick(rd.redirect), 0);
		client = rd_connect("127.0.0.1", service_port);
		assert_true(client >= 0);
	}
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	(void)close(home);
}

static void test_needs_proxy_cgroup(void **state)
{
	struct err err = {};

	rd.entries[0].proxy_cgroup = NULL;
	assert_int_equal(redirect_apply(rd.redirect, &rd.config, &err), -EINVAL);
	assert_non_null(strstr(err.text, "proxy-cgroup"));
	rd.entries[0].proxy_cgroup = rd.proxy;
	expect_proxied("127.0.0.1");
}

/* Without the entry everything is as before. */
static void test_gone(void **state)
{
	rd.config.n_redirects = 0;
	rd_apply();
	expect_served(service, "127.0.0.1");
	rd.config.n_redirects = 1;
	rd_apply();
	expect_proxied("127.0.0.1");
}

int main(void)
{
#define IN_TEST(fn) cmocka_unit_test_setup_teardown(fn, load, unload)
	const struct CMUnitTest tests[] = {
		IN_TEST(test_to_the_proxy), IN_TEST(test_own),		 IN_TEST(test_other_port),
		IN_TEST(test_families),	    IN_TEST(test_fail),		 IN_TEST(test_needs_proxy_cgroup),
		IN_TEST(test_gone),	    IN_TEST(test_new_namespace),
	};

	return cmocka_run_group_tests(tests, rd_away, rd_home);
}
