// SPDX-License-Identifier: GPL-2.0-or-later
/* How programs wait for bytes, as far as it is seen: who polls may be joined, who sleeps in recv(2) may not. */
#include "fx.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>

#define ROUNDS 5000 /* how many of the reads are seen depends on when the kernel measures its round trips */
#define WAIT_MS 10000

static struct ac_exe own_exe(void)
{
	struct ac_exe exe = {};

	assert_int_equal(bpf_map_lookup_elem(fx.exes, &fx.exe, &exe), 0);
	return exe;
}

static void own_exe_set(enum ac_exe_state state, bool forced)
{
	struct ac_exe exe = { .state = state, .forced = forced, .comm = "test" };

	assert_int_equal(bpf_map_update_elem(fx.exes, &fx.exe, &exe, BPF_ANY), 0);
}

static void pause_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	(void)nanosleep(&ts, NULL);
}

static void ping(int from, int to)
{
	char c = 'x';

	assert_int_equal(send(from, &c, 1, MSG_NOSIGNAL), 1);
	assert_int_equal(recv(to, &c, 1, 0), 1);
}

static void set_nonblock(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

/* A thread that does one thing with a socket, and is seen to sleep in it. */
struct doer {
	int fd;
	void *(*fn)(void *data);
	pthread_t thread;
	_Atomic pid_t tid;
	ssize_t result;
};

static void doer_start(struct doer *d, int fd, void *(*fn)(void *data))
{
	char path[64], state = 0;

	*d = (struct doer){ .fd = fd, .fn = fn };
	assert_int_equal(pthread_create(&d->thread, NULL, fn, d), 0);
	for (int i = 0; i < WAIT_MS && state != 'S'; i++) {
		_cleanup_fclose_ FILE *f = NULL;

		pause_ms(1);
		(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)d->tid);
		f = fopen(path, "re");
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
	}
	assert_int_equal(state, 'S');
}

static ssize_t doer_end(struct doer *d)
{
	assert_int_equal(pthread_join(d->thread, NULL), 0);
	return d->result;
}

static void *reads(void *data)
{
	struct doer *d = data;
	char c;

	d->tid = gettid();
	d->result = recv(d->fd, &c, 1, 0);
	return NULL;
}

/* And answers, as a server does. */
static void *reads_and_answers(void *data)
{
	struct doer *d = data;
	char c = 'y';

	(void)reads(data);
	if (d->result == 1)
		(void)send(d->fd, &c, 1, MSG_NOSIGNAL);
	return NULL;
}

static void *polls(void *data)
{
	struct doer *d = data;
	struct pollfd p = { .fd = d->fd, .events = POLLIN };

	d->tid = gettid();
	d->result = poll(&p, 1, WAIT_MS);
	return NULL;
}

static void *writes(void *data)
{
	static char buf[1 << 20];
	struct doer *d = data;

	d->tid = gettid();
	for (int i = 0; i < 16; i++)
		if (send(d->fd, buf, sizeof(buf), MSG_NOSIGNAL) < 0)
			d->result = -errno;
	return NULL;
}

static void close_both(int client, int server)
{
	(void)close(client);
	(void)close(server);
}

/* Sockets that cannot sleep in recv(2): read often enough, the program is ripe for user space's decision. */
static void test_nonblocking_ripens(void **state)
{
	struct ac_exe exe;
	int client, server;

	own_exe_set(AC_EXE_LEARNING, false);
	fx_pair(AF_INET, &client, &server);
	set_nonblock(client);
	set_nonblock(server);
	for (int i = 0; i < ROUNDS && own_exe().state != AC_EXE_RIPE; i++) {
		ping(client, server);
		ping(server, client);
		exe = own_exe();
		assert_true(exe.state != AC_EXE_RIPE || (exe.reads >= 32 && exe.polls >= 8));
	}
	assert_int_equal(own_exe().state, AC_EXE_RIPE);
	close_both(client, server);
}

/* Bytes are always there before it asks: it was not seen asleep, and that is no proof. */
static void test_never_seen_is_no_proof(void **state)
{
	int client, server;

	own_exe_set(AC_EXE_LEARNING, false);
	fx_pair(AF_INET, &client, &server);
	for (int i = 0; i < ROUNDS && own_exe().reads < 100; i++) {
		ping(client, server);
		ping(server, client);
	}
	assert_true(own_exe().reads >= 100);
	assert_int_equal(own_exe().state, AC_EXE_LEARNING);
	assert_int_equal(own_exe().polls, 0);
	close_both(client, server);
}

/* A blocking socket that is only read when poll(2) has said so. */
static void test_poller_is_seen(void **state)
{
	struct doer d;
	int client, server;
	char c;

	own_exe_set(AC_EXE_LEARNING, false);
	fx_pair(AF_INET, &client, &server);
	for (int i = 0; i < 3; i++) {
		doer_start(&d, server, polls);
		assert_int_equal(send(client, "x", 1, 0), 1);
		assert_int_equal(doer_end(&d), 1);
		assert_int_equal(recv(server, &c, 1, 0), 1);
	}
	assert_int_equal(own_exe().state, AC_EXE_LEARNING);
	assert_true(own_exe().polls >= 3);
	close_both(client, server);
}

/* Seen at the first byte, at either end; and its connections stay on TCP. */
static void test_sleeper_is_seen(void **state)
{
	struct ac_sock st;
	struct doer d;

	for (int i = 0; i < 4; i++) {
		int fds[2];

		/* Also one that is trusted already, while this socket is still watched. */
		own_exe_set(AC_EXE_LEARNING, false);
		fx_pair(AF_INET, &fds[0], &fds[1]);
		if (i >= 2)
			own_exe_set(AC_EXE_TRUSTED, false);
		doer_start(&d, fds[i % 2], reads);
		assert_int_equal(send(fds[!(i % 2)], "x", 1, 0), 1);
		assert_int_equal(doer_end(&d), 1);
		assert_int_equal(own_exe().state, AC_EXE_SLEEPS);
		close_both(fds[0], fds[1]);
		fx_pair(AF_INET, &fds[0], &fds[1]);
		assert_true(fx_sock(fds[0], &st));
		assert_int_equal(st.why, AC_WHY_SLEEPS);
		assert_false(fx_is_joined(fds[0]) || fx_is_joined(fds[1]));
		close_both(fds[0], fds[1]);
	}
}

/* A worse verdict is not forgotten for it. */
static void test_verdicts_are_ranked(void **state)
{
	struct doer d;
	int client, server;

	own_exe_set(AC_EXE_LEARNING, false);
	fx_pair(AF_INET, &client, &server);
	own_exe_set(AC_EXE_UNFIT, false);
	doer_start(&d, server, reads);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(doer_end(&d), 1);
	assert_int_equal(own_exe().state, AC_EXE_UNFIT);
	close_both(client, server);
}

/* The same wait queue holds those that sleep in send(2): they are no readers. */
static void test_writer_is_no_sleeper(void **state)
{
	static char buf[1 << 20];
	struct doer d;
	int client, server;
	size_t got = 0;

	own_exe_set(AC_EXE_LEARNING, false);
	fx_pair(AF_INET, &client, &server);
	set_nonblock(client);
	doer_start(&d, server, writes);
	/* It sleeps now, for nobody reads. */
	assert_int_equal(send(client, "x", 1, 0), 1);
	while (got < 16 * sizeof(buf)) {
		ssize_t r;

		fx_wait(client, POLLIN);
		r = recv(client, buf, sizeof(buf), 0);
		assert_true(r > 0);
		got += (size_t)r;
	}
	assert_int_equal(doer_end(&d), 0);
	assert_int_equal(own_exe().state, AC_EXE_LEARNING);
	close_both(client, server);
}

static bool is_odd(int fd)
{
	uint64_t cookie = fx_cookie(fd);
	struct ac_odd odd;

	return !bpf_map_lookup_elem(fx.odd, &cookie, &odd);
}

/*
 * Trusted for what it did before, and now it sleeps on a joined socket: its bytes reach it, it is trusted no more,
 * both sockets are to leave, and each leaves by itself when its program answers.
 */
static void test_late_sleeper_leaves(void **state)
{
	struct ac_sock st;
	struct doer d;
	int client, server;
	char c;

	own_exe_set(AC_EXE_TRUSTED, false);
	fx_pair(AF_INET, &client, &server);
	assert_true(fx_is_joined(client) && fx_is_joined(server));
	doer_start(&d, server, reads);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(doer_end(&d), 1);
	assert_int_equal(own_exe().state, AC_EXE_SLEEPS);
	assert_true(is_odd(client) && is_odd(server));
	assert_int_equal(fx_stat(AC_STAT_SLEEP_LATE), 1);
	assert_true(fx_in_map(server));
	doer_start(&d, server, reads_and_answers);
	fx_wait(server, POLLOUT);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(doer_end(&d), 1);
	assert_false(fx_in_map(server) || is_odd(server));
	assert_true(fx_sock(server, &st));
	assert_int_equal(st.state, AC_SOCK_WATCHED);
	assert_int_equal(st.why, AC_WHY_SLEEPS);
	fx_wait(client, POLLIN);
	assert_int_equal(recv(client, &c, 1, 0), 1);
	/* Its peer's queue is empty too: it goes with its next send. */
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_false(fx_in_map(client) || is_odd(client));
	assert_int_equal(recv(server, &c, 1, 0), 1);
	fx_exchange(client, server);
	assert_int_equal(fx_stat(AC_STAT_LEFT), 2);
	close_both(client, server);
}

/* What --trust says outweighs it. */
static void test_forced(void **state)
{
	struct doer d;
	int client, server;

	own_exe_set(AC_EXE_TRUSTED, true);
	fx_pair(AF_INET, &client, &server);
	doer_start(&d, server, reads);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(doer_end(&d), 1);
	assert_int_equal(own_exe().state, AC_EXE_TRUSTED);
	assert_false(is_odd(client) || is_odd(server));
	assert_int_equal(fx_stat(AC_STAT_SLEEP_LATE), 0);
	assert_true(fx_is_joined(client) && fx_is_joined(server));
	close_both(client, server);
}

static int decide(struct ac_decision *decision)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = decision, .ctx_size_in = sizeof(*decision));
	int fd = bpf_program__fd(bpf_object__find_program_by_name(fx.obj, "ac_decide"));

	assert_int_equal(bpf_prog_test_run_opts(fd, &opts), 0);
	return (int)decision->done;
}

/* User space's verdict is written only if nothing else was seen since. */
static void test_decide(void **state)
{
	struct ac_decision decision = { .key = fx.exe, .from = AC_EXE_RIPE, .to = AC_EXE_TRUSTED };

	own_exe_set(AC_EXE_SPLICES, false);
	assert_int_equal(decide(&decision), 0);
	assert_int_equal(own_exe().state, AC_EXE_SPLICES);
	own_exe_set(AC_EXE_RIPE, false);
	assert_int_equal(decide(&decision), 1);
	assert_int_equal(own_exe().state, AC_EXE_TRUSTED);
	decision.key.ino++;
	assert_int_equal(decide(&decision), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define ROW(fn) cmocka_unit_test_setup_teardown(fn, fx_load, fx_unload)
		ROW(test_nonblocking_ripens),
		ROW(test_never_seen_is_no_proof),
		ROW(test_poller_is_seen),
		ROW(test_sleeper_is_seen),
		ROW(test_verdicts_are_ranked),
		ROW(test_writer_is_no_sleeper),
		ROW(test_late_sleeper_leaves),
		ROW(test_forced),
		ROW(test_decide),
#undef ROW
	};

	return cmocka_run_group_tests_name("wait", tests, fx_away, fx_home);
}
