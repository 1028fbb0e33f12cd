// SPDX-License-Identifier: GPL-2.0-or-later
#include "hook/replay.h"

#include <errno.h>
#include <sys/mman.h>

#include <bpf/bpf.h>

#include "hook/packet_priv.h"
/* The skeleton wants the types of abi/replay.h before it. */
#include "replay.skel.h"
#include "sys/bpf.h"

struct replay {
	struct packet *packet;
	struct replay_skel *skel;
	struct rp_entry *list; /* mapped */
	uint32_t ifindex;
};

#define LIST_BYTES (RP_LIST_MAX * sizeof(struct rp_entry))

static int put_prog(struct replay *r, enum rp_prog prog, int fd)
{
	uint32_t key = prog;

	return bpf_map_update_elem(bpf_map__fd(r->skel->maps.rp_progs), &key, &fd, BPF_ANY) ? -errno : 0;
}

int replay_open(struct packet *p, uint32_t ifindex, struct replay **ret, struct err *err)
{
	_cleanup_(replay_closep) struct replay *r = new0(struct replay);
	int e;

	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	r->packet = p;
	r->ifindex = ifindex;
	r->skel = replay_skel__open_and_load();
	if (!r->skel)
		return err_set(err, -errno, "cannot load the program that replays packets: %s", bpf_sys_last());
	if ((e = put_prog(r, RP_STUB, bpf_program__fd(r->skel->progs.rp_stub))) < 0 ||
	    (e = put_prog(r, RP_PACKET, bpf_program__fd(p->xdp->progs.pk_xdp))) < 0)
		return err_set(err, e, "the packet hook's program cannot be called: %s", strerror(-e));
	r->list = mmap(NULL, LIST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(r->skel->maps.rp_list), 0);
	if (r->list == MAP_FAILED) {
		r->list = NULL;
		return err_set(err, -errno, "cannot map the list of flows: %s", strerror(errno));
	}
	*ret = TAKE_PTR(r);
	return 0;
}

int replay_run(struct replay *r, const struct replay_packet *packet, enum rp_prog prog, uint32_t start, uint32_t n,
	       uint32_t *ret_ns, uint32_t *ret_verdict, struct err *err)
{
	struct xdp_md ctx = { .data_end = RP_HEAD, .ingress_ifindex = r->ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet->head, .data_size_in = RP_HEAD, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = (int)n);
	struct rp_state *rp = &r->skel->bss->rp;

	memcpy(rp->head, packet->head, RP_HEAD);
	rp->len = RP_HEAD;
	rp->mask = packet->flows - 1;
	rp->next = start;
	rp->first = packet->first;
	rp->word_at = packet->word_at;
	rp->port_at = packet->port_at;
	rp->list = packet->list;
	rp->prog = prog;
	if (bpf_prog_test_run_opts(bpf_program__fd(r->skel->progs.rp_run), &opts))
		return err_set(err, -errno, "BPF_PROG_TEST_RUN: %s", strerror(errno));
	*ret_ns = opts.duration;
	*ret_verdict = opts.retval;
	return 0;
}

/* So that records are not met in the order in which the table has them. */
static void shuffle(struct rp_entry *v, uint32_t n)
{
	uint64_t x = 0x9e3779b97f4a7c15;

	for (uint32_t i = n; i > 1; i--) {
		struct rp_entry *a = &v[i - 1], *b, swap;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		b = &v[x % i];
		swap = *a;
		*a = *b;
		*b = swap;
	}
}

static struct pk_conn *conn_at(const struct replay *r, uint32_t i)
{
	struct pk_bucket *b = &r->packet->table[i / PK_WAYS];

	return b->tag[i % PK_WAYS] ? &b->conn[i % PK_WAYS] : NULL;
}

int replay_list(struct replay *r, uint32_t flows, struct err *err)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->packet->n_buckets * PK_WAYS && n < RP_LIST_MAX; i++) {
		const struct pk_conn *c = conn_at(r, i);

		if (!c || c->forward != LB_FORWARD_NAT || c->state == PK_STATE_FREE)
			continue;
		r->list[n++] = (struct rp_entry){ r->packet->lb->backends[c->backend].addr.v6[3], c->nport, 0 };
	}
	if (!n || flows > RP_LIST_MAX)
		return err_set(err, -ENOENT, "the table has no connection of a nat service");
	shuffle(r->list, n);
	for (uint32_t i = n; i < flows; i++)
		r->list[i] = r->list[i % n];
	return (int)n;
}

void replay_forget(struct replay *r)
{
	struct packet *p = r->packet;

	memset(p->table, 0, p->table_bytes);
	for (uint32_t i = 0; i < p->n_backends; i++)
		p->lb->load[i].packet_conns = p->lb->load[i].packet_closed = 0;
	for (uint32_t i = 0; i < p->lb->n_services; i++) {
		struct pk_use none = {};

		(void)bpf_map_update_elem(bpf_map__fd(p->xdp->maps.pk_uses), &i, &none, BPF_ANY);
	}
}

uint32_t replay_count(const struct replay *r, uint32_t service, enum pk_state state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->packet->n_buckets * PK_WAYS; i++) {
		const struct pk_conn *c = conn_at(r, i);

		n += c && c->service == service && c->state == state;
	}
	return n;
}

struct replay *replay_close(struct replay *r)
{
	if (!r)
		return NULL;
	if (r->list)
		(void)munmap(r->list, LIST_BYTES);
	replay_skel__destroy(r->skel);
	free(r);
	return NULL;
}
