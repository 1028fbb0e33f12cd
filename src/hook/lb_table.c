// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which ids, plans and parts of the ring are free. The maps say it all, so that it can be read back from them when an
 * earlier process is gone, even if it died in the middle of a change: what is reached from lb_vips is in use, and so
 * is a backend's record that names a service.
 */
#include "hook/lb_priv.h"

#include <arpa/inet.h>
#include <errno.h>

#include <bpf/bpf.h>

int lb_compare(const struct lb_addr *a, uint16_t port_be_a, const struct lb_addr *b, uint16_t port_be_b)
{
	int r = memcmp(a, b, sizeof(*a));

	return r ? r : (int)ntohs(port_be_a) - (int)ntohs(port_be_b);
}

static int lb_ids_init(struct lb_ids *ids, uint32_t n)
{
	ids->v = calloc(n, sizeof(*ids->v));
	ids->n = 0;
	return ids->v ? 0 : -ENOMEM;
}

int lb_table_init(struct lb *lb, struct err *err)
{
	lb->known = calloc(lb->n_services, sizeof(*lb->known));
	lb->limbo = calloc((size_t)lb->n_plans + lb->n_services, sizeof(*lb->limbo));
	lb->gone = calloc(lb->n_backends, sizeof(*lb->gone));
	if (!lb->known || !lb->limbo || !lb->gone || lb_ids_init(&lb->free_services, lb->n_services) < 0 ||
	    lb_ids_init(&lb->free_plans, lb->n_plans) < 0 || lb_ids_init(&lb->free_backends, lb->n_backends) < 0 ||
	    lb_arena_init(&lb->arena, lb->n_lines) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	/* The last one is taken first. */
	for (uint32_t id = lb->n_services - 1; id > 0; id--)
		lb_id_give(&lb->free_services, id);
	for (uint32_t id = lb->n_plans - 1; id > 0; id--)
		lb_id_give(&lb->free_plans, id);
	for (uint32_t id = lb->n_backends - 1; id > 0; id--)
		lb_id_give(&lb->free_backends, id);
	return 0;
}

void lb_table_done(struct lb *lb)
{
	for (uint32_t id = 0; lb->known && id < lb->n_services; id++)
		free(lb->known[id].backends);
	free(lb->known);
	free(lb->limbo);
	free(lb->gone);
	free(lb->free_services.v);
	free(lb->free_plans.v);
	free(lb->free_backends.v);
	lb_arena_done(&lb->arena);
}

void lb_plan_release(struct lb *lb, uint32_t plan)
{
	lb_arena_free(&lb->arena, lb->plans[plan].ring, lb_lines(lb->plans[plan].n));
	lb_id_give(&lb->free_plans, plan);
}

/* The id of a service is used again when it is removed, unseen, and no backend's record names it. */
void lb_service_release(struct lb *lb, uint32_t service)
{
	struct lb_known *k = &lb->known[service];

	if (!k->is_used || k->is_live || !k->is_graced || k->refs)
		return;
	free(k->backends);
	*k = (struct lb_known){};
	lb_id_give(&lb->free_services, service);
}

static int lb_broken(struct err *err, const char *what, uint32_t id)
{
	return err_set(err, -EPROTO, "the tables in '%s' are broken at %s %u: start anew with 'waggle unload'",
		       lb_pin_dir(), what, id);
}

/* plans: which of them are in use. */
static int take_over_service(struct lb *lb, const struct lb_vip *vip, uint32_t id, bool *plans, struct err *err)
{
	uint32_t plan;

	if (id == LB_NONE || id >= lb->n_services || lb->known[id].is_live)
		return lb_broken(err, "service", id);
	plan = lb->services[id].plan;
	if (plan == LB_NONE || plan >= lb->n_plans || plans[plan])
		return lb_broken(err, "the plan of service", id);
	plans[plan] = true;
	if (lb->plans[plan].n && lb_arena_take(&lb->arena, lb->plans[plan].ring, lb_lines(lb->plans[plan].n)) < 0)
		return lb_broken(err, "the ring of service", id);
	lb->known[id].vip = *vip;
	lb->known[id].is_live = true;
	lb->known[id].is_used = true;
	return 0;
}

static int take_over_services(struct lb *lb, bool *plans, struct err *err)
{
	int fd = bpf_map__fd(lb->skel->maps.lb_vips), r;
	struct lb_vip vip, next;

	for (bool first = true; !bpf_map_get_next_key(fd, first ? NULL : &vip, &next); first = false) {
		uint32_t id;

		vip = next;
		if (bpf_map_lookup_elem(fd, &vip, &id))
			return err_set(err, -errno, "cannot read 'lb_vips': %s", strerror(errno));
		r = take_over_service(lb, &vip, id, plans, err);
		if (r < 0)
			return r;
	}
	/* Made, but not reachable yet when its maker died; or removed. */
	for (uint32_t id = 1; id < lb->n_services; id++)
		if (!lb->known[id].is_live)
			__atomic_store_n(&lb->services[id].plan, LB_NONE, __ATOMIC_RELEASE);
	return 0;
}

static int take_over_backends(struct lb *lb, struct err *err)
{
	for (uint32_t id = 1; id < lb->n_backends; id++) {
		uint32_t service = lb->backends[id].service;

		if (service >= lb->n_services)
			return lb_broken(err, "backend", id);
		if (service == LB_NONE)
			continue;
		lb->known[service].refs++;
		lb->known[service].is_used = true;
	}
	for (uint32_t id = 1; id < lb->n_services; id++) {
		if (!lb->known[id].refs)
			continue;
		lb->known[id].backends = calloc(lb->known[id].refs, sizeof(uint32_t));
		if (!lb->known[id].backends)
			return err_set(err, -ENOMEM, "out of memory");
	}
	for (uint32_t id = 1; id < lb->n_backends; id++) {
		struct lb_backend *b = &lb->backends[id];
		struct lb_known *k = &lb->known[b->service];

		if (b->service == LB_NONE)
			continue;
		if (k->is_live && !(b->flags & LB_BACKEND_GONE)) {
			k->backends[k->n_backends++] = id;
			continue;
		}
		b->flags |= LB_BACKEND_GONE | LB_BACKEND_DRAINING;
		lb->gone[lb->n_gone++] = (struct lb_gone){ .backend = id };
	}
	return 0;
}

static int by_address(const void *a, const void *b, void *data)
{
	const struct lb_backend *x = &((struct lb_backend *)data)[*(const uint32_t *)a];
	const struct lb_backend *y = &((struct lb_backend *)data)[*(const uint32_t *)b];

	return lb_compare(&x->addr, x->port, &y->addr, y->port);
}

int lb_table_take_over(struct lb *lb, struct err *err)
{
	_cleanup_free_ bool *plans = calloc(lb->n_plans, sizeof(*plans));
	int r;

	if (!plans)
		return err_set(err, -ENOMEM, "out of memory");
	r = take_over_services(lb, plans, err);
	if (r < 0)
		return r;
	r = take_over_backends(lb, err);
	if (r < 0)
		return r;
	lb->free_services.n = lb->free_plans.n = lb->free_backends.n = 0;
	for (uint32_t id = lb->n_services - 1; id > 0; id--) {
		struct lb_known *k = &lb->known[id];

		if (k->n_backends)
			qsort_r(k->backends, k->n_backends, sizeof(*k->backends), by_address, lb->backends);
		if (!k->is_used)
			lb_id_give(&lb->free_services, id);
		else if (!k->is_live)
			lb->limbo[lb->n_limbo++] = (struct lb_limbo){ .service = id };
	}
	for (uint32_t id = lb->n_plans - 1; id > 0; id--)
		if (!plans[id])
			lb_id_give(&lb->free_plans, id);
	for (uint32_t id = lb->n_backends - 1; id > 0; id--)
		if (lb->backends[id].service == LB_NONE)
			lb_id_give(&lb->free_backends, id);
	return 0;
}
