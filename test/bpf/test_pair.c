// SPDX-License-Identifier: GPL-2.0-or-later
/* Pairing: who meets whom, who is joined, and what the maps hold meanwhile. */
#include "fx.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

static void close_both(int client, int server)
{
	(void)close(client);
	(void)close(server);
}

static void assert_pair_joined(int client, int server)
{
	struct ac_peer peer;
	struct ac_sock c, s;

	assert_true(fx_is_joined(client) && fx_is_joined(server));
	assert_true(fx_sock(client, &c) && fx_sock(server, &s));
	assert_false(c.is_server);
	assert_true(s.is_server);
	assert_true(c.cookie == fx_cookie(client) && s.cookie == fx_cookie(server));
	assert_true(s.peer_cookie == c.cookie && s.peer == c.self);
	assert_memory_equal(&c.key, &s.key, sizeof(c.key));
	assert_memory_equal(&c.exe, &fx.exe, sizeof(fx.exe));
	assert_memory_equal(&s.exe, &fx.exe, sizeof(fx.exe));
	assert_int_equal(fx_pend_count(), 0);
	fx_exchange(client, server);
	/* The client has met its server by now, and both sent without TCP. */
	assert_true(fx_sock(client, &c) && fx_sock(server, &s));
	assert_true(c.peer_cookie == s.cookie && c.peer == s.self);
	assert_true(c.joined_bytes > 0 && s.joined_bytes > 0);
	assert_int_equal(bpf_map_lookup_elem(fx.peers, &c.cookie, &peer), -ENOENT);
}

static void assert_pair_on_tcp(int client, int server, enum ac_why why)
{
	struct ac_sock c, s;

	assert_false(fx_is_joined(client) || fx_is_joined(server));
	assert_true(fx_sock(client, &c) && fx_sock(server, &s));
	assert_int_equal(c.why, why);
	assert_int_equal(s.why, why);
	fx_exchange(client, server);
	assert_true(fx_sock(client, &c) && fx_sock(server, &s));
	assert_true(c.joined_bytes == 0 && s.joined_bytes == 0);
}

static void test_ipv4(void **state)
{
	int client, server;

	fx_pair(AF_INET, &client, &server);
	assert_int_equal(fx_stat(AC_STAT_ANNOUNCED), 1);
	assert_int_equal(fx_stat(AC_STAT_LOCAL), 1);
	assert_int_equal(fx_stat(AC_STAT_JOINED), 1);
	assert_int_equal(fx_stat(AC_STAT_REMOTE), 0);
	assert_pair_joined(client, server);
	close_both(client, server);
	assert_int_equal(fx_count(fx.socks), 0);
}

static void test_ipv6(void **state)
{
	int client, server;

	fx_pair(AF_INET6, &client, &server);
	assert_pair_joined(client, server);
	close_both(client, server);
}

/* An IPv4 client of a dual-stack listener: the families of the two ends differ. */
static void test_v4_mapped(void **state)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = fx_tcp(AF_INET6, 0), client = fx_tcp(AF_INET, 0), server;
	socklen_t len = sizeof(any);

	assert_int_equal(bind(listener, (struct sockaddr *)&any, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&any, &len), 0);
	to.sin_port = any.sin6_port;
	assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof(to)), 0);
	server = fx_accept(listener);
	assert_pair_joined(client, server);
	close_both(client, server);
	(void)close(listener);
}

/* Starts to connect and leaves the handshake hanging after the announcement. */
struct hanging {
	int listener, client, lose;
	struct ac_key key;
	struct ac_pend pend;
};

static struct hanging hang(void)
{
	struct hanging h = { .lose = fx_lose(BPF_CGROUP_INET_INGRESS, FX_SYN | FX_ACK, FX_SYN | FX_ACK) };
	struct sockaddr_storage addr;
	socklen_t len;

	h.listener = fx_listen(AF_INET, 0, &addr, &len);
	h.client = fx_tcp(AF_INET, 0);
	assert_int_equal(fcntl(h.client, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fx_connect(h.client, &addr, len), -EINPROGRESS);
	h.key = fx_the_pend(&h.pend);
	return h;
}

/* Lets the handshake go on (at the next retransmission) and returns the server's socket. */
static int let_go(struct hanging *h)
{
	int server;

	(void)close(h->lose);
	fx_wait(h->client, POLLOUT);
	assert_int_equal(fcntl(h->client, F_SETFL, 0), 0);
	server = fx_accept(h->listener);
	(void)close(h->listener);
	return server;
}

static void test_announcement(void **state)
{
	struct hanging h = hang();
	int server;

	assert_int_equal(fx_stat(AC_STAT_ANNOUNCED), 1);
	assert_int_equal(fx_stat(AC_STAT_LOCAL), 0);
	assert_true(h.pend.client == 0 && h.pend.client_cookie == 0 && !h.pend.poisoned);
	assert_memory_equal(&h.pend.server_exe, &fx.exe, sizeof(fx.exe));
	assert_int_equal(fx_count(fx.socks), 0);
	server = let_go(&h);
	/* The repeated SYN is the same request. */
	assert_int_equal(fx_stat(AC_STAT_ANNOUNCED), 1);
	assert_pair_joined(h.client, server);
	close_both(h.client, server);
}

/* Another client has already answered to these numbers: neither may be believed. */
static void test_second_client_poisons(void **state)
{
	struct hanging h = hang();
	int server;

	h.pend.client = 0xdead;
	h.pend.client_cookie = 0xdead;
	fx_pend_put(&h.key, &h.pend);
	server = let_go(&h);
	assert_int_equal(fx_stat(AC_STAT_POISONED), 1);
	assert_pair_on_tcp(h.client, server, AC_WHY_DUPLICATE);
	close_both(h.client, server);
}

/* Another listener has announced the same numbers. */
static void test_second_announcement_poisons(void **state)
{
	struct hanging h = hang();
	int server;

	h.pend.poisoned = 1;
	fx_pend_put(&h.key, &h.pend);
	server = let_go(&h);
	assert_pair_on_tcp(h.client, server, AC_WHY_DUPLICATE);
	close_both(h.client, server);
}

/* The table of handshakes is finite: what it forgets is a connection like any other. */
static void test_lost_announcement(void **state)
{
	struct hanging h = hang();
	struct ac_sock st;
	int server;

	fx_pend_drop(&h.key);
	server = let_go(&h);
	assert_int_equal(fx_stat(AC_STAT_REMOTE), 1);
	assert_false(fx_sock(h.client, &st) || fx_sock(server, &st));
	fx_exchange(h.client, server);
	assert_int_equal(fx_count(fx.socks), 0);
	close_both(h.client, server);
}

/* A place that is full of clients which never answered: the oldest makes room. */
static void test_handshakes_without_end(void **state)
{
	static struct ac_pends pends[AC_PEND_PLACES];
	static uint32_t places[AC_PEND_PLACES];
	const int oldest = AC_PEND_WAYS / 2;
	int client, server, free_ways = 0;
	uint32_t n = AC_PEND_PLACES;

	for (uint32_t place = 0; place < AC_PEND_PLACES; place++) {
		places[place] = place;
		for (int i = 0; i < AC_PEND_WAYS; i++) {
			pends[place].born[i] = i == oldest ? 1 : 2;
			pends[place].key[i] = (struct ac_key){ .client_seq = (uint32_t)i, .server_seq = place };
		}
	}
	assert_int_equal(bpf_map_update_batch(fx.pend, places, pends, &n, NULL), 0);
	fx_pair(AF_INET, &client, &server);
	fx_exchange(client, server);
	assert_true(fx_is_joined(client) && fx_is_joined(server));
	fx_pends(pends);
	for (uint32_t place = 0; place < AC_PEND_PLACES; place++)
		for (int i = 0; i < AC_PEND_WAYS; i++) {
			if (!pends[place].born[i])
				free_ways++;
			assert_true(pends[place].born[i] || i == oldest);
		}
	assert_int_equal(free_ways, 1);
	close_both(client, server);
}

/* So is the table from which a client learns of its server. */
static void test_lost_peer(void **state)
{
	struct ac_sock c;
	uint64_t cookie;
	int client, server;

	fx_pair(AF_INET, &client, &server);
	cookie = fx_cookie(client);
	assert_int_equal(bpf_map_delete_elem(fx.peers, &cookie), 0);
	fx_exchange(client, server);
	assert_true(fx_sock(client, &c));
	assert_int_equal(c.tx_why, AC_WHY_NO_PEER);
	assert_true(c.joined_bytes == 0 && c.tcp_sends > 0);
	close_both(client, server);
}

static void set_port(uint16_t port, uint8_t bits)
{
	uint32_t key = port;

	assert_int_equal(bpf_map_update_elem(fx.ports, &key, &bits, BPF_ANY), 0);
}

static void test_ports(void **state)
{
	struct sockaddr_storage addr;
	int listener, client, server;
	socklen_t len;
	uint16_t port;

	listener = fx_listen(AF_INET, 0, &addr, &len);
	port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
	for (int round = 0; round < 4; round++) {
		fx_ctl(1, round >= 2);
		set_port(port, (uint8_t[]){ 0, AC_PORT_EXCLUDE, 0, AC_PORT_ONLY }[round]);
		client = fx_tcp(AF_INET, 0);
		assert_int_equal(fx_connect(client, &addr, len), 0);
		server = fx_accept(listener);
		if (round == 1 || round == 2)
			assert_pair_on_tcp(client, server, AC_WHY_PORT);
		else
			assert_pair_joined(client, server);
		close_both(client, server);
	}
	(void)close(listener);
}

static void test_off(void **state)
{
	int client, server;

	fx_ctl(0, 0);
	fx_pair(AF_INET, &client, &server);
	fx_exchange(client, server);
	assert_int_equal(fx_count(fx.socks), 0);
	assert_int_equal(fx_stat(AC_STAT_JOINED), 0);
	close_both(client, server);
}

/* Switched off in the middle of a connection: the next send goes by TCP, and the order holds. */
static void test_off_while_joined(void **state)
{
	struct ac_sock c;
	int client, server;
	uint64_t joined;

	fx_pair(AF_INET, &client, &server);
	assert_pair_joined(client, server);
	assert_true(fx_sock(client, &c));
	joined = c.joined_bytes;
	fx_ctl(0, 0);
	fx_exchange(client, server);
	assert_true(fx_sock(client, &c));
	assert_int_equal(c.tx_why, AC_WHY_OFF);
	assert_true(c.joined_bytes == joined);
	fx_ctl(1, 0);
	fx_exchange(client, server);
	assert_true(fx_sock(client, &c));
	assert_true(c.joined_bytes > joined);
	close_both(client, server);
}

static void test_unknown_states_of_programs(void **state)
{
	static const struct {
		enum ac_exe_state state;
		enum ac_why why;
	} rows[] = {
		{ AC_EXE_LEARNING, AC_WHY_LEARNING },
		{ AC_EXE_RIPE, AC_WHY_LEARNING },
		{ AC_EXE_SPLICES, AC_WHY_SPLICES },
		{ AC_EXE_ABLE, AC_WHY_MAY_SPLICE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int client, server;

		fx_trust(rows[i].state);
		fx_pair(AF_INET, &client, &server);
		assert_pair_on_tcp(client, server, rows[i].why);
		close_both(client, server);
	}
}

/* The third pair finds the table full, and goes on by TCP. */
static void test_table_full(void **state)
{
	int client[3], server[3];

	(void)fx_unload(NULL);
	fx_load_with(4);
	for (int i = 0; i < 3; i++)
		fx_pair(AF_INET, &client[i], &server[i]);
	assert_true(fx_stat(AC_STAT_MAP_FULL) >= 1);
	assert_int_equal(fx_stat(AC_STAT_JOINED), 2);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fx_is_joined(server[i]), i < 2);
		fx_exchange(client[i], server[i]);
		close_both(client[i], server[i]);
	}
}

/* Every listener is known for short connections. */
static void all_are_brief(void)
{
	uint64_t key, next;

	for (bool first = true; !bpf_map_get_next_key(fx.listen, first ? NULL : &key, &next);
	     first = false, key = next) {
		struct ac_listener listener;

		assert_int_equal(bpf_map_lookup_elem(fx.listen, &next, &listener), 0);
		listener.brief = AC_BRIEF_MAX;
		assert_int_equal(bpf_map_update_elem(fx.listen, &next, &listener, BPF_EXIST), 0);
	}
}

/* How short the connections of the only listener are known to be. */
static uint32_t how_brief(void)
{
	struct ac_listener listener;
	uint64_t key;

	assert_int_equal(fx_count(fx.listen), 1);
	assert_int_equal(bpf_map_get_next_key(fx.listen, NULL, &key), 0);
	assert_int_equal(bpf_map_lookup_elem(fx.listen, &key, &listener), 0);
	return listener.brief;
}

/* Short connections cost no storage; what lasts is noticed, and some servers are asked at their end how it was. */
static void test_brief(void **state)
{
	struct sockaddr_storage addr;
	int listener, client, server;
	struct ac_sock st;
	socklen_t len;

	listener = fx_listen(AF_INET, 0, &addr, &len);
	all_are_brief();
	for (int i = 0; i < 256; i++) {
		client = fx_tcp(AF_INET, 0);
		assert_int_equal(fx_connect(client, &addr, len), 0);
		server = fx_accept(listener);
		assert_false(fx_sock(client, &st) || fx_sock(server, &st));
		if (i < 255)
			close_both(client, server);
	}
	assert_int_equal(how_brief(), AC_BRIEF_MAX);
	assert_int_equal(fx_stat(AC_STAT_BRIEF), 256);
	assert_int_equal(fx_stat(AC_STAT_LASTS), 0);
	for (int i = 0; i < 1000 && !fx_stat(AC_STAT_LASTS); i++) {
		(void)poll(NULL, 0, 10);
		fx_exchange(client, server);
	}
	assert_true(fx_stat(AC_STAT_LASTS) > 0);
	close_both(client, server);
	/* Servers that have more to say. */
	for (int i = 0; i < 1000 && how_brief() == AC_BRIEF_MAX; i++) {
		client = fx_tcp(AF_INET, 0);
		assert_int_equal(fx_connect(client, &addr, len), 0);
		server = fx_accept(listener);
		fx_exchange(server, client);
		close_both(client, server);
	}
	assert_true(how_brief() < AC_BRIEF_MAX);
	(void)close(listener);
	assert_int_equal(fx_pend_count(), 0);
	assert_int_equal(fx_count(fx.peers), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define ROW(fn) cmocka_unit_test_setup_teardown(fn, fx_load, fx_unload)
		ROW(test_ipv4),
		ROW(test_ipv6),
		ROW(test_v4_mapped),
		ROW(test_announcement),
		ROW(test_second_client_poisons),
		ROW(test_second_announcement_poisons),
		ROW(test_lost_announcement),
		ROW(test_handshakes_without_end),
		ROW(test_lost_peer),
		ROW(test_ports),
		ROW(test_off),
		ROW(test_off_while_joined),
		ROW(test_unknown_states_of_programs),
		ROW(test_table_full),
		ROW(test_brief),
#undef ROW
	};

	return cmocka_run_group_tests_name("pair", tests, fx_away, fx_home);
}
