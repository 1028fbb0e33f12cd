// SPDX-License-Identifier: GPL-2.0-or-later
/* What becomes of a daemon's words about packets: the bytes of the file, the line on the terminal. */
#include "ctl/capture.h"

#include <errno.h>

#include "unit.h"

#define MOMENT "2026-11-21T07:50:12.123456789Z"
#define SIDE(interface, data) \
	"{\"time\":\"" MOMENT "\",\"interface\":\"" interface "\",\"length\":60,\"data\":\"" data "\"}"
#define PACKET(hook, in, out)                                                                             \
	"{\"event\":\"packet\",\"hook\":\"" hook                                                          \
	"\",\"protocol\":\"tcp\",\"flags\":\"S\",\"source\":\"198.18.0.4:40000\","                        \
	"\"destination\":\"198.18.0.5:80\",\"service\":\"web\",\"backend\":null,\"verdict\":\"dropped\"," \
	"\"reason\":\"no-backend\",\"returned\":2,\"in\":" in ",\"out\":" out "}"

static char *text;
static size_t n;

static int give(struct ctl_capture *c, const char *line, struct err *err)
{
	json_t *event = json_loads(line, 0, NULL);
	int r;

	assert_non_null(event);
	r = ctl_capture_event(c, event, err);
	json_decref(event);
	return r;
}

static uint32_t u32_at(size_t at)
{
	uint32_t v;

	assert_true(at + sizeof(v) <= n);
	memcpy(&v, text + at, sizeof(v));
	return v;
}

/* Three bytes as an enhanced packet block of 92 bytes: option after option as the format has them. */
static void test_block(void **state)
{
	static const uint64_t ns = 1795247412123456789ULL;
	struct ctl_capture c = { .n_packets = 7 };
	struct err err = {};
	FILE *f = open_memstream(&text, &n);
	size_t at, section, comment;

	assert_int_equal(pcapng_begin(&c.pcapng, f, 256), 0);
	assert_int_equal(fflush(f), 0);
	section = n;
	assert_int_equal(u32_at(0), 0x0a0d0d0a);
	assert_int_equal(u32_at(4), section);
	assert_int_equal(u32_at(8), 0x1a2b3c4d);
	assert_int_equal(give(&c, PACKET("xdp", SIDE("eth0", "0200aa"), "null"), &err), 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(c.n_packets, 8);
	/* Its interface first. */
	assert_int_equal(u32_at(section), 1);
	assert_int_equal(u32_at(section + 8), 1);
	assert_int_equal(u32_at(section + 12), 256);
	assert_memory_equal(text + section + 20, "eth0", 4);
	assert_memory_equal(text + section + 28, "in, XDP", 8);
	at = section + u32_at(section + 4);
	assert_int_equal(u32_at(at), 6);
	assert_int_equal(u32_at(at + 8), 0);
	assert_int_equal((uint64_t)u32_at(at + 12) << 32 | u32_at(at + 16), ns);
	assert_int_equal(u32_at(at + 20), 3);
	assert_int_equal(u32_at(at + 24), 60);
	assert_memory_equal(text + at + 28, "\x02\x00\xaa\x00", 4);
	comment = strlen("service=web backend=- verdict=dropped reason=no-backend");
	assert_int_equal(u32_at(at + 32), 1 | comment << 16);
	assert_memory_equal(text + at + 36, "service=web backend=- verdict=dropped reason=no-backend", comment);
	at += 36 + (comment + 3) / 4 * 4;
	assert_int_equal(u32_at(at), 2 | 4 << 16);
	assert_int_equal(u32_at(at + 4), 1);
	assert_int_equal(u32_at(at + 8), 5 | 8 << 16);
	assert_int_equal(u32_at(at + 12), 7);
	assert_int_equal(u32_at(at + 20), 7 | 9 << 16);
	assert_memory_equal(text + at + 24, "\x02\x02\0\0\0\0\0\0\0\0\0\0", 12);
	assert_int_equal(u32_at(at + 36), 0);
	assert_int_equal(n, at + 44);
	pcapng_done(&c.pcapng);
	free(text);
}

/* Four interfaces, each described once. */
static void test_interfaces(void **state)
{
	struct ctl_capture c = {};
	struct err err = {};
	FILE *f = open_memstream(&text, &n);

	assert_int_equal(pcapng_begin(&c.pcapng, f, 256), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(give(&c, PACKET("xdp", SIDE("eth0", "00"), SIDE("eth0", "00")), &err), 0);
		assert_int_equal(give(&c, PACKET("tc", SIDE("eth0", "00"), SIDE("eth1", "00")), &err), 0);
	}
	assert_int_equal(c.pcapng.n_interfaces, 4);
	pcapng_end(&c.pcapng, 1, 0x0102030405060708);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(u32_at(n - 40), 5);
	assert_int_equal(u32_at(n - 16), 0x05060708);
	assert_int_equal(u32_at(n - 12), 0x01020304);
	pcapng_done(&c.pcapng);
	free(text);
}

static void test_line(void **state)
{
	struct ctl_capture c = {};
	struct err err = {};

	assert_int_equal(setenv("TZ", "UTC", 1), 0);
	c.out = open_memstream(&text, &n);
	assert_int_equal(give(&c, PACKET("xdp", SIDE("eth0", "00"), "null"), &err), 0);
	assert_int_equal(give(&c, PACKET("tc", SIDE("eth0", "00"), SIDE("e\\u001b[1m", "00")), &err), 0);
	assert_int_equal(fclose(c.out), 0);
	assert_string_equal(text,
			    "07:50:12.123456789 eth0 tcp 198.18.0.4:40000 > 198.18.0.5:80 [S] 60 bytes: dropped "
			    "(no-backend) web\n"
			    "07:50:12.123456789 eth0 > e?[1m tcp 198.18.0.4:40000 > 198.18.0.5:80 [S] 60 bytes: dropped "
			    "(no-backend) web\n");
	free(text);
}

static void test_counts(void **state)
{
	struct ctl_capture c = {};
	struct err err = {};

	assert_int_equal(give(&c, "{\"event\":\"lost\",\"count\":3}", &err), 0);
	assert_int_equal(give(&c, "{\"event\":\"lost\",\"count\":4}", &err), 0);
	assert_int_equal(c.n_lost, 7);
	assert_false(c.has_ended);
	assert_int_equal(give(&c, "{\"event\":\"end\",\"why\":\"count\",\"packets\":1,\"lost\":9}", &err), 0);
	assert_int_equal(c.n_lost, 9);
	assert_true(c.has_ended);
}

static void test_other_versions(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"event\":\"news\"}",
		"{\"event\":\"packet\"}",
		PACKET("xdp", SIDE("eth0", "0"), "null"),
		PACKET("xdp", SIDE("eth0", "0x"), "null"),
		PACKET("xdp", "{\"time\":\"yesterday\",\"interface\":\"eth0\",\"length\":60,\"data\":\"00\"}", "null"),
		PACKET("xdp", "null", "null"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct ctl_capture c = {};
		struct err err = {};
		FILE *f = tmpfile();

		assert_int_equal(pcapng_begin(&c.pcapng, f, 256), 0);
		if (give(&c, bad[i], &err) != -EPROTO || !err.text[0])
			fail_msg("taken: %s", bad[i]);
		pcapng_done(&c.pcapng);
		(void)fclose(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block),  cmocka_unit_test(test_interfaces),     cmocka_unit_test(test_line),
		cmocka_unit_test(test_counts), cmocka_unit_test(test_other_versions),
	};

	return cmocka_run_group_tests_name("capture", tests, NULL, NULL);
}
