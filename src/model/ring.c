// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Both kinds of ring depend on the identities, the weights and the seed alone: backends are sorted by identity
 * first, so that neither their order in the configuration nor their ids leave a trace.
 */
#include "model/ring.h"

#include <endian.h>
#include <errno.h>

const uint32_t ring_table_sizes[] = { 251, 1021, 4093, 16381, RING_TABLE_DEFAULT, RING_MAX, 0 };

/* The finalizer of splitmix64: every bit of the input changes half of the output's. */
static uint64_t ring_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

uint64_t ring_identity(const struct lb_addr *addr, uint16_t port_be)
{
	uint64_t high, low;

	memcpy(&high, &addr->v6[0], sizeof(high));
	memcpy(&low, &addr->v6[2], sizeof(low));
	return ring_mix(ring_mix(ring_mix(be64toh(high)) ^ be64toh(low)) ^ be16toh(port_be));
}

static int by_identity(const void *a, const void *b)
{
	const struct ring_backend *x = a, *y = b;

	return (x->identity > y->identity) - (x->identity < y->identity);
}

/* Those that have a weight, sorted. *ret is NULL if there are none. */
static int ring_sorted(const struct ring_backend *backends, size_t n, struct ring_backend **ret, size_t *ret_n,
		       struct err *err)
{
	struct ring_backend *sorted;
	size_t have = 0;

	for (size_t i = 0; i < n; i++) {
		if (backends[i].weight > RING_WEIGHT_MAX)
			return err_set(err, -ERANGE, "weight %u is too large: give one of 0 to %d", backends[i].weight,
				       RING_WEIGHT_MAX);
		have += backends[i].weight > 0;
	}
	*ret = NULL;
	*ret_n = have;
	if (!have)
		return 0;
	sorted = calloc(have, sizeof(*sorted));
	if (!sorted)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0, k = 0; i < n; i++)
		if (backends[i].weight)
			sorted[k++] = backends[i];
	qsort(sorted, have, sizeof(*sorted), by_identity);
	*ret = sorted;
	return 0;
}

/* Where a backend stands in its permutation of the table, and in which round it has its next turn. */
struct maglev_turn {
	uint32_t at, skip;
	uint64_t due;  /* turns taken, times the largest weight */
	uint32_t next; /* in the list of its round, index + 1; 0: the last */
};

struct maglev_round {
	uint32_t first, last; /* index + 1; 0: nobody's turn */
};

static void maglev_enlist(struct maglev_round *round, struct maglev_turn *turns, uint32_t i)
{
	turns[i].next = 0;
	if (round->last)
		turns[round->last - 1].next = i + 1;
	else
		round->first = i + 1;
	round->last = i + 1;
}

/*
 * In each round those whose turn it is take the next free entry of their permutation, as in the paper. The
 * heaviest has a turn in every round, one of half its weight in every second. So there are at most size rounds, and
 * none is spent on asking those who wait.
 */
static void maglev_fill(uint32_t *table, uint32_t size, const struct ring_backend *b, struct maglev_turn *turns,
			struct maglev_round *rounds, uint32_t weight_max)
{
	uint32_t filled = 0;

	for (uint32_t round = 0; filled < size; round++) {
		for (uint32_t i, next = rounds[round].first; next && filled < size;) {
			struct maglev_turn *t;
			uint64_t due;

			i = next - 1;
			t = &turns[i];
			next = t->next;
			while (table[t->at] != LB_NONE)
				t->at = t->at + t->skip < size ? t->at + t->skip : t->at + t->skip - size;
			table[t->at] = b[i].id;
			filled++;
			t->due += weight_max;
			due = (t->due + b[i].weight - 1) / b[i].weight;
			if (due < size)
				maglev_enlist(&rounds[due], turns, i);
		}
	}
}

static int maglev_build(const struct ring_backend *b, size_t n, uint32_t size, uint32_t seed, uint32_t *table,
			struct err *err)
{
	_cleanup_free_ struct maglev_turn *turns = calloc(n, sizeof(*turns));
	_cleanup_free_ struct maglev_round *rounds = calloc(size, sizeof(*rounds));
	uint32_t weight_max = 0;

	if (!turns || !rounds)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n; i++) {
		uint64_t h = ring_mix(b[i].identity ^ ring_mix(seed));

		turns[i].at = (uint32_t)(h % size);
		turns[i].skip = (uint32_t)(ring_mix(h) % (size - 1) + 1);
		maglev_enlist(&rounds[0], turns, i);
		if (b[i].weight > weight_max)
			weight_max = b[i].weight;
	}
	maglev_fill(table, size, b, turns, rounds, weight_max);
	return 0;
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* How many entries each gets: the weights by their greatest common divisor, or scaled down to RING_MAX in all. */
static uint32_t smooth_shares(struct ring_backend *b, size_t n)
{
	uint32_t divisor = 0;
	uint64_t sum = 0, scaled = 0;

	for (size_t i = 0; i < n; i++)
		divisor = gcd(b[i].weight, divisor);
	for (size_t i = 0; i < n; i++) {
		b[i].weight /= divisor;
		sum += b[i].weight;
	}
	if (sum <= RING_MAX)
		return (uint32_t)sum;
	for (size_t i = 0; i < n; i++) {
		b[i].weight = 1 + (uint32_t)(b[i].weight * (uint64_t)(RING_MAX - n) / sum);
		scaled += b[i].weight;
	}
	return (uint32_t)scaled;
}

struct smooth_entry {
	uint64_t where; /* 32.32 */
	uint32_t backend;
	uint32_t pad;
};

static int by_place(const void *a, const void *b)
{
	const struct smooth_entry *x = a, *y = b;

	if (x->where != y->where)
		return x->where < y->where ? -1 : 1;
	return (x->backend > y->backend) - (x->backend < y->backend);
}

/* Each backend's entries are spread evenly: the k-th of w stands at (k + 1/2) / w of the ring. */
static int smooth_build(const struct ring_backend *b, size_t n, uint32_t sum, uint32_t *ring, struct err *err)
{
	_cleanup_free_ struct smooth_entry *entries = calloc(sum, sizeof(*entries));
	size_t have = 0;

	if (!entries)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < b[i].weight; k++)
			entries[have++] = (struct smooth_entry){
				.where = (((2 * (uint64_t)k + 1) << 31) / b[i].weight),
				.backend = i,
			};
	qsort(entries, have, sizeof(*entries), by_place);
	for (size_t i = 0; i < have; i++)
		ring[i] = b[entries[i].backend].id;
	return 0;
}

static bool is_table_size(uint32_t size)
{
	for (const uint32_t *s = ring_table_sizes; *s; s++)
		if (*s == size)
			return true;
	return false;
}

int ring_build(enum lb_scheduler scheduler, const struct ring_backend *backends, size_t n, uint32_t table_size,
	       uint32_t seed, uint32_t **ret, uint32_t *ret_n, struct err *err)
{
	_cleanup_free_ struct ring_backend *sorted = NULL;
	bool hashed = scheduler == LB_MAGLEV || scheduler == LB_SOURCE;
	_cleanup_free_ uint32_t *ring = NULL;
	uint32_t size = table_size;
	size_t have = 0;
	int r;

	if (hashed && !is_table_size(table_size))
		return err_set(err, -EINVAL,
			       "a table cannot have %u entries: give 251, 1021, 4093, 16381, 65537 or 655373",
			       table_size);
	r = ring_sorted(backends, n, &sorted, &have, err);
	if (r < 0)
		return r;
	if (have > (hashed ? table_size : RING_MAX))
		return err_set(err, -E2BIG, "%zu backends do not fit into a table of %u entries", have,
			       hashed ? table_size : RING_MAX);
	if (!have)
		size = 0;
	else if (!hashed)
		size = smooth_shares(sorted, have);
	if (size) {
		ring = calloc(size, sizeof(*ring));
		if (!ring)
			return err_set(err, -ENOMEM, "out of memory");
		r = hashed ? maglev_build(sorted, have, size, seed, ring, err) :
			     smooth_build(sorted, have, size, ring, err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(ring);
	*ret_n = size;
	return 0;
}
