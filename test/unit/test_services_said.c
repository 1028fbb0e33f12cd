// SPDX-License-Identifier: GPL-2.0-or-later
/* The live model: what checks and operators say of backends, and who gets connections then. */
#include "services_fx.h"

#include <errno.h>
#include <stdio.h>

static void verdict_takes_rise_and_fall(void **state)
{
	struct backend *b;

	(void)state;
	begin(HEALTH(""));
	b = backend("web", "198.18.0.2:80");
	assert_int_equal(b->state, BACKEND_UNKNOWN);
	(void)apply();
	WEIGHTS(1, 1);
	check(b, true);
	assert_int_equal(b->state, BACKEND_UP);
	assert_int_equal(services_check_delay(b), 2000);
	check(b, false);
	/* Two more that fail, within one interval. */
	assert_int_equal(services_check_delay(b), 2000 / 3);
	check(b, false);
	assert_int_equal(b->state, BACKEND_UP);
	check(b, false);
	assert_int_equal(b->state, BACKEND_DOWN);
	assert_string_equal(told.last, "198.18.0.2:80 up->down 3 checks failed: refused");
	assert_int_equal(services_check_delay(b), 2000);
	(void)apply();
	WEIGHTS(0, 1);
	assert_true(fake.services[1].backends[0].flags & LB_BACKEND_DOWN);
	check(b, true);
	check(b, false);
	check(b, true);
	assert_int_equal(b->state, BACKEND_DOWN);
	check(b, true);
	assert_int_equal(b->state, BACKEND_UP);
	(void)apply();
	WEIGHTS(1, 1);
	assert_false(fake.services[1].backends[0].flags & LB_BACKEND_DOWN);
	end();
}

static void first_check_decides(void **state)
{
	struct backend *b;

	(void)state;
	begin(HEALTH(""));
	b = backend("web", "198.18.0.2:80");
	check(b, false);
	assert_int_equal(b->state, BACKEND_DOWN);
	end();
}

static void all_down(const char *text, enum service_state state, uint32_t weight)
{
	begin(text);
	check(backend("web", "198.18.0.2:80"), false);
	check(backend("web", "198.18.0.3:80"), false);
	(void)apply();
	WEIGHTS(weight, weight);
	assert_int_equal(service_state(services_find(model, "web")), state);
	check(backend("web", "198.18.0.3:80"), true);
	check(backend("web", "198.18.0.3:80"), true);
	(void)apply();
	WEIGHTS(0, 1);
	assert_int_equal(service_state(services_find(model, "web")), SERVICE_DEGRADED);
	end();
}

static void all_down_is_refused(void **state)
{
	(void)state;
	all_down(HEALTH(""), SERVICE_DOWN, 0);
}

static void all_down_panics(void **state)
{
	(void)state;
	all_down(HEALTH("    panic: true\n"), SERVICE_PANIC, 1);
}

/* Whoever is drained stays out of it. */
static void panic_spares_the_drained(void **state)
{
	(void)state;
	begin(HEALTH("    panic: true\n"));
	services_drain(model, backend("web", "198.18.0.2:80"), true, now_ms);
	check(backend("web", "198.18.0.3:80"), false);
	(void)apply();
	WEIGHTS(0, 1);
	end();
}

static void drain_and_weight_survive_a_reload(void **state)
{
	struct backend *b;

	(void)state;
	begin(TWO);
	services_drain(model, backend("web", "198.18.0.2:80"), true, now_ms);
	services_set_weight(model, backend("web", "198.18.0.3:80"), 7, now_ms);
	(void)apply();
	WEIGHTS(0, 7);
	assert_true(fake.services[1].backends[0].flags & LB_BACKEND_DRAINING);
	reload(TWO "      - 198.18.0.4:80\n", NULL);
	(void)apply();
	WEIGHTS(0, 7, 1);
	/* The lines of both have changed. */
	reload("services:\n"
	       "  - name: web\n"
	       "    listen: 198.18.0.5:80\n"
	       "    backends: [ { address: 198.18.0.2:80, weight: 3 }, 198.18.0.3:80 ]\n",
	       NULL);
	(void)apply();
	WEIGHTS(3, 1);
	b = backend("web", "198.18.0.2:80");
	assert_int_equal(b->state, BACKEND_UP);
	services_set_weight(model, b, 0, now_ms);
	assert_int_equal(b->state, BACKEND_DISABLED);
	services_set_weight(model, b, 3, now_ms);
	assert_false(b->weight_said);
	assert_int_equal(b->state, BACKEND_UP);
	end();
}

static void slow_start_ramps(void **state)
{
	struct backend *b;

	(void)state;
	begin(HEALTH("    slow-start: 9s\n"));
	b = backend("web", "198.18.0.2:80");
	check(b, true);
	check(b, false);
	check(b, false);
	check(b, false);
	now_ms = 10000;
	check(b, true);
	check(b, true);
	(void)apply();
	WEIGHTS(1, 10);
	assert_int_equal(backend_effective_tenths(b, now_ms), 1);
	for (uint32_t step = 2; step <= 9; step++) {
		now_ms += 1000;
		services_tick(model, now_ms);
		(void)apply();
		WEIGHTS(step, 10);
	}
	now_ms += 1000;
	services_tick(model, now_ms);
	(void)apply();
	WEIGHTS(1, 1);
	end();
}

static void what_was_said_is_kept(void **state)
{
	const char *path = "services-test.json";
	struct err err = {};

	(void)state;
	begin(HEALTH(""));
	check(backend("web", "198.18.0.2:80"), false);
	services_drain(model, backend("web", "198.18.0.3:80"), true, now_ms);
	services_set_weight(model, backend("web", "198.18.0.3:80"), 9, now_ms);
	assert_int_equal(services_save(model, path, &err), 0);
	end();

	memset(&told, 0, sizeof(told));
	assert_int_equal(services_new(&fake, &host, &model, &err), 0);
	assert_int_equal(services_load(model, path, true, &err), 0);
	reload(HEALTH(""), NULL);
	assert_int_equal(backend("web", "198.18.0.2:80")->state, BACKEND_DOWN);
	assert_int_equal(backend("web", "198.18.0.3:80")->state, BACKEND_DRAINING);
	assert_int_equal(backend_weight(backend("web", "198.18.0.3:80")), 9);
	end();

	/* After a boot nobody knows who is down. */
	assert_int_equal(services_new(&fake, &host, &model, &err), 0);
	assert_int_equal(services_load(model, path, false, &err), 0);
	reload(HEALTH(""), NULL);
	assert_int_equal(backend("web", "198.18.0.2:80")->state, BACKEND_UNKNOWN);
	assert_int_equal(backend("web", "198.18.0.3:80")->state, BACKEND_DRAINING);
	end();
	(void)unlink(path);
}

static void what_is_not_ours_is_not_loaded(void **state)
{
	const char *path = "services-bad.json";
	FILE *f = fopen(path, "we");
	struct err err = {};

	(void)state;
	assert_non_null(f);
	(void)fputs("{\"version\": 99}", f);
	(void)fclose(f);
	assert_int_equal(services_new(&fake, &host, &model, &err), 0);
	assert_int_equal(services_load(model, path, true, &err), -EPROTO);
	assert_int_equal(services_load(model, "no-such-file.json", true, &err), 0);
	end();
	(void)unlink(path);
}

static void health_that_changes_is_checked_anew(void **state)
{
	struct backend *b;

	(void)state;
	begin(HEALTH(""));
	b = backend("web", "198.18.0.2:80");
	check(b, false);
	assert_int_equal(b->state, BACKEND_DOWN);
	reload(HEALTH(""), NULL);
	assert_int_equal(told.rechecked, 0);
	assert_int_equal(b->state, BACKEND_DOWN);
	reload("services:\n"
	       "  - { name: web, listen: 198.18.0.5:80, backends: [ 198.18.0.2:80, 198.18.0.3:80 ] }\n",
	       NULL);
	assert_int_equal(told.rechecked, 2);
	assert_int_equal(b->state, BACKEND_UP);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(verdict_takes_rise_and_fall, clear),
		cmocka_unit_test_setup(first_check_decides, clear),
		cmocka_unit_test_setup(all_down_is_refused, clear),
		cmocka_unit_test_setup(all_down_panics, clear),
		cmocka_unit_test_setup(panic_spares_the_drained, clear),
		cmocka_unit_test_setup(drain_and_weight_survive_a_reload, clear),
		cmocka_unit_test_setup(slow_start_ramps, clear),
		cmocka_unit_test_setup(what_was_said_is_kept, clear),
		cmocka_unit_test_setup(what_is_not_ours_is_not_loaded, clear),
		cmocka_unit_test_setup(health_that_changes_is_checked_anew, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
