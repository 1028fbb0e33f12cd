/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET /v1/sockets: which of the dumped sockets are the two ends of one connection, and how that is written.
 *
 * The text is made piece by piece, one pair a line, so that neither a table of a hundred thousand pairs nor a
 * slow reader makes anybody wait or fills the memory. Pairing costs a sort.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "abi/accel.h"
#include "base/err.h"

/* Who is asked for what the kernel's records do not tell. */
struct wire_lookup {
	/* The process that holds the socket file with this inode; false: none does. */
	bool (*process)(void *data, uint64_t inode, int64_t *ret_pid, const char **ret_comm);
	/* The path of a cgroup, never NULL. */
	const char *(*cgroup)(void *data, uint64_t id);
	void *data;
};

/* client or server is NULL in a single socket, of which the peer is not among the records. */
struct wire_pair {
	const struct ac_sock_dump *client, *server;
};

struct wire_pairs {
	struct wire_pair *v; /* pairs first, then singles; each from the oldest to the youngest */
	size_t n_pairs, n_singles, n_joined;
};

/* The result points into dumps. */
int wire_pairs_make(const struct ac_sock_dump *dumps, size_t n, struct wire_pairs *ret);
void wire_pairs_done(struct wire_pairs *p);

/* A pair has both directions joined only if both ends are. */
bool wire_pair_is_joined(const struct wire_pair *p);

json_t *wire_pair_json(const struct wire_pair *p, const struct wire_lookup *lookup);
json_t *wire_end_json(const struct ac_sock_dump *d, const struct wire_lookup *lookup);

/*
 * The whole document, step by step: each call gives the next piece of text, valid until the next call. Returns 1
 * with a piece, 0 at the end, -errno.
 */
struct wire_pairs_text {
	const struct wire_pairs *pairs;
	const struct wire_lookup *lookup;
	size_t next; /* 0: the opening is due; then 1 + index of the element; last the closing */
	char *buf;
	size_t room;
};
int wire_pairs_text_next(struct wire_pairs_text *t, const char **ret, size_t *ret_n);
void wire_pairs_text_done(struct wire_pairs_text *t);
