// SPDX-License-Identifier: GPL-2.0-or-later
/* Round trips on joined pairs: which sends are sampled, and what is taken for the answer. */
#include "fx.h"

#include <poll.h>
#include <time.h>

#define WAIT_MS 20

static int client, server;

static int pair_up(void **state)
{
	(void)fx_load(state);
	fx_pair(AF_INET, &client, &server);
	assert_true(fx_is_joined(client) && fx_is_joined(server));
	return 0;
}

static int pair_down(void **state)
{
	closep(&client);
	closep(&server);
	return fx_unload(state);
}

/* As user space does at each tick. */
static void turn(uint32_t n, uint32_t left)
{
	uint32_t zero = 0;
	struct ac_ctl ctl;

	assert_int_equal(bpf_map_lookup_elem(fx.ctl, &zero, &ctl), 0);
	ctl.trip_turn = n;
	ctl.trips_left = left;
	assert_int_equal(bpf_map_update_elem(fx.ctl, &zero, &ctl, BPF_ANY), 0);
}

static void say(int from, int to)
{
	char c = 'x';

	assert_int_equal(send(from, &c, 1, MSG_NOSIGNAL), 1);
	fx_wait(to, POLLIN);
	assert_int_equal(recv(to, &c, 1, 0), 1);
}

static void wait_ms(long ms)
{
	const struct timespec ts = { .tv_nsec = ms * 1000000 };

	assert_int_equal(nanosleep(&ts, NULL), 0);
}

/* How many were counted, and the sum of their times. */
static uint64_t trips(uint64_t *ret_ns)
{
	int n_cpus = libbpf_num_possible_cpus(), fd = bpf_object__find_map_fd_by_name(fx.obj, "ac_trips");
	_cleanup_free_ struct ac_trips *v = calloc((size_t)n_cpus, sizeof(*v));
	uint64_t n = 0, ns = 0;
	uint32_t zero = 0;

	assert_non_null(v);
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, v), 0);
	for (int cpu = 0; cpu < n_cpus; cpu++) {
		ns += v[cpu].sum_ns;
		for (size_t i = 0; i < AC_TRIP_BUCKETS; i++)
			n += v[cpu].buckets[i];
	}
	if (ret_ns)
		*ret_ns = ns;
	return n;
}

static void nothing_before_the_first_turn(void **state)
{
	(void)state;
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 0);
}

static void one_a_turn(void **state)
{
	uint64_t ns;

	(void)state;
	turn(1, 10);
	say(client, server);
	wait_ms(WAIT_MS);
	assert_int_equal(trips(NULL), 0);
	say(server, client);
	assert_int_equal(trips(&ns), 1);
	assert_in_range(ns, WAIT_MS * 1000000, 60000000000);
	/* Neither what comes after the answer, nor the next question. */
	say(server, client);
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 1);
	turn(2, 10);
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 2);
}

static void not_more_than_are_left(void **state)
{
	(void)state;
	turn(1, 0);
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 0);
	turn(2, 1);
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 1);
}

/* The server says something of its own accord: that answers nothing, and the question after it is sampled all the same. */
static void unasked(void **state)
{
	(void)state;
	turn(1, 10);
	say(server, client);
	assert_int_equal(trips(NULL), 0);
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 1);
}

/* An answer that takes several turns is measured from its question, though the client sends more meanwhile. */
static void late_answer(void **state)
{
	uint64_t ns;

	(void)state;
	turn(1, 10);
	say(client, server);
	for (uint32_t n = 2; n < 5; n++) {
		wait_ms(WAIT_MS);
		turn(n, 10);
		say(client, server);
	}
	say(server, client);
	assert_int_equal(trips(&ns), 1);
	assert_in_range(ns, 3 * WAIT_MS * 1000000, 60000000000);
}

/* A server that sends often in a turn stops looking, and looks again in the next. */
static void looks_end(void **state)
{
	(void)state;
	turn(1, 10);
	for (int i = 0; i < 10; i++)
		say(server, client);
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 0);
	turn(2, 10);
	say(client, server);
	say(server, client);
	assert_int_equal(trips(NULL), 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_before_the_first_turn, pair_up, pair_down),
		cmocka_unit_test_setup_teardown(one_a_turn, pair_up, pair_down),
		cmocka_unit_test_setup_teardown(not_more_than_are_left, pair_up, pair_down),
		cmocka_unit_test_setup_teardown(unasked, pair_up, pair_down),
		cmocka_unit_test_setup_teardown(late_answer, pair_up, pair_down),
		cmocka_unit_test_setup_teardown(looks_end, pair_up, pair_down),
	};

	return cmocka_run_group_tests(tests, fx_away, fx_home);
}
