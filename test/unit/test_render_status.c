// SPDX-License-Identifier: GPL-2.0-or-later
/* What the commands of the balancing daemon show on a terminal. */
#include "ctl/render.h"

#include "unit.h"

static char shown[4096];

static int show(int (*render)(json_t *, FILE *, struct err *), const char *text)
{
	json_t *root = json_loads(text, 0, NULL);
	FILE *f = fmemopen(shown, sizeof(shown), "w");
	struct err err = {};
	int r;

	assert_non_null(root);
	assert_non_null(f);
	memset(shown, 0, sizeof(shown));
	r = render(root, f, &err);
	(void)fclose(f);
	json_decref(root);
	return r;
}

#define HEAD                                                                                                 \
	"\"version\":\"1\",\"pid\":7,\"uptime_s\":3720,\"state\":\"running\",\"class\":\"off\",\"sockets\":" \
	"{\"joined\":0,\"watched\":0}"
#define COUNTS "\"connections\":2,\"picks\":30,\"failures\":1,\"picks_per_second\":1.25"
#define RATES                                                                                              \
	"\"rates\":{\"picks_per_second\":3.75,\"failures_per_second\":0.0,\"in_bytes_per_second\":2048.0," \
	"\"out_bytes_per_second\":0.0,\"joined_per_second\":0.2}"

static void status_is_a_table(void **state)
{
	(void)state;
	assert_int_equal(
		show(ctl_render_status,
		     "{" HEAD
		     ",\"config\":{\"path\":\"/a.yaml\",\"error\":\"2 errors\"},\"hooks\":[{\"name\":\"connect\","
		     "\"on\":true}],\"balancing\":{" RATES
		     "},\"services\":[{\"name\":\"web\",\"listen\":\"1.2.3.4:80\",\"protocol\":\"tcp\","
		     "\"scheduler\":\"random\",\"state\":\"degraded\",\"picks_per_second\":3.75,\"error\":\"no room\",\"backends\":["
		     "{\"address\":\"a:1\",\"name\":\"n\",\"state\":\"up\",\"weight\":2,\"effective_weight\":0.4," COUNTS
		     ",\"check\":{\"last\":\"x\",\"ok\":true,\"error\":null,\"latency_ms\":1.25}},"
		     "{\"address\":\"b:1\",\"name\":null,\"state\":\"down\",\"weight\":1,\"effective_weight\":0.0," COUNTS
		     ",\"check\":{\"last\":\"x\",\"ok\":false,\"error\":\"refused\\u001b\",\"latency_ms\":1.0}},"
		     "{\"address\":\"c:1\",\"name\":null,\"state\":\"unknown\",\"weight\":1,\"effective_weight\":1.0," COUNTS
		     ",\"check\":{\"last\":null,\"ok\":false,\"error\":null,\"latency_ms\":null}}]}]}"),
		0);
	assert_string_equal(
		shown,
		"waggle 1 (pid 7) is running, for 1h 2m, by /a.yaml\n"
		"the last reload failed: 2 errors\n"
		"hooks: connect on\n"
		"a second: 3.8 picks, 0.0 failed; 2.0K bytes from clients, 0 to clients; 0.2 sockets joined\n"
		"SERVICE  LISTEN          SCHEDULER  STATE     PICKS/S  BACKEND  STATE      WEIGHT  CONNS  PICKS/S  PICKS  "
		"FAILED  CHECK\n"
		"web      tcp 1.2.3.4:80  random     degraded      3.8  a:1 (n)  up       0.4 of 2      2      1.2     30  "
		"     1  1.2 ms\n"
		"                                                       b:1      down            1      2      1.2     30  "
		"     1  refused?\n"
		"                                                       c:1      unknown         1      2      1.2     30  "
		"     1  not yet\n"
		"web: no room\n");
}

static void status_of_the_accelerator_alone(void **state)
{
	(void)state;
	assert_int_equal(show(ctl_render_status,
			      "{\"version\":\"1\",\"pid\":7,\"uptime_s\":5,\"state\":\"leaving\",\"class\":\"full\",\"sockets\":"
			      "{\"joined\":1,\"watched\":3}}"),
			 0);
	assert_string_equal(shown,
			    "waggle 1 (pid 7) is leaving, for 5s\naccelerator: full: 1 socket joined, 3 on TCP\n");
	assert_true(show(ctl_render_status, "{\"version\":\"1\"}") < 0);
	assert_true(show(ctl_render_status, "{" HEAD ",\"services\":[{\"name\":\"web\"}]}") < 0);
}

static void reload_says_what_has_changed(void **state)
{
	(void)state;
	assert_int_equal(show(ctl_render_reload,
			      "{\"services\":{\"added\":1,\"removed\":2,\"changed\":3},\"backends\":{\"added\":4,"
			      "\"removed\":5},\"warnings\":[\"later\"]}"),
			 0);
	assert_string_equal(shown, "services: 1 added, 2 removed, 3 changed; backends: 4 added, 5 removed\nlater\n");
	assert_int_equal(show(ctl_render_reload, "{\"services\":{\"added\":0,\"removed\":0,\"changed\":0},\"backends\":"
						 "{\"added\":0,\"removed\":0},\"warnings\":[]}"),
			 0);
	assert_string_equal(shown, "nothing has changed\n");
	assert_true(show(ctl_render_reload, "{}") < 0);
}

static void events_of_backends(void **state)
{
	(void)state;
	assert_int_equal(show(ctl_render_event,
			      "{\"event\":\"backend\",\"time\":\"x\",\"service\":\"web\",\"backend\":\"a:1\",\"state\":\"down\","
			      "\"was\":\"up\",\"text\":\"3 checks failed\"}"),
			 0);
	assert_string_equal(shown, "x  backend      web a:1 is down, was up: 3 checks failed\n");
	assert_int_equal(show(ctl_render_event,
			      "{\"event\":\"picked\",\"time\":\"x\",\"service\":\"web\",\"backend\":\"a:1\",\"pid\":7,"
			      "\"process\":\"curl\",\"client\":null,\"protocol\":\"tcp\"}"),
			 0);
	assert_string_equal(shown, "x  picked       tcp web -> a:1  for curl(7)\n");
	assert_int_equal(show(ctl_render_event,
			      "{\"event\":\"refused\",\"time\":\"x\",\"service\":null,\"backend\":null,\"pid\":null,"
			      "\"process\":null,\"client\":\"b:2\",\"protocol\":\"tcp\"}"),
			 0);
	assert_string_equal(shown, "x  refused      tcp ?  from b:2\n");
	assert_true(show(ctl_render_event, "{\"event\":\"backend\"}") < 0);
	assert_true(show(ctl_render_event, "{\"event\":\"picked\"}") < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_is_a_table),
		cmocka_unit_test(status_of_the_accelerator_alone),
		cmocka_unit_test(reload_says_what_has_changed),
		cmocka_unit_test(events_of_backends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
