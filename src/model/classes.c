// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/classes.h"

#include <errno.h>

#define PREFIX_MAX 128

int class_first(const struct rd_bits *b)
{
	for (int i = 0; i < RD_WORDS; i++)
		if (b->w[i])
			return i * 64 + __builtin_ctzll(b->w[i]);
	return -1;
}

static size_t bits_hash(const struct rd_bits *b)
{
	uint64_t h = 0x9e3779b97f4a7c15ULL;

	for (int i = 0; i < RD_WORDS; i++) {
		h = (h ^ b->w[i]) * 0xff51afd7ed558ccdULL;
		h ^= h >> 32;
	}
	return (size_t)h;
}

int classes_init(struct classes *c)
{
	static const struct rd_bits none;
	uint32_t id;
	int r;

	*c = (struct classes){ .index_room = RD_CLASSES * 2 };
	c->index = calloc(c->index_room, sizeof(*c->index));
	if (!c->index)
		return -ENOMEM;
	r = classes_get(c, &none, &id);
	if (r < 0)
		classes_done(c);
	return r;
}

void classes_done(struct classes *c)
{
	free(c->bits);
	free(c->index);
	*c = (struct classes){};
}

int classes_get(struct classes *c, const struct rd_bits *b, uint32_t *ret)
{
	size_t i = bits_hash(b) % c->index_room;

	for (; c->index[i]; i = (i + 1) % c->index_room) {
		if (memcmp(&c->bits[c->index[i] - 1], b, sizeof(*b)))
			continue;
		*ret = c->index[i] - 1;
		return 0;
	}
	if (c->n == RD_CLASSES)
		return -ENOSPC;
	if (c->n == c->room) {
		size_t room = c->room ? c->room * 2 : 16;
		struct rd_bits *v = reallocarray(c->bits, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		c->bits = v;
		c->room = room;
	}
	c->bits[c->n] = *b;
	c->index[i] = (uint32_t)++c->n;
	*ret = c->index[i] - 1;
	return 0;
}

static int cidr_compare(const void *a, const void *b)
{
	const struct class_cidr *x = a, *y = b;
	int r = memcmp(&x->addr, &y->addr, sizeof(x->addr));

	return r ? r : (int)x->prefix - (int)y->prefix;
}

static bool in_prefix(const struct lb_addr *addr, const struct lb_addr *net, unsigned int prefix)
{
	const uint8_t *a = (const uint8_t *)addr, *b = (const uint8_t *)net;
	unsigned int whole = prefix / 8, rest = prefix % 8;

	if (memcmp(a, b, whole))
		return false;
	return !rest || !((a[whole] ^ b[whole]) >> (8 - rest));
}

/* The prefixes around the one being looked at, and what their entries said, from the widest in. */
struct around {
	struct {
		uint32_t net;
		struct rd_bits in, out;
	} v[PREFIX_MAX + 2];
	size_t n;
};

static void class_of(const struct rd_bits *any, const struct rd_bits *in, const struct rd_bits *out,
		     struct rd_bits *ret)
{
	for (int i = 0; i < RD_WORDS; i++)
		ret->w[i] = (any->w[i] | in->w[i]) & ~out->w[i];
}

/* Takes the entries of one prefix, v[0] to v[*ret_n - 1]. */
static int net_add(struct classes *c, const struct class_cidr *v, size_t n, const struct rd_bits *any,
		   struct around *up, struct class_nets *ret, size_t *ret_n)
{
	struct class_net *net = &ret->v[ret->n];
	struct rd_bits bits;
	size_t i;
	int r;

	while (up->n > 1 &&
	       !in_prefix(&v->addr, &ret->v[up->v[up->n - 1].net].addr, ret->v[up->v[up->n - 1].net].prefix))
		up->n--;
	up->v[up->n] = up->v[up->n - 1];
	for (i = 0; i < n && !cidr_compare(v, &v[i]); i++)
		class_set(v[i].exclude ? &up->v[up->n].out : &up->v[up->n].in, v[i].entry);
	class_of(any, &up->v[up->n].in, &up->v[up->n].out, &bits);
	net->addr = v->addr;
	net->prefix = v->prefix;
	net->parent = up->v[up->n - 1].net;
	r = classes_get(c, &bits, &net->class);
	if (r < 0)
		return r;
	up->v[up->n++].net = (uint32_t)ret->n++;
	*ret_n = i;
	return 0;
}

int classes_nets(struct classes *c, struct class_cidr *v, size_t n, const struct rd_bits *any, struct class_nets *ret)
{
	struct class_nets nets = {};
	struct around *up;
	size_t took;
	int r;

	r = classes_get(c, any, &nets.otherwise);
	if (r < 0)
		return r;
	up = new0(struct around);
	nets.v = calloc(n + 1, sizeof(*nets.v));
	if (!up || !nets.v) {
		free(up);
		free(nets.v);
		return -ENOMEM;
	}
	up->n = 1;
	up->v[0].net = CLASS_NO_NET;
	if (n)
		qsort(v, n, sizeof(*v), cidr_compare);
	for (size_t i = 0; i < n && r >= 0; i += took)
		r = net_add(c, v + i, n - i, any, up, &nets, &took);
	free(up);
	if (r < 0)
		class_nets_done(&nets);
	else
		*ret = nets;
	return r;
}

void class_nets_done(struct class_nets *n)
{
	free(n->v);
	*n = (struct class_nets){};
}

/* The last prefix that begins at or before the address; what matches is it, or one around it. */
uint32_t class_nets_find(const struct class_nets *n, const struct lb_addr *a)
{
	size_t low = 0, high = n->n;
	uint32_t i;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (memcmp(&n->v[mid].addr, a, sizeof(*a)) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	i = low ? (uint32_t)low - 1 : CLASS_NO_NET;
	while (i != CLASS_NO_NET && !in_prefix(a, &n->v[i].addr, n->v[i].prefix))
		i = n->v[i].parent;
	return i == CLASS_NO_NET ? n->otherwise : n->v[i].class;
}

/* Where the answer may change: before the first and after the last port of each range. */
static void edges_mark(const struct class_range *v, size_t n, uint8_t *edges)
{
	edges[0] = 1;
	for (size_t i = 0; i < n; i++) {
		edges[v[i].first] = 1;
		if (v[i].last < 65535)
			edges[v[i].last + 1] = 1;
	}
}

int classes_ports(struct classes *c, const struct class_range *v, size_t n, const struct rd_bits *any,
		  uint16_t ret[static 65536])
{
	_cleanup_free_ uint8_t *edges = calloc(65536, 1);
	uint32_t class = 0;
	int r;

	if (!edges)
		return -ENOMEM;
	edges_mark(v, n, edges);
	for (unsigned int port = 0; port < 65536; port++) {
		struct rd_bits in = {}, out = {}, bits;

		if (edges[port]) {
			for (size_t i = 0; i < n; i++)
				if (port >= v[i].first && port <= v[i].last)
					class_set(v[i].exclude ? &out : &in, v[i].entry);
			class_of(any, &in, &out, &bits);
			r = classes_get(c, &bits, &class);
			if (r < 0)
				return r;
		}
		ret[port] = (uint16_t) class;
	}
	return 0;
}
