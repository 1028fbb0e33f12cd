// SPDX-License-Identifier: GPL-2.0-or-later
/* Redirection in numbers and under change: many at once, lost packets, Fast Open, MPTCP, cgroups, successors. */
#include "rd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "model/addr.h"

#define MANY 200

/* Each of many is told its own, in whatever order they come. */
static void test_many(void **state)
{
	int clients[MANY];
	bool seen[MANY] = {};

	for (int i = 0; i < MANY; i++) {
		clients[i] = rd_connect("198.18.0.5", (uint16_t)(1000 + i));
		assert_true(clients[i] >= 0);
	}
	assert_int_equal(rd_pending(), 0);
	for (int i = 0; i < MANY; i++) {
		_cleanup_close_ int proxy = rd_accept();
		struct sockaddr_in sa = {}, from = {};
		socklen_t len = sizeof(sa);
		int which;

		assert_int_equal(getsockopt(proxy, IPPROTO_IP, 80, &sa, &len), 0);
		which = ntohs(sa.sin_port) - 1000;
		assert_in_range(which, 0, MANY - 1);
		assert_false(seen[which]);
		seen[which] = true;
		/* It is this client's connection, not merely one that was asked for. */
		len = sizeof(from);
		assert_int_equal(getsockname(clients[which], (struct sockaddr *)&from, &len), 0);
		len = sizeof(sa);
		assert_int_equal(getpeername(proxy, (struct sockaddr *)&sa, &len), 0);
		assert_int_equal(sa.sin_port, from.sin_port);
	}
	for (int i = 0; i < MANY; i++)
		(void)close(clients[i]);
	assert_int_equal(rd_stat(RD_STAT_TAKEN), MANY);
}

/* The client's ACK is lost: what it left for its proxy goes when it does. */
static void test_given_up(void **state)
{
	int loss = fx_lose(BPF_CGROUP_INET_EGRESS, FX_SYN | FX_ACK, FX_ACK), client;

	client = rd_connect("198.18.0.5", 80);
	assert_true(client >= 0);
	assert_int_equal(rd_pending(), 1);
	{
		struct linger now = { .l_onoff = 1 };

		assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	}
	(void)close(client);
	assert_int_equal(rd_pending(), 0);
	(void)close(loss);
}

/* It is lost, and comes again: the proxy is told all the same. */
static void test_ack_again(void **state)
{
	int loss = fx_lose(BPF_CGROUP_INET_EGRESS, FX_SYN | FX_ACK, FX_ACK);
	_cleanup_close_ int client = rd_connect("198.18.0.5", 80), proxy = -1;

	assert_true(client >= 0);
	assert_int_equal(rd_pending(), 1);
	(void)close(loss);
	assert_int_equal(send(client, "x", 1, 0), 1);
	proxy = rd_accept();
	rd_expect_original(proxy, "198.18.0.5", 80);
	assert_int_equal(rd_pending(), 0);
}

static void test_fast_open(void **state)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(80),
		.sin_addr.s_addr = htonl(0xc6120005),
	};
	int queue = 16;

	/* 0x1: client, 0x2: server, 0x200: without asking for a cookie first, 0x400: any listener. */
	fx_sysctl("ipv4/tcp_fastopen", "1539");
	assert_int_equal(setsockopt(rd.listener, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)), 0);
	for (int i = 0; i < 5; i++) {
		_cleanup_close_ int client = fx_tcp(AF_INET, 0), proxy = -1;
		char buf[4];

		assert_int_equal(sendto(client, "abc", 3, MSG_FASTOPEN, (struct sockaddr *)&to, sizeof(to)), 3);
		proxy = rd_accept();
		rd_expect_original(proxy, "198.18.0.5", 80);
		rd_expect_peer(client, "198.18.0.5", 80);
		assert_int_equal(recv(proxy, buf, sizeof(buf), 0), 3);
		assert_memory_equal(buf, "abc", 3);
	}
	assert_int_equal(rd_pending(), 0);
	fx_sysctl("ipv4/tcp_fastopen", "1");
}

/* The proxy does not take Fast Open: the data comes after the handshake. */
static void test_fast_open_refused(void **state)
{
	_cleanup_close_ int client = fx_tcp(AF_INET, 0), proxy = -1;
	int on = 1;

	fx_sysctl("ipv4/tcp_fastopen", "5"); /* 0x4: the client sends data without a cookie */
	assert_int_equal(setsockopt(client, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)), 0);
	assert_int_equal(rd_connect_on(client, "198.18.0.5", 80), 0);
	assert_int_equal(send(client, "abc", 3, 0), 3);
	proxy = rd_accept();
	rd_expect_original(proxy, "198.18.0.5", 80);
	rd_expect_peer(client, "198.18.0.5", 80);
	assert_int_equal(rd_pending(), 0);
	fx_sysctl("ipv4/tcp_fastopen", "1");
}

/* SYN cookies: the listener remembers nothing of the handshake. */
static void test_syn_cookies(void **state)
{
	fx_sysctl("ipv4/tcp_syncookies", "2");
	for (int i = 0; i < 5; i++)
		rd_expect_redirected("198.18.0.5", 80);
	fx_sysctl("ipv4/tcp_syncookies", "1");
}

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* Go's programs ask for MPTCP; the proxy here speaks TCP. Their socket is not the one that connect() was asked about. */
static void test_mptcp(void **state)
{
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP), proxy;

	if (client < 0)
		skip();
	assert_int_equal(rd_connect_on(client, "198.18.0.5", 80), 0);
	proxy = rd_accept();
	rd_expect_original(proxy, "198.18.0.5", 80);
	rd_expect_peer(client, "198.18.0.5", 80);
	(void)close(proxy);
	(void)close(client);
}

/* Redirects of cgroups within each other: the innermost decides; of one cgroup's, the first that matches. */
static void test_order(void **state)
{
	struct config_port_range p80[] = { { 80, 80 } };
	uint16_t nobody = 1;

	/* 0: everything of the test's cgroup, to nobody; 1, 2: app's. */
	rd.entries[0].cgroup = rd.top;
	rd.entries[0].port = nobody;
	rd.entries[1] = (struct config_redirect){ .cgroup = rd.app, .addr = rd_addr("127.0.0.1"), .port = rd.port };
	rd.entries[1].ports = (struct config_ports){ p80, 1 };
	rd.entries[2] = (struct config_redirect){
		.cgroup = rd.app,
		.addr = rd_addr("127.0.0.1"),
		.port = nobody,
		.fail_open = true,
	};
	rd.config.n_redirects = 3;
	rd_apply();
	rd_expect_redirected("198.18.0.5", 80);
	rd_expect_straight("198.18.0.5", 81);
	rd_enter("");
	assert_int_equal(rd_connect("198.18.0.5", 80), -ECONNREFUSED);
	rd_enter(RD_APP);
	assert_int_equal(redirect_hits(rd.redirect, RD_REDIRECT, 0), 1);
	assert_int_equal(redirect_hits(rd.redirect, RD_REDIRECT, 1), 1);
	assert_int_equal(redirect_hits(rd.redirect, RD_REDIRECT, 2), 1);
	assert_int_equal(redirect_hits(rd.redirect, RD_POLICY, 0), 0);
}

/* Lets the hook see what it has been waiting for. */
static void dispatch(void)
{
	fx_wait(redirect_event_fd(rd.redirect), POLLIN);
	assert_int_equal(redirect_dispatch(rd.redirect), 0);
}

static void test_missing_cgroup(void **state)
{
	_cleanup_free_ char *later = rd_group_path("later/inner");

	rd.entries[0].cgroup = later;
	rd_apply();
	assert_int_equal(redirect_missing(rd.redirect), 1);
	rd_expect_straight("198.18.0.5", 80);
	for (int i = 0; i < 3; i++) {
		rd_group_make("later");
		dispatch();
		rd_group_make("later/inner");
		dispatch();
		assert_int_equal(redirect_missing(rd.redirect), 0);
		rd_enter("later/inner");
		rd_expect_redirected("198.18.0.5", 80);
		rd_enter(RD_APP);
		rd_expect_straight("198.18.0.5", 80);
		/* Removed, with a connection of it still open elsewhere. */
		rd_group_remove("later/inner");
		dispatch();
		assert_int_equal(redirect_missing(rd.redirect), 1);
		rd_group_remove("later");
		dispatch();
	}
}

static void test_removed_in_use(void **state)
{
	_cleanup_close_ int client = -1, proxy = -1;
	_cleanup_free_ char *brief = rd_group_path("brief");

	rd_group_make("brief");
	rd.entries[0].cgroup = brief;
	rd_apply();
	rd_enter("brief");
	client = rd_connect("198.18.0.5", 80);
	assert_true(client >= 0);
	rd_enter(RD_APP);
	rd_group_remove("brief");
	dispatch();
	proxy = rd_accept();
	rd_expect_original(proxy, "198.18.0.5", 80);
	fx_exchange(client, proxy);
	rd_expect_straight("198.18.0.5", 80);
}

static void test_bad_config(void **state)
{
	struct config bad = rd.config;
	struct config_redirect entry = rd.entries[0];
	char user[] = "no-such-user", *users[] = { user };
	struct err err = {};

	entry.exclude_users = (struct config_strings){ users, 1 };
	bad.redirects = &entry;
	assert_int_equal(redirect_apply(rd.redirect, &bad, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no-such-user"));
	entry = rd.entries[0];
	entry.cgroup = (char[]){ "/proc" };
	assert_int_equal(redirect_apply(rd.redirect, &bad, &err), -EINVAL);
	rd_expect_redirected("198.18.0.5", 80);
}

#define CIDRS 100000

/* Many networks, changed a few times: what was is removed, and there is room for the next. */
static void test_many_cidrs(void **state)
{
	_cleanup_free_ struct config_cidr *v = calloc(CIDRS, sizeof(*v));

	assert_non_null(v);
	for (uint32_t i = 0; i < CIDRS; i++) {
		v[i].addr = rd_addr("10.0.0.0");
		v[i].addr.v6[3] = htonl(0x0a000000 + i * 16);
		v[i].prefix = 124;
	}
	rd.entries[0].exclude_cidrs = (struct config_cidrs){ v, CIDRS };
	rd_apply();
	rd_expect_straight("10.0.0.15", 80);
	rd_expect_straight("10.24.105.255", 80); /* of the last: 0x0a000000 + 99999 * 16 */
	rd_expect_redirected("10.24.106.0", 80);
	rd_expect_redirected("198.18.0.5", 80);
	rd.entries[0].exclude_cidrs.n = 1;
	rd_apply();
	rd_expect_straight("10.0.0.15", 80);
	rd_expect_redirected("10.0.0.16", 80);
	rd.entries[0].exclude_cidrs.n = CIDRS;
	rd_apply();
	rd_expect_straight("10.0.0.16", 80);
}

/* A successor takes over what is pinned: at no time is a connection let go straight. */
static void test_takeover(void **state)
{
	char dir[] = "/tmp/waggle-rd-XXXXXX";
	struct redirect_opts opts = { .dir = dir, .cgroup = rd.top };
	struct err err = {};

	rd.config.n_redirects = 0;
	rd_apply();
	rd.config.n_redirects = 1;
	rd_expect_straight("198.18.0.5", 80);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(mount("bpf", dir, "bpf", 0, NULL), 0);
	for (int i = 0; i < 3; i++) {
		if (redirect_open(&opts, &rd.redirect, &err) < 0)
			fail_msg("%s", err.text);
		if (i)
			rd_expect_redirected("198.18.0.5", 80);
		rd_apply();
		rd_expect_redirected("2001:2::5", 80);
		rd.redirect = redirect_close(rd.redirect);
		/* Nobody is there, and it works. */
		rd_expect_redirected("198.18.0.5", 80);
	}
	/* Without redirects nothing stays attached. */
	if (redirect_open(&opts, &rd.redirect, &err) < 0)
		fail_msg("%s", err.text);
	rd.config.n_redirects = 0;
	rd_apply();
	rd.redirect = redirect_close(rd.redirect);
	rd_expect_straight("198.18.0.5", 80);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* A resolver that answers each question with what it was asked. */
static int resolver(int family, uint16_t *port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bool v4 = family == AF_INET;
	socklen_t len = v4 ? sizeof(a4) : sizeof(a);
	int fd;

	a.sin6_port = a4.sin_port = htons(*port);
	rd_enter(RD_PROXY_GROUP);
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	rd_enter(RD_APP);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, v4 ? (void *)&a4 : (void *)&a, len), 0);
	assert_int_equal(getsockname(fd, v4 ? (void *)&a4 : (void *)&a, &len), 0);
	*port = ntohs(v4 ? a4.sin_port : a.sin6_port);
	return fd;
}

static void answer(int fd)
{
	struct sockaddr_storage from = {};
	socklen_t len = sizeof(from);
	char buf[16];
	ssize_t n;

	fx_wait(fd, POLLIN);
	n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
	assert_true(n > 0);
	assert_int_equal(sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len), n);
}

static void ask(int fd, struct sockaddr_storage *to, socklen_t len, int resolver_fd)
{
	struct sockaddr_storage from = {};
	socklen_t from_len = sizeof(from);
	char buf[16];

	assert_int_equal(sendto(fd, "who", 3, 0, (struct sockaddr *)to, len), 3);
	answer(resolver_fd);
	fx_wait(fd, POLLIN);
	assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &from_len), 3);
	assert_int_equal(from_len, len);
	assert_memory_equal(&from, to, len);
}

/* Answers seem to come from the server that was asked, of whatever family, connected or not. */
static void test_dns(void **state)
{
	static const char *const servers[] = { "198.18.0.53", "198.18.1.53", "2001:2::53" };
	uint16_t port = 0;
	int v4 = resolver(AF_INET, &port), v6 = resolver(AF_INET6, &port);

	rd.entries[0].dns_addr = rd_addr("127.0.0.1");
	rd.entries[0].dns_port = port;
	rd_apply();
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		bool is_v6 = strchr(servers[i], ':');
		struct lb_addr a = rd_addr(servers[i]);
		struct sockaddr_storage to = {}, peer = {};
		socklen_t len = addr_to_sockaddr(&a, 53, &to), peer_len = sizeof(peer);
		int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		ask(fd, &to, len, is_v6 ? v6 : v4);
		ask(fd, &to, len, is_v6 ? v6 : v4);
		assert_int_equal(connect(fd, (struct sockaddr *)&to, len), 0);
		assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &peer_len), 0);
		assert_memory_equal(&peer, &to, len);
		assert_int_equal(send(fd, "who", 3, 0), 3);
		answer(is_v6 ? v6 : v4);
		fx_wait(fd, POLLIN);
		(void)close(fd);
	}
	assert_int_equal(rd_stat(RD_STAT_DNS), 9);
	/* Other ports are let alone, and so is the resolver's cgroup. */
	{
		struct lb_addr a = rd_addr("198.18.0.53");
		struct sockaddr_storage to = {};
		socklen_t len = addr_to_sockaddr(&a, 54, &to);
		_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), other = -1;

		assert_int_equal(sendto(fd, "who", 3, 0, (struct sockaddr *)&to, len), -1);
		assert_int_equal(errno, ENETUNREACH);
		len = addr_to_sockaddr(&a, 53, &to);
		rd_enter(RD_PROXY_GROUP);
		other = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		rd_enter(RD_APP);
		assert_int_equal(sendto(other, "who", 3, 0, (struct sockaddr *)&to, len), -1);
		assert_int_equal(errno, ENETUNREACH);
		/* Nobody answers any more. */
		(void)close(v4);
		(void)close(v6);
		assert_int_equal(sendto(fd, "who", 3, 0, (struct sockaddr *)&to, len), -1);
		assert_int_equal(errno, ECONNREFUSED);
	}
}

int main(void)
{
#define RD_TEST(fn) cmocka_unit_test_setup_teardown(fn, rd_load, rd_unload)
	const struct CMUnitTest tests[] = {
		RD_TEST(test_many),
		RD_TEST(test_given_up),
		RD_TEST(test_ack_again),
		RD_TEST(test_fast_open),
		RD_TEST(test_fast_open_refused),
		RD_TEST(test_syn_cookies),
		RD_TEST(test_mptcp),
		RD_TEST(test_order),
		RD_TEST(test_missing_cgroup),
		RD_TEST(test_removed_in_use),
		RD_TEST(test_bad_config),
		RD_TEST(test_many_cidrs),
		RD_TEST(test_takeover),
		RD_TEST(test_dns),
	};

	return cmocka_run_group_tests(tests, rd_away, rd_home);
}
