// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/ring.h"

#include <arpa/inet.h>
#include <errno.h>

#include "unit.h"

/* n backends 198.18.x.y:80 with ids from first_id on. */
static struct ring_backend *backends_new(size_t n, uint32_t first_id, uint32_t weight)
{
	struct ring_backend *b = calloc(n, sizeof(*b));

	assert_non_null(b);
	for (size_t i = 0; i < n; i++) {
		struct lb_addr addr = { .v6 = { 0, 0, htonl(0xffff), htonl(0xc6120000 + (uint32_t)i) } };

		b[i].id = first_id + (uint32_t)i;
		b[i].weight = weight;
		b[i].identity = ring_identity(&addr, htons(80));
	}
	return b;
}

static uint32_t *build(enum lb_scheduler scheduler, const struct ring_backend *b, size_t n, uint32_t size,
		       uint32_t seed, uint32_t *ret_n)
{
	uint32_t *ring = NULL;
	struct err err = {};

	if (ring_build(scheduler, b, n, size, seed, &ring, ret_n, &err) < 0)
		fail_msg("%s", err.text);
	return ring;
}

static size_t count(const uint32_t *ring, uint32_t n, uint32_t id)
{
	size_t found = 0;

	for (uint32_t i = 0; i < n; i++)
		found += ring[i] == id;
	return found;
}

static void test_sizes_are_prime(void **state)
{
	size_t n = 0;
	bool has_default = false;

	for (const uint32_t *s = ring_table_sizes; *s; s++, n++) {
		for (uint32_t d = 2; d * d <= *s; d++)
			assert_int_not_equal(*s % d, 0);
		assert_true(*s <= RING_MAX && (n == 0 || *s > s[-1]));
		has_default |= *s == RING_TABLE_DEFAULT;
	}
	assert_true(n >= 5 && has_default);
}

static void test_identity(void **state)
{
	struct lb_addr a = { .v6 = { 0, 0, htonl(0xffff), htonl(0xc6120002) } }, b = a;

	/* Written down, for another balancer and the next version must agree. */
	assert_true(ring_identity(&a, htons(80)) == UINT64_C(0xc31ec41ca45d1ac8));
	assert_true(ring_identity(&a, htons(80)) != ring_identity(&a, htons(81)));
	b.v6[0] = htonl(1);
	assert_true(ring_identity(&a, htons(80)) != ring_identity(&b, htons(80)));
}

static void test_maglev_even(void **state)
{
	_cleanup_free_ struct ring_backend *b = backends_new(100, 1, 7);

	for (const uint32_t *s = ring_table_sizes; *s; s++) {
		_cleanup_free_ uint32_t *ring = NULL;
		uint32_t n;

		ring = build(LB_MAGLEV, b, 100, *s, 0, &n);
		assert_int_equal(n, *s);
		/* Equal weights take turns: no two differ by more than one entry. */
		for (uint32_t id = 1; id <= 100; id++)
			assert_in_range(count(ring, n, id), *s / 100, *s / 100 + 1);
	}
}

static void test_maglev_weights(void **state)
{
	static const uint32_t weights[] = { 1, 2, 3, 10, 100, 1000, 65535, 0 };
	_cleanup_free_ struct ring_backend *b = backends_new(ARRAY_SIZE(weights), 1, 0);
	_cleanup_free_ uint32_t *ring = NULL;
	double sum = 0;
	uint32_t n;

	for (size_t i = 0; i < ARRAY_SIZE(weights); i++) {
		b[i].weight = weights[i];
		sum += weights[i];
	}
	ring = build(LB_SOURCE, b, ARRAY_SIZE(weights), 65537, 0, &n);
	for (uint32_t i = 0; i < ARRAY_SIZE(weights); i++) {
		double want = weights[i] / sum * n, have = (double)count(ring, n, i + 1);

		if (have < want - 2 || have > want + 2)
			fail_msg("weight %u has %.0f entries instead of %.1f", weights[i], have, want);
	}
	assert_int_equal(count(ring, n, 8), 0);
	assert_int_equal(count(ring, n, LB_NONE), 0);
}

/* The share of entries of the others that changed hands when one of n left. */
static double disruption(size_t n, uint32_t size, size_t leaves)
{
	_cleanup_free_ struct ring_backend *b = backends_new(n, 1, 1);
	_cleanup_free_ uint32_t *before = NULL, *after = NULL;
	uint32_t n_ring, id = b[leaves].id;
	size_t moved = 0;

	before = build(LB_MAGLEV, b, n, size, 0, &n_ring);
	b[leaves].weight = 0;
	after = build(LB_MAGLEV, b, n, size, 0, &n_ring);
	for (uint32_t i = 0; i < size; i++)
		moved += before[i] != id && before[i] != after[i];
	assert_int_equal(count(after, size, id), 0);
	return (double)moved / size;
}

static void test_maglev_disruption(void **state)
{
	static const size_t n[] = { 2, 10, 100, 1000 };

	for (size_t i = 0; i < ARRAY_SIZE(n); i++) {
		assert_true(disruption(n[i], 65537, 0) < 0.01);
		assert_true(disruption(n[i], 65537, n[i] - 1) < 0.01);
	}
}

/* Neither order nor ids matter, and the seed does. */
static void test_maglev_identity(void **state)
{
	_cleanup_free_ struct ring_backend *a = backends_new(50, 1, 1), *b = backends_new(50, 1001, 1);
	_cleanup_free_ uint32_t *ring_a = NULL, *ring_b = NULL, *seeded = NULL;
	uint32_t n;
	size_t same = 0;

	for (size_t i = 0; i < 50; i++)
		a[i].weight = b[i].weight = (uint32_t)i % 3 + 1;
	for (size_t i = 0; i < 25; i++) {
		struct ring_backend swap = b[i];

		b[i] = b[49 - i];
		b[49 - i] = swap;
	}
	for (int hashed = 0; hashed < 2; hashed++) {
		enum lb_scheduler scheduler = hashed ? LB_MAGLEV : LB_ROUND_ROBIN;

		free(ring_a);
		free(ring_b);
		ring_a = build(scheduler, a, 50, 4093, 5, &n);
		ring_b = build(scheduler, b, 50, 4093, 5, &n);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(ring_a[i] + 1000, ring_b[i]);
	}
	free(ring_a);
	ring_a = build(LB_MAGLEV, a, 50, 4093, 5, &n);
	seeded = build(LB_MAGLEV, a, 50, 4093, 6, &n);
	for (uint32_t i = 0; i < n; i++)
		same += ring_a[i] == seeded[i];
	assert_true(same < n / 4);
}

static void test_smooth(void **state)
{
	_cleanup_free_ struct ring_backend *b = backends_new(3, 1, 0);
	_cleanup_free_ uint32_t *ring = NULL;
	uint32_t n;

	b[0].weight = 50;
	b[1].weight = 10;
	b[2].weight = 20;
	ring = build(LB_ROUND_ROBIN, b, 3, 0, 0, &n);
	assert_int_equal(n, 8);
	assert_int_equal(count(ring, n, 1), 5);
	assert_int_equal(count(ring, n, 2), 1);
	assert_int_equal(count(ring, n, 3), 2);
	/* The two of the third are as far apart as they can be. */
	for (uint32_t i = 0; i < 4; i++)
		assert_true(count(ring + i, 4, 3) <= 2 && count(ring + i, 5, 1) >= 2);
	for (uint32_t i = 0; i + 1 < n; i++)
		assert_false(ring[i] == 3 && ring[i + 1] == 3);
}

/* Within any stretch of the ring nobody has more than its share and two. */
static void test_smooth_everywhere(void **state)
{
	_cleanup_free_ struct ring_backend *b = backends_new(20, 1, 0);
	_cleanup_free_ uint32_t *ring = NULL;
	uint32_t n;

	for (uint32_t i = 0; i < 20; i++)
		b[i].weight = 1 + i * i;
	ring = build(LB_RANDOM, b, 20, 0, 0, &n);
	for (uint32_t i = 0; i < 20; i++) {
		double seen = 0;

		for (uint32_t k = 0; k < n; k++) {
			double share = (double)b[i].weight * (k + 1) / n;

			seen += ring[k] == i + 1;
			assert_true(seen < share + 2 && seen > share - 2);
		}
		assert_int_equal(seen, b[i].weight);
	}
}

/* Too long for the ratio to be kept exactly. */
static void test_smooth_scaled(void **state)
{
	_cleanup_free_ struct ring_backend *b = backends_new(1000, 1, RING_WEIGHT_MAX);
	_cleanup_free_ uint32_t *ring = NULL;
	uint32_t n;

	b[0].weight = 1;
	b[1].weight = RING_WEIGHT_MAX - 1;
	ring = build(LB_LEAST_CONN, b, 1000, 0, 0, &n);
	assert_true(n <= RING_MAX && n > RING_MAX * 9 / 10);
	assert_int_equal(count(ring, n, 1), 1);
	assert_in_range(count(ring, n, 2), n / 1000 - 2, n / 1000 + 2);
	assert_in_range(count(ring, n, 1000), n / 1000 - 2, n / 1000 + 2);
}

static void test_nobody(void **state)
{
	_cleanup_free_ struct ring_backend *b = backends_new(3, 1, 0);
	uint32_t *ring = (uint32_t *)b, n = 1;

	assert_int_equal(ring_build(LB_MAGLEV, b, 3, 251, 0, &ring, &n, NULL), 0);
	assert_null(ring);
	assert_int_equal(n, 0);
	assert_int_equal(ring_build(LB_ROUND_ROBIN, NULL, 0, 0, 0, &ring, &n, NULL), 0);
	assert_null(ring);
}

static void test_refused(void **state)
{
	_cleanup_free_ struct ring_backend *b = backends_new(252, 1, 1);
	uint32_t *ring = NULL, n = 77;
	struct err err = {};

	assert_int_equal(ring_build(LB_MAGLEV, b, 3, 252, 0, &ring, &n, &err), -EINVAL);
	assert_non_null(strstr(err.text, "65537"));
	assert_int_equal(ring_build(LB_MAGLEV, b, 252, 251, 0, &ring, &n, &err), -E2BIG);
	b[5].weight = RING_WEIGHT_MAX + 1;
	assert_int_equal(ring_build(LB_RANDOM, b, 252, 0, 0, &ring, &n, &err), -ERANGE);
	assert_null(ring);
	assert_int_equal(n, 77);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_are_prime),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_maglev_even),
		cmocka_unit_test(test_maglev_weights),
		cmocka_unit_test(test_maglev_disruption),
		cmocka_unit_test(test_maglev_identity),
		cmocka_unit_test(test_smooth),
		cmocka_unit_test(test_smooth_everywhere),
		cmocka_unit_test(test_smooth_scaled),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
