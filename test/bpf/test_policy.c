// SPDX-License-Identifier: GPL-2.0-or-later
/* Policy: what is denied, who decides, what a change does to live connections; and the kernel against user space. */
#include "rd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>

#include "hook/policy.h"

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

/* Policies of the test at hand. */
static struct config_policy policies[64];
static struct config_identity identities[4];

static int load(void **state)
{
	int r = rd_load(state);

	memset(policies, 0, sizeof(policies));
	memset(identities, 0, sizeof(identities));
	rd.config.policies = policies;
	rd.config.identities = identities;
	rd.config.n_redirects = 0;
	return r;
}

/* A connection that policy lets pass: there is no route. */
static void expect_allowed(const char *addr, uint16_t port)
{
	assert_int_equal(rd_connect(addr, port), -ENETUNREACH);
}

static void expect_denied(const char *addr, uint16_t port)
{
	assert_int_equal(rd_connect(addr, port), -EPERM);
}

static void test_first_match(void **state)
{
	struct config_cidr inner[] = { rd_cidr("198.18.7.0/24") }, outer[] = { rd_cidr("198.18.0.0/15") };
	struct config_port_range p80[] = { { 80, 80 } };

	policies[0] = (struct config_policy){ .allow = true, .to = { inner, 1 }, .ports = { p80, 1 } };
	policies[1] = (struct config_policy){ .to = { outer, 1 } };
	rd.config.n_policies = 2;
	rd_apply();
	expect_allowed("198.18.7.1", 80);
	expect_denied("198.18.7.1", 81);
	expect_denied("198.18.6.1", 80);
	expect_denied("198.19.255.255", 1);
	expect_allowed("198.20.0.0", 80);
	expect_allowed("2001:2::1", 80);
	assert_int_equal(rd_stat(RD_STAT_ALLOWED), 1);
	assert_int_equal(rd_stat(RD_STAT_DENIED), 3);
	assert_int_equal(redirect_hits(rd.redirect, RD_POLICY, 0), 1);
	assert_int_equal(redirect_hits(rd.redirect, RD_POLICY, 1), 3);
}

static void test_from(void **state)
{
	char *app[] = { rd.app };

	policies[0] = (struct config_policy){ .from = { app, 1 } };
	rd.config.n_policies = 1;
	rd_apply();
	expect_denied("198.18.0.1", 80);
	expect_denied("2001:2::1", 80);
	rd_group_make(RD_APP "/deep");
	rd_enter(RD_APP "/deep");
	expect_denied("198.18.0.1", 80);
	rd_enter(RD_PROXY_GROUP);
	expect_allowed("198.18.0.1", 80);
	rd_enter(RD_APP);
	rd_group_remove(RD_APP "/deep");
}

/* An IPv4 destination is one, whatever the family of the socket. */
static void test_mapped(void **state)
{
	struct config_cidr to[] = { rd_cidr("198.18.0.0/15") };

	policies[0] = (struct config_policy){ .to = { to, 1 } };
	rd.config.n_policies = 1;
	rd_apply();
	assert_int_equal(rd_connect_mapped("198.18.0.1", 80), -EPERM);
	assert_int_equal(rd_connect_mapped("198.20.0.1", 80), -ENETUNREACH);
}

static void test_identities(void **state)
{
	struct config_cidr cidrs[] = { rd_cidr("10.0.0.0/8"), rd_cidr("2001:2::/64") };
	char *groups[] = { rd.app }, one[] = "apps", two[] = "nets", *ones[] = { one }, *twos[] = { two };

	identities[0] = (struct config_identity){ .name = one, .cgroups = { groups, 1 } };
	identities[1] = (struct config_identity){ .name = two, .cidrs = { cidrs, 2 } };
	rd.config.n_identities = 2;
	policies[0] = (struct config_policy){ .from = { ones, 1 }, .to_identities = { twos, 1 } };
	rd.config.n_policies = 1;
	rd_apply();
	expect_denied("10.1.2.3", 80);
	expect_denied("2001:2::7", 80);
	expect_allowed("11.1.2.3", 80);
	rd_enter(RD_PROXY_GROUP);
	expect_allowed("10.1.2.3", 80);
	rd_enter(RD_APP);
}

/* Who listens decides, whatever its address. */
static void test_to_cgroup(void **state)
{
	char *groups[] = { rd.proxy }, name[] = "server", *names[] = { name };
	_cleanup_close_ int other = fx_tcp(AF_INET, 0), ok = -1;
	struct sockaddr_in a = {};
	socklen_t len = sizeof(a);

	identities[0] = (struct config_identity){ .name = name, .cgroups = { groups, 1 } };
	rd.config.n_identities = 1;
	policies[0] = (struct config_policy){ .to_identities = { names, 1 } };
	rd.config.n_policies = 1;
	rd_apply();
	assert_int_equal(rd_connect("127.0.0.1", rd.port), -EPERM);
	assert_int_equal(listen(other, 4), 0);
	assert_int_equal(getsockname(other, (struct sockaddr *)&a, &len), 0);
	ok = rd_connect("127.0.0.1", ntohs(a.sin_port));
	assert_true(ok >= 0);
}

/* Policy is asked about what the program named, not about the proxy. */
static void test_before_redirect(void **state)
{
	struct config_cidr to[] = { rd_cidr("198.18.7.0/24") }, loopback[] = { rd_cidr("127.0.0.0/8") };

	rd.config.n_redirects = 1;
	policies[0] = (struct config_policy){ .to = { to, 1 } };
	policies[1] = (struct config_policy){ .to = { loopback, 1 } };
	rd.config.n_policies = 2;
	rd_apply();
	expect_denied("198.18.7.1", 80);
	rd_expect_redirected("198.18.0.5", 80);
	assert_int_equal(rd_connect("127.0.0.1", rd.port), -EPERM);
}

static void test_datagrams(void **state)
{
	struct config_cidr to[] = { rd_cidr("127.0.0.2/32") };
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(9),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1),
	};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	policies[0] = (struct config_policy){ .to = { to, 1 } };
	rd.config.n_policies = 1;
	rd_apply();
	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), -1);
	assert_int_equal(errno, EPERM);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)), 1);
}

static uint64_t evicted[8];
static size_t n_evicted;

static void on_evict(uint64_t *cookies, size_t n, void *data)
{
	assert_true(n_evicted + n <= ARRAY_SIZE(evicted));
	for (size_t i = 0; i < n; i++)
		evicted[n_evicted++] = cookies[i];
}

static bool is_evicted(int fd)
{
	for (size_t i = 0; i < n_evicted; i++)
		if (evicted[i] == fx_cookie(fd))
			return true;
	return false;
}

/* What a change denies is closed, or evicted, as the entry says; the rest is let alone. */
static void test_change(void **state)
{
	struct config_cidr to[] = { rd_cidr("198.18.7.0/24") }, loopback[] = { rd_cidr("127.0.0.0/8") };
	int a, b, c, pa, pb, pc;

	n_evicted = 0;
	redirect_on_evict(rd.redirect, on_evict, NULL);
	rd.config.n_redirects = 1;
	policies[0] = (struct config_policy){ .allow = true };
	rd.config.n_policies = 1;
	rd_apply();
	a = rd_connect("198.18.7.1", 80);
	pa = rd_accept();
	b = rd_connect("198.18.8.1", 80);
	pb = rd_accept();
	c = rd_connect("127.0.0.1", rd.port);
	pc = rd_accept();
	assert_true(a >= 0 && b >= 0 && c >= 0);
	/* a by what it asked for, and is reset; c went straight on, and goes back to TCP. */
	policies[0] = (struct config_policy){ .to = { to, 1 }, .reset = true };
	policies[1] = (struct config_policy){ .to = { loopback, 1 } };
	rd.config.n_policies = 2;
	rd_apply();
	assert_int_equal(rd_stat(RD_STAT_CLOSED), 1);
	assert_int_equal(n_evicted, 1);
	assert_true(is_evicted(c));
	{
		char byte;

		assert_int_equal(recv(a, &byte, 1, 0), -1);
		assert_int_equal(errno, ECONNABORTED);
		assert_int_equal(recv(pa, &byte, 1, 0), -1);
		assert_int_equal(errno, ECONNRESET);
	}
	fx_exchange(b, pb);
	fx_exchange(c, pc);
	/* Allowed again: nothing more happens. */
	rd.config.n_policies = 0;
	rd_apply();
	assert_int_equal(rd_stat(RD_STAT_CLOSED), 1);
	fx_exchange(b, pb);
	for (int i = 0; i < 6; i++)
		(void)close((int[]){ a, b, c, pa, pb, pc }[i]);
}

/* The same numbers each time: a failure can be looked at again. */
static uint32_t next_random(void)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 16);
}

#define ROUNDS 20
#define ASKS 150
#define NETS 4

struct made {
	struct config_cidr cidrs[64][NETS];
	struct config_port_range ports[64][2];
	char *from[64][2];
};

/* Networks overlap a lot, at every length. */
static struct config_cidr random_cidr(void)
{
	bool v4 = next_random() % 2;
	uint8_t low = v4 ? 96 : 0, prefix = (uint8_t)(low + next_random() % (129 - low));
	struct lb_addr a = rd_addr(v4 ? "198.18.0.0" : "2001:2::");
	uint8_t *b = (uint8_t *)&a;

	b[15] = (uint8_t)(next_random() & 3);
	b[14] = (uint8_t)(next_random() & 3);
	for (unsigned int bit = prefix; bit < 128; bit++)
		b[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	return (struct config_cidr){ a, prefix };
}

static void random_policies(struct made *m, char *groups[static 3], char *names[static 2])
{
	rd.config.n_policies = 1 + next_random() % ARRAY_SIZE(policies);
	for (size_t i = 0; i < rd.config.n_policies; i++) {
		struct config_policy *p = &policies[i];

		*p = (struct config_policy){ .allow = next_random() % 2 };
		p->to = (struct config_cidrs){ m->cidrs[i], next_random() % (NETS + 1) };
		for (size_t j = 0; j < p->to.n; j++)
			m->cidrs[i][j] = random_cidr();
		p->ports = (struct config_ports){ m->ports[i], next_random() % 3 };
		for (size_t j = 0; j < p->ports.n; j++) {
			uint16_t first = (uint16_t)(1 + next_random() % 20);

			m->ports[i][j] = (struct config_port_range){ first, (uint16_t)(first + next_random() % 5) };
		}
		p->from = (struct config_strings){ m->from[i], next_random() % 3 };
		for (size_t j = 0; j < p->from.n; j++)
			m->from[i][j] = next_random() % 4 ? groups[next_random() % 3] : names[next_random() % 2];
		if (next_random() % 4 == 0)
			p->to_identities = (struct config_strings){ &names[next_random() % 2], 1 };
	}
}

/* A socket of IPv6, bound to an address that nobody has here. */
static int connect_from(const struct lb_addr *from, const char *to, uint16_t port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	_cleanup_close_ int fd = fx_tcp(AF_INET6, 0);
	int on = 1;

	memcpy(&a.sin6_addr, from, sizeof(a.sin6_addr));
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	/* To the unspecified address, which is the loopback, a SYN is sent that nobody can answer. */
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return rd_connect_on(fd, to, port);
}

/* Random policies, random questions: the kernel's answer is the one that `waggle policy test` explains. */
static void test_differential(void **state)
{
	static const char *const from[] = { RD_APP, RD_APP "/deep", RD_PROXY_GROUP };
	_cleanup_free_ struct made *m = new0(struct made);
	_cleanup_free_ char *deep = rd_group_path(RD_APP "/deep");
	char *groups[] = { rd.app, deep, rd.proxy }, one[] = "one", two[] = "two", *names[] = { one, two };
	struct config_cidr id_cidrs[2];
	size_t denied = 0, decided = 0;

	assert_non_null(m);
	rd_group_make(RD_APP "/deep");
	identities[0] = (struct config_identity){ .name = one, .cgroups = { &groups[1], 2 }, .cidrs = { id_cidrs, 2 } };
	identities[1] = (struct config_identity){ .name = two, .cidrs = { id_cidrs, 1 } };
	rd.config.n_identities = 2;
	for (int round = 0; round < ROUNDS; round++) {
		_cleanup_(policy_closep) struct policy *policy = NULL;

		id_cidrs[0] = random_cidr();
		id_cidrs[1] = random_cidr();
		random_policies(m, groups, names);
		rd_apply();
		assert_int_equal(policy_open(&rd.config, &policy, NULL), 0);
		for (int i = 0; i < ASKS; i++) {
			size_t who = next_random() % 3;
			struct policy_question q = {
				.from = groups[who],
				.source = random_cidr().addr,
				.to = random_cidr().addr,
				.port = (uint16_t)(1 + next_random() % 25),
			};
			struct policy_answer answer;
			char text[INET6_ADDRSTRLEN];
			uint64_t hits = 0;
			int r;

			/* Not the unspecified one, which is none. */
			q.source.v6[3] |= htonl(1);
			assert_int_equal(policy_ask(policy, &q, &answer), 0);
			if (answer.policy != POLICY_NONE)
				hits = redirect_hits(rd.redirect, RD_POLICY, answer.policy);
			assert_non_null(inet_ntop(AF_INET6, &q.to, text, sizeof(text)));
			rd_enter(from[who]);
			r = connect_from(&q.source, text, q.port);
			rd_enter(RD_APP);
			if ((r == -EPERM) != !answer.allowed)
				fail_msg("round %d: %s to %s port %u: connect() says %s, user space says entry %zd",
					 round, q.from, text, q.port, strerror(-r), (ssize_t)answer.policy);
			if (answer.policy != POLICY_NONE)
				assert_int_equal(redirect_hits(rd.redirect, RD_POLICY, answer.policy), hits + 1);
			denied += !answer.allowed;
			decided += answer.policy != POLICY_NONE;
		}
	}
	rd_group_remove(RD_APP "/deep");
	/* The numbers are such that all of it happens. */
	assert_in_range(denied, ROUNDS * ASKS / 10, ROUNDS * ASKS * 9 / 10);
	assert_in_range(decided, ROUNDS * ASKS / 4, ROUNDS * ASKS);
}

int main(void)
{
#define POLICY_TEST(fn) cmocka_unit_test_setup_teardown(fn, load, rd_unload)
	const struct CMUnitTest tests[] = {
		POLICY_TEST(test_first_match), POLICY_TEST(test_from),	    POLICY_TEST(test_mapped),
		POLICY_TEST(test_identities),  POLICY_TEST(test_to_cgroup), POLICY_TEST(test_before_redirect),
		POLICY_TEST(test_datagrams),   POLICY_TEST(test_change),    POLICY_TEST(test_differential),
	};

	return cmocka_run_group_tests(tests, rd_away, rd_home);
}
