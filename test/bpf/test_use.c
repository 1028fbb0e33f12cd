// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Programs that use a socket in a way that a joined one cannot honour: seen on plain TCP they are never joined,
 * and seen on a joined socket its connection goes back to TCP.
 */
#include "fx.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

static int load(void **state)
{
	(void)fx_load(state);
	fx_attach_watchers();
	return 0;
}

static enum ac_exe_state own_state(void)
{
	struct ac_exe exe;

	assert_int_equal(bpf_map_lookup_elem(fx.exes, &fx.exe, &exe), 0);
	return exe.state;
}

static bool is_odd(int fd, enum ac_why *ret)
{
	uint64_t cookie = fx_cookie(fd);
	uint32_t why = 0;
	bool odd = !bpf_map_lookup_elem(fx.odd, &cookie, &why);

	*ret = why;
	return odd;
}

static void use_nothing(int client, int server)
{
	char c;

	assert_int_equal(send(client, "abc", 3, MSG_NOSIGNAL | MSG_DONTWAIT), 3);
	assert_int_equal(recv(server, &c, 1, MSG_PEEK), 1);
	assert_int_equal(recv(server, &c, 1, MSG_DONTWAIT), 1);
	assert_int_equal(read(server, &c, 1), 1);
	assert_int_equal(recv(server, &c, 1, 0), 1);
}

static void use_waitall(int client, int server)
{
	char buf[2];

	assert_int_equal(send(client, "ab", 2, 0), 2);
	assert_int_equal(recv(server, buf, 2, MSG_WAITALL), 2);
}

static void use_oob(int client, int server)
{
	char c;

	/* Whatever it gives here: there is no urgent byte. */
	(void)recv(server, &c, 1, MSG_OOB | MSG_DONTWAIT);
}

static void use_lowat(int client, int server)
{
	int bytes = 100, one = 1;

	assert_int_equal(setsockopt(server, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)), 0);
	/* Not for what follows: poll(2) would wait for so many. */
	assert_int_equal(setsockopt(server, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one)), 0);
}

static void use_zerocopy(int client, int server)
{
	int on = 1;

	assert_int_equal(setsockopt(client, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)), 0);
}

static void use_splice(int client, int server)
{
	int pipe_fds[2];

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(send(client, "spliced", 7, 0), 7);
	assert_int_equal(splice(server, NULL, pipe_fds[1], NULL, 7, 0), 7);
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
}

static const struct row {
	void (*use)(int client, int server);
	enum ac_exe_state state;
} rows[] = {
	{ use_nothing, AC_EXE_LEARNING }, { use_waitall, AC_EXE_UNFIT },  { use_oob, AC_EXE_UNFIT },
	{ use_lowat, AC_EXE_UNFIT },	  { use_zerocopy, AC_EXE_UNFIT }, { use_splice, AC_EXE_SPLICES },
};

/* On plain TCP, where programs are watched, each use is seen and does what it always did. */
static void test_watched(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int client, server;

		fx_trust(AC_EXE_LEARNING);
		fx_pair(AF_INET, &client, &server);
		rows[i].use(client, server);
		if (own_state() != rows[i].state)
			fail_msg("row %zu: state %d instead of %d", i, own_state(), rows[i].state);
		(void)close(client);
		(void)close(server);
	}
}

/* On a joined socket: both ends are to leave, and do so as they send; all goes by TCP, in order. */
static void test_joined(void **state)
{
	for (size_t i = 1; i < ARRAY_SIZE(rows); i++) {
		struct ac_sock before, after;
		enum ac_why why;
		int client, server;

		/* A joined socket is not spliced from: it would wait for ever. */
		if (rows[i].use == use_splice)
			continue;
		fx_trust(AC_EXE_TRUSTED);
		fx_pair(AF_INET, &client, &server);
		fx_exchange(client, server);
		assert_true(fx_is_joined(client) && fx_is_joined(server));
		rows[i].use(client, server);
		assert_int_equal(own_state(), AC_EXE_UNFIT);
		assert_true(is_odd(client, &why) && why == AC_WHY_UNFIT);
		assert_true(is_odd(server, &why) && why == AC_WHY_UNFIT);
		assert_true(fx_sock(client, &before));
		fx_exchange(server, client);
		assert_true(fx_sock(client, &after));
		assert_true(after.joined_bytes == before.joined_bytes);
		assert_true(after.state == AC_SOCK_WATCHED && after.why == AC_WHY_UNFIT);
		assert_false(fx_in_map(client) || fx_in_map(server) || is_odd(client, &why) || is_odd(server, &why));
		(void)close(client);
		(void)close(server);
	}
	assert_int_equal(fx_stat(AC_STAT_UNFIT_LATE) >= ARRAY_SIZE(rows) - 2, 1);
}

/* Options set before the connection, also those that an accepted socket inherits from its listener. */
static void test_inherited(void **state)
{
	struct sockaddr_storage addr;
	int listener, client, server, bytes = 10;
	struct ac_sock st;
	socklen_t len;

	listener = fx_listen(AF_INET, 0, &addr, &len);
	assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)), 0);
	fx_trust(AC_EXE_TRUSTED);
	client = fx_tcp(AF_INET, 0);
	assert_int_equal(fx_connect(client, &addr, len), 0);
	server = fx_accept(listener);
	assert_false(fx_in_map(server));
	assert_true(fx_sock(server, &st));
	assert_int_equal(st.why, AC_WHY_UNFIT);
	bytes = 1;
	assert_int_equal(setsockopt(server, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)), 0);
	fx_exchange(client, server);
	(void)close(client);
	(void)close(server);
	(void)close(listener);
}

/* How a stream goes: every so many sends are read, and answered; 0: none is. */
struct flow {
	int read_every, answer_every;
};

/* Small sends from client to server, which then reads them and what was sent before, of so many bytes. */
static void stream_small(int client, int server, int sends, struct flow flow, size_t before)
{
	size_t waiting = before;
	static char buf[8192];
	ssize_t n;

	for (int i = 1; i <= sends; i++) {
		assert_int_equal(send(client, buf, 64, MSG_NOSIGNAL), 64);
		waiting += 64;
		if (i % flow.read_every == 0)
			while ((n = recv(server, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
				waiting -= (size_t)n;
		if (flow.answer_every && i % flow.answer_every == 0) {
			assert_int_equal(send(server, buf, 1, MSG_NOSIGNAL), 1);
			fx_wait(client, POLLIN);
			assert_int_equal(recv(client, buf, 1, 0), 1);
		}
	}
	while (waiting) {
		fx_wait(server, POLLIN);
		n = recv(server, buf, sizeof(buf), 0);
		assert_true(n > 0 && (size_t)n <= waiting);
		waiting -= (size_t)n;
	}
}

/*
 * What TCP puts together is left to it; answers and large sends show that it is something else, and with TCP_NODELAY a
 * reader that keeps up.
 */
static void test_small_writes(void **state)
{
	static const struct {
		int nodelay;
		struct flow flow;
		bool leaves;
	} cases[] = {
		{ 0, { 16, 0 }, true },	  { 1, { 16, 0 }, false },     { 0, { 16, 100 }, false },
		{ 1, { 1024, 0 }, true }, { 1, { 1024, 100 }, false },
	};
	static char large[65536];
	uint64_t left = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int client, server, on = cases[i].nodelay;
		enum ac_why why = AC_WHY_NONE;
		struct ac_sock st;

		fx_pair(AF_INET, &client, &server);
		assert_int_equal(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
		stream_small(client, server, 200, cases[i].flow, 0);
		assert_int_equal(send(client, large, sizeof(large), MSG_NOSIGNAL), sizeof(large));
		stream_small(client, server, 200, cases[i].flow, sizeof(large));
		assert_true(fx_in_map(client));
		stream_small(client, server, 400, cases[i].flow, 0);
		assert_true(fx_sock(client, &st));
		if (cases[i].leaves)
			assert_true(st.state == AC_SOCK_WATCHED && st.why == AC_WHY_SMALL && is_odd(server, &why));
		else
			assert_true(st.state == AC_SOCK_JOINED && fx_is_joined(server) && !is_odd(server, &why));
		left += cases[i].leaves;
		assert_int_equal(fx_stat(AC_STAT_SMALL), left);
		fx_exchange(server, client);
		fx_exchange(server, client);
		assert_true(fx_in_map(server) == !cases[i].leaves);
		(void)close(client);
		(void)close(server);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_watched, load, fx_unload),
		cmocka_unit_test_setup_teardown(test_joined, load, fx_unload),
		cmocka_unit_test_setup_teardown(test_inherited, load, fx_unload),
		cmocka_unit_test_setup_teardown(test_small_writes, load, fx_unload),
	};

	return cmocka_run_group_tests_name("use", tests, fx_away, fx_home);
}
