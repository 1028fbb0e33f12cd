// SPDX-License-Identifier: GPL-2.0-or-later
/* Configurations that are wrong: YAML itself, maps of keys, and everything about services. */
#include "config_rows.h"

static void test_yaml(void **state)
{
	static const struct config_row rows[] = {
		{ "", {} },
		{ "# nothing\n", {} },
		{ "---\n", {} },
		{ "--- ~\n...\n", {} },
		{ "\xef\xbb\xbf"
		  "services: []\n",
		  {} },
		{ "{}\n", {} },
		{ "services: []\r\nredirect: []\r\n", {} },
		{ "services:\n\t- a\n", { "2:1: found character that cannot start any token: indent with spaces" } },
		{ "services: [\n", { "2:1: did not find expected node content: " } },
		{ "services: [ 1\nredirect: 2\n",
		  { "2:9: did not find expected ',' or ']': separate the entries by commas" } },
		{ "services: 'a\n", { "2:1: found unexpected end of stream: close the quotation" } },
		{ "services: a\n  b: c\n", { "2:4: mapping values are not allowed in this context: " } },
		{ "services: []\n redirect: []\n", { "2:2: did not find expected key: indent this line" } },
		{ "services:\n  - a\n  b: c\n", { "3:3: did not find expected '-' indicator: " } },
		{ "services: \"\\q\"\n", { "1:12: found unknown escape character: write a backslash as" } },
		{ "services: @a\n", { "1:11: found character that cannot start any token: " } },
		{ "a\xc3\xa9: 1\nb\xc3\xa9: \xff\n", { "2:5: invalid leading UTF-8 octet: save the file as UTF-8" } },
		{ "a: \x01\n", { "1:4: control characters are not allowed: " } },
		{ "\xef\xbb\xbf"
		  "a: 1\n",
		  { "1:1: unknown key 'a'" } },
		{ "services: &x []\n", { "1:11: anchor '&x': anchors are not used here" } },
		{ "services: !!seq []\n", { "1:11: tag 'tag:yaml.org,2002:seq': tags are not used here" } },
		{ "services: [ !a b ]\n",
		  { "1:13: tag '!a': tags",
		    "1:13: a service wants keys and values, not a single value: write name: web" } },
		{ "services: *x\n", { "1:11: alias '*x': aliases are not used here" } },
		{ "*x : 1\n", { "1:1: alias '*x'" } },
		{ "services: []\n---\nredirect: []\n", { "2:1: a second document: " } },
		{ "services: []\nservices: []\nservices: []\n",
		  { "2:1: 'services' is there twice, first at t:1:1: keep one",
		    "3:1: 'services' is there twice, first at t:1:1" } },
		{ "- services\n", { "1:1: a configuration wants keys and values, not a list: write services: " } },
		{ "services\n", { "1:1: a configuration wants keys and values, not a single value" } },
		{ "? [ a ]\n: b\n? { a: b }\n: c\n",
		  { "1:3: a list as a key in a configuration: write KEY: VALUE",
		    "3:3: a map as a key in a configuration" } },
		{ "? |\n  a\n: b\n",
		  { "1:3: unknown key 'a?' in a configuration: it can have services, include, connect" } },
		{ "<<: 1\n", { "1:1: unknown key '<<'" } },
		{ "services:\nredirect: ~\n",
		  { "1:1: 'services' has no value: write services: [",
		    "2:1: 'redirect' has no value: write redirect: [" } },
		{ "Services: []\nservises: []\nacelerate: {}\nxyz: 1\n",
		  { "1:1: unknown key 'Services' in a configuration: write services",
		    "2:1: unknown key 'servises' in a configuration: write services",
		    "3:1: unknown key 'acelerate' in a configuration: write accelerate",
		    "4:1: unknown key 'xyz' in a configuration: it can have services, include, connect, packet, accelerate" } },
		{ "include: services.d\n", { "1:10: include: needs a file" } },
	};

	config_rows_check(rows);
}

/* What a string cannot hold, or a sentence. */
static void test_bytes(void **state)
{
	static const struct config_row rows[] = {
		{ "services:\n- name: \"a\\0b\"\n  listen: 198.18.0.5:80\n  backends: []\n",
		  { "2:9: a NUL character within a value: remove" } },
		{ SERVICE "scheduler: \"a\\nb\\x1b\"\n",
		  { "5:14: 'a?b?' is not known as scheduler: write one of maglev, " } },
		{ SERVICE
		  "scheduler: '0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890'\n",
		  { "5:14: '01234567890123456789012345678901234567890123456789012345678901234567890123456789...' is not known" } },
	};
	static const char raw[] = "services: []\nredirect: \0\n";
	struct config_errors e = {};
	struct config *c = NULL;

	config_rows_check(rows);
	assert_int_equal(config_load_buffer("t", raw, sizeof(raw) - 1, &c, &e, NULL), -EINVAL);
	assert_int_equal(e.n, 1);
	assert_int_equal(e.v[0].pos.line, 2);
	assert_int_equal(e.v[0].pos.column, 11);
	config_errors_done(&e);
}

static void test_depth(void **state)
{
	char text[200] = "services: ";
	struct config_row row = { text, { "1:42: lists and maps are nested deeper than 32: " } };

	memset(text + 10, '[', 100);
	config_row_check(&row);
}

static void test_shape(void **state)
{
	static const struct config_row rows[] = {
		{ "services: {}\n", { "1:11: 'services' wants a list, not a map: write services: [" } },
		{ "services: web\n", { "1:11: 'services' wants a list, not a single value" } },
		{ "services: [ 1, ~, [], {} ]\n",
		  { "1:13: a service wants keys and values, not a single value",
		    "1:16: a service wants keys and values, not nothing",
		    "1:19: a service wants keys and values, not a list", "1:23: a service has no 'name': add name: web",
		    "1:23: a service has no 'listen': add listen: 198.18.0.5:80",
		    "1:23: a service has no 'backends': add backends: [ 198.18.0.2:80 ]" } },
		{ "services:\n- name: [ a ]\n  listen: { a: b }\n  backends: 198.18.0.2:80\n",
		  { "2:9: 'name' wants a single value, not a list: write it as in web",
		    "3:11: 'listen' wants a single value, not a map: write it as in 198.18.0.5:80",
		    "4:13: 'backends' wants a list, not a single value: write backends: [ 198.18.0.2:80 ]" } },
		{ "services:\n- name:\n  listen: ''\n  backends: [ '', ~ ]\n",
		  { "2:3: 'name' has no value: write name: web",
		    "3:11: 'listen' has an empty value: write it as in 198.18.0.5:80",
		    "4:15: 'address' has an empty value: write it as in 198.18.0.2:80",
		    "4:19: 'address' has an empty value" } },
		{ SERVICE "panic:\n", { "5:3: 'panic' has no value: write panic: true, or leave the line out" } },
		{ SERVICE "wieght: 2\n",
		  { "5:3: unknown key 'wieght' in a service: it can have name, listen, protocol, " } },
		{ SERVICE "table_size: 65537\n", { "5:3: unknown key 'table_size' in a service: write table-size" } },
		{ SERVICE "helth: tcp\n", { "5:3: unknown key 'helth' in a service: write health" } },
		{ SERVICE "name: b\n", { "5:3: 'name' is there twice, first at t:2:3: keep one" } },
	};

	config_rows_check(rows);
}

static void test_values(void **state)
{
	static const struct config_row rows[] = {
		{ "services:\n- { name: a b, listen: '198.18.0.5:80', backends: [] }\n- { name: -a, listen: '198.18.0.6:80', backends: [] }\n",
		  { "2:11: 'a b' is not a name: write 1 to 63 of letters", "3:11: '-a' is not a name" } },
		{ SERVICE "protocol: sctp\n", { "5:13: 'sctp' is not known as protocol: write one of tcp, udp" } },
		{ SERVICE "scheduler: magelv\n", { "5:14: 'magelv' is not known as scheduler: write maglev" } },
		{ SERVICE "scheduler: Round-Robin\n",
		  { "5:14: 'Round-Robin' is not known as scheduler: write round-robin" } },
		{ SERVICE "scheduler: wlc\n",
		  { "5:14: 'wlc' is not known as scheduler: write one of maglev, round-robin, least-conn, random, source" } },
		{ SERVICE "forward: tunnel\n",
		  { "5:12: 'tunnel' is not known as forward: write one of nat, dnat, dsr, ipip, gue" } },
		{ SERVICE "table-size: 65536\n", { "5:15: a table cannot have 65536 entries: write one of " } },
		{ SERVICE "table-size: 0\n", { "5:15: a table cannot have 0 entries: " } },
		{ SERVICE "table-size: 10000000\n",
		  { "5:15: '10000000' does not fit 'table-size': write a number from 0 to 655373" } },
		{ SERVICE "seed: -1\n", { "5:9: '-1' does not fit 'seed': write a number from 0 to 4294967295" } },
		{ SERVICE "seed: 4294967296\n", { "5:9: '4294967296' does not fit 'seed'" } },
		{ SERVICE "seed: 0x10\n", { "5:9: '0x10' does not fit 'seed'" } },
		{ SERVICE "seed: 010\n", { "5:9: '010' does not fit 'seed'" } },
		{ SERVICE "seed: 1.5\n", { "5:9: '1.5' does not fit 'seed'" } },
		{ SERVICE "seed: 99999999999999999999999\n", { "5:9: '99999999999999999999999' does not fit 'seed'" } },
		{ SERVICE "panic: yes\n", { "5:10: 'yes' in 'panic' is neither true nor false: write one of them" } },
		{ SERVICE "panic: True\n", { "5:10: 'True' in 'panic' is neither true nor false" } },
		{ SERVICE "panic: 'true'\n",
		  { "5:10: 'true' in 'panic' is neither true nor false: write one of them, without quotes" } },
		{ SERVICE "panic: 1\n", { "5:10: '1' in 'panic' is neither" } },
		{ SERVICE "passive: 5\n", { "5:12: '5' in 'passive' has no unit: write 5s, or 5ms, 5m, 5h" } },
		{ SERVICE "passive: 0\n", { "5:12: '0' in 'passive' has no unit: write 0s" } },
		{ SERVICE "passive: 1.5s\n",
		  { "5:12: '1.5s' in 'passive' is not a time: write a whole number and ms, s, m or h" } },
		{ SERVICE "passive: 5 s\n", { "5:12: '5 s' in 'passive' is not a time" } },
		{ SERVICE "passive: 1d\n", { "5:12: '1d' in 'passive' is not a time" } },
		{ SERVICE "passive: -1s\n", { "5:12: '-1s' in 'passive' is not a time" } },
		{ SERVICE "passive: 05s\n", { "5:12: '05s' in 'passive' is not a time" } },
		{ SERVICE "passive: s\n", { "5:12: 's' in 'passive' is not a time" } },
		{ SERVICE "passive: 25h\n", { "5:12: '25h' does not fit 'passive': write a time from 0s to 24h" } },
		{ SERVICE "passive: 4294967296h\n", { "5:12: '4294967296h' does not fit 'passive'" } },
		{ SERVICE "slow-start: soon\n", { "5:15: 'soon' in 'slow-start' is not a time" } },
		{ SERVICE "resolve: 1ms\n", { "5:12: '1ms' does not fit 'resolve': write a time from 1s to 24h" } },
		{ SERVICE "tcp-idle: 721h\n",
		  { "5:13: '721h' does not fit 'tcp-idle': write a time from 1s to 720h" } },
		{ SERVICE "udp-idle: 0s\n", { "5:13: '0s' does not fit 'udp-idle': write a time from 1s to 720h" } },
		{ SERVICE "max-connections: 0\n",
		  { "5:20: '0' does not fit 'max-connections': write a number from 1" } },
		{ SERVICE "syn-rate: many\n", { "5:13: 'many' does not fit 'syn-rate'" } },
		{ SERVICE "syn-cookies: sometimes\n",
		  { "5:16: 'sometimes' is not known as syn-cookies: write one of off, auto, always" } },
		{ SERVICE "syn-cookies: auto\n  forward: dsr\n",
		  { "5:16: SYN cookies are for TCP with forward: nat, where this machine stands between both sides" } },
	};

	config_rows_check(rows);
}

#define LISTEN(text) "services:\n- name: a\n  backends: []\n  listen: " text "\n"
#define BACKENDS(text) "services:\n- name: a\n  listen: 198.18.0.5:80\n  backends:\n" text

static void test_addresses(void **state)
{
	static const struct config_row rows[] = {
		{ LISTEN("198.18.0.5:80"), {} },
		{ LISTEN("'[2001:db8::1]:80'"), {} },
		{ LISTEN("eth0:80"), {} },
		{ LISTEN("eth0.100:80"), {} },
		{ LISTEN("198.18.0.5"), { "4:11: '198.18.0.5' has no port: add it, as in 198.18.0.5:80" } },
		{ LISTEN("198.18.0.5:http"), { "4:11: 'http' is not a port in '198.18.0.5:http': write a number" } },
		{ LISTEN("198.18.0.5:0"), { "4:11: '0' is not a port" } },
		{ LISTEN("2001:db8::1:80"), { "4:11: '2001:db8::1:80' has no port: put IPv6 into brackets" } },
		{ LISTEN("198.18.0.256:80"), { "4:11: '198.18.0.256' is not an address: write IPv4 as in" } },
		{ LISTEN("198.18.5:80"), { "4:11: '198.18.5' is not an address" } },
		{ LISTEN("'[198.18.0.5]:80'"),
		  { "4:11: '[198.18.0.5]:80' has brackets around IPv4: write 198.18.0.5:80" } },
		{ LISTEN("'[web]:80'"), { "4:11: 'web' is not an address" } },
		{ LISTEN("0.0.0.0:80"), { "4:11: '0.0.0.0:80' in 'listen' is not the address of one machine: " } },
		{ LISTEN("'[::]:80'"), { "4:11: '[::]:80' in 'listen' is not the address of one machine" } },
		{ LISTEN("224.0.0.1:80"), { "4:11: '224.0.0.1:80' in 'listen' is not the address of one machine" } },
		{ LISTEN("255.255.255.255:80"), { "4:11: '255.255.255.255:80' in 'listen' is not" } },
		{ LISTEN("'[ff02::1]:80'"), { "4:11: '[ff02::1]:80' in 'listen' is not" } },
		{ LISTEN("localhost:80"), { "4:11: 'localhost' is not an address" } },
		{ LISTEN("'*:80'"), { "4:11: '*' is not an address" } },
		{ LISTEN("a-name-too-long-for-an-interface:80"),
		  { "4:11: 'a-name-too-long-for-an-interface' is not an address" } },
		{ BACKENDS("  - 198.18.0.2:80\n  - { address: '[2001:db8::2]:80' }\n"),
		  { "6:5: backend '2001:db8::2' is IPv6 and its service is not, which forward: nat cannot bridge: " } },
		{ BACKENDS("  - web.example.org:80\n  - { address: web:80, weight: 0 }\n  - _a.b-c.d:1\n"), {} },
		{ BACKENDS(
			  "  - 198.18.0.2\n  - 198.18.0.300:80\n  - web_1..org:80\n  - -web:80\n  - web-.org:80\n  - 'a b:80'\n"),
		  { "5:5: '198.18.0.2' has no port", "6:5: '198.18.0.300' is not an address",
		    "7:5: 'web_1..org' is not an address", "8:5: '-web' is not an address",
		    "9:5: 'web-.org' is not an address", "10:5: 'a b' is not an address" } },
		{ BACKENDS("  - 127.0.0.1:99999\n  - 0.0.0.0:80\n  - [ 198.18.0.2:80 ]\n  - {}\n"),
		  { "5:5: '99999' is not a port", "6:5: '0.0.0.0:80' in 'address' is not the address of one machine",
		    "7:5: a backend wants keys and values, not a list: write address: 198.18.0.2:80",
		    "8:5: a backend has no 'address': add address: 198.18.0.2:80" } },
		{ BACKENDS("  - { address: 198.18.0.2:80, weight: 65535 }\n"), {} },
		{ BACKENDS(
			  "  - { address: 198.18.0.2:80, weight: 65536 }\n  - { address: 198.18.0.3:80, weigt: 1, weight: heavy }\n"),
		  { "5:39: '65536' does not fit 'weight': write a number from 0 to 65535",
		    "6:31: unknown key 'weigt' in a backend: write weight", "6:49: 'heavy' does not fit 'weight'" } },
	};

	config_rows_check(rows);
}

#define HEALTH(text) SERVICE "health: " text "\n"

static void test_health(void **state)
{
	static const struct config_row rows[] = {
		{ HEALTH("tcp"), {} },
		{ HEALTH("none"), {} },
		{ HEALTH("{ tcp: true, port: 81, rise: 1, fall: 1, interval: 100ms, timeout: 100ms, jitter: 0s }"),
		  {} },
		{ HEALTH("{ http: /, host: a, status: 200, body: x }"), {} },
		{ HEALTH("{ https: /, verify: true }"), {} },
		{ HEALTH("http"),
		  { "5:11: 'http' is not known as health: write tcp, none or a map, as in { http: /healthz }" } },
		{ HEALTH("[ tcp ]"),
		  { "5:11: 'health' wants tcp or a map, not a list: write health: { http: /healthz }" } },
		{ HEALTH("{}"), { "5:11: health does not say how to check: add tcp: true, " } },
		{ HEALTH("{ interval: 5s }"), { "5:11: health does not say how to check" } },
		{ HEALTH("{ tcp: false }"), { "5:18: 'false' does not fit 'tcp': write tcp: true" } },
		{ HEALTH("{ tcp: true, http: / }"), { "5:30: health has both 'tcp' and 'http': keep one" } },
		{ HEALTH("{ http: /, https: / }"), { "5:29: health has both 'http' and 'https': keep one" } },
		{ HEALTH("{ http: healthz }"), { "5:19: 'healthz' is not the path of a request: begin it with '/'" } },
		{ HEALTH("{ http: '/a b' }"), { "5:19: '/a b' is not the path of a request" } },
		{ HEALTH("{ http: \"/a\\r\\nHost: b\" }"), { "5:19: '/a??Host: b' is not the path of a request" } },
		{ HEALTH("{ http: /, host: \"a\\r\\nb\" }"),
		  { "5:28: 'a??b' is not the name of a host: write it as in www" } },
		{ HEALTH("{ http: /, port: 0 }"), { "5:28: '0' does not fit 'port': write a number from 1 to 65535" } },
		{ HEALTH("{ http: /, status: 99 }"),
		  { "5:30: '99' does not fit 'status': write one or a range from 100 to 599" } },
		{ HEALTH("{ http: /, status: 2xx }"), { "5:30: '2xx' does not fit 'status'" } },
		{ HEALTH("{ http: /, status: 399-200 }"), { "5:30: '399-200' does not fit 'status'" } },
		{ HEALTH("{ http: /, status: 200-600 }"), { "5:30: '200-600' does not fit 'status'" } },
		{ HEALTH("{ http: /, status: 2000 }"), { "5:30: '2000' does not fit 'status'" } },
		{ HEALTH("{ http: /, status: 200- }"), { "5:30: '200-' does not fit 'status'" } },
		{ HEALTH("{ http: /, body: '' }"), { "5:28: 'body' has an empty value: write it as in ok" } },
		{ HEALTH("{ http: /, verify: true }"),
		  { "5:30: 'verify' has no effect on a check by http: leave it out, or check by https" } },
		{ HEALTH("{ tcp: true, host: a, status: 200, body: b }"),
		  { "5:30: 'host' has no effect on a check by tcp: leave it out, or check by http",
		    "5:41: 'status' has no effect on a check by tcp",
		    "5:52: 'body' has no effect on a check by tcp" } },
		{ HEALTH("{ tcp: true, interval: 2s, timeout: 3s }"),
		  { "5:47: timeout 3s is longer than interval 2s: write at most 2s" } },
		{ HEALTH("{ tcp: true, timeout: 3s }"), { "5:33: timeout 3s is longer than interval 2s" } },
		{ HEALTH("{ tcp: true, interval: 500ms }"), {} },
		{ HEALTH("{ tcp: true, interval: 5, timeout: 3s }"), { "5:34: '5' in 'interval' has no unit" } },
		{ HEALTH("{ tcp: true, jitter: 1m }"), { "5:32: jitter 1m is longer than interval 2s" } },
		{ HEALTH("{ tcp: true, interval: 10ms }"),
		  { "5:34: '10ms' does not fit 'interval': write a time from 100ms to 24h" } },
		{ HEALTH("{ tcp: true, rise: 0, fall: 1001 }"),
		  { "5:30: '0' does not fit 'rise': write a number from 1 to 1000",
		    "5:39: '1001' does not fit 'fall'" } },
		{ HEALTH("{ tcp: true, intervall: 2s }"),
		  { "5:24: unknown key 'intervall' in health: write interval" } },
		{ HEALTH("tcp\n  protocol: udp"),
		  { "5:11: a check by tcp needs a TCP port, which a UDP service has not: add port: " } },
		{ HEALTH("{ http: /, port: 8081 }\n  protocol: udp"), {} },
	};

	config_rows_check(rows);
}

#define TWO(first, second) "services:\n- { " first " }\n- { " second " }\n"

static void test_services(void **state)
{
	static const struct config_row rows[] = {
		{ TWO("name: a, listen: '198.18.0.5:80', backends: []",
		      "name: a, listen: '198.18.0.6:80', backends: []"),
		  { "3:11: there is a service 'a' already, at t:2:11: give it another name" } },
		{ TWO("name: a, listen: '198.18.0.5:80', backends: []",
		      "name: b, listen: '198.18.0.5:80', backends: []"),
		  { "3:22: '198.18.0.5:80' by tcp is the address of another service already, at t:2:22: listen on another one" } },
		{ TWO("name: a, listen: '198.18.0.5:80', backends: []",
		      "name: b, listen: '[::ffff:198.18.0.5]:80', backends: []"),
		  { "3:22: '[::ffff:198.18.0.5]:80' by tcp is the address of another service" } },
		{ TWO("name: a, listen: '198.18.0.5:80', backends: []",
		      "name: b, listen: '198.18.0.5:80', protocol: udp, backends: []"),
		  {} },
		{ TWO("name: a, listen: '198.18.0.5:80', backends: []",
		      "name: b, listen: '198.18.0.5:81', backends: []"),
		  {} },
		{ TWO("name: a, listen: 'eth0:80', backends: []", "name: b, listen: 'eth0:80', backends: []"),
		  { "3:22: 'eth0:80' by tcp is the address of another service" } },
		{ TWO("name: a, listen: 'eth0:80', backends: []", "name: b, listen: 'eth1:80', backends: []"), {} },
		{ TWO("name: a, listen: x, backends: []", "name: b, listen: y, backends: []"),
		  { "2:22: 'x' has no port", "3:22: 'y' has no port" } },
		{ TWO("name: [], listen: '198.18.0.5:80', backends: []",
		      "name: [], listen: '198.18.0.6:80', backends: []"),
		  { "2:11: 'name' wants a single value", "3:11: 'name' wants a single value" } },
		{ BACKENDS(
			  "  - 198.18.0.2:80\n  - 198.18.0.3:80\n  - { address: '198.18.0.2:80', weight: 3 }\n  - 198.18.0.2:80\n"),
		  { "7:5: backend '198.18.0.2:80' is there twice, first at t:5:5: keep one",
		    "8:5: backend '198.18.0.2:80' is there twice, first at t:5:5" } },
		{ BACKENDS("  - web.example.org:80\n  - WEB.example.org:80\n  - web.example.org:81\n"),
		  { "6:5: backend 'WEB.example.org:80' is there twice, first at t:5:5" } },
		{ BACKENDS("  - 198.18.0.2:x\n  - 198.18.0.2:x\n"),
		  { "5:5: 'x' is not a port", "6:5: 'x' is not a port" } },
		{ BACKENDS("  - 198.18.0.5:80\n"),
		  { "5:5: backend '198.18.0.5:80' is the service itself: write the address of a server" } },
		{ BACKENDS("  - 198.18.0.5:81\n"), {} },
		{ BACKENDS("  - 198.18.0.2:81\n  - web:82\n  forward: dsr\n"),
		  { "5:5: forward: dsr cannot change the port: let the backend listen on 80, or write forward: nat",
		    "6:5: forward: dsr cannot" } },
		{ BACKENDS("  - 198.18.0.2:81\n  forward: ipip\n"), { "5:5: forward: ipip cannot change the port" } },
		{ BACKENDS("  - 198.18.0.2:81\n  forward: gue\n"), { "5:5: forward: gue cannot change the port" } },
		{ BACKENDS("  - 198.18.0.2:81\n  forward: dnat\n"), {} },
		{ BACKENDS("  - '[2001:db8::2]:80'\n  forward: ipip\n"),
		  { "5:5: backend '2001:db8::2' is IPv6 and its service is not, which connect cannot bridge: use one family, or serve" } },
		{ BACKENDS("  - '[2001:db8::2]:80'\n  forward: ipip\npacket: { interfaces: [ eth0 ] }\n"), {} },
		{ BACKENDS("  - '[2001:db8::2]:80'\n  forward: gue\npacket: { interfaces: [ eth0 ] }\nconnect: {}\n"),
		  { "5:5: backend '2001:db8::2' is IPv6 and its service is not, which connect" } },
		{ BACKENDS("  - '[2001:db8::2]:80'\n  forward: dsr\npacket: { interfaces: [ eth0 ] }\n"),
		  { "5:5: backend '2001:db8::2' is IPv6 and its service is not, which forward: dsr cannot bridge: use one family, or forward: ipip" } },
		{ "services:\n- name: a\n  listen: '[2001:db8::1]:80'\n  backends: [ 198.18.0.2:80 ]\n",
		  { "4:15: backend '198.18.0.2' is IPv4 and its service is not" } },
		{ "services:\n- name: a\n  listen: eth0:80\n  backends: [ 198.18.0.2:80, '[2001:db8::2]:80' ]\n", {} },
	};

	config_rows_check(rows);
}

/* One that is full of mistakes gives the first thousand, in order, and says how many more there are. */
static void test_many(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct config_errors e = {};
	struct config *c = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	assert_non_null(f);
	for (int i = 0; i < 1500; i++)
		(void)fprintf(f, "key%d: 1\n", i);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(config_load_buffer("t", text, n, &c, &e, NULL), -EINVAL);
	assert_int_equal(e.n, 1000);
	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(e.v[i].pos.line, i + 1);
	assert_string_equal(e.v[999].text, "501 findings more are not shown: correct those before first");
	config_errors_done(&e);
	assert_null(e.v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml),   cmocka_unit_test(test_bytes),	cmocka_unit_test(test_depth),
		cmocka_unit_test(test_shape),  cmocka_unit_test(test_values),	cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_health), cmocka_unit_test(test_services), cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
