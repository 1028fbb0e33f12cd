// SPDX-License-Identifier: GPL-2.0-or-later
/* Counts, connections, and forgetting those that have ended. */
#include "hook/packet_priv.h"
#include "sys/bpf.h"

#include <arpa/inet.h>
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
	uint32_t n = bpf_map__max_entries(p->xdp->maps.pk_stats);

	/* One that an older waggle has pinned may have fewer. */
	memset(ret, 0, _PK_REASON_MAX * sizeof(*ret));
	return bpf_sys_sum(bpf_map__fd(p->xdp->maps.pk_stats), n < _PK_REASON_MAX ? n : _PK_REASON_MAX, ret);
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

	packet_capture_tick(p);
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

/* A record as it is at this moment. The programs go on meanwhile: one that is being written is left out. */
static bool conn_read(const struct pk_conn *from, struct pk_conn *ret)
{
	uint32_t gen = __atomic_load_n(&from->gen, __ATOMIC_ACQUIRE);

	*ret = *from;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return !(gen & 1) && gen == __atomic_load_n(&from->gen, __ATOMIC_RELAXED) && ret->state != PK_STATE_FREE &&
	       ret->state != PK_STATE_TAKEN;
}

static int each_conn_of(const struct pk_bucket *b, uint32_t tick, uint64_t tick_ms, packet_conn_fn fn, void *data)
{
	for (uint32_t way = 0; way < PK_WAYS; way++) {
		struct pk_conn c;
		int r;

		if (!b->tag[way] || !conn_read(&b->conn[way], &c))
			continue;
		r = fn(&c, (int32_t)(tick - c.seen) > 0 ? (tick - c.seen) * tick_ms : 0, data);
		if (r)
			return r;
	}
	return 0;
}

#define EACH_PART 4096

int packet_each_conn_part(const struct packet *p, uint32_t *next, packet_conn_fn fn, void *data)
{
	struct pk_admin now = { .op = PK_ADMIN_NOW };
	uint64_t tick_ms = (1000ULL << p->ctl->tick_shift) / p->ctl->hz;
	int r = packet_admin(p, &now);

	for (uint32_t i = 0; r >= 0 && i < EACH_PART && *next < p->n_buckets; i++) {
		r = each_conn_of(&p->table[(*next)++], now.tick, tick_ms, fn, data);
		if (r)
			return r;
	}
	if (*next >= p->n_buckets)
		*next = 0;
	return r;
}

int packet_each_conn(const struct packet *p, packet_conn_fn fn, void *data)
{
	uint32_t next = 0;
	int r;

	do
		r = packet_each_conn_part(p, &next, fn, data);
	while (!r && next);
	return r;
}

uint64_t packet_room(const struct packet *p)
{
	return (uint64_t)p->n_buckets * PK_WAYS;
}

void packet_conn_ends(const struct packet *p, const struct pk_conn *conn, struct packet_ends *ret)
{
	*ret = (struct packet_ends){};
	if (conn->backend < p->lb->n_backends) {
		ret->backend = p->lb->backends[conn->backend].addr;
		ret->backend_port = ntohs(p->lb->backends[conn->backend].port);
	}
	if (conn->forward == LB_FORWARD_NAT && conn->nat < PK_NATS) {
		ret->source = p->nats[conn->nat];
		ret->source_port = ntohs(conn->nport);
	}
}
