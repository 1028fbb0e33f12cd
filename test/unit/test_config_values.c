// SPDX-License-Identifier: GPL-2.0-or-later
/* Configurations that are right: what each key becomes, what is assumed without it, and the JSON of all of it. */
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>

#include "model/addr.h"
#include "model/config.h"
#include "model/ring.h"
#include "unit.h"

static struct config *load(const char *text)
{
	struct config_errors e = {};
	struct config *c = NULL;
	struct err err = {};

	if (config_load_buffer("t", text, strlen(text), &c, &e, &err) != 0)
		fail_msg("%s: %u:%u: %s", err.text, e.n ? e.v[0].pos.line : 0, e.n ? e.v[0].pos.column : 0,
			 e.n ? e.v[0].text : "");
	assert_int_equal(e.n, 0);
	return c;
}

static void assert_addr(const struct lb_addr *a, uint16_t port, const char *want)
{
	char text[ADDR_TEXT_MAX];

	assert_string_equal(addr_format(a, port, text), want);
}

static void assert_cidr(const struct config_cidr *c, const char *want)
{
	char text[ADDR_TEXT_MAX];

	assert_string_equal(addr_format_cidr(&c->addr, c->prefix, text), want);
}

static void test_empty(void **state)
{
	struct config *c = load("");

	assert_int_equal(c->n_services, 0);
	assert_true(c->connect_on);
	assert_false(c->accelerate.on);
	assert_int_equal(c->n_interfaces, 0);
	assert_int_equal(c->metrics_port, 0);
	assert_int_equal(c->files.n, 1);
	assert_string_equal(c->files.v[0], "t");
	assert_null(config_find_service(c, "web"));
	config_free(c);
	assert_null(config_free(NULL));
}

static void test_service_defaults(void **state)
{
	struct config *c =
		load("services:\n  - name: web\n    listen: 198.18.0.5:80\n    backends:\n      - 198.18.0.2:8080\n");
	const struct config_service *s = config_find_service(c, "web");

	assert_non_null(s);
	assert_string_equal(s->listen, "198.18.0.5:80");
	assert_null(s->interface);
	assert_addr(&s->addr, s->port, "198.18.0.5:80");
	assert_int_equal(s->proto, IPPROTO_TCP);
	assert_int_equal(s->scheduler, LB_ROUND_ROBIN);
	assert_int_equal(s->forward, LB_FORWARD_NAT);
	assert_int_equal(s->table_size, RING_TABLE_DEFAULT);
	assert_int_equal(s->seed, 0);
	assert_false(s->panic);
	assert_int_equal(s->passive_ms, 5000);
	assert_int_equal(s->slow_start_ms, 0);
	assert_int_equal(s->resolve_ms, 30000);
	assert_int_equal(s->max_connections, 0);
	assert_int_equal(s->syn_rate, 0);
	assert_int_equal(s->syn_cookies, CONFIG_COOKIES_OFF);
	assert_int_equal(s->tcp_idle_ms, 7200000);
	assert_int_equal(s->udp_idle_ms, 30000);
	assert_int_equal(s->health.check, CONFIG_CHECK_NONE);
	assert_int_equal(s->pos.line, 2);
	assert_int_equal(s->pos.column, 5);
	assert_int_equal(s->n_backends, 1);
	assert_false(s->backends[0].is_name);
	assert_string_equal(s->backends[0].host, "198.18.0.2");
	assert_addr(&s->backends[0].addr, s->backends[0].port, "198.18.0.2:8080");
	assert_int_equal(s->backends[0].weight, 1);
	assert_int_equal(s->backends[0].pos.line, 5);
	assert_int_equal(s->backends[0].pos.column, 9);
	assert_ptr_equal(s->backends[0].pos.file, c->files.v[0]);
	config_free(c);
}

static void test_service_values(void **state)
{
	struct config *c = load(
		"services:\n- name: dns\n  listen: '[2001:db8::5]:53'\n  protocol: udp\n  scheduler: source\n"
		"  forward: gue\n  table-size: 251\n  seed: 4294967295\n  panic: true\n  passive: 0s\n  slow-start: 1m\n"
		"  resolve: 2h\n  max-connections: 7\n  syn-rate: 8\n  tcp-idle: 720h\n  udp-idle: 1500ms\n"
		"  health: { https: '/a?b=c', host: x.org, port: 443, status: 204, body: ' ok ', verify: true, interval: 10s,"
		" timeout: 3s, jitter: 0s, rise: 4, fall: 5 }\n"
		"  backends: [ '[2001:db8::2]:53', { address: ns.example.org:53, weight: 0 } ]\n"
		"- { name: lan, listen: 'eth0:80', health: tcp, backends: [] }\n");
	const struct config_service *s = config_find_service(c, "dns"), *lan = config_find_service(c, "lan");

	assert_true(s && lan);
	assert_addr(&s->addr, s->port, "[2001:db8::5]:53");
	assert_int_equal(s->proto, IPPROTO_UDP);
	assert_int_equal(s->scheduler, LB_SOURCE);
	assert_int_equal(s->forward, LB_FORWARD_GUE);
	assert_int_equal(s->table_size, 251);
	assert_true(s->seed == UINT32_MAX);
	assert_true(s->panic);
	assert_int_equal(s->passive_ms, 0);
	assert_int_equal(s->slow_start_ms, 60000);
	assert_int_equal(s->resolve_ms, 7200000);
	assert_int_equal(s->max_connections, 7);
	assert_int_equal(s->syn_rate, 8);
	assert_true(s->tcp_idle_ms == 720U * 3600 * 1000);
	assert_int_equal(s->udp_idle_ms, 1500);
	assert_int_equal(s->health.check, CONFIG_CHECK_HTTPS);
	assert_string_equal(s->health.path, "/a?b=c");
	assert_string_equal(s->health.host, "x.org");
	assert_int_equal(s->health.port, 443);
	assert_int_equal(s->health.status_min, 204);
	assert_int_equal(s->health.status_max, 204);
	assert_string_equal(s->health.body, " ok ");
	assert_true(s->health.verify);
	assert_int_equal(s->health.interval_ms, 10000);
	assert_int_equal(s->health.timeout_ms, 3000);
	assert_int_equal(s->health.jitter_ms, 0);
	assert_int_equal(s->health.rise, 4);
	assert_int_equal(s->health.fall, 5);
	assert_int_equal(s->n_backends, 2);
	assert_true(s->backends[1].is_name);
	assert_string_equal(s->backends[1].host, "ns.example.org");
	assert_int_equal(s->backends[1].weight, 0);
	assert_string_equal(lan->interface, "eth0");
	assert_int_equal(lan->port, 80);
	assert_int_equal(lan->n_backends, 0);
	config_free(c);
}

static void test_health_defaults(void **state)
{
	static const struct {
		const char *health;
		enum config_check check;
		unsigned int interval_ms, timeout_ms, jitter_ms;
	} rows[] = {
		{ "tcp", CONFIG_CHECK_TCP, 2000, 1000, 200 },
		{ "{ tcp: true }", CONFIG_CHECK_TCP, 2000, 1000, 200 },
		{ "{ http: /, interval: 500ms }", CONFIG_CHECK_HTTP, 500, 500, 50 },
		{ "{ https: /, interval: 1m }", CONFIG_CHECK_HTTPS, 60000, 1000, 6000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[256];
		struct config *c;

		(void)snprintf(text, sizeof(text),
			       "services: [ { name: a, listen: '198.18.0.5:80', backends: [], health: %s } ]",
			       rows[i].health);
		c = load(text);
		assert_int_equal(c->services[0].health.check, rows[i].check);
		assert_int_equal(c->services[0].health.interval_ms, rows[i].interval_ms);
		assert_int_equal(c->services[0].health.timeout_ms, rows[i].timeout_ms);
		assert_int_equal(c->services[0].health.jitter_ms, rows[i].jitter_ms);
		assert_int_equal(c->services[0].health.rise, 2);
		assert_int_equal(c->services[0].health.fall, 3);
		assert_int_equal(c->services[0].health.status_min, 200);
		assert_int_equal(c->services[0].health.status_max, 399);
		assert_false(c->services[0].health.verify);
		config_free(c);
	}
}

static void test_where_services_are_served(void **state)
{
	static const struct {
		const char *text;
		bool connect_on;
	} rows[] = {
		{ "services: []", true },
		{ "accelerate: {}", true },
		{ "packet: { interfaces: [ eth0 ] }", false },
		{ "packet: { interfaces: [ eth0 ] }\nconnect: {}", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct config *c = load(rows[i].text);

		assert_int_equal(c->connect_on, rows[i].connect_on);
		config_free(c);
	}
}

static const char hooks[] =
	"packet:\n  interfaces: [ eth0, { name: eth1, hook: xdp-generic } ]\n  allow: [ 0.0.0.0/0 ]\n  deny: 198.18.0.0/15\n"
	"  source-rate: 9\n"
	"connect: { cgroups: [ //a/./b/, / ] }\n"
	"accelerate: { cgroups: /app, ports: [ 80, 8000-8100 ], exclude-ports: 8001, trust: [ /usr/sbin/nginx ], max-sockets: 1000 }\n"
	"redirect:\n- { cgroup: /app, to: '127.0.0.1:15001', proxy-cgroup: /app/proxy, fail: open, ports: 80, exclude-ports: 81,\n"
	"    cidrs: 198.18.0.0/15, exclude-cidrs: '2001:db8::/32', exclude-users: [ proxy, 33 ], dns: '127.0.0.1:15053' }\n"
	"- { cgroup: /in, to: '[::1]:15006', direction: inbound, ports: [ 80, 443 ] }\n"
	"identities: { web: { cgroups: [ /web, /www ], cidrs: 198.18.0.0/24 }, db: { cidrs: 198.18.1.1 } }\n"
	"policy:\n- { action: allow, from: [ /app, web ], to: [ db, 198.18.2.0/24 ], ports: 5432, on-change: close }\n- { action: deny }\n"
	"metrics: { listen: '0.0.0.0:9469', allow-remote: true }\n";

static void test_hooks(void **state)
{
	struct config *c = load(hooks);

	assert_int_equal(c->n_interfaces, 2);
	assert_string_equal(c->interfaces[0].name, "eth0");
	assert_int_equal(c->interfaces[0].hook, CONFIG_HOOK_AUTO);
	assert_string_equal(c->interfaces[1].name, "eth1");
	assert_int_equal(c->interfaces[1].hook, CONFIG_HOOK_XDP_GENERIC);
	assert_int_equal(c->allow.n, 1);
	assert_cidr(&c->allow.v[0], "0.0.0.0/0");
	assert_cidr(&c->deny.v[0], "198.18.0.0/15");
	assert_int_equal(c->source_rate, 9);
	assert_int_equal(c->connect_cgroups.n, 2);
	assert_string_equal(c->connect_cgroups.v[0], "/a/b");
	assert_string_equal(c->connect_cgroups.v[1], "/");
	assert_true(c->accelerate.on);
	assert_string_equal(c->accelerate.cgroups.v[0], "/app");
	assert_int_equal(c->accelerate.ports.n, 2);
	assert_int_equal(c->accelerate.ports.v[1].first, 8000);
	assert_int_equal(c->accelerate.ports.v[1].last, 8100);
	assert_int_equal(c->accelerate.exclude_ports.v[0].first, 8001);
	assert_string_equal(c->accelerate.trust.v[0], "/usr/sbin/nginx");
	assert_int_equal(c->accelerate.max_sockets, 1000);
	assert_addr(&c->metrics_addr, c->metrics_port, "0.0.0.0:9469");
	config_free(c);
}

static void test_redirect_and_policy(void **state)
{
	struct config *c = load(hooks);
	const struct config_redirect *r = c->redirects;
	const struct config_policy *p = c->policies;

	assert_int_equal(c->n_redirects, 2);
	assert_string_equal(r[0].cgroup, "/app");
	assert_addr(&r[0].addr, r[0].port, "127.0.0.1:15001");
	assert_string_equal(r[0].proxy_cgroup, "/app/proxy");
	assert_true(r[0].fail_open);
	assert_false(r[0].inbound);
	assert_int_equal(r[0].exclude_ports.v[0].last, 81);
	assert_cidr(&r[0].cidrs.v[0], "198.18.0.0/15");
	assert_cidr(&r[0].exclude_cidrs.v[0], "2001:db8::/32");
	assert_int_equal(r[0].exclude_users.n, 2);
	assert_string_equal(r[0].exclude_users.v[1], "33");
	assert_addr(&r[0].dns_addr, r[0].dns_port, "127.0.0.1:15053");
	assert_true(r[1].inbound);
	assert_false(r[1].fail_open);
	assert_null(r[1].proxy_cgroup);
	assert_int_equal(r[1].dns_port, 0);
	assert_int_equal(c->n_identities, 2);
	assert_string_equal(c->identities[0].name, "web");
	assert_int_equal(c->identities[0].cgroups.n, 2);
	assert_cidr(&c->identities[1].cidrs.v[0], "198.18.1.1/32");
	assert_int_equal(c->n_policies, 2);
	assert_true(p[0].allow && p[0].reset);
	assert_int_equal(p[0].from.n, 2);
	assert_string_equal(p[0].from.v[1], "web");
	assert_int_equal(p[0].to.n, 1);
	assert_string_equal(p[0].to_identities.v[0], "db");
	assert_false(p[1].allow || p[1].reset);
	config_free(c);
}

/* What the JSON says is read again, and says the same. */
static void test_json(void **state)
{
	static const char *const texts[] = {
		"",
		hooks,
		"services:\n- { name: a, listen: 'eth0:80', backends: [ 'web.example.org:80' ], health: tcp }\n"
		"- { name: b, listen: '198.18.0.5:80', protocol: udp, seed: 7, max-connections: 1, syn-rate: 2,\n"
		"    health: { http: \"/\\u00e9\\\"\" , port: 1 }, backends: [] }\n",
		"services:\n- { name: b, listen: '198.18.0.5:80', health: { https: /, host: h, body: \"\\u00e9\\t\\\"\\n\" }, backends: [] }\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct config_errors e = {};
		struct config *c = NULL, *again;
		json_t *one, *two;
		char *text;

		/* A path of a request is ASCII; the third is here for that. */
		if (config_load_buffer("t", texts[i], strlen(texts[i]), &c, &e, NULL) != 0) {
			assert_int_equal(i, 2);
			assert_int_equal(e.n, 1);
			config_errors_done(&e);
			continue;
		}
		one = config_to_json(c);
		text = json_dumps(one, JSON_INDENT(1));
		assert_non_null(text);
		again = load(text);
		two = config_to_json(again);
		if (!json_equal(one, two))
			fail_msg("differs when read again: %s", text);
		free(text);
		json_decref(one);
		json_decref(two);
		config_free(c);
		config_free(again);
	}
}

static void test_words(void **state)
{
	for (int i = 0; i < _LB_SCHEDULER_MAX; i++)
		assert_non_null(lb_scheduler_words[i]);
	assert_string_equal(lb_scheduler_words[LB_LEAST_CONN], "least-conn");
	for (int i = 0; i < _LB_FORWARD_MAX; i++)
		assert_non_null(lb_forward_words[i]);
	assert_string_equal(lb_forward_words[LB_FORWARD_IPIP], "ipip");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_service_defaults),
		cmocka_unit_test(test_service_values),
		cmocka_unit_test(test_health_defaults),
		cmocka_unit_test(test_where_services_are_served),
		cmocka_unit_test(test_hooks),
		cmocka_unit_test(test_redirect_and_policy),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests_name("config_values", tests, NULL, NULL);
}
