// SPDX-License-Identifier: GPL-2.0-or-later
/* Counts, connections, and forgetting those that have ended. */
#include "hook/packet_priv.h"

#include <errno.h>

#include <bpf/bpf.h>

const char *const packet_reason_words[_PK_REASON_MAX] = {
#define X(id, kind, word, text) [PK_##id] = word,
	PK_REASON_LIST(X)
#undef X
};

const char *const packet_reason_texts[_PK_REASON_MAX] = {
#define X(id, kind, word, text) [PK_##id] = text,
	PK_REASON_LIST(X)
#undef X
};

const char *const packet_state_words[_PK_STATE_MAX] = {
#define X(id, word) [PK_STATE_##id] = word,
	PK_STATE_LIST(X)
#undef X
};

enum pk_kind packet_reason_kind(enum pk_reason reason)
{
	static const enum pk_kind kinds[_PK_REASON_MAX] = {
#define X(id, kind, word, text) [PK_##id] = PK_KIND_##kind,
		PK_REASON_LIST(X)
#undef X
	};

	return kinds[reason];
}

int packet_stats(const struct packet *p, uint64_t ret[_PK_REASON_MAX])
{
	int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *v = NULL;

	if (n_cpus < 0)
		return n_cpus;
	v = calloc((size_t)n_cpus, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < _PK_REASON_MAX; i++) {
		if (bpf_map_lookup_elem(bpf_map__fd(p->xdp->maps.pk_stats), &i, v))
			return -errno;
		ret[i] = 0;
		for (int c = 0; c < n_cpus; c++)
			ret[i] += v[c];
	}
	return 0;
}

int packet_admin(const struct packet *p, struct pk_admin *a)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = a, .data_size_in = sizeof(*a), .data_out = a,
		    .data_size_out = sizeof(*a), .repeat = 1);

	return bpf_prog_test_run_opts(bpf_program__fd(p->xdp->progs.pk_admin), &opts) ? -errno : 0;
}

/* The whole table in about five seconds. */
#define SWEEP_PARTS 50
#define SWEEP_AT_ONCE 8192

int packet_tick(struct packet *p)
{
	uint32_t left = p->n_buckets / SWEEP_PARTS + 1;

	while (left) {
		struct pk_admin a = { .op = PK_ADMIN_SWEEP, .first = p->sweep_next };
		int r;

		a.n = left < SWEEP_AT_ONCE ? left : SWEEP_AT_ONCE;
		if (a.n > p->n_buckets - p->sweep_next)
			a.n = p->n_buckets - p->sweep_next;
		r = packet_admin(p, &a);
		if (r < 0)
			return r;
		p->sweep_next = (p->sweep_next + a.n) % p->n_buckets;
		left -= a.n < left ? a.n : left;
	}
	return 0;
}

int packet_each_conn(const struct packet *p, packet_conn_fn fn, void *data)
{
	struct pk_admin now = { .op = PK_ADMIN_NOW };
	uint64_t tick_ms = (1000ULL << p->ctl->tick_shift) / p->ctl->hz;
	int r = packet_admin(p, &now);

	if (r < 0)
		return r;
	for (uint32_t b = 0; b < p->n_buckets; b++)
		for (uint32_t way = 0; way < PK_WAYS; way++) {
			struct pk_conn c;

			if (!p->table[b].tag[way])
				continue;
			/* The programs go on meanwhile; a record that was written anew is another one, that is all. */
			c = p->table[b].conn[way];
			if (c.gen & 1 || c.state == PK_STATE_FREE || c.state == PK_STATE_TAKEN)
				continue;
			r = fn(&c, (int32_t)(now.tick - c.seen) > 0 ? (now.tick - c.seen) * tick_ms : 0, data);
			if (r)
				return r;
		}
	return 0;
}
