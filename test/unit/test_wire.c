// SPDX-License-Identifier: GPL-2.0-or-later
/* The words of the control API: pairing, the text of a table, addresses, events, queues, and bad requests. */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "model/wire.h"
#include "model/wire_pairs.h"
#include "model/wire_queue.h"
#include "model/wire_request.h"
#include "unit.h"

static bool lookup_process(void *data, uint64_t inode, int64_t *ret_pid, const char **ret_comm)
{
	*ret_pid = (int64_t)inode + 1000;
	*ret_comm = "b\xff\x1b\"d";
	return inode != 13;
}

static const char *lookup_cgroup(void *data, uint64_t id)
{
	return id == 7 ? "/app" : "?";
}

static const struct wire_lookup lookup = { .process = lookup_process, .cgroup = lookup_cgroup };

static struct ac_sock_dump sock(uint64_t cookie, uint64_t peer_cookie, bool is_server, uint32_t number, bool joined)
{
	return (struct ac_sock_dump){
		.sock = { .cookie = cookie,
			  .peer_cookie = peer_cookie,
			  .is_server = is_server,
			  .key = { .client_seq = number, .server_seq = number },
			  .born_ns = cookie,
			  .state = joined ? AC_SOCK_JOINED : AC_SOCK_WATCHED,
			  .why = joined ? AC_WHY_NONE : AC_WHY_LEARNING },
		.family = AF_INET,
		.in_map = joined,
		.inode = cookie,
		.cgroup = 7,
		.tcp_state = 1,
	};
}

static void test_pairs_by_cookie(void **state)
{
	/* The server knows the client; of the second pair only the client knows the server. */
	const struct ac_sock_dump v[] = { sock(4, 3, true, 1, true), sock(9, 0, true, 2, true),
					  sock(3, 0, false, 1, true), sock(8, 9, false, 2, false) };
	struct wire_pairs p;

	assert_int_equal(wire_pairs_make(v, ARRAY_SIZE(v), &p), 0);
	assert_int_equal(p.n_pairs, 2);
	assert_int_equal(p.n_singles, 0);
	assert_int_equal(p.n_joined, 1);
	assert_ptr_equal(p.v[0].client, &v[2]);
	assert_ptr_equal(p.v[0].server, &v[0]);
	assert_ptr_equal(p.v[1].client, &v[3]);
	assert_ptr_equal(p.v[1].server, &v[1]);
	wire_pairs_done(&p);
}

static void test_pairs_by_key(void **state)
{
	const struct ac_sock_dump v[] = { sock(1, 0, false, 5, false), sock(2, 0, true, 5, false),
					  /* no number at all is no number in common */
					  sock(3, 0, false, 0, false), sock(4, 0, true, 0, false) };
	struct wire_pairs p;

	assert_int_equal(wire_pairs_make(v, ARRAY_SIZE(v), &p), 0);
	assert_int_equal(p.n_pairs, 1);
	assert_ptr_equal(p.v[0].client, &v[0]);
	assert_ptr_equal(p.v[0].server, &v[1]);
	assert_int_equal(p.n_singles, 2);
	wire_pairs_done(&p);
}

static void test_pairs_in_doubt(void **state)
{
	const struct ac_sock_dump v[] = {
		/* two connections with the same numbers */
		sock(1, 0, false, 5, false),
		sock(2, 0, true, 5, false),
		sock(3, 0, false, 5, false),
		sock(4, 0, true, 5, false),
		/* each names a third that is gone */
		sock(11, 77, false, 6, true),
		sock(12, 78, true, 6, true),
		/* two clients; one's own cookie as the peer's */
		sock(21, 22, false, 8, true),
		sock(22, 21, false, 8, true),
		sock(31, 31, true, 9, true),
	};
	struct wire_pairs p;

	assert_int_equal(wire_pairs_make(v, ARRAY_SIZE(v), &p), 0);
	assert_int_equal(p.n_pairs, 0);
	assert_int_equal(p.n_joined, 0);
	assert_int_equal(p.n_singles, ARRAY_SIZE(v));
	wire_pairs_done(&p);
}

/* The text as a whole, and that it is JSON. */
static json_t *whole_text(const struct ac_sock_dump *v, size_t n)
{
	struct wire_pairs p;
	struct wire_pairs_text t = { .pairs = &p, .lookup = &lookup };
	char *text = NULL;
	size_t bytes = 0, n_piece;
	const char *piece;
	json_t *root;
	int r;

	assert_int_equal(wire_pairs_make(v, n, &p), 0);
	while ((r = wire_pairs_text_next(&t, &piece, &n_piece)) > 0) {
		text = realloc(text, bytes + n_piece);
		assert_non_null(text);
		memcpy(text + bytes, piece, n_piece);
		bytes += n_piece;
	}
	assert_int_equal(r, 0);
	assert_int_equal(wire_pairs_text_next(&t, &piece, &n_piece), 0);
	root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	free(text);
	wire_pairs_text_done(&t);
	wire_pairs_done(&p);
	return root;
}

static const char *text_at(json_t *o, const char *a, const char *b)
{
	const char *text = json_string_value(json_object_get(json_object_get(o, a), b));

	return text ? text : "(null)";
}

static void test_text(void **state)
{
	struct ac_sock_dump v[] = { sock(13, 14, false, 1, true), sock(14, 13, true, 1, true),
				    sock(20, 0, true, 2, false) };
	json_t *root, *pair, *single;

	v[0].sock.tx_why = AC_WHY_BACKLOG;
	v[0].sock.tcp_sends = 1;
	v[0].sock.joined_bytes = 1ULL << 40;
	v[1].sock.tx_why = AC_WHY_NO_PEER; /* has not sent yet */
	root = whole_text(v, ARRAY_SIZE(v));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "summary"), "joined")), 1);
	pair = json_array_get(json_object_get(root, "pairs"), 0);
	single = json_array_get(json_object_get(root, "singles"), 0);
	assert_string_equal(json_string_value(json_object_get(pair, "state")), "joined");
	assert_true(json_is_null(json_object_get(pair, "reason")));
	assert_string_equal(text_at(pair, "client", "tx_reason"), "backlog");
	assert_string_equal(text_at(pair, "server", "tx_reason"), "(null)");
	assert_true(json_is_null(json_object_get(json_object_get(pair, "client"), "pid")));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(pair, "server"), "pid")), 1014);
	assert_string_equal(text_at(pair, "server", "process"), "b?\x1b\"d");
	assert_string_equal(text_at(pair, "server", "cgroup"), "/app");
	assert_string_equal(text_at(pair, "server", "tcp_state"), "established");
	assert_true(json_integer_value(json_object_get(json_object_get(pair, "client"), "joined_bytes")) == 1LL << 40);
	assert_string_equal(json_string_value(json_object_get(single, "reason")), "learning");
	assert_string_equal(text_at(single, "server", "mode"), "tcp");
	assert_null(json_object_get(single, "client"));
	json_decref(root);
}

static void test_text_empty(void **state)
{
	json_t *root = whole_text(NULL, 0);

	assert_int_equal(json_array_size(json_object_get(root, "pairs")), 0);
	assert_int_equal(json_array_size(json_object_get(root, "singles")), 0);
	json_decref(root);
}

/* Every socket of a large table finds its own peer, whatever the order. */
static void test_many(void **state)
{
	const size_t n = 100000;
	struct ac_sock_dump *v = calloc(2 * n, sizeof(*v));
	struct wire_pairs p;

	assert_non_null(v);
	for (size_t i = 0; i < n; i++) {
		size_t j = i * 7919 % n; /* 7919 has no divisor in common with n */

		v[i] = sock(2 * i + 1, i % 2 ? 2 * i + 2 : 0, false, (uint32_t)i + 1, true);
		v[n + j] = sock(2 * i + 2, i % 3 ? 2 * i + 1 : 0, true, (uint32_t)i + 1, true);
	}
	assert_int_equal(wire_pairs_make(v, 2 * n, &p), 0);
	assert_int_equal(p.n_pairs, n);
	assert_int_equal(p.n_joined, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(p.v[i].client->sock.cookie, 2 * i + 1);
		assert_int_equal(p.v[i].server->sock.cookie, 2 * i + 2);
	}
	wire_pairs_done(&p);
	free(v);
}

static void test_addresses(void **state)
{
	uint32_t v4[4] = { htonl(0x7f000001) }, v6[4] = {}, mapped[4] = { 0, 0, htonl(0xffff), htonl(0xc6120001) };
	char text[WIRE_ADDR_MAX];

	wire_addr_format(AF_INET, v4, 80, text);
	assert_string_equal(text, "127.0.0.1:80");
	v6[0] = htonl(0xfe800000);
	v6[3] = htonl(1);
	wire_addr_format(AF_INET6, v6, 65535, text);
	assert_string_equal(text, "[fe80::1]:65535");
	wire_addr_format(AF_INET6, mapped, 443, text);
	assert_string_equal(text, "198.18.0.1:443");
	memset(v6, 0xff, sizeof(v6));
	wire_addr_format(AF_INET6, v6, 65535, text);
	assert_string_equal(text, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

static void test_words(void **state)
{
	for (unsigned int i = 0; i < _AC_WHY_MAX; i++) {
		assert_non_null(wire_why_word(i));
		assert_non_null(wire_why_text(i));
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(wire_why_word(i), wire_why_word(j));
	}
	for (unsigned int i = 0; i < _AC_EVENT_MAX; i++)
		assert_non_null(wire_event_word(i));
	assert_string_equal(wire_why_word(_AC_WHY_MAX), "unknown");
	assert_string_equal(wire_event_word(255), "unknown");
	assert_string_equal(wire_stat_word(_AC_STAT_MAX), "unknown");
}

static void test_event(void **state)
{
	struct ac_event e = { .ns = 1500000000,
			      .type = AC_EVENT_FALLBACK,
			      .why = AC_WHY_BACKLOG,
			      .family = AF_INET,
			      .local_port = 1,
			      .remote_port = 2,
			      .is_server = 1,
			      .tcp_bytes = 5 };
	json_t *o = wire_event(&e, 1000);

	assert_string_equal(json_string_value(json_object_get(o, "event")), "fallback");
	assert_string_equal(json_string_value(json_object_get(o, "time")), "1970-01-01T00:00:01.500001Z");
	assert_string_equal(json_string_value(json_object_get(o, "role")), "server");
	assert_string_equal(json_string_value(json_object_get(o, "remote")), "0.0.0.0:2");
	assert_string_equal(json_string_value(json_object_get(o, "reason")), "backlog");
	assert_int_equal(json_integer_value(json_object_get(o, "tcp_bytes")), 5);
	json_decref(o);

	/* A name without a zero at its end, and not in UTF-8. */
	e = (struct ac_event){ .type = AC_EVENT_LEARNED, .exe_state = AC_EXE_TRUSTED, .exe = { .ino = 3, .dev = 4 } };
	memset(e.comm, 0xc3, sizeof(e.comm));
	o = wire_event(&e, 0);
	assert_string_equal(json_string_value(json_object_get(o, "name")), "????????????????");
	assert_string_equal(json_string_value(json_object_get(o, "state")), "trusted");
	json_decref(o);

	/* Numbers that this version does not know are still an event. */
	e = (struct ac_event){ .type = 200, .why = 200, .family = 99 };
	o = wire_event(&e, 0);
	assert_string_equal(json_string_value(json_object_get(o, "reason")), "unknown");
	json_decref(o);
}

static void test_unload(void **state)
{
	static const char *const bad[] = {
		"{",
		"[]",
		"null",
		"1",
		"\"now\"",
		"{\"now\":1}",
		"{\"now\":\"true\"}",
		"{\"later\":true}",
		"{\"now\":true,\"now\":false}",
		"{\"now\":true} x",
		" ",
	};
	struct err err;
	bool now = true;

	assert_int_equal(wire_unload_parse(NULL, 0, &now, &err), 0);
	assert_false(now);
	assert_int_equal(wire_unload_parse("{}", 2, &now, &err), 0);
	assert_false(now);
	assert_int_equal(wire_unload_parse("{\"now\":true}", 12, &now, &err), 0);
	assert_true(now);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.text[0] = '\0';
		assert_int_equal(wire_unload_parse(bad[i], strlen(bad[i]), &now, &err), -EINVAL);
		assert_true(now);
		assert_true(err.text[0]);
	}
	/* Bytes that only look like text. */
	assert_int_equal(wire_unload_parse("{\"\xff\":true}", 10, &now, &err), -EINVAL);
	assert_int_equal(wire_unload_parse("{}\0", 3, &now, &err), -EINVAL);
}

static void test_queue(void **state)
{
	struct wire_queue q;
	char buf[256];
	size_t n;

	wire_queue_init(&q, 64);
	assert_int_equal(wire_queue_take(&q, buf, sizeof(buf)), 0);
	for (int i = 0; i < 10; i++)
		wire_queue_add(&q, "0123456789abcde\n", 16);
	assert_int_equal(q.lost, 6);
	/* Taken in parts, never beyond the limit. */
	assert_int_equal(wire_queue_take(&q, buf, 20), 20);
	wire_queue_add(&q, "x\n", 2);
	assert_int_equal(q.lost, 7); /* no room for it and for the news of the loss */
	assert_int_equal(wire_queue_take(&q, buf, sizeof(buf)), 44);
	n = wire_queue_take(&q, buf, sizeof(buf));
	buf[n] = '\0';
	assert_string_equal(buf, "{\"event\":\"lost\",\"count\":7}\n");
	assert_int_equal(q.lost, 0);
	/* What was lost elsewhere is told before what comes after it. */
	wire_queue_add_lost(&q, 2);
	wire_queue_add(&q, "y\n", 2);
	n = wire_queue_take(&q, buf, sizeof(buf));
	buf[n] = '\0';
	assert_string_equal(buf, "{\"event\":\"lost\",\"count\":2}\ny\n");
	wire_queue_done(&q);
}

/* Filled and emptied at different paces, every line comes out once, in order, or is counted. */
static void test_queue_pace(void **state)
{
	char line[32], out[64], text[1 << 16] = "";
	uint64_t next = 0, seen = 0, lost = 0;
	struct wire_queue q;
	size_t n, len = 0;

	wire_queue_init(&q, 200);
	for (int round = 0; round < 500; round++) {
		for (int i = 0; i < round % 5; i++) {
			n = (size_t)snprintf(line, sizeof(line), "%llu\n", (unsigned long long)next++);
			wire_queue_add(&q, line, n);
		}
		n = wire_queue_take(&q, out, (size_t)round % 7);
		memcpy(text + len, out, n);
		len += n;
	}
	while ((n = wire_queue_take(&q, out, sizeof(out)))) {
		memcpy(text + len, out, n);
		len += n;
	}
	text[len] = '\0';
	for (char *save, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		unsigned long long v;

		if (sscanf(l, "{\"event\":\"lost\",\"count\":%llu}", &v) == 1) {
			lost += v;
			continue;
		}
		assert_int_equal(sscanf(l, "%llu", &v), 1);
		assert_int_equal(v, seen + lost);
		seen++;
	}
	assert_true(lost > 0);
	assert_int_equal(seen + lost, next);
	wire_queue_done(&q);
}

static void test_replies(void **state)
{
	struct wire_status s = {
		.version = "1", .class = "full", .reason = "", .cgroup = "/", .pid = 5, .leaving = true
	};
	struct wire_exe exe = { .key = { .ino = 1, .dev = 2 }, .exe = { .state = 99, .comm = "sh" } };
	json_t *o = wire_status(&s);

	assert_string_equal(json_string_value(json_object_get(o, "state")), "leaving");
	assert_true(json_is_null(json_object_get(o, "reason")));
	assert_int_equal(json_object_size(json_object_get(o, "counters")), _AC_STAT_MAX);
	json_decref(o);
	o = wire_exe(&exe);
	assert_true(json_is_null(json_object_get(o, "path")));
	assert_string_equal(json_string_value(json_object_get(o, "state")), "unknown");
	json_decref(o);
	o = wire_error("a \xff b");
	assert_string_equal(json_string_value(json_object_get(o, "error")), "a ? b");
	json_decref(o);
}

static void test_doctor(void **state)
{
	const struct wire_need needs[] = { { "fentry", false, "means", "remedy" },
					   { "btf", true, "means", "remedy" },
					   { "rest", false, "means", NULL } };
	const struct wire_nic nic = { "eth0", "tc", "why" };
	struct wire_doctor d = { .class = "limited",
				 .reason = "",
				 .kernel = "6.1",
				 .needs = needs,
				 .n_needs = 3,
				 .nics = &nic,
				 .n_nics = 1 };
	json_t *o = wire_doctor(&d), *list = json_object_get(o, "capabilities");

	assert_int_equal(json_array_size(list), 3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "remedy")), "remedy");
	assert_true(json_is_null(json_object_get(json_array_get(list, 1), "remedy")));
	assert_true(json_is_null(json_object_get(json_array_get(list, 2), "remedy")));
	assert_true(json_is_null(json_object_get(o, "programs")));
	assert_true(json_is_null(json_object_get(o, "pid")));
	list = json_object_get(o, "interfaces");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "reason")), "why");
	json_decref(o);
}

/* What stands for the parts of a path, and what is none. */
static void test_paths(void **state)
{
	static const char *const others[] = { "/v1/services//drain",   "/v1/services/a",      "/v1/services/a/b/drain",
					      "/v1/services/a/drain/", "/v1/services/a/drai", "",
					      "/v1/services//" };
	char args[WIRE_ARGS_MAX][WIRE_ARG_MAX], longest[300] = "/v1/services/";

	assert_true(wire_path_matches("/v1/services/*/drain", "/v1/services/a b/drain", args));
	assert_string_equal(args[0], "a b");
	assert_true(wire_path_matches("/v1/*/backends/*", "/v1/x/backends/[::1]:80", args));
	assert_string_equal(args[0], "x");
	assert_string_equal(args[1], "[::1]:80");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_false(wire_path_matches("/v1/services/*/drain", others[i], args));
	memset(longest + 13, 'a', WIRE_ARG_MAX - 1);
	assert_true(wire_path_matches("/v1/services/*", longest, args));
	longest[13 + WIRE_ARG_MAX - 1] = 'a';
	assert_false(wire_path_matches("/v1/services/*", longest, args));
}

static void test_bodies(void **state)
{
	static const char *const bad[] = { "{\"weight\":-1}",
					   "{\"weight\":1.5}",
					   "{\"weight\":\"1\"}",
					   "{}",
					   "[1]",
					   "x",
					   "{\"weight\":1,\"a\":2}",
					   "{\"weight\":1,\"weight\":1}",
					   "{\"weight\":99999999999}" };
	struct err err = {};
	uint32_t weight = 7;

	assert_int_equal(wire_weight_parse("{\"weight\":0}", 12, &weight, &err), 0);
	assert_int_equal(weight, 0);
	weight = 7;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.text[0] = '\0';
		assert_int_equal(wire_weight_parse(bad[i], strlen(bad[i]), &weight, &err), -EINVAL);
		assert_true(err.text[0]);
	}
	assert_int_equal(weight, 7);
	assert_int_equal(wire_nothing_parse(NULL, 0, &err), 0);
	assert_int_equal(wire_nothing_parse("{}", 2, &err), 0);
	assert_int_equal(wire_nothing_parse("{\"a\":1}", 7, &err), -EINVAL);
	assert_non_null(strstr(err.text, "'a'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs_by_cookie), cmocka_unit_test(test_pairs_by_key),
		cmocka_unit_test(test_pairs_in_doubt),	cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_empty),	cmocka_unit_test(test_many),
		cmocka_unit_test(test_addresses),	cmocka_unit_test(test_words),
		cmocka_unit_test(test_paths),		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_event),		cmocka_unit_test(test_unload),
		cmocka_unit_test(test_queue),		cmocka_unit_test(test_queue_pace),
		cmocka_unit_test(test_replies),		cmocka_unit_test(test_doctor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
