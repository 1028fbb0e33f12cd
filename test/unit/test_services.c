// SPDX-License-Identifier: GPL-2.0-or-later
/* The live model follows the configuration, names and interfaces; the table notes what it is told. */
#include "services_fx.h"

#include <errno.h>
#include <arpa/inet.h>

static void applies_only_what_changed(void **state)
{
	struct services_diff diff;

	(void)state;
	begin(TWO);
	assert_int_equal(apply(), 1);
	WEIGHTS(1, 2);
	assert_int_equal(fake.services[1].vip.port, htons(80));
	assert_true(fake.services[1].plan.flags & LB_PLAN_CONNECT);
	assert_int_equal(apply(), 0);
	reload(TWO, &diff);
	assert_int_equal(apply(), 0);
	assert_int_equal(fake.applied, 1);
	assert_int_equal(diff.backends_added + diff.backends_removed + diff.services_added, 0);
	reload(TWO "      - 198.18.0.4:80\n", &diff);
	assert_int_equal(diff.backends_added, 1);
	assert_int_equal(apply(), 1);
	WEIGHTS(1, 2, 1);
	reload(TWO "  - { name: dns, listen: 198.18.0.5:53, protocol: udp, backends: [ 198.18.0.2:53 ] }\n", &diff);
	assert_int_equal(diff.services_added, 1);
	assert_int_equal(diff.backends_removed, 1);
	assert_int_equal(apply(), 2);
	assert_int_equal(told.added, 4);
	assert_int_equal(told.removed, 1);
	end();
}

static void addresses_change_hands(void **state)
{
	struct services_diff diff;

	(void)state;
	begin("services:\n"
	      "  - { name: a, listen: 198.18.0.5:80, backends: [ 198.18.0.2:80 ] }\n"
	      "  - { name: b, listen: 198.18.0.6:80, backends: [ 198.18.0.3:80 ] }\n");
	assert_int_equal(apply(), 2);
	reload("services:\n"
	       "  - { name: a, listen: 198.18.0.6:80, backends: [ 198.18.0.2:80 ] }\n"
	       "  - { name: c, listen: 198.18.0.5:80, backends: [ 198.18.0.3:80 ] }\n",
	       &diff);
	assert_int_equal(diff.services_added, 1);
	assert_int_equal(diff.services_removed, 1);
	assert_int_equal(apply(), 2);
	assert_int_equal(fake.removed, 0);
	assert_string_equal(services_service_of(model, 1)->name, "c");
	assert_string_equal(services_service_of(model, 2)->name, "a");
	reload("services: []\n", &diff);
	assert_int_equal(apply(), 0);
	assert_int_equal(fake.removed, 2);
	end();
}

static void takes_over_what_is_there(void **state)
{
	(void)state;
	begin(TWO "  - { name: old, listen: 198.18.0.9:80, backends: [ 198.18.0.2:80 ] }\n");
	assert_int_equal(apply(), 2);
	end();
	begin(TWO);
	assert_int_equal(apply(), 1);
	assert_int_equal(fake.removed, 1);
	assert_int_equal(services_service_of(model, 1), services_find(model, "web"));
	assert_ptr_equal(services_backend_of(model, 1), backend("web", "198.18.0.2:80"));
	end();
}

static struct lb_addr addr(const char *text)
{
	struct lb_addr a;
	struct err err;

	assert_int_equal(addr_parse(text, &a, &err), 0);
	return a;
}

#define NAMED                         \
	"services:\n"                 \
	"  - name: web\n"             \
	"    listen: 198.18.0.5:80\n" \
	"    backends: [ { address: \"web.test:80\", weight: 2 } ]\n"

static int count_name(const char *name, unsigned int interval_ms, bool known, void *data)
{
	assert_string_equal(name, "web.test");
	assert_int_equal(interval_ms, 30000);
	*(int *)data += known ? 10 : 1;
	return 0;
}

static void names_become_backends(void **state)
{
	struct lb_addr v[2] = { addr("198.18.0.2"), addr("2001:2::3") };
	struct backend *b = NULL;
	struct err err;
	int names = 0;

	(void)state;
	begin(NAMED);
	(void)apply();
	assert_int_equal(fake.services[1].n, 0);
	(void)services_each_name(model, count_name, &names);
	assert_int_equal(names, 1);
	assert_int_equal(services_set_name(model, "web.test", v, 2, now_ms), 0);
	(void)apply();
	WEIGHTS(2, 2);
	assert_string_equal(backend("web", "198.18.0.2:80")->name, "web.test");
	assert_string_equal(backend("web", "[2001:2::3]:80")->name, "web.test");
	assert_int_equal(service_find_backend(services_find(model, "web"), "web.test:80", &b, &err), -EINVAL);
	assert_int_equal(services_set_name(model, "web.test", v + 1, 1, now_ms), 0);
	(void)apply();
	WEIGHTS(2);
	assert_ptr_equal(backend("web", "web.test:80"), backend("web", "[2001:2::3]:80"));
	/* A configuration that does not have it, and back: the answer is still known. */
	reload(TWO, NULL);
	reload(NAMED, NULL);
	(void)apply();
	WEIGHTS(2);
	end();
}

static void interfaces_have_addresses(void **state)
{
	struct lb_addr v[2] = { addr("198.18.0.5"), addr("198.18.0.6") };

	(void)state;
	begin("services:\n"
	      "  - { name: web, listen: \"lan0:80\", backends: [ 198.18.0.2:80 ] }\n"
	      "  - { name: api, listen: 198.18.0.6:80, backends: [ 198.18.0.3:80 ] }\n");
	assert_int_equal(apply(), 1);
	assert_int_equal(service_state(services_find(model, "web")), SERVICE_DOWN);
	assert_int_equal(services_set_interface(model, "lan0", v, 1, now_ms), 0);
	assert_int_equal(apply(), 1);
	assert_int_equal(service_state(services_find(model, "web")), SERVICE_UP);
	/* The second one is taken. */
	assert_int_equal(services_set_interface(model, "lan0", v, 2, now_ms), 0);
	assert_int_equal(apply(), 0);
	assert_string_equal(services_find(model, "web")->problem,
			    "the service 'api' has the address 198.18.0.6:80 already");
	assert_int_equal(services_set_interface(model, "lan0", NULL, 0, now_ms), 0);
	(void)apply();
	assert_int_equal(fake.removed, 1);
	end();
}

static void counts_are_of_all_addresses(void **state)
{
	struct lb_addr v[2] = { addr("198.18.0.5"), addr("198.18.0.6") };
	struct lb_counts counts;

	(void)state;
	begin("services:\n"
	      "  - { name: web, listen: \"lan0:80\", backends: [ 198.18.0.2:80 ] }\n");
	assert_int_equal(services_set_interface(model, "lan0", v, 2, now_ms), 0);
	assert_int_equal(apply(), 2);
	backend_counts(backend("web", "198.18.0.2:80"), &counts);
	assert_int_equal(counts.conns, 2);
	assert_int_equal(counts.picks, 30);
	end();
}

static void full_table_is_told_and_tried_again(void **state)
{
	(void)state;
	begin(TWO);
	(void)apply();
	fake.full = true;
	reload(TWO "      - 198.18.0.4:80\n", NULL);
	assert_int_equal(apply(), -ENOSPC);
	assert_string_equal(services_find(model, "web")->problem, "the table is full");
	assert_int_equal(service_state(services_find(model, "web")), SERVICE_DEGRADED);
	fake.full = false;
	services_tick(model, now_ms + 1000);
	assert_int_equal(apply(), 1);
	assert_string_equal(services_find(model, "web")->problem, "");
	end();
}

static void finding_backends_says_what_is_wrong(void **state)
{
	struct backend *b = NULL;
	struct service *sv;
	struct err err;

	(void)state;
	begin(TWO);
	sv = services_find(model, "web");
	assert_null(services_find(model, "nobody"));
	assert_int_equal(service_find_backend(sv, "198.18.0.2", &b, &err), -EINVAL);
	assert_int_equal(service_find_backend(sv, "198.18.0.9:80", &b, &err), -ENOENT);
	assert_int_equal(service_find_backend(sv, "web.test:80", &b, &err), -ENOENT);
	assert_null(b);
	assert_null(services_backend_of(model, 7));
	assert_null(services_service_of(model, 70000));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(applies_only_what_changed, clear),
		cmocka_unit_test_setup(addresses_change_hands, clear),
		cmocka_unit_test_setup(takes_over_what_is_there, clear),
		cmocka_unit_test_setup(names_become_backends, clear),
		cmocka_unit_test_setup(interfaces_have_addresses, clear),
		cmocka_unit_test_setup(counts_are_of_all_addresses, clear),
		cmocka_unit_test_setup(full_table_is_told_and_tried_again, clear),
		cmocka_unit_test_setup(finding_backends_says_what_is_wrong, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
