// SPDX-License-Identifier: GPL-2.0-or-later
/* Configurations that are wrong in the sections beside services. */
#include "config_rows.h"

static void test_packet(void **state)
{
	static const struct config_row rows[] = {
		{ "packet: { interfaces: [ eth0, { name: eth1, hook: tc }, { name: eth2, hook: xdp-generic } ] }\n",
		  {} },
		{ "packet: {}\n", { "1:9: packet has no 'interfaces': add interfaces: [ eth0 ]" } },
		{ "packet: eth0\n",
		  { "1:9: packet wants keys and values, not a single value: write interfaces: [ eth0 ]" } },
		{ "packet: { interfaces: eth0 }\n",
		  { "1:23: 'interfaces' wants a list, not a single value: write interfaces: [ eth0 ]" } },
		{ "packet: { interfaces: [] }\n",
		  { "1:23: 'interfaces' is an empty list: leave the line out, or write entries as in" } },
		{ "packet: { interfaces: [ eth0, { name: eth0 } ] }\n",
		  { "1:31: interface 'eth0' is there twice, first at t:1:25: keep one" } },
		{ "packet: { interfaces: [ a/b, sixteen-letters-, .. ] }\n",
		  { "1:25: 'a/b' is not the name of an interface: write at most 15 characters, as in eth0",
		    "1:30: 'sixteen-letters-' is not the name of an interface",
		    "1:48: '..' is not the name of an interface" } },
		{ "packet: { interfaces: [ { name: eth0, hook: ebpf } ] }\n",
		  { "1:45: 'ebpf' is not known as hook: write one of auto, xdp, xdp-generic, tc" } },
		{ "packet: { interfaces: [ { hook: xpd }, ~ ] }\n",
		  { "1:25: an interface has no 'name': add name: eth0", "1:33: 'xpd' is not known as hook: write xdp",
		    "1:40: 'name' has an empty value" } },
		{ "packet: { interfaces: [ eth0 ], allow: 198.18.0.0/15, deny: [ 198.18.0.1/15, web ], source-rate: 0 }\n",
		  { "1:63: '198.18.0.1/15' has bits behind its prefix: write 198.18.0.0/15",
		    "1:78: 'web' is not a network: write it as in 198.18.0.0/15",
		    "1:98: '0' does not fit 'source-rate': write a number from 1 to 4294967295" } },
	};

	config_rows_check(rows);
}

static void test_connect_accelerate(void **state)
{
	static const struct config_row rows[] = {
		{ "connect: {}\naccelerate: {}\n", {} },
		{ "connect: { cgroups: /app }\n", {} },
		{ "connect:\naccelerate:\n",
		  { "1:1: 'connect' has no value: write connect: { cgroups: [ / ] }, or leave",
		    "2:1: 'accelerate' has no value: write" } },
		{ "connect: { cgroups: [] }\n", { "1:21: 'cgroups' is an empty list: leave the line out" } },
		{ "connect: { cgroups: [ app, /a/../b, '' ] }\n",
		  { "1:23: 'app' in 'cgroups' is not a full path: begin it with '/', without '..', as in [ / ]",
		    "1:28: '/a/../b' in 'cgroups' is not a full path", "1:37: 'cgroups' has an empty value" } },
		{ "connect: { cgroups: [ /a, /b, /a/, //./a ] }\n",
		  { "1:31: '/a' is there twice, first at t:1:23: keep one",
		    "1:36: '/a' is there twice, first at t:1:23" } },
		{ "accelerate: { ports: [ 80, 8000-8100 ], exclude-ports: 8001, trust: /usr/sbin/nginx, max-sockets: 2 }\n",
		  {} },
		{ "accelerate: { ports: [ http, 0, 65536, 90-80, 1-, -1, 080, 1-2-3, '80,81', 65535 ] }\n",
		  { "1:24: 'http' in 'ports' is not a port: write ports from 1 to 65535 and ranges, as in [80, 8000-8100]",
		    "1:30: '0' in 'ports'", "1:33: '65536' in 'ports'", "1:40: '90-80' in 'ports'",
		    "1:47: '1-' in 'ports'", "1:51: '-1' in 'ports'", "1:55: '080' in 'ports'",
		    "1:60: '1-2-3' in 'ports'", "1:67: '80,81' in 'ports'" } },
		{ "accelerate: { exclude-ports: [] }\n", { "1:30: 'exclude-ports' is an empty list" } },
		{ "accelerate: { ports: [ [ 80 ] ] }\n", { "1:24: 'ports' wants a single value, not a list" } },
		{ "accelerate: { ports: [ 443, 80, 8000-8100, 1-1000 ], exclude-ports: [ 80, 8000-8050, 8051-8200 ] }\n",
		  { "1:29: what 'ports' names here, 'exclude-ports' excludes: leave it out of one of them",
		    "1:33: what 'ports' names here" } },
		{ "accelerate: { ports: 22, exclude-ports: 22 }\n", { "1:22: what 'ports' names here" } },
		{ "accelerate: { max-sockets: 1, trust: nginx }\n",
		  { "1:28: '1' does not fit 'max-sockets': write a number from 2",
		    "1:38: 'nginx' in 'trust' is not a full path" } },
	};

	config_rows_check(rows);
}

#define REDIRECT(text) "redirect: [ { cgroup: /app, to: '127.0.0.1:15001'" text " } ]\n"

static void test_redirect(void **state)
{
	static const struct config_row rows[] = {
		{ REDIRECT(""), {} },
		{ REDIRECT(
			  ", fail: open, direction: outbound, ports: 80, exclude-users: [ proxy, _apt, 1337 ], dns: '127.0.0.1:53'"),
		  {} },
		{ "redirect: { cgroup: /app }\n",
		  { "1:11: 'redirect' wants a list, not a map: write redirect: [ { cgroup: /app" } },
		{ "redirect: [ {} ]\n",
		  { "1:13: a redirect has no 'cgroup': add cgroup: /app",
		    "1:13: a redirect has no 'to': add to: 127.0.0.1:15001" } },
		{ "redirect: [ { cgroup: app, to: 15001 } ]\n",
		  { "1:23: 'app' in 'cgroup' is not a full path", "1:32: '15001' has no port: add it" } },
		{ "redirect: [ { cgroup: /app, to: 'proxy:80' } ]\n", { "1:33: 'proxy' is not an address" } },
		{ "redirect: [ { cgroup: /app, to: '0.0.0.0:80' } ]\n",
		  { "1:33: '0.0.0.0:80' in 'to' is not the address of one machine" } },
		{ REDIRECT(", fail: hard, direction: up, dns: x"),
		  { "1:58: 'hard' is not known as fail: write one of closed, open",
		    "1:75: 'up' is not known as direction: write one of outbound, inbound", "1:84: 'x' has no port" } },
		{ REDIRECT(", exclude-users: [ a b, 4294967295, -1, '' ]"),
		  { "1:69: 'a b' is not a user: write a name or a number, as in [ proxy ]",
		    "1:74: '4294967295' is not a user", "1:86: '-1' is not a user",
		    "1:90: 'exclude-users' has an empty value" } },
		{ REDIRECT(", ports: [ 80, 443 ], exclude-ports: 443"),
		  { "1:65: what 'ports' names here, 'exclude-ports' excludes" } },
		/* Proxies. */
		{ REDIRECT(", proxy-cgroup: /app/proxy"), {} },
		{ REDIRECT(", proxy-cgroup: /apple"), {} },
		{ REDIRECT(", proxy-cgroup: /app"),
		  { "1:66: the proxy's cgroup '/app' holds all of '/app', so that nothing is redirected: give" } },
		{ REDIRECT(", proxy-cgroup: /"), { "1:66: the proxy's cgroup '/' holds all of '/app'" } },
		{ "redirect: [ { cgroup: /app/x, to: '127.0.0.1:1', proxy-cgroup: /app } ]\n",
		  { "1:64: the proxy's cgroup '/app' holds all of '/app/x'" } },
		{ "redirect: [ { cgroup: /, to: '127.0.0.1:1' } ]\n",
		  { "1:23: the proxy itself is within '/', and would be redirected to itself: add proxy-cgroup: or exclude-users:" } },
		{ "redirect: [ { cgroup: /, to: '127.0.0.1:1', exclude-users: proxy } ]\n", {} },
		{ "redirect: [ { cgroup: /, to: '127.0.0.1:1', proxy-cgroup: /proxy } ]\n", {} },
		/* Inbound. */
		{ REDIRECT(", direction: inbound"),
		  { "1:13: an inbound redirect does not say which ports: add ports: [ 80 ]" } },
		{ REDIRECT(", direction: inbound, ports: 80"), {} },
		{ REDIRECT(", direction: inbound, ports: 1-20000"),
		  { "1:79: port 15001 is the proxy's own, and would be redirected to itself: add exclude-ports: [ 15001 ]" } },
		{ REDIRECT(", direction: inbound, ports: 1-20000, exclude-ports: 15001"), {} },
		{ REDIRECT(", direction: inbound, ports: 80, dns: '127.0.0.1:53'"),
		  { "1:88: 'dns' has no effect on an inbound redirect" } },
	};

	config_rows_check(rows);
}

#define ENTRY(cgroup, more) "- { cgroup: " cgroup ", to: '127.0.0.1:15001', " more " }\n"
#define OVERLAP \
	"3:3: this redirect takes connections of '/app' that the one at t:2:3 takes already: give them different"

static void test_redirect_overlaps(void **state)
{
	static const struct config_row rows[] = {
		{ "redirect:\n" ENTRY("/app", "") ENTRY("/app/", ""), { OVERLAP } },
		{ "redirect:\n" ENTRY("/app", "") ENTRY("/app/x", ""), {} },
		{ "redirect:\n" ENTRY("/app", "") ENTRY("/app", "direction: inbound, ports: 80"), {} },
		{ "redirect:\n" ENTRY("/app", "ports: 80") ENTRY("/app", "ports: 81"), {} },
		{ "redirect:\n" ENTRY("/app", "ports: [ 443, 80 ]") ENTRY("/app", "ports: [ 8000-8100, 79-80 ]"),
		  { OVERLAP } },
		{ "redirect:\n" ENTRY("/app", "exclude-ports: 80") ENTRY("/app", "ports: 80"), {} },
		{ "redirect:\n" ENTRY("/app", "exclude-ports: 80") ENTRY("/app", "ports: 79-80"), { OVERLAP } },
		{ "redirect:\n" ENTRY("/app", "exclude-ports: [ 1-79, 81-65535, 80 ]") ENTRY("/app", "ports: 80"), {} },
		{ "redirect:\n" ENTRY("/app", "cidrs: 198.18.0.0/16") ENTRY("/app", "cidrs: 198.19.0.0/16"), {} },
		{ "redirect:\n" ENTRY("/app", "cidrs: 198.18.0.0/15")
			  ENTRY("/app", "cidrs: [ '2001:db8::/32', 198.19.1.1 ]"),
		  { OVERLAP } },
		{ "redirect:\n" ENTRY("/app", "cidrs: 198.18.0.0/15, exclude-cidrs: 198.19.0.0/16")
			  ENTRY("/app", "cidrs: 198.19.1.1"),
		  {} },
		{ "redirect:\n" ENTRY("/app", "exclude-cidrs: 198.18.0.0/15") ENTRY("/app", "cidrs: 198.19.0.0/16"),
		  {} },
		{ "redirect:\n" ENTRY("/app", "exclude-cidrs: '::/0'") ENTRY("/app", ""), {} },
		{ "redirect:\n" ENTRY("/app", "cidrs: '::/0'") ENTRY("/app", "cidrs: 198.19.0.0/16"), { OVERLAP } },
		{ "redirect:\n" ENTRY("/app", "ports: 80") ENTRY("/app", "ports: 81")
			  ENTRY("/app", "ports: [ 81, 80 ]"),
		  { "4:3: this redirect takes connections of '/app' that the one at t:2:3 takes already" } },
	};

	config_rows_check(rows);
}

static void test_policy(void **state)
{
	static const struct config_row rows[] = {
		{ "identities: { web: { cgroups: /web, cidrs: 198.18.0.0/24 } }\n"
		  "policy:\n- { action: allow, from: [ web, /app ], to: [ web, 198.18.0.0/15, '2001:db8::/32' ], ports: 80 }\n"
		  "- { action: deny, on-change: close }\n",
		  {} },
		{ "policy: [ {} ]\n", { "1:11: a policy has no 'action': add action: deny" } },
		{ "policy: [ { action: drop } ]\n",
		  { "1:21: 'drop' is not known as action: write one of deny, allow" } },
		{ "policy: [ { action: denny, on-change: reset } ]\n",
		  { "1:21: 'denny' is not known as action: write deny",
		    "1:39: 'reset' is not known as on-change: write one of leave, close" } },
		{ "policy: [ { action: deny, from: [], to: [] } ]\n",
		  { "1:33: 'from' is an empty list", "1:41: 'to' is an empty list" } },
		{ "policy: [ { action: deny, from: web } ]\n",
		  { "1:33: 'web' is not known as an identity: add it to identities:" } },
		{ "identities: { web: { cgroups: /web } }\npolicy: [ { action: deny, from: [ wep, 198.18.0.1 ], to: [ wbe, 1.2.3, '1.2.3.4:80' ] } ]\n",
		  { "2:35: 'wep' is not known as an identity: write web",
		    "2:40: '198.18.0.1' is neither a cgroup nor the name of an identity: write it",
		    "2:60: 'wbe' is not known as an identity: write web", "2:65: '1.2.3' is not a network",
		    "2:72: '1.2.3.4:80' is not a network" } },
		{ "policy: [ { action: deny, from: /a/.. } ]\n", { "1:33: '/a/..' in 'from' is not a full path" } },
		{ "identities: [ web ]\n",
		  { "1:13: 'identities' wants names and what they stand for: write identities: {" } },
		{ "identities: { web: {}, app: ~, 1a: { cgroups: /a } , [ x ]: { cgroups: /x }, db: [ /db ] }\n",
		  { "1:20: an identity stands for cgroups, cidrs or both: write { cgroups: [ /app ] }",
		    "1:29: an identity stands for", "1:32: '1a' is not a name: begin it with a letter",
		    "1:54: '' is not a name", "1:82: an identity wants keys and values, not a list" } },
		{ "identities: { web: { cgroups: /web }, db: { cgroups: /db }, web: { cgroups: /x } }\n",
		  { "1:61: 'web' is there twice, first at t:1:15: keep one" } },
		{ "identities: { web: { cgroup: /web, cidrs: x } }\n",
		  { "1:22: unknown key 'cgroup' in an identity: write cgroups", "1:43: 'x' is not a network" } },
	};

	config_rows_check(rows);
}

/* What would take a time that grows with the square is not tried: guesses among many names, pairs of many redirects. */
static void test_many(void **state)
{
	static const struct {
		const char *head, *entry, *tail, *finding;
		int n;
	} rows[] = {
		{ "identities:\n", "  id%d: { cgroups: /a }\n", "policy: [ { action: deny, from: idx } ]\n",
		  "302:33: 'idx' is not known as an identity: add it to identities:", 300 },
		{ "identities:\n", "  id%d: { cgroups: /a }\n", "policy: [ { action: deny, from: idx } ]\n",
		  "12:33: 'idx' is not known as an identity: write id0", 10 },
		{ "redirect:\n", "- { cgroup: /app%d, to: '127.0.0.1:1' }\n", "",
		  "1026:3: more than 1024 redirects: join those to the same proxy", 1025 },
		{ "redirect:\n", "- { cgroup: /app%d, to: '127.0.0.1:1' }\n", "", NULL, 1024 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text = NULL;
		struct config_row row = { .findings = { rows[i].finding } };
		size_t n;
		FILE *f = open_memstream(&text, &n);

		assert_non_null(f);
		(void)fputs(rows[i].head, f);
		for (int k = 0; k < rows[i].n; k++)
			(void)fprintf(f, rows[i].entry, k);
		(void)fputs(rows[i].tail, f);
		assert_int_equal(fclose(f), 0);
		row.yaml = text;
		config_row_check(&row);
	}
}

static void test_metrics(void **state)
{
	static const struct config_row rows[] = {
		{ "metrics: { listen: '127.0.0.1:9469' }\n", {} },
		{ "metrics: { listen: '127.9.9.9:9469' }\n", {} },
		{ "metrics: { listen: '[::1]:9469' }\n", {} },
		{ "metrics: { listen: '0.0.0.0:9469', allow-remote: true }\n", {} },
		{ "metrics: { listen: '0.0.0.0:9469' }\n",
		  { "1:20: anybody who reaches this address could read the metrics: listen on 127.0.0.1, or add" } },
		{ "metrics: { listen: '[2001:db8::1]:9469', allow-remote: false }\n", { "1:20: anybody who reaches" } },
		{ "metrics: { listen: 9469 }\n", { "1:20: '9469' has no port" } },
		{ "metrics: { listen: 'localhost:9469' }\n", { "1:20: 'localhost' is not an address" } },
		{ "metrics: {}\n", { "1:10: metrics has no 'listen': add listen: 127.0.0.1:9469" } },
		{ "metrics: { lissen: x }\n",
		  { "1:10: metrics has no 'listen'", "1:12: unknown key 'lissen' in metrics: write listen" } },
	};

	config_rows_check(rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packet),	 cmocka_unit_test(test_connect_accelerate),
		cmocka_unit_test(test_redirect), cmocka_unit_test(test_redirect_overlaps),
		cmocka_unit_test(test_policy),	 cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests_name("config_hooks", tests, NULL, NULL);
}
