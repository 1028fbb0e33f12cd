// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "unit.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text, *shown;
		bool is_v4;
	} rows[] = {
		{ "198.18.0.5", "198.18.0.5", true },
		{ "0.0.0.0", "0.0.0.0", true },
		{ "255.255.255.255", "255.255.255.255", true },
		{ "2001:db8::1", "2001:db8::1", false },
		{ "[2001:DB8:0::1]", "2001:db8::1", false },
		{ "::", "::", false },
		{ "::1", "::1", false },
		{ "::ffff:198.18.0.5", "198.18.0.5", true },
		{ "[::ffff:c612:5]", "198.18.0.5", true },
		{ "2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:6666", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[ADDR_TEXT_MAX];
		struct lb_addr a;
		struct err err = {};

		if (addr_parse(rows[i].text, &a, &err) != 0)
			fail_msg("'%s' was refused: %s", rows[i].text, err.text);
		assert_string_equal(addr_format(&a, 0, text), rows[i].shown);
		assert_int_equal(addr_is_v4(&a), rows[i].is_v4);
	}
}

static void test_layout(void **state)
{
	struct lb_addr a;
	static const uint8_t want[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, 0, 5 };

	assert_int_equal(addr_parse("198.18.0.5", &a, NULL), 0);
	assert_memory_equal(&a, want, sizeof(want));
}

static void test_parse_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"198.18.0",
		"198.18.0.5.6",
		"198.18.0.256",
		"198.18.0.05",
		"198.18.0.5 ",
		"0x7f.1",
		"1",
		"2001:db8",
		"2001:db8:::1",
		"[2001:db8::1",
		"2001:db8::1]",
		"[198.18.0.5]",
		"[]",
		"[",
		"]",
		"fe80::1%eth0",
		"localhost",
		"::ffff:1.2.3",
		"12345::",
		"198.18.0.5:80",
		"[::1]:80",
		"2001:db8:1111:2222:3333:4444:5555:6666:7777",
		"[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:]",
	};
	struct lb_addr a, untouched;

	memset(&a, 0x5a, sizeof(a));
	untouched = a;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = {};

		if (addr_parse(bad[i], &a, &err) != -EINVAL)
			fail_msg("'%s' was taken for an address", bad[i]);
		assert_non_null(strstr(err.text, ": write "));
	}
	assert_memory_equal(&a, &untouched, sizeof(a));
}

static void test_split(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} rows[] = {
		{ "198.18.0.5:80", "198.18.0.5", 80 },
		{ "[2001:db8::1]:65535", "2001:db8::1", 65535 },
		{ "eth0:1", "eth0", 1 },
		{ "web.example.org:8080", "web.example.org", 8080 },
		{ "[198.18.0.5]:80", "198.18.0.5", 80 }, /* whose host it is, the caller decides */
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err err = {};
		uint16_t port = 0;
		char host[64];

		if (addr_split(rows[i].text, host, sizeof(host), &port, &err) != 0)
			fail_msg("'%s' was refused: %s", rows[i].text, err.text);
		assert_string_equal(host, rows[i].host);
		assert_int_equal(port, rows[i].port);
	}
}

static void test_split_refuses(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "", "has no port" },
		{ "198.18.0.5", "as in 198.18.0.5:80" },
		{ "198.18.0.5:", "write a number from 1 to 65535" },
		{ "198.18.0.5:0", "'0' is not a port" },
		{ "198.18.0.5:080", "'080' is not a port" },
		{ "198.18.0.5:65536", "'65536' is not a port" },
		{ "198.18.0.5:-1", "'-1' is not a port" },
		{ "198.18.0.5:http", "'http' is not a port" },
		{ "198.18.0.5:80 ", "'80 ' is not a port" },
		{ ":80", "nothing before its port" },
		{ "[]:80", "nothing before its port" },
		{ "[2001:db8::1]", "write it behind the bracket" },
		{ "[2001:db8::1:80", "write it behind the bracket" },
		{ "[2001:db8::1]80", "write it behind the bracket" },
		{ "2001:db8::1", "as in [2001:db8::1]:80" },
		{ "2001:db8::zz:80", "several colons" },
		{ "0123456789abcdef:80", "at most 15 characters" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err err = {};
		uint16_t port = 7;
		char host[16] = "untouched";

		if (addr_split(rows[i].text, host, sizeof(host), &port, &err) != -EINVAL)
			fail_msg("'%s' was split", rows[i].text);
		if (!strstr(err.text, rows[i].says))
			fail_msg("'%s': %s: does not say: %s", rows[i].text, err.text, rows[i].says);
		assert_int_equal(port, 7);
		assert_string_equal(host, "untouched");
	}
}

static void test_cidr(void **state)
{
	static const struct {
		const char *text, *shown;
		uint8_t prefix;
	} rows[] = {
		{ "198.18.0.0/15", "198.18.0.0/15", 111 }, { "198.18.0.1", "198.18.0.1/32", 128 },
		{ "198.18.0.1/32", "198.18.0.1/32", 128 }, { "0.0.0.0/0", "0.0.0.0/0", 96 },
		{ "128.0.0.0/1", "128.0.0.0/1", 97 },	   { "2001:db8::/32", "2001:db8::/32", 32 },
		{ "2001:db8::1", "2001:db8::1/128", 128 }, { "::/0", "::/0", 0 },
		{ "::ffff:0:0/96", "0.0.0.0/0", 96 },	   { "::ffff:198.18.0.0/111", "198.18.0.0/15", 111 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[ADDR_TEXT_MAX];
		struct err err = {};
		struct lb_addr a;
		uint8_t prefix;

		if (addr_parse_cidr(rows[i].text, &a, &prefix, &err) != 0)
			fail_msg("'%s' was refused: %s", rows[i].text, err.text);
		assert_int_equal(prefix, rows[i].prefix);
		assert_string_equal(addr_format_cidr(&a, prefix, text), rows[i].shown);
	}
}

static void test_cidr_refuses(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "", "is not a network" },
		{ "/8", "is not a network" },
		{ "web", "is not a network" },
		{ "198.18/15", "is not a network" },
		{ "[2001:db8::]/32", "is not a network" },
		{ "fe80::1%eth0/64", "is not a network" },
		{ "198.18.0.0/", "from 0 to 32" },
		{ "198.18.0.0/33", "from 0 to 32" },
		{ "198.18.0.0/015", "from 0 to 32" },
		{ "198.18.0.0/-1", "from 0 to 32" },
		{ "198.18.0.0/255.254.0.0", "from 0 to 32" },
		{ "2001:db8::/129", "from 0 to 128" },
		{ "198.18.0.1/15", "write 198.18.0.0/15" },
		{ "198.19.0.0/14", "write 198.16.0.0/14" },
		{ "0.0.0.1/0", "write 0.0.0.0/0" },
		{ "2001:db8::1/127", "write 2001:db8::/127" },
		{ "::ffff:0:0/90", "write ::ffc0:0:0/90" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/8",
		  "is not a network" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err err = {};
		struct lb_addr a;
		uint8_t prefix = 7;

		if (addr_parse_cidr(rows[i].text, &a, &prefix, &err) != -EINVAL)
			fail_msg("'%s' was taken for a network", rows[i].text);
		if (!strstr(err.text, rows[i].says))
			fail_msg("'%s': %s: does not say: %s", rows[i].text, err.text, rows[i].says);
		assert_int_equal(prefix, 7);
	}
}

static void test_format(void **state)
{
	char text[ADDR_TEXT_MAX];
	struct lb_addr a;

	assert_int_equal(addr_parse("198.18.0.5", &a, NULL), 0);
	assert_string_equal(addr_format(&a, 80, text), "198.18.0.5:80");
	memset(&a, 0xff, sizeof(a));
	assert_string_equal(addr_format(&a, 65535, text), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
	assert_string_equal(addr_format_cidr(&a, 128, text), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128");
}

static void test_sockaddr(void **state)
{
	static const struct {
		const char *text;
		sa_family_t family;
		socklen_t len;
	} rows[] = {
		{ "198.18.0.5", AF_INET, sizeof(struct sockaddr_in) },
		{ "2001:db8::1", AF_INET6, sizeof(struct sockaddr_in6) },
	};
	struct sockaddr unix_sa = { .sa_family = AF_UNIX };
	struct lb_addr a, back;
	uint16_t port;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sockaddr_storage ss;

		assert_int_equal(addr_parse(rows[i].text, &a, NULL), 0);
		memset(&ss, 0x5a, sizeof(ss));
		assert_int_equal(addr_to_sockaddr(&a, 8080, &ss), rows[i].len);
		assert_int_equal(ss.ss_family, rows[i].family);
		assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, &back, &port), 0);
		assert_memory_equal(&a, &back, sizeof(a));
		assert_int_equal(port, 8080);
	}
	assert_int_equal(addr_from_sockaddr(&unix_sa, &back, &port), -EAFNOSUPPORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),	      cmocka_unit_test(test_layout),
		cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_split),
		cmocka_unit_test(test_split_refuses), cmocka_unit_test(test_cidr),
		cmocka_unit_test(test_cidr_refuses),  cmocka_unit_test(test_format),
		cmocka_unit_test(test_sockaddr),
	};

	return cmocka_run_group_tests_name("addr", tests, NULL, NULL);
}
