// SPDX-License-Identifier: GPL-2.0-or-later
/* Conditions of a capture: what they ask for, and that each refusal names the word and the remedy. */
#include "model/capture_filter.h"

#include <errno.h>

#include "model/addr.h"
#include "unit.h"

static struct capture_filter f;

static void parse(const char *text)
{
	struct err err = {};

	capture_filter_done(&f);
	if (capture_filter_parse(text, &f, &err) < 0)
		fail_msg("'%s': %s", text, err.text);
}

static void refused(const char *text, const char *says)
{
	struct capture_filter was = f;
	struct err err = {};

	assert_int_equal(capture_filter_parse(text, &f, &err), -EINVAL);
	if (!strstr(err.text, says))
		fail_msg("'%s' is refused by: %s", text, err.text);
	assert_memory_equal(&f, &was, sizeof(f));
}

static bool wants(enum pk_reason reason)
{
	return f.reasons >> reason & 1;
}

static void test_nothing_asked(void **state)
{
	static const char *const nothing[] = { NULL, "", " \t" };

	for (size_t i = 0; i < ARRAY_SIZE(nothing); i++) {
		parse(nothing[i]);
		for (size_t k = 0; k < _PK_CAPTURE_KINDS; k++)
			assert_int_equal(f.n[k], 0);
		assert_int_equal(f.negated, 0);
		assert_int_equal(f.protos, PK_CAPTURE_PROTOS);
		assert_true(wants(PK_FORWARDED) && wants(PK_NO_BACKEND) && wants(PK_NO_NEIGHBOUR) &&
			    wants(PK_MALFORMED));
		assert_false(wants(PK_NOT_OURS) || wants(PK_NOT_IP) || wants(PK_OFF) || wants(PK_TRUNCATED));
		assert_false(wants(PK_FRAGMENT));
	}
}

static void test_values(void **state)
{
	parse("service web and host 198.18.0.4 port 80 or 443 or port 8080 && interface eth0 or interface eth1");
	assert_int_equal(f.n[PK_CAPTURE_SERVICE], 1);
	assert_string_equal(f.services[0], "web");
	assert_int_equal(f.n[PK_CAPTURE_PORT], 3);
	assert_int_equal(f.ports[0], 80);
	assert_int_equal(f.ports[2], 8080);
	assert_int_equal(f.n[PK_CAPTURE_INTERFACE], 2);
	assert_string_equal(f.interfaces[1], "eth1");
	assert_int_equal(f.n[PK_CAPTURE_ADDRESS], 1);
	assert_true(addr_is_v4(&f.addrs[0].addr));
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(f.addrs[0].mask.v6[i], UINT32_MAX);
	/* A service may be called anything. */
	parse("service port and not port 80");
	assert_string_equal(f.services[0], "port");
	assert_int_equal(f.negated, 1U << PK_CAPTURE_PORT);
}

static void test_networks(void **state)
{
	const uint8_t *mask = (const uint8_t *)&f.addrs[0].mask;

	parse("net 198.18.0.0/15 or 2001:db8::/33");
	assert_int_equal(f.n[PK_CAPTURE_ADDRESS], 2);
	assert_int_equal(mask[11], 0xff);
	assert_int_equal(mask[12], 0xff);
	assert_int_equal(mask[13], 0xfe);
	assert_int_equal(mask[14], 0);
	mask = (const uint8_t *)&f.addrs[1].mask;
	assert_int_equal(mask[3], 0xff);
	assert_int_equal(mask[4], 0x80);
	assert_int_equal(mask[5], 0);
}

static void test_verdicts(void **state)
{
	parse("verdict dropped");
	assert_true(wants(PK_NO_BACKEND) && wants(PK_RATE));
	assert_false(wants(PK_FORWARDED) || wants(PK_NOT_OURS) || wants(PK_NO_NEIGHBOUR));
	parse("not verdict sent");
	assert_true(wants(PK_NO_BACKEND) && wants(PK_NO_NEIGHBOUR));
	assert_false(wants(PK_FORWARDED) || wants(PK_NOT_OURS));
	parse("verdict passed or dropped and not reason rate");
	assert_true(wants(PK_NOT_OURS) && wants(PK_FRAGMENT) && wants(PK_QUOTA));
	assert_false(wants(PK_RATE) || wants(PK_PING));
	parse("reason not-ours or ping");
	assert_int_equal(f.reasons, 1ULL << PK_NOT_OURS | 1ULL << PK_PING);
}

static void test_protocols(void **state)
{
	parse("tcp or udp");
	assert_int_equal(f.protos, PK_CAPTURE_TCP | PK_CAPTURE_UDP);
	parse("not icmp and port 53");
	assert_int_equal(f.protos, PK_CAPTURE_PROTOS & ~PK_CAPTURE_ICMP);
}

static void test_refusals(void **state)
{
	refused("web", "there is no 'web': service, host, net");
	refused("service", "a value is missing after 'service'");
	refused("service web and", "a condition is missing after 'and'");
	refused("port 80 or", "a value is missing after 'or'");
	refused("not", "a condition is missing");
	refused("port 80 or 443 or 8080 or 8081 or 8082", "more than 4 values before '8082'");
	refused("port 0", "'0' is no port");
	refused("port http", "'http' is no port");
	refused("host web", "'web' is no address");
	refused("net 198.18.0.1/15", "'198.18.0.1/15' is no address");
	refused("port 80 and port 443", "'port' is there twice");
	refused("host 198.18.0.4 net 198.18.0.0/15", "'net' is there twice");
	refused("service web or port 80", "'port' is of another");
	refused("tcp or port 80", "'port' is of another");
	refused("tcp or nonsense", "'nonsense' is of another");
	refused("(port 80)", "there are no parentheses");
	refused("verdict maybe", "sent, passed and dropped are");
	refused("reason maybe", "see waggle-capture(8)");
	refused("or port 80", "there is no 'or'");
}

static int teardown(void **state)
{
	capture_filter_done(&f);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_asked), cmocka_unit_test(test_values),	cmocka_unit_test(test_networks),
		cmocka_unit_test(test_verdicts),      cmocka_unit_test(test_protocols), cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests_name("capture_filter", tests, NULL, teardown);
}
