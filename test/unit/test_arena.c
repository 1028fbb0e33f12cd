// SPDX-License-Identifier: GPL-2.0-or-later
#include "hook/lb_arena.h"

#include <errno.h>

#include "unit.h"

static struct lb_arena arena;

static int setup(void **state)
{
	return lb_arena_init(&arena, 100);
}

static int teardown(void **state)
{
	lb_arena_done(&arena);
	return 0;
}

static uint32_t alloc(uint32_t n)
{
	uint32_t first = UINT32_MAX;

	assert_int_equal(lb_arena_alloc(&arena, n, &first), 0);
	return first;
}

static void test_first_fit(void **state)
{
	uint32_t first;

	assert_int_equal(alloc(10), 0);
	assert_int_equal(alloc(20), 10);
	assert_int_equal(alloc(30), 30);
	lb_arena_free(&arena, 10, 20);
	assert_int_equal(alloc(5), 10);
	assert_int_equal(alloc(15), 15);
	assert_int_equal(alloc(40), 60);
	assert_int_equal(arena.lines_free, 0);
	assert_int_equal(lb_arena_alloc(&arena, 1, &first), -ENOSPC);
}

static void test_coalesce(void **state)
{
	uint32_t first;

	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(alloc(10), i * 10);
	/* With neighbours on no side, on the right, on the left, on both. */
	lb_arena_free(&arena, 20, 10);
	lb_arena_free(&arena, 10, 10);
	lb_arena_free(&arena, 40, 10);
	assert_int_equal(arena.n, 2);
	assert_int_equal(lb_arena_alloc(&arena, 21, &first), -ENOSPC);
	lb_arena_free(&arena, 30, 10);
	assert_int_equal(arena.n, 1);
	assert_int_equal(alloc(40), 10);
	assert_int_equal(arena.n, 0);
}

static void test_take(void **state)
{
	uint32_t first;

	assert_int_equal(lb_arena_take(&arena, 40, 20), 0);
	assert_int_equal(lb_arena_take(&arena, 0, 10), 0);
	assert_int_equal(lb_arena_take(&arena, 90, 10), 0);
	assert_int_equal(lb_arena_take(&arena, 59, 1), -EEXIST);
	assert_int_equal(lb_arena_take(&arena, 35, 6), -EEXIST);
	assert_int_equal(lb_arena_take(&arena, 95, 1), -EEXIST);
	assert_int_equal(lb_arena_take(&arena, 60, UINT32_MAX), -EEXIST);
	assert_int_equal(lb_arena_take(&arena, 1000, 1), -EEXIST);
	assert_int_equal(arena.lines_free, 60);
	assert_int_equal(alloc(30), 10);
	assert_int_equal(alloc(30), 60);
	assert_int_equal(lb_arena_alloc(&arena, 1, &first), -ENOSPC);
}

/* Against a map of bytes: no line is ever given twice, and all come back. */
static void test_random(void **state)
{
	struct {
		uint32_t first, n;
	} held[100] = {};
	unsigned char used[100] = {};
	unsigned int seed = 1;

	for (int i = 0; i < 100000; i++) {
		unsigned int slot = (unsigned int)rand_r(&seed) % ARRAY_SIZE(held), n, free_run = 0, longest = 0;

		if (held[slot].n) {
			lb_arena_free(&arena, held[slot].first, held[slot].n);
			memset(used + held[slot].first, 0, held[slot].n);
			held[slot].n = 0;
			continue;
		}
		for (size_t k = 0; k < sizeof(used); k++) {
			free_run = used[k] ? 0 : free_run + 1;
			longest = free_run > longest ? free_run : longest;
		}
		n = 1 + (unsigned int)rand_r(&seed) % 8;
		if (lb_arena_alloc(&arena, n, &held[slot].first) < 0) {
			assert_true(longest < n);
			continue;
		}
		held[slot].n = n;
		for (uint32_t k = held[slot].first; k < held[slot].first + n; k++)
			assert_int_equal(used[k]++, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		lb_arena_free(&arena, held[i].first, held[i].n);
	assert_int_equal(arena.n, 1);
	assert_int_equal(arena.lines_free, 100);
	assert_int_equal(arena.used, 0);
	assert_int_equal(alloc(100), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_first_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_coalesce, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
