// SPDX-License-Identifier: GPL-2.0-or-later
/* Bit sets of entries, against what one sees by looking at each entry in turn. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "model/classes.h"

#define ENTRIES 70 /* more than a word */
#define CIDRS 300
#define RANGES 100

static uint32_t next_random(void)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 16);
}

/* Few different bits, so that addresses are often in networks. */
static struct lb_addr random_addr(void)
{
	struct lb_addr a = {};
	uint8_t *b = (uint8_t *)&a;

	b[0] = (uint8_t)(next_random() % 2 ? 0x20 : 0xfd);
	b[7] = (uint8_t)(next_random() % 4);
	b[15] = (uint8_t)(next_random() % 8);
	return a;
}

static void random_cidr(struct class_cidr *c)
{
	uint8_t *b;

	*c = (struct class_cidr){ random_addr(), (uint8_t)(next_random() % 129), next_random() % 3 == 0,
				  (uint16_t)(next_random() % ENTRIES) };
	b = (uint8_t *)&c->addr;
	for (unsigned int bit = c->prefix; bit < 128; bit++)
		b[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

static bool holds(const struct class_cidr *c, const struct lb_addr *a)
{
	const uint8_t *x = (const uint8_t *)&c->addr, *y = (const uint8_t *)a;

	for (unsigned int bit = 0; bit < c->prefix; bit++)
		if ((x[bit / 8] ^ y[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return true;
}

static void random_any(struct rd_bits *any)
{
	memset(any, 0, sizeof(*any));
	for (unsigned int e = 0; e < ENTRIES; e++)
		if (next_random() % 2)
			class_set(any, e);
}

static void test_nets(void **state)
{
	for (int round = 0; round < 30; round++) {
		struct class_cidr v[CIDRS], sorted[CIDRS];
		struct class_nets nets = {};
		struct classes c;
		struct rd_bits any;
		size_t n = next_random() % CIDRS;

		assert_int_equal(classes_init(&c), 0);
		random_any(&any);
		for (size_t i = 0; i < n; i++)
			random_cidr(&v[i]);
		memcpy(sorted, v, sizeof(sorted));
		assert_int_equal(classes_nets(&c, sorted, n, &any, &nets), 0);
		for (int ask = 0; ask < 200; ask++) {
			struct lb_addr a = random_addr();
			struct rd_bits want = any;

			for (size_t i = 0; i < n; i++)
				if (!v[i].exclude && holds(&v[i], &a))
					class_set(&want, v[i].entry);
			for (size_t i = 0; i < n; i++)
				if (v[i].exclude && holds(&v[i], &a))
					class_unset(&want, v[i].entry);
			assert_memory_equal(&c.bits[class_nets_find(&nets, &a)], &want, sizeof(want));
		}
		class_nets_done(&nets);
		classes_done(&c);
	}
}

static void test_ports(void **state)
{
	static uint16_t ports[65536];
	struct class_range v[RANGES];
	struct classes c;
	struct rd_bits any;

	assert_int_equal(classes_init(&c), 0);
	random_any(&any);
	for (size_t i = 0; i < RANGES; i++) {
		uint16_t first = (uint16_t)(next_random() % 65536);

		v[i] = (struct class_range){ first, (uint16_t)(first + next_random() % (65536U - first)),
					     next_random() % 3 == 0, (uint16_t)(next_random() % ENTRIES) };
	}
	v[0] = (struct class_range){ 0, 65535, false, 3 };
	v[1] = (struct class_range){ 65535, 65535, true, 3 };
	assert_int_equal(classes_ports(&c, v, RANGES, &any, ports), 0);
	for (unsigned int port = 0; port < 65536; port += port % 7 == 3 && port < 65000 ? 97 : 1) {
		struct rd_bits want = any;

		for (size_t i = 0; i < RANGES; i++)
			if (!v[i].exclude && port >= v[i].first && port <= v[i].last)
				class_set(&want, v[i].entry);
		for (size_t i = 0; i < RANGES; i++)
			if (v[i].exclude && port >= v[i].first && port <= v[i].last)
				class_unset(&want, v[i].entry);
		assert_memory_equal(&c.bits[ports[port]], &want, sizeof(want));
	}
	assert_false(class_has(&c.bits[ports[65535]], 3));
	classes_done(&c);
}

static void test_same_class(void **state)
{
	struct rd_bits a = {}, b = {};
	struct classes c;
	uint32_t x, y, z;

	assert_int_equal(classes_init(&c), 0);
	class_set(&a, 511);
	class_set(&b, 0);
	assert_int_equal(classes_get(&c, &a, &x), 0);
	assert_int_equal(classes_get(&c, &b, &y), 0);
	assert_int_equal(classes_get(&c, &a, &z), 0);
	assert_int_equal(x, z);
	assert_int_not_equal(x, y);
	assert_int_equal(class_first(&a), 511);
	assert_int_equal(class_first(&b), 0);
	class_unset(&b, 0);
	assert_int_equal(class_first(&b), -1);
	classes_done(&c);
}

/* The table of classes is as long as the map is. */
static void test_full(void **state)
{
	struct rd_bits b = {};
	struct classes c;
	uint32_t id = 0;
	int r = 0;

	assert_int_equal(classes_init(&c), 0);
	for (uint64_t i = 1; r >= 0 && i <= RD_CLASSES; i++) {
		b.w[1] = i;
		r = classes_get(&c, &b, &id);
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(c.n, RD_CLASSES);
	assert_int_equal(id, RD_CLASSES - 1);
	b.w[1] = 17;
	assert_int_equal(classes_get(&c, &b, &id), 0);
	classes_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_same_class),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
