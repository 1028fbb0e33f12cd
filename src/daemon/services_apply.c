// SPDX-License-Identifier: GPL-2.0-or-later
/* From the model to the tables of the hooks: who gets connections, with which weight; and what the hooks counted. */
#include <errno.h>

#include "base/log.h"
#include "daemon/services_priv.h"
#include "model/ring.h"

#define TENTHS 10

uint32_t backend_weight(const struct backend *b)
{
	return b->weight_said ? b->said_weight : b->weight;
}

/* By itself; whether others are there is not asked. */
static bool backend_is_fit(const struct backend *b)
{
	return b->state == BACKEND_UP || b->state == BACKEND_UNKNOWN;
}

/* All are down, and connections are spread over them in spite of that. */
static bool service_panics(const struct service *sv)
{
	bool any_down = false;

	if (!sv->conf->panic)
		return false;
	for (const struct backend *b = sv->backends; b; b = b->hh.next) {
		if (backend_is_fit(b))
			return false;
		any_down |= b->state == BACKEND_DOWN;
	}
	return any_down;
}

static uint32_t backend_tenths(const struct backend *b, bool panics, uint64_t now_ms)
{
	uint64_t slow_ms = b->service->conf->slow_start_ms, since_ms;
	uint32_t step = TENTHS;

	if (!backend_is_fit(b) && !(panics && b->state == BACKEND_DOWN))
		return 0;
	if (b->ramp_ms && slow_ms) {
		since_ms = now_ms > b->ramp_ms ? now_ms - b->ramp_ms : 0;
		if (since_ms < slow_ms)
			step = 1 + (uint32_t)(since_ms * (TENTHS - 1) / slow_ms);
	}
	return backend_weight(b) * step;
}

uint32_t backend_effective_tenths(const struct backend *b, uint64_t now_ms)
{
	return backend_tenths(b, service_panics(b->service), now_ms);
}

enum service_state service_state(const struct service *service)
{
	size_t fit = 0, down = 0;

	if (service_panics(service))
		return SERVICE_PANIC;
	for (const struct backend *b = service->backends; b; b = b->hh.next) {
		fit += backend_is_fit(b);
		down += b->state == BACKEND_DOWN;
	}
	if (!fit || !service->frontends)
		return SERVICE_DOWN;
	return down || service->problem[0] ? SERVICE_DEGRADED : SERVICE_UP;
}

static void plan_fill(const struct service *sv, struct lb_plan *plan)
{
	const struct config_service *conf = sv->conf;
	const struct config *config = sv->all->config;

	plan->scheduler = (uint8_t)conf->scheduler;
	plan->forward = (uint8_t)conf->forward;
	plan->seed = conf->seed;
	plan->passive_ms = conf->passive_ms;
	plan->quota = conf->max_connections;
	plan->syn_rate = conf->syn_rate;
	plan->tcp_idle_ms = conf->tcp_idle_ms;
	plan->udp_idle_ms = conf->udp_idle_ms;
	plan->flags =
		(uint16_t)((config->connect_on ? LB_PLAN_CONNECT : 0) | (config->n_interfaces ? LB_PLAN_PACKET : 0) |
			   (conf->passive_ms ? LB_PLAN_PASSIVE : 0) |
			   (conf->syn_cookies == CONFIG_COOKIES_ALWAYS ? LB_PLAN_COOKIES : 0) |
			   (conf->syn_cookies == CONFIG_COOKIES_AUTO ? LB_PLAN_COOKIES_AUTO : 0));
}

/* Tenths only while they are needed: whole weights make shorter rings. */
static void backends_fill(const struct service *sv, struct lb_backend_spec *v)
{
	bool panics = service_panics(sv), parts = false;
	uint32_t most = 0;
	size_t i = 0;

	for (const struct backend *b = sv->backends; b; b = b->hh.next, i++) {
		v[i].addr = b->key.addr;
		v[i].port = b->key.port;
		v[i].weight = backend_tenths(b, panics, sv->all->now_ms);
		if (b->drained)
			v[i].flags |= LB_BACKEND_DRAINING;
		if (b->state == BACKEND_DOWN)
			v[i].flags |= LB_BACKEND_DOWN;
		most = v[i].weight > most ? v[i].weight : most;
		parts |= v[i].weight != backend_weight(b) * TENTHS && v[i].weight;
	}
	if (parts && most <= RING_WEIGHT_MAX)
		return;
	for (size_t j = 0; j < i; j++)
		v[j].weight = (v[j].weight + TENTHS - 1) / TENTHS;
}

static bool spec_equal(const struct lb_service_spec *a, const struct lb_service_spec *b)
{
	return a->table_size == b->table_size && a->n_backends == b->n_backends &&
	       !memcmp(&a->plan, &b->plan, sizeof(a->plan)) &&
	       (!a->n_backends || !memcmp(a->backends, b->backends, a->n_backends * sizeof(*a->backends)));
}

static int ids_grow(void ***v, size_t *n, size_t id)
{
	size_t room = *n ? *n : 64;
	void **more;

	if (id < *n)
		return 0;
	while (room <= id)
		room *= 2;
	more = reallocarray(*v, room, sizeof(*more));
	if (!more)
		return -ENOMEM;
	memset(more + *n, 0, (room - *n) * sizeof(*more));
	*v = more;
	*n = room;
	return 0;
}

static int backend_learn_id(struct services *s, struct backend *b, uint32_t id)
{
	uint32_t *ids;

	if (ids_grow((void ***)&s->by_backend, &s->n_by_backend, id) < 0)
		return -ENOMEM;
	s->by_backend[id] = b;
	for (size_t i = 0; i < b->n_ids; i++)
		if (b->ids[i] == id)
			return 0;
	ids = reallocarray(b->ids, b->n_ids + 1, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	b->ids = ids;
	b->ids[b->n_ids++] = id;
	return 0;
}

static int frontend_learn_ids(struct frontend *f)
{
	struct services *s = f->service->all;

	if (ids_grow((void ***)&s->by_service, &s->n_by_service, f->id) < 0)
		return -ENOMEM;
	s->by_service[f->id] = f;
	for (struct backend *b = f->service->backends; b; b = b->hh.next) {
		uint32_t id = lb_find_backend(s->lb, f->id, &b->key.addr, b->key.port);

		if (id != LB_NONE && backend_learn_id(s, b, id) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Returns 1 if something had to be changed. */
static int frontend_apply(struct frontend *f, struct err *err)
{
	struct service *sv = f->service;
	size_t n = HASH_COUNT(sv->backends);
	_cleanup_free_ struct lb_backend_spec *backends = calloc(n + 1, sizeof(*backends));
	struct lb_service_spec spec = { .vip = f->vip, .table_size = sv->conf->table_size };
	uint32_t id;
	int r;

	if (!backends)
		return err_set(err, -ENOMEM, "out of memory");
	plan_fill(sv, &spec.plan);
	backends_fill(sv, backends);
	spec.backends = backends;
	spec.n_backends = n;
	if (f->is_applied && spec_equal(&spec, &f->applied))
		return 0;
	r = lb_apply(sv->all->lb, &spec, &id, err);
	f->failed = r < 0;
	if (r < 0)
		return r;
	f->id = id;
	f->applied = spec;
	free(f->backends);
	f->backends = TAKE_PTR(backends);
	f->is_applied = true;
	r = frontend_learn_ids(f);
	return r < 0 ? err_set(err, r, "out of memory") : 1;
}

static void service_trouble(struct service *sv, const char *text)
{
	if (!strncmp(sv->problem, text, sizeof(sv->problem) - 1))
		return;
	(void)snprintf(sv->problem, sizeof(sv->problem), "%.*s", (int)sizeof(sv->problem) - 1, text);
	log_err("the service '%s' stays as it was: %s", sv->name, text);
}

static int service_apply(struct service *sv, struct err *err)
{
	int r, first = 0, n = 0;

	for (struct frontend *f = sv->frontends; f; f = f->next) {
		bool had_failed = f->failed;

		r = frontend_apply(f, err);
		if (r >= 0) {
			n += r;
			if (had_failed)
				sv->problem[0] = '\0';
			continue;
		}
		service_trouble(sv, err->text);
		if (first >= 0)
			first = r;
	}
	return first < 0 ? first : n;
}

static int orphans_remove(struct services *s, struct err *err)
{
	struct frontend *f, *tmp;
	int r, first = 0;

	HASH_ITER(hh, s->frontends, f, tmp)
	{
		if (f->service)
			continue;
		/* What was never applied is not there, unless it was there before us. */
		r = f->id == LB_NONE ? 0 : lb_remove(s->lb, &f->vip, err);
		if (r < 0 && r != -ENOENT) {
			first = first < 0 ? first : r;
			continue;
		}
		if (f->id < s->n_by_service && s->by_service[f->id] == f)
			s->by_service[f->id] = NULL;
		HASH_DEL(s->frontends, f);
		frontend_free(f);
	}
	s->orphans = first < 0;
	return first;
}

int services_apply(struct services *s, struct err *err)
{
	struct err one = {}, last = {};
	int r = 0, n = 0, end;

	if (!s->dirty && !s->orphans)
		return 0;
	lb_begin(s->lb);
	/* First, for it may make room. */
	if (s->orphans)
		r = orphans_remove(s, err);
	while (s->dirty) {
		struct service *sv = s->dirty;
		int done;

		s->dirty = sv->next_dirty;
		sv->dirty = false;
		done = service_apply(sv, &one);
		if (done < 0 && r >= 0)
			r = err_set(err, done, "service '%s': %s", sv->name, one.text);
		n += done > 0 ? done : 0;
	}
	end = lb_end(s->lb, &last);
	if (end < 0 && r >= 0)
		r = err_set(err, end, "%s", last.text);
	return r < 0 ? r : n;
}

void backend_counts(const struct backend *b, struct lb_counts *ret)
{
	const struct services *s = b->service->all;

	*ret = (struct lb_counts){};
	for (size_t i = 0; i < b->n_ids; i++) {
		struct lb_counts one;

		/* Ids are given to others when their backend has left one of several addresses. */
		if (s->by_backend[b->ids[i]] != b || lb_backend_counts(s->lb, b->ids[i], &one) < 0)
			continue;
		ret->conns += one.conns;
		ret->picks += one.picks;
		ret->failures += one.failures;
		ret->traffic.in_packets += one.traffic.in_packets;
		ret->traffic.in_bytes += one.traffic.in_bytes;
		ret->traffic.out_packets += one.traffic.out_packets;
		ret->traffic.out_bytes += one.traffic.out_bytes;
		if (one.avoid_until_ns > ret->avoid_until_ns)
			ret->avoid_until_ns = one.avoid_until_ns;
	}
}
