// SPDX-License-Identifier: GPL-2.0-or-later
/* What the commands show on a terminal of what a daemon says. */
#include "ctl/render.h"

#include "unit.h"

#define END(role, mode)                                                                                      \
	"{\"role\":\"" role "\",\"local\":\"127.0.0.1:1\",\"remote\":\"127.0.0.1:2\",\"mode\":\"" mode "\"," \
	"\"cgroup\":\"/a\",\"pid\":7,\"process\":\"nc\",\"joined_bytes\":0,\"tcp_bytes\":2048,\"queued_bytes\":0}"

static char shown[4096];

static int show(int (*render)(json_t *, FILE *, struct err *), const char *text, struct err *err)
{
	json_error_t je;
	json_t *root = json_loads(text, 0, &je);
	FILE *f = fmemopen(shown, sizeof(shown), "w");
	int r;

	assert_non_null(root);
	assert_non_null(f);
	memset(shown, 0, sizeof(shown));
	r = render(root, f, err);
	(void)fclose(f);
	json_decref(root);
	return r;
}

/* A program names itself, and may do so in the language of terminals. */
static void test_event_is_one_clean_line(void **state)
{
	struct err err = {};

	assert_int_equal(
		show(ctl_render_event,
		     "{\"event\":\"learned\",\"time\":\"x\",\"name\":\"a\\u001b[2J\\nb\\u007f\",\"state\":\"trusted\"}",
		     &err),
		0);
	assert_string_equal(shown, "x  learned      a?[2J?b? is trusted\n");
	assert_int_equal(
		show(ctl_render_event,
		     "{\"event\":\"closed\\u0007\",\"time\":\"\\u001b\",\"role\":\"client\",\"local\":\"a\\r\","
		     "\"remote\":\"b\\n\",\"reason\":\"r\\t\",\"text\":\"\\u0001\",\"joined_bytes\":0,\"tcp_bytes\":0}",
		     &err),
		0);
	assert_string_equal(shown, "?  closed?      client a? -> b?  r?: ?\n");
}

static void test_event_of_another_kind(void **state)
{
	struct err err = {};

	assert_true(show(ctl_render_event, "{\"event\":7}", &err) < 0);
	assert_non_null(strstr(err.text, "same version"));
	assert_string_equal(shown, "");
	assert_int_equal(show(ctl_render_event, "{\"event\":\"lost\",\"count\":3}", &err), 0);
	assert_non_null(strstr(shown, "3 events"));
}

/* Of a pair that is not joined too it is known what TCP has sent. */
static void test_sockets(void **state)
{
	struct err err = {};

	assert_int_equal(show(ctl_render_sockets,
			      "{\"summary\":{\"pairs\":1,\"joined\":0,\"singles\":0},\"pairs\":[{\"reason\":\"brief\",\"text\":\"t\","
			      "\"client\":" END("client", "tcp") ",\"server\":" END("server",
										    "tcp") "}],\"singles\":[]}",
			      &err),
			 0);
	assert_non_null(strstr(shown, "nc(7)         0  2.0K"));
	assert_non_null(strstr(shown, "brief: t\n"));
	assert_non_null(strstr(shown, "1 pair: 0 joined, 1 on TCP\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_event_is_one_clean_line),
		cmocka_unit_test(test_event_of_another_kind),
		cmocka_unit_test(test_sockets),
	};

	return cmocka_run_group_tests_name("render", tests, NULL, NULL);
}
