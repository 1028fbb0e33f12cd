// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Services. A change is prepared as a whole, with everything that can fail; then it is written where nobody looks,
 * and published by one store. What it replaced is kept as it is until a grace period has passed.
 */
#include "hook/lb_priv.h"

#include <arpa/inet.h>
#include <errno.h>

#include <bpf/bpf.h>

#include "model/addr.h"
#include "model/ring.h"

/* A change on its way. Ids that it took are given back unless it was published. */
struct change {
	struct lb *lb;
	const struct lb_service_spec *spec;
	uint32_t service;
	bool is_new;
	uint32_t *order;      /* of the spec's backends, by address and port */
	uint32_t *ids;	      /* in that order; becomes lb_known.backends */
	bool *is_new_backend; /* in that order */
	size_t n;
	uint32_t *leavers; /* ids that are no longer named */
	size_t n_leavers;
	uint32_t *ring;
	struct lb_plan plan;
	uint32_t plan_id; /* LB_NONE: that of now stays */
};

static void change_done(struct change *c)
{
	struct lb *lb = c->lb;

	/* In the other order, so that the lists are as they were. */
	if (c->plan_id != LB_NONE) {
		lb_arena_free(&lb->arena, c->plan.ring, lb_lines(c->plan.n));
		lb_id_give(&lb->free_plans, c->plan_id);
	}
	for (size_t i = c->n; c->ids && i-- > 0;)
		if (c->is_new_backend[i] && c->ids[i] != LB_NONE)
			lb_id_give(&lb->free_backends, c->ids[i]);
	if (c->is_new && c->service != LB_NONE)
		lb_id_give(&lb->free_services, c->service);
	free(c->order);
	free(c->ids);
	free(c->is_new_backend);
	free(c->leavers);
	free(c->ring);
}

static uint32_t lb_find_service(const struct lb *lb, const struct lb_vip *vip)
{
	uint32_t id;

	return bpf_map_lookup_elem(bpf_map__fd(lb->skel->maps.lb_vips), vip, &id) ? LB_NONE : id;
}

static int by_spec_address(const void *a, const void *b, void *data)
{
	const struct lb_backend_spec *x = &((const struct lb_backend_spec *)data)[*(const uint32_t *)a];
	const struct lb_backend_spec *y = &((const struct lb_backend_spec *)data)[*(const uint32_t *)b];

	return lb_compare(&x->addr, htons(x->port), &y->addr, htons(y->port));
}

static int change_sort(struct change *c, struct err *err)
{
	const struct lb_backend_spec *specs = c->spec->backends;

	c->order = calloc(c->n + 1, sizeof(*c->order));
	c->ids = calloc(c->n + 1, sizeof(*c->ids));
	c->is_new_backend = calloc(c->n + 1, sizeof(*c->is_new_backend));
	c->leavers = calloc((c->is_new ? 0 : c->lb->known[c->service].n_backends) + 1, sizeof(*c->leavers));
	if (!c->order || !c->ids || !c->is_new_backend || !c->leavers)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < c->n; i++)
		c->order[i] = i;
	qsort_r(c->order, c->n, sizeof(*c->order), by_spec_address, (void *)specs);
	for (size_t i = 1; i < c->n; i++)
		if (by_spec_address(&c->order[i - 1], &c->order[i], (void *)specs) == 0)
			return err_set(err, -EEXIST, "two backends of a service have the same address and port");
	return 0;
}

/* Known backends keep their ids, new ones get one: two sorted lists, side by side. */
static int change_match(struct change *c, struct err *err)
{
	const struct lb_known *k = c->is_new ? NULL : &c->lb->known[c->service];
	size_t n_known = k ? k->n_backends : 0, at = 0;

	for (size_t i = 0; i < c->n; i++) {
		const struct lb_backend_spec *s = &c->spec->backends[c->order[i]];
		int cmp = -1;

		for (; at < n_known; c->leavers[c->n_leavers++] = k->backends[at++]) {
			const struct lb_backend *b = &c->lb->backends[k->backends[at]];

			cmp = lb_compare(&s->addr, htons(s->port), &b->addr, b->port);
			if (cmp <= 0)
				break;
		}
		if (at < n_known && cmp == 0) {
			c->ids[i] = k->backends[at++];
			continue;
		}
		c->is_new_backend[i] = true;
		c->ids[i] = lb_id_take(&c->lb->free_backends);
		if (c->ids[i] == LB_NONE)
			return err_set(err, -ENOSPC,
				       "no room for another backend: there is room for %u, until 'waggle unload'",
				       c->lb->n_backends - 1);
	}
	while (at < n_known)
		c->leavers[c->n_leavers++] = k->backends[at++];
	return 0;
}

static int change_ring(struct change *c, struct err *err)
{
	_cleanup_free_ struct ring_backend *b = calloc(c->n + 1, sizeof(*b));

	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	c->plan = c->spec->plan;
	c->plan.service = c->service;
	c->plan.n_backends = 0;
	for (size_t i = 0; i < c->n; i++) {
		const struct lb_backend_spec *s = &c->spec->backends[c->order[i]];

		b[i].id = c->ids[i];
		b[i].weight = s->weight;
		b[i].identity = ring_identity(&s->addr, htons(s->port));
		c->plan.n_backends += s->weight > 0;
	}
	return ring_build(c->plan.scheduler, b, c->n, c->spec->table_size, c->plan.seed, &c->ring, &c->plan.n, err);
}

/* Is the service picked from just so already? */
static bool change_is_none(const struct change *c)
{
	struct lb_plan now;

	if (c->is_new)
		return false;
	now = c->lb->plans[c->lb->services[c->service].plan];
	if (now.n != c->plan.n ||
	    (now.n && memcmp(c->lb->ring + (size_t)now.ring * LB_RING_LINE, c->ring, now.n * sizeof(uint32_t))))
		return false;
	now.ring = c->plan.ring;
	return memcmp(&now, &c->plan, sizeof(now)) == 0;
}

static int change_room(struct change *c, struct err *err)
{
	struct lb *lb = c->lb;
	uint32_t lines = lb_lines(c->plan.n);
	int r = 0;

	c->plan.ring = 0;
	if (lines)
		r = lb_arena_alloc(&lb->arena, lines, &c->plan.ring);
	if (r == -ENOSPC)
		return err_set(err, r,
			       "no room for a ring of %u entries: there is room for %u, of which %u are free, until "
			       "'waggle unload'",
			       c->plan.n, lb->n_lines * LB_RING_LINE, lb->arena.lines_free * LB_RING_LINE);
	if (r < 0)
		return err_set(err, r, "out of memory");
	c->plan_id = lb_id_take(&lb->free_plans);
	if (c->plan_id == LB_NONE) {
		lb_arena_free(&lb->arena, c->plan.ring, lines);
		return err_set(err, -ENOSPC, "no room for another plan");
	}
	return 0;
}

/* Takes what it needs, but for the service itself. */
static int change_take(struct change *c, struct err *err)
{
	int r;

	if (c->is_new) {
		c->service = lb_id_take(&c->lb->free_services);
		if (c->service == LB_NONE)
			return err_set(err, -ENOSPC,
				       "no room for another service: there is room for %u, until 'waggle unload'",
				       c->lb->n_services - 1);
	}
	r = change_sort(c, err);
	if (r < 0)
		return r;
	r = change_match(c, err);
	if (r < 0)
		return r;
	r = change_ring(c, err);
	if (r < 0 || change_is_none(c))
		return r;
	return change_room(c, err);
}

/* An id that was in use before: what was counted for another is forgotten. */
static void lb_forget(struct lb *lb, uint32_t id)
{
	int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct lb_traffic *zero = calloc(n_cpus > 0 ? (size_t)n_cpus : 1, sizeof(*zero));

	lb->load[id] = (struct lb_load){};
	if (zero)
		(void)bpf_map_update_elem(bpf_map__fd(lb->skel->maps.lb_traffic), &id, zero, BPF_ANY);
}

static void lb_write_backend(struct lb *lb, uint32_t id, bool is_new, const struct lb_backend_spec *s, uint32_t service)
{
	uint16_t flags = s->flags & ~(LB_BACKEND_V4 | LB_BACKEND_GONE);
	struct lb_backend *b = &lb->backends[id];

	if (addr_is_v4(&s->addr))
		flags |= LB_BACKEND_V4;
	__atomic_store_n(&b->weight, s->weight, __ATOMIC_RELAXED);
	__atomic_store_n(&b->flags, flags, __ATOMIC_RELAXED);
	if (!is_new)
		return;
	if (b->gen)
		lb_forget(lb, id);
	b->addr = s->addr;
	b->port = htons(s->port);
	__atomic_store_n(&b->gen, b->gen + 1, __ATOMIC_RELAXED);
	/* Last: what names a service is in use. */
	__atomic_store_n(&b->service, service, __ATOMIC_RELEASE);
	lb->known[service].refs++;
}

static void lb_backend_leaves(struct lb *lb, uint32_t id)
{
	struct lb_backend *b = &lb->backends[id];

	__atomic_store_n(&b->flags, b->flags | LB_BACKEND_GONE | LB_BACKEND_DRAINING, __ATOMIC_RELAXED);
	lb->gone[lb->n_gone++] = (struct lb_gone){ .backend = id };
}

static void change_write(struct change *c)
{
	struct lb *lb = c->lb;

	for (size_t i = 0; i < c->n; i++)
		lb_write_backend(lb, c->ids[i], c->is_new_backend[i], &c->spec->backends[c->order[i]], c->service);
	if (c->plan_id == LB_NONE)
		return;
	if (c->plan.n)
		memcpy(lb->ring + (size_t)c->plan.ring * LB_RING_LINE, c->ring, c->plan.n * sizeof(uint32_t));
	lb->plans[c->plan_id] = c->plan;
}

/* From here on nothing fails. */
static void change_publish(struct change *c)
{
	struct lb_known *k = &c->lb->known[c->service];
	struct lb *lb = c->lb;

	if (c->plan_id != LB_NONE) {
		uint32_t old = lb->services[c->service].plan;

		__atomic_store_n(&lb->services[c->service].plan, c->plan_id, __ATOMIC_RELEASE);
		if (!c->is_new)
			lb->limbo[lb->n_limbo++] = (struct lb_limbo){ .plan = old };
		c->plan_id = LB_NONE;
	}
	for (size_t i = 0; i < c->n_leavers; i++)
		lb_backend_leaves(lb, c->leavers[i]);
	free(k->backends);
	k->backends = TAKE_PTR(c->ids);
	k->n_backends = c->n;
}

/* A new service becomes reachable as its last step; the only one that can fail after records were written. */
static int change_announce(struct change *c, struct err *err)
{
	struct lb *lb = c->lb;
	int r;

	lb->cursors[c->service] = (struct lb_cursor){};
	__atomic_store_n(&lb->services[c->service].plan, c->plan_id, __ATOMIC_RELEASE);
	if (!bpf_map_update_elem(bpf_map__fd(lb->skel->maps.lb_vips), &c->spec->vip, &c->service, BPF_NOEXIST)) {
		lb->known[c->service].vip = c->spec->vip;
		lb->known[c->service].is_live = true;
		lb->known[c->service].is_used = true;
		return 0;
	}
	r = err_set(err, errno == E2BIG ? -ENOSPC : -errno, "cannot add a service: %s", strerror(errno));
	__atomic_store_n(&lb->services[c->service].plan, LB_NONE, __ATOMIC_RELEASE);
	for (size_t i = 0; i < c->n; i++)
		__atomic_store_n(&lb->backends[c->ids[i]].service, LB_NONE, __ATOMIC_RELEASE);
	lb->known[c->service] = (struct lb_known){};
	return r;
}

static int lb_apply_once(struct lb *lb, const struct lb_service_spec *spec, uint32_t *ret_service, struct err *err)
{
	_cleanup_(change_done) struct change c = {
		.lb = lb,
		.spec = spec,
		.n = spec->n_backends,
		.service = lb_find_service(lb, &spec->vip),
	};
	int r;

	c.is_new = c.service == LB_NONE;
	if (!c.is_new && (c.service >= lb->n_services || !lb->known[c.service].is_live))
		return err_set(err, -EPROTO, "another process changes the tables in '%s'", lb_pin_dir());
	r = change_take(&c, err);
	if (r < 0)
		return r;
	change_write(&c);
	if (c.is_new) {
		r = change_announce(&c, err);
		if (r < 0)
			return r;
	}
	*ret_service = c.service;
	change_publish(&c);
	c.service = LB_NONE;
	return 0;
}

static int lb_settle(struct lb *lb, struct err *err)
{
	return lb->in_batch ? 0 : lb_end(lb, err);
}

int lb_apply(struct lb *lb, const struct lb_service_spec *spec, uint32_t *ret_service, struct err *err)
{
	uint32_t service;
	int r;

	if (spec->n_backends >= UINT32_MAX || spec->plan.scheduler >= _LB_SCHEDULER_MAX)
		return err_set(err, -EINVAL, "not a service");
	r = lb_apply_once(lb, spec, &service, err);
	/* Room that is only waiting for its grace period. */
	if (r == -ENOSPC && (lb->n_limbo || lb->n_gone)) {
		r = lb_grace(lb, err);
		if (r == 0)
			r = lb_apply_once(lb, spec, &service, err);
	}
	if (r < 0)
		return r;
	*ret_service = service;
	return lb_settle(lb, err);
}

int lb_remove(struct lb *lb, const struct lb_vip *vip, struct err *err)
{
	uint32_t id = lb_find_service(lb, vip);
	struct lb_known *k;

	if (id == LB_NONE || id >= lb->n_services || !lb->known[id].is_live)
		return err_set(err, -ENOENT, "there is no such service");
	if (bpf_map_delete_elem(bpf_map__fd(lb->skel->maps.lb_vips), vip))
		return err_set(err, -errno, "cannot remove a service: %s", strerror(errno));
	k = &lb->known[id];
	lb->limbo[lb->n_limbo++] = (struct lb_limbo){ .plan = lb->services[id].plan, .service = id };
	__atomic_store_n(&lb->services[id].plan, LB_NONE, __ATOMIC_RELEASE);
	for (size_t i = 0; i < k->n_backends; i++)
		lb_backend_leaves(lb, k->backends[i]);
	k->n_backends = 0;
	k->is_live = false;
	return lb_settle(lb, err);
}

int lb_grace(struct lb *lb, struct err *err)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(lb->grace_outer, &zero, &lb->grace_inner, BPF_ANY))
		return err_set(err, -errno, "cannot wait for running programs: %s", strerror(errno));
	for (size_t i = 0; i < lb->n_limbo; i++) {
		if (lb->limbo[i].plan != LB_NONE)
			lb_plan_release(lb, lb->limbo[i].plan);
		if (lb->limbo[i].service != LB_NONE) {
			lb->known[lb->limbo[i].service].is_graced = true;
			lb_service_release(lb, lb->limbo[i].service);
		}
	}
	lb->n_limbo = 0;
	for (size_t i = 0; i < lb->n_gone; i++)
		lb->gone[i].is_graced = true;
	lb_collect(lb);
	return 0;
}

void lb_collect(struct lb *lb)
{
	size_t kept = 0;

	for (size_t i = 0; i < lb->n_gone; i++) {
		uint32_t id = lb->gone[i].backend, service = lb->backends[id].service;
		const struct lb_load *load = &lb->load[id];

		if (!lb->gone[i].is_graced || __atomic_load_n(&load->conns, __ATOMIC_ACQUIRE) ||
		    __atomic_load_n(&load->packet_conns, __ATOMIC_ACQUIRE)) {
			lb->gone[kept++] = lb->gone[i];
			continue;
		}
		__atomic_store_n(&lb->backends[id].service, LB_NONE, __ATOMIC_RELEASE);
		lb_id_give(&lb->free_backends, id);
		lb->known[service].refs--;
		lb_service_release(lb, service);
	}
	lb->n_gone = kept;
}

void lb_begin(struct lb *lb)
{
	lb->in_batch = true;
}

int lb_end(struct lb *lb, struct err *err)
{
	bool is_due = lb->n_limbo > 0;

	lb->in_batch = false;
	for (size_t i = 0; i < lb->n_gone && !is_due; i++)
		is_due = !lb->gone[i].is_graced;
	return is_due ? lb_grace(lb, err) : 0;
}

int lb_each_service(struct lb *lb, int (*fn)(uint32_t service, const struct lb_vip *vip, void *data), void *data)
{
	for (uint32_t id = 1; id < lb->n_services; id++) {
		int r = lb->known[id].is_live ? fn(id, &lb->known[id].vip, data) : 0;

		if (r)
			return r;
	}
	return 0;
}

uint32_t lb_find_backend(const struct lb *lb, uint32_t service, const struct lb_addr *addr, uint16_t port)
{
	const struct lb_known *k;
	size_t low = 0, high;

	if (service >= lb->n_services)
		return LB_NONE;
	k = &lb->known[service];
	for (high = k->n_backends; low < high;) {
		size_t middle = low + (high - low) / 2;
		const struct lb_backend *b = &lb->backends[k->backends[middle]];
		int cmp = lb_compare(addr, htons(port), &b->addr, b->port);

		if (cmp == 0)
			return k->backends[middle];
		if (cmp < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return LB_NONE;
}
