/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entries of a configuration as bit sets (abi/redirect.h): for each question about a connection, which sets of entries
 * there can be as an answer (classes), and which answer belongs to which prefix, port and user. Pure: what is made
 * here is copied into maps by the hook, and asked by `waggle policy test` as it is.
 */
#pragma once

#include <stdint.h>

#include "abi/redirect.h"
#include "base/err.h"

/* A CIDR of an entry: one that it asks for, or one that it excludes. */
struct class_cidr {
	struct lb_addr addr;
	uint8_t prefix; /* of 128 */
	bool exclude;
	uint16_t entry;
};

/* Ports of an entry, host order. */
struct class_range {
	uint16_t first, last;
	bool exclude;
	uint16_t entry;
};

/* A prefix and its class, longest match. parent: index of the next shorter prefix around it, CLASS_NO_NET: none. */
struct class_net {
	struct lb_addr addr;
	uint8_t prefix;
	uint32_t class;
	uint32_t parent;
};
#define CLASS_NO_NET UINT32_MAX

struct class_nets {
	struct class_net *v; /* by address, then prefix */
	size_t n;
	uint32_t otherwise; /* class where no prefix matches */
};

/* The classes of one side of a table; [0] is the empty one. */
struct classes {
	struct rd_bits *bits;
	size_t n, room;
	uint32_t *index; /* hash table of ids + 1 */
	size_t index_room;
};

static inline void class_set(struct rd_bits *b, unsigned int entry)
{
	b->w[entry / 64] |= 1ULL << (entry % 64);
}
static inline void class_unset(struct rd_bits *b, unsigned int entry)
{
	b->w[entry / 64] &= ~(1ULL << (entry % 64));
}
static inline bool class_has(const struct rd_bits *b, unsigned int entry)
{
	return b->w[entry / 64] >> (entry % 64) & 1;
}
/* The lowest bit; -1: none. */
int class_first(const struct rd_bits *b);

int classes_init(struct classes *c);
void classes_done(struct classes *c);

/* The class that is this set. -ENOSPC: there are RD_CLASSES of them already. */
int classes_get(struct classes *c, const struct rd_bits *b, uint32_t *ret);

/*
 * Prefixes and their classes. any: entries that match every address that they do not exclude. What an entry excludes
 * it excludes at every length. v is sorted.
 */
int classes_nets(struct classes *c, struct class_cidr *v, size_t n, const struct rd_bits *any, struct class_nets *ret);
void class_nets_done(struct class_nets *n);
uint32_t class_nets_find(const struct class_nets *n, const struct lb_addr *a);

/* The class of each port. */
int classes_ports(struct classes *c, const struct class_range *v, size_t n, const struct rd_bits *any,
		  uint16_t ret[static 65536]);
