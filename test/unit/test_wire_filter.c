// SPDX-License-Identifier: GPL-2.0-or-later
/* Which events pass which filters. */
#include "model/wire_filter.h"

#include <errno.h>

#include "unit.h"

#define PICKED                                                                                                    \
	"{\"event\":\"picked\",\"service\":\"web\",\"backend\":\"198.18.0.2:80\",\"pid\":7,\"process\":\"curl\"," \
	"\"client\":null}"
#define CLOSED \
	"{\"event\":\"closed\",\"local\":\"[2001:2::1]:40000\",\"remote\":\"[2001:2::2]:80\",\"program\":\"nginx\"}"

/* Up to four filters, each a kind and a value. */
struct row {
	const char *filters[8];
	const char *event;
	bool wants;
};

static const struct row rows[] = {
	{ { NULL }, PICKED, true },
	{ { NULL }, CLOSED, true },
	{ { "event", "picked" }, PICKED, true },
	{ { "event", "picked" }, CLOSED, false },
	{ { "event", "picked", "event", "closed" }, CLOSED, true },
	{ { "service", "web" }, PICKED, true },
	{ { "service", "we" }, PICKED, false },
	{ { "service", "web" }, CLOSED, false },
	{ { "service", "api", "service", "web" }, PICKED, true },
	{ { "address", "198.18.0.2" }, PICKED, true },
	{ { "address", "198.18.0.2:80" }, PICKED, true },
	{ { "address", "198.18.0.2:81" }, PICKED, false },
	{ { "address", "198.18.0.20" }, PICKED, false },
	{ { "address", "198.18.0.0/15" }, PICKED, true },
	{ { "address", "198.18.0.0/31" }, PICKED, false },
	{ { "address", "198.18.0.2/31" }, PICKED, true },
	{ { "address", "2001:2::2" }, CLOSED, true },
	{ { "address", "2001:02:0::2" }, CLOSED, true },
	{ { "address", "[2001:2::1]:40000" }, CLOSED, true },
	{ { "address", "[2001:2::1]:80" }, CLOSED, false },
	{ { "address", "2001:2::/64" }, CLOSED, true },
	{ { "address", "198.18.0.0/15" }, CLOSED, false },
	{ { "process", "curl" }, PICKED, true },
	{ { "process", "7" }, PICKED, true },
	{ { "process", "8" }, PICKED, false },
	{ { "process", "nginx" }, CLOSED, true },
	{ { "process", "7" }, CLOSED, false },
	{ { "service", "web", "process", "curl", "event", "picked", "address", "198.18.0.2" }, PICKED, true },
	{ { "service", "web", "process", "wget" }, PICKED, false },
};

static void events_pass_or_not(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(wire_filter_done) struct wire_filter f = {};
		json_t *event = json_loads(rows[i].event, 0, NULL);
		struct err err = {};

		assert_non_null(event);
		for (size_t k = 0; k < 8 && rows[i].filters[k]; k += 2)
			assert_int_equal(wire_filter_add(&f, rows[i].filters[k], rows[i].filters[k + 1], &err), 0);
		if (wire_filter_wants(&f, event) != rows[i].wants)
			fail_msg("row %zu: %s %s: is %swanted", i, rows[i].filters[0], rows[i].filters[1],
				 rows[i].wants ? "not " : "");
		json_decref(event);
	}
}

static void what_is_none_is_refused(void **state)
{
	static const char *const bad[][2] = {
		{ "color", "red" },
		{ "event", "nothing" },
		{ "event", "" },
		{ "event", "unknown" },
		{ "address", "" },
		{ "address", "198.18.0.256" },
		{ "address", "name:80" },
		{ "address", "198.18.0.1/8" },
		{ "address", "198.18.0.1:0" },
	};
	_cleanup_(wire_filter_done) struct wire_filter f = {};
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.text[0] = '\0';
		assert_int_equal(wire_filter_add(&f, bad[i][0], bad[i][1], &err), -EINVAL);
		assert_true(strlen(err.text) > 10);
	}
	for (size_t i = 0; i < WIRE_FILTER_MAX; i++)
		assert_int_equal(wire_filter_add(&f, "service", "web", &err), 0);
	assert_int_equal(wire_filter_add(&f, "service", "web", &err), -EINVAL);
	assert_int_equal(wire_filter_add(&f, "event", "backend", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_pass_or_not),
		cmocka_unit_test(what_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
