// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Policy where connect() cannot ask it: clients of other machines, and sockets whose address routing gives. To the hook,
 * which sees the test's cgroups, a client outside of them is one of another machine.
 */
#include "rd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "base/num.h"

static struct config_policy policies[4];
static struct config_identity identities[2];
static struct config_cidr nets[2];
static char net_name[] = "nets", server_name[] = "server", *net_names[] = { net_name },
	    *server_names[] = { server_name };

static int load(void **state)
{
	int r = rd_load(state);

	memset(policies, 0, sizeof(policies));
	identities[0] = (struct config_identity){ .name = net_name, .cidrs = { nets, 1 } };
	identities[1] = (struct config_identity){ .name = server_name };
	rd.config.policies = policies;
	rd.config.identities = identities;
	rd.config.n_identities = 2;
	rd.config.n_redirects = 0;
	return r;
}

/* From whom is in this network; anything else is as it was. */
static void apply_net(const char *net, size_t n_policies)
{
	nets[0] = rd_cidr(net);
	rd.config.n_policies = n_policies;
	rd_apply();
}

static socklen_t to_sockaddr(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *v6 = (void *)ret;
	struct sockaddr_in *v4 = (void *)ret;

	*ret = (struct sockaddr_storage){ .ss_family = strchr(text, ':') ? AF_INET6 : AF_INET };
	if (ret->ss_family == AF_INET) {
		v4->sin_port = htons(port);
		assert_int_equal(inet_pton(AF_INET, text, &v4->sin_addr), 1);
		return sizeof(*v4);
	}
	v6->sin6_port = htons(port);
	assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
	return sizeof(*v6);
}

/* A client of this cgroup that has been told to connect, bound to from unless that is NULL. */
static int begin(const char *group, const char *from, const char *to)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd, r;

	rd_enter(group);
	fd = fx_tcp(strchr(to, ':') ? AF_INET6 : AF_INET, 0);
	rd_enter(RD_APP);
	if (from) {
		len = to_sockaddr(from, 0, &a);
		assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	}
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	len = to_sockaddr(to, rd.port, &a);
	r = fx_connect(fd, &a, len);
	if (r < 0 && r != -EINPROGRESS)
		fail_msg("connect to %s: %s", to, strerror(-r));
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	return fd;
}

#define FAR ".."

static void expect_far_denied(const char *from, const char *to)
{
	uint64_t denied = rd_stat(RD_STAT_DENIED);
	_cleanup_close_ int fd = begin(FAR, from, to);
	struct pollfd p[] = { { .fd = fd, .events = POLLOUT },
			      { .fd = rd.listener, .events = POLLIN },
			      { .fd = rd.listener6, .events = POLLIN } };

	for (int tries = 0; rd_stat(RD_STAT_DENIED) == denied; tries++) {
		if (tries == 1000)
			fail_msg("%s to %s was not denied", from, to);
		(void)usleep(10000);
	}
	assert_int_equal(poll(p, ARRAY_SIZE(p), 0), 0);
}

static void expect_connects(const char *group, const char *from, const char *to)
{
	_cleanup_close_ int fd = begin(group, from, to), server = -1;

	server = rd_accept();
	fx_wait(fd, POLLOUT);
	fx_exchange(fd, server);
}

/* By its address, whatever the family of the listener; a program of this machine is not meant. */
static void test_network(void **state)
{
	policies[0] = (struct config_policy){ .from = { net_names, 1 } };
	apply_net("127.0.0.8/31", 1);
	expect_far_denied("127.0.0.9", "127.0.0.1");
	expect_connects(FAR, "127.0.0.7", "127.0.0.1");
	expect_connects(RD_APP, NULL, "127.0.0.1");
	assert_int_equal(redirect_hits(rd.redirect, RD_POLICY, 0), rd_stat(RD_STAT_DENIED));
	apply_net("::1/128", 1);
	rd_listen6();
	expect_far_denied("::1", "::1");
	expect_connects(FAR, "127.0.0.9", "127.0.0.1");
	apply_net("2001:2::/64", 1);
	expect_connects(FAR, "::1", "::1");
}

/* A listener of both families takes IPv4 too. */
static void test_mapped(void **state)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(rd.port) };

	closep(&rd.listener);
	rd.listener6 = fx_tcp(AF_INET6, 0);
	assert_int_equal(bind(rd.listener6, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(rd.listener6, 16), 0);
	policies[0] = (struct config_policy){ .from = { net_names, 1 } };
	apply_net("127.0.0.8/31", 1);
	expect_far_denied("127.0.0.9", "127.0.0.1");
	expect_connects(FAR, "127.0.0.7", "127.0.0.1");
	expect_connects(FAR, "::1", "::1");
}

/* Entries that are from anybody are about other machines too; those of cgroups are not, not even of the outermost. */
static void test_anybody(void **state)
{
	char *apps[] = { rd.app }, *all[] = { rd.top };

	policies[0] = (struct config_policy){ .allow = true, .from = { apps, 1 } };
	policies[1] = (struct config_policy){ .allow = true, .from = { net_names, 1 } };
	policies[2] = (struct config_policy){};
	apply_net("127.0.0.8/31", 3);
	expect_connects(RD_APP, NULL, "127.0.0.1");
	expect_connects(FAR, "127.0.0.9", "127.0.0.1");
	expect_far_denied("127.0.0.1", "127.0.0.1");
	policies[0] = (struct config_policy){ .from = { all, 1 } };
	apply_net("127.0.0.8/31", 1);
	expect_connects(FAR, "127.0.0.1", "127.0.0.1");
	assert_int_equal(rd_connect("127.0.0.1", rd.port), -EPERM);
}

/* The destination: by address and port, and by the cgroup of the one that listens. */
static void test_destination(void **state)
{
	struct config_cidr to[] = { rd_cidr("127.0.0.2/32") };
	struct config_port_range other[] = { { 1, 1 } };
	char *groups[] = { rd.proxy };

	closep(&rd.listener);
	rd.listener = rd_listen(AF_INET, rd.port);
	policies[0] = (struct config_policy){ .to = { to, 1 } };
	apply_net("127.0.0.8/31", 1);
	expect_connects(FAR, "127.0.0.9", "127.0.0.1");
	policies[0] = (struct config_policy){ .ports = { other, 1 } };
	rd_apply();
	expect_connects(FAR, "127.0.0.9", "127.0.0.1");
	policies[0] = (struct config_policy){ .to_identities = { server_names, 1 } };
	rd_apply();
	expect_connects(FAR, "127.0.0.9", "127.0.0.1");
	identities[1].cgroups = (struct config_strings){ groups, 1 };
	rd_apply();
	expect_far_denied("127.0.0.9", "127.0.0.1");
}

static struct rd_event told;

static void on_event(const struct rd_event *e, void *data)
{
	told = *e;
}

static void test_told(void **state)
{
	_cleanup_close_ int fd = -1;

	told = (struct rd_event){};
	redirect_on_event(rd.redirect, on_event, NULL);
	redirect_trace(rd.redirect, ~0U);
	policies[1] = (struct config_policy){ .from = { net_names, 1 } };
	policies[0] = policies[1];
	policies[0].allow = true;
	policies[0].ports = (struct config_ports){ (struct config_port_range[]){ { 1, 1 } }, 1 };
	apply_net("127.0.0.0/8", 2);
	expect_far_denied("127.0.0.9", "127.0.0.1");
	assert_int_equal(redirect_dispatch(rd.redirect), 0);
	assert_int_equal(told.kind, RD_EVENT_DENIED);
	assert_int_equal(told.entry, 1);
	assert_int_equal(told.pid, 0);
	assert_memory_equal(&told.from, &(struct lb_addr[]){ rd_addr("127.0.0.9") }, sizeof(told.from));
	assert_memory_equal(&told.asked, &(struct lb_addr[]){ rd_addr("127.0.0.1") }, sizeof(told.asked));
	assert_int_equal(told.asked_port, htons(rd.port));
	assert_true(told.from_port);
	/* Of a program of this machine that was let pass by connect(). */
	fd = begin(RD_APP, NULL, "127.0.0.1");
	fx_wait(fd, POLLOUT);
	assert_int_equal(redirect_dispatch(rd.redirect), 0);
	assert_int_equal(told.pid, getpid());
	assert_false(told.from_port);
	assert_string_not_equal(told.comm, "");
	redirect_trace(rd.redirect, 0);
	redirect_on_event(rd.redirect, NULL, NULL);
}

/* What is open when policy turns against it is reset: that of the other machine, and no other. */
static void test_change(void **state)
{
	_cleanup_close_ int far = -1, far_server = -1, near = -1, near_server = -1;
	char byte;

	policies[0] = (struct config_policy){ .from = { net_names, 1 }, .reset = true };
	apply_net("10.0.0.0/8", 1);
	far = begin(FAR, "127.0.0.9", "127.0.0.1");
	far_server = rd_accept();
	near = begin(RD_APP, "127.0.0.7", "127.0.0.1");
	near_server = rd_accept();
	apply_net("127.0.0.8/31", 1);
	assert_int_equal(rd_stat(RD_STAT_CLOSED), 1);
	assert_int_equal(recv(far_server, &byte, 1, 0), -1);
	assert_int_equal(recv(far, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	fx_exchange(near, near_server);
}

static int retries_of(int fd)
{
	socklen_t len = sizeof(int);
	int n = 0;

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &n, &len), 0);
	return n;
}

static void expect_source_denied(const char *to)
{
	_cleanup_close_ int fd = fx_tcp(strchr(to, ':') ? AF_INET6 : AF_INET, 0), server = -1;
	struct pollfd p[] = { { .fd = rd.listener, .events = POLLIN }, { .fd = rd.listener6, .events = POLLIN } };
	uint64_t denied = rd_stat(RD_STAT_DENIED);
	int retries = retries_of(fd), two = 2;

	assert_int_equal(rd_connect_on(fd, to, rd.port), -ETIMEDOUT);
	assert_int_equal(rd_stat(RD_STAT_DENIED), denied + 1);
	assert_int_equal(poll(p, ARRAY_SIZE(p), 0), 0);
	assert_int_equal(retries_of(fd), retries);
	/* Again, with a number of its own. */
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &two, sizeof(two)), 0);
	assert_int_equal(rd_connect_on(fd, to, rd.port), -ETIMEDOUT);
	assert_int_equal(retries_of(fd), two);
	/* The socket is as good as before. */
	rd.config.n_policies = 0;
	rd_apply();
	assert_int_equal(rd_connect_on(fd, to, rd.port), 0);
	server = rd_accept();
	fx_exchange(fd, server);
	rd.config.n_policies = 1;
	rd_apply();
}

/* Sockets that are not bound: their address is known after routing alone. */
static void test_source(void **state)
{
	rd_listen6();
	policies[0] = (struct config_policy){ .from = { net_names, 1 } };
	apply_net("127.0.0.1/32", 1);
	expect_source_denied("127.0.0.1");
	expect_connects(RD_APP, "127.0.0.7", "127.0.0.1");
	expect_connects(RD_APP, NULL, "::1");
	/* Bound to it, it is refused at once. */
	{
		_cleanup_close_ int fd = fx_tcp(AF_INET, 0);
		struct sockaddr_storage a;
		socklen_t len = to_sockaddr("127.0.0.1", 0, &a);

		assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
		assert_int_equal(rd_connect_on(fd, "127.0.0.1", rd.port), -EPERM);
	}
	/* A socket of IPv6 with an address of IPv4. */
	assert_int_equal(rd_connect_mapped("127.0.0.1", rd.port), -ETIMEDOUT);
	apply_net("::1/128", 1);
	expect_source_denied("::1");
	expect_connects(RD_APP, NULL, "127.0.0.1");
}

/* An entry that allows by the source comes before one that denies all. */
static void test_source_allowed(void **state)
{
	char *groups[] = { rd.proxy };

	closep(&rd.listener);
	rd.listener = rd_listen(AF_INET, rd.port);
	identities[1].cgroups = (struct config_strings){ groups, 1 };
	policies[0] =
		(struct config_policy){ .allow = true, .from = { net_names, 1 }, .to_identities = { server_names, 1 } };
	policies[1] = (struct config_policy){};
	apply_net("127.0.0.1/32", 2);
	expect_connects(RD_APP, NULL, "127.0.0.1");
	assert_int_equal(rd_stat(RD_STAT_ALLOWED), 1);
	assert_int_equal(rd_stat(RD_STAT_DENIED), 0);
	apply_net("127.0.0.2/32", 2);
	assert_int_equal(rd_connect("127.0.0.1", rd.port), -ETIMEDOUT);
	/* To where the first cannot match nobody has to wait. */
	assert_int_equal(rd_connect("127.0.0.1", 1), rd.port == 1 ? -ETIMEDOUT : -EPERM);
}

/* Of a redirected connection it is asked too. */
static void test_source_redirected(void **state)
{
	rd.config.n_redirects = 1;
	policies[0] = (struct config_policy){ .from = { net_names, 1 } };
	apply_net("10.0.0.0/8", 1);
	rd_expect_redirected("198.18.0.5", 80);
	apply_net("127.0.0.1/32", 1);
	assert_int_equal(rd_connect("198.18.0.5", 80), -ETIMEDOUT);
	assert_int_equal(rd_pending(), 0);
}

/* Data in the SYN: of this machine's programs, and of others. */
static void test_fast_open(void **state)
{
	struct sockaddr_storage a;
	socklen_t len = to_sockaddr("127.0.0.1", rd.port, &a);
	int queue = 16;

	fx_sysctl("ipv4/tcp_fastopen", "1539");
	assert_int_equal(setsockopt(rd.listener, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)), 0);
	policies[0] = (struct config_policy){ .from = { net_names, 1 }, .reset = true };
	apply_net("127.0.0.8/31", 1);
	{
		_cleanup_close_ int fd = fx_tcp(AF_INET, 0), server = -1;
		char buf[4];

		assert_int_equal(sendto(fd, "abc", 3, MSG_FASTOPEN, (struct sockaddr *)&a, len), 3);
		server = rd_accept();
		assert_int_equal(recv(server, buf, sizeof(buf), 0), 3);
		apply_net("127.0.0.0/28", 1);
		/* The client is reset, for its own address; the server's end is none of another machine. */
		assert_int_equal(rd_stat(RD_STAT_CLOSED), 1);
	}
	fx_sysctl("ipv4/tcp_fastopen", "1");
}

int main(void)
{
#define FAR_TEST(fn) cmocka_unit_test_setup_teardown(fn, load, rd_unload)
	const struct CMUnitTest tests[] = {
		FAR_TEST(test_network),	    FAR_TEST(test_mapped),	   FAR_TEST(test_anybody),
		FAR_TEST(test_destination), FAR_TEST(test_told),	   FAR_TEST(test_change),
		FAR_TEST(test_source),	    FAR_TEST(test_source_allowed), FAR_TEST(test_source_redirected),
		FAR_TEST(test_fast_open),
	};

	return cmocka_run_group_tests(tests, rd_away, rd_home);
}
