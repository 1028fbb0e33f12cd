// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The model follows the configuration: services by name, backends by address and port, virtual addresses by
 * themselves. Whatever is known again is kept with all that was found out about it.
 */
#include "daemon/services_priv.h"

#include <arpa/inet.h>
#include <errno.h>

const char *const backend_state_words[_BACKEND_STATE_MAX] = {
#define X(id, word) [BACKEND_##id] = word,
	BACKEND_STATE_LIST(X)
#undef X
};

const char *const service_state_words[_SERVICE_STATE_MAX] = {
	[SERVICE_UP] = "up",
	[SERVICE_DEGRADED] = "degraded",
	[SERVICE_DOWN] = "down",
	[SERVICE_PANIC] = "panic",
};

void service_dirty(struct service *sv)
{
	struct services *s = sv->all;

	if (sv->dirty)
		return;
	sv->dirty = true;
	sv->next_dirty = NULL;
	*(s->dirty ? &s->last_dirty->next_dirty : &s->dirty) = sv;
	s->last_dirty = sv;
	s->host.wake(s->host.data);
}

/* A backend. */

static void backend_free(struct backend *b)
{
	struct services *s = b->service->all;

	s->host.removed(b, s->host.data);
	for (size_t i = 0; i < b->n_ids; i++)
		if (s->by_backend[b->ids[i]] == b)
			s->by_backend[b->ids[i]] = NULL;
	if (b->ramp_ms)
		s->n_ramping--;
	free(b->ids);
	free(b->name);
	free(b);
}

static enum backend_state backend_state_of(const struct backend *b)
{
	if (b->drained)
		return BACKEND_DRAINING;
	if (!backend_weight(b))
		return BACKEND_DISABLED;
	return b->service->conf->health.check == CONFIG_CHECK_NONE ? BACKEND_UP : b->verdict;
}

void backend_refresh(struct backend *b, const char *why)
{
	struct services *s = b->service->all;
	enum backend_state was = b->state, now = backend_state_of(b);

	if (now == was)
		return;
	b->state = now;
	b->since_ms = s->now_ms;
	if (b->ramp_ms && now != BACKEND_UP) {
		b->ramp_ms = 0;
		s->n_ramping--;
	}
	service_dirty(b->service);
	s->host.changed(b, was, why, s->host.data);
}

static struct backend *backend_new(struct service *sv, const struct backend_key *key)
{
	struct backend *b = new0(struct backend);

	if (!b)
		return NULL;
	b->service = sv;
	b->key = *key;
	b->verdict = BACKEND_UNKNOWN;
	b->since_ms = sv->all->now_ms;
	(void)addr_format(&key->addr, key->port, b->text);
	return b;
}

/* What the file says of it now. An operator's word holds as long as the file's stays the same. */
static int backend_update(struct backend *b, const struct config_backend *entry, bool is_new)
{
	_cleanup_free_ char *name = NULL;

	if (entry->is_name && !(name = strdup(entry->host)))
		return -ENOMEM;
	free(b->name);
	b->name = TAKE_PTR(name);
	if (!is_new && b->weight != entry->weight)
		b->drained = b->weight_said = false;
	b->weight = entry->weight;
	return 0;
}

/* Moves what is known from the old table, or makes it. Of two lines with the same address the first one counts. */
static int service_take(struct service *sv, struct backend **was, const struct config_backend *entry,
			const struct lb_addr *addr, size_t *added)
{
	struct backend_key key = { .addr = *addr, .port = entry->port };
	struct backend *b = NULL;
	bool is_new;

	HASH_FIND(hh, sv->backends, &key, sizeof(key), b);
	if (b)
		return 0;
	HASH_FIND(hh, *was, &key, sizeof(key), b);
	is_new = !b;
	if (b)
		HASH_DELETE(hh, *was, b);
	else if (!(b = backend_new(sv, &key)))
		return -ENOMEM;
	HASH_ADD(hh, sv->backends, key, sizeof(b->key), b);
	if (backend_update(b, entry, is_new) < 0)
		return -ENOMEM;
	if (!is_new) {
		backend_refresh(b, "the configuration has changed");
		return 0;
	}
	++*added;
	services_recall(b);
	b->state = backend_state_of(b);
	sv->all->host.added(b, sv->all->host.data);
	return 0;
}

int service_rebuild(struct service *sv, struct services_diff *diff)
{
	struct backend *was = sv->backends, *b, *tmp;
	size_t added = 0, removed;
	int r = 0;

	sv->backends = NULL;
	for (size_t i = 0; i < sv->conf->n_backends && r >= 0; i++) {
		const struct config_backend *entry = &sv->conf->backends[i];
		const struct addrs *a = entry->is_name ? addrs_find(sv->all->names, entry->host) : NULL;

		if (!entry->is_name)
			r = service_take(sv, &was, entry, &entry->addr, &added);
		for (size_t j = 0; a && j < a->n && r >= 0; j++)
			r = service_take(sv, &was, entry, &a->v[j], &added);
	}
	removed = HASH_COUNT(was);
	HASH_ITER(hh, was, b, tmp)
	{
		HASH_DELETE(hh, was, b);
		backend_free(b);
	}
	if (added || removed)
		sv->all->generation++;
	diff->backends_added += added;
	diff->backends_removed += removed;
	service_dirty(sv);
	return r;
}

/* Virtual addresses. */

void frontend_free(struct frontend *f)
{
	free(f->backends);
	free(f);
}

static bool service_wants(const struct service *sv, const struct lb_vip *vip)
{
	const struct config_service *conf = sv->conf;
	const struct addrs *a;

	if (vip->port != htons(conf->port) || vip->proto != conf->proto)
		return false;
	if (!conf->interface)
		return !memcmp(&vip->addr, &conf->addr, sizeof(vip->addr));
	a = addrs_find(sv->all->interfaces, conf->interface);
	for (size_t i = 0; a && i < a->n; i++)
		if (!memcmp(&vip->addr, &a->v[i], sizeof(vip->addr)))
			return true;
	return false;
}

void service_release(struct service *sv, bool all)
{
	struct frontend **p = &sv->frontends;

	while (*p) {
		struct frontend *f = *p;

		if (!all && service_wants(sv, &f->vip)) {
			p = &f->next;
			continue;
		}
		*p = f->next;
		f->next = NULL;
		f->service = NULL;
		sv->all->orphans = true;
	}
}

static int service_claim_one(struct service *sv, const struct lb_addr *addr)
{
	struct lb_vip vip = { .addr = *addr, .port = htons(sv->conf->port), .proto = sv->conf->proto };
	struct services *s = sv->all;
	struct frontend *f = NULL;
	char text[ADDR_TEXT_MAX];

	HASH_FIND(hh, s->frontends, &vip, sizeof(vip), f);
	if (f && f->service == sv)
		return 0;
	if (f && f->service) {
		(void)snprintf(sv->problem, sizeof(sv->problem), "the service '%s' has the address %s already",
			       f->service->name, addr_format(addr, sv->conf->port, text));
		return 0;
	}
	if (!f) {
		f = new0(struct frontend);
		if (!f)
			return -ENOMEM;
		f->vip = vip;
		HASH_ADD(hh, s->frontends, vip, sizeof(f->vip), f);
	}
	f->service = sv;
	f->next = sv->frontends;
	sv->frontends = f;
	return 0;
}

int service_claim(struct service *sv)
{
	const struct config_service *conf = sv->conf;
	const struct addrs *a;
	int r = 0;

	sv->problem[0] = '\0';
	if (!conf->interface)
		return service_claim_one(sv, &conf->addr);
	a = addrs_find(sv->all->interfaces, conf->interface);
	if (!a || !a->n)
		(void)snprintf(sv->problem, sizeof(sv->problem), "the interface '%s' has no address", conf->interface);
	for (size_t i = 0; a && i < a->n && r >= 0; i++)
		r = service_claim_one(sv, &a->v[i]);
	return r;
}

/* Services. */

static void service_free(struct service *sv)
{
	struct backend *b, *tmp;

	HASH_ITER(hh, sv->backends, b, tmp)
	{
		HASH_DELETE(hh, sv->backends, b);
		backend_free(b);
	}
	free(sv->name);
	free(sv);
}

static bool text_equal(const char *a, const char *b)
{
	return a == b || (a && b && streq(a, b));
}

/* Whether backends are checked in the same way. */
static bool health_equal(const struct config_health *a, const struct config_health *b)
{
	return a->check == b->check && a->port == b->port && a->verify == b->verify && text_equal(a->path, b->path) &&
	       text_equal(a->host, b->host) && text_equal(a->body, b->body) && a->status_min == b->status_min &&
	       a->status_max == b->status_max && a->interval_ms == b->interval_ms && a->timeout_ms == b->timeout_ms &&
	       a->jitter_ms == b->jitter_ms;
}

static void service_recheck(struct service *sv)
{
	struct backend *b, *tmp;

	HASH_ITER(hh, sv->backends, b, tmp)
	{
		if (sv->conf->health.check == CONFIG_CHECK_NONE) {
			b->verdict = BACKEND_UNKNOWN;
			b->last = (struct check_result){};
			b->streak = 0;
		}
		backend_refresh(b, "the configuration has changed");
		sv->all->host.rechecked(b, sv->all->host.data);
	}
}

static struct service *service_new(struct services *s, const char *name)
{
	struct service *sv = new0(struct service);

	if (!sv)
		return NULL;
	sv->all = s;
	sv->name = strdup(name);
	if (!sv->name) {
		free(sv);
		return NULL;
	}
	return sv;
}

/* Every service of the configuration gets its struct, in the order of the file; the others go. */
static int services_match(struct services *s, const struct config *config, struct services_diff *diff)
{
	struct service *was = s->by_name, *sv, *tmp;

	s->by_name = NULL;
	for (size_t i = 0; i < config->n_services; i++) {
		const struct config_service *conf = &config->services[i];
		bool same;

		HASH_FIND_STR(was, conf->name, sv);
		if (sv) {
			HASH_DEL(was, sv);
		} else {
			sv = service_new(s, conf->name);
			if (!sv)
				return -ENOMEM;
			diff->services_added++;
		}
		HASH_ADD_KEYPTR(hh, s->by_name, sv->name, strlen(sv->name), sv);
		same = !sv->conf || health_equal(&sv->conf->health, &conf->health);
		sv->conf = conf;
		if (!same)
			service_recheck(sv);
	}
	diff->services_removed = HASH_COUNT(was);
	HASH_ITER(hh, was, sv, tmp)
	{
		HASH_DEL(was, sv);
		service_release(sv, true);
		diff->backends_removed += HASH_COUNT(sv->backends);
		service_free(sv);
	}
	return 0;
}

/* Nothing is applied meanwhile: what waits for that is found anew. */
static void services_forget_dirty(struct services *s)
{
	for (struct service *sv = s->dirty; sv; sv = sv->next_dirty)
		sv->dirty = false;
	s->dirty = NULL;
}

int services_configure(struct services *s, const struct config *config, uint64_t now_ms, struct services_diff *ret,
		       struct err *err)
{
	struct services_diff diff = {};
	struct service *sv, *tmp;
	int r;

	s->now_ms = now_ms;
	s->config = config;
	services_forget_dirty(s);
	r = names_collect(s, config);
	if (r >= 0)
		r = services_match(s, config, &diff);
	HASH_ITER(hh, s->by_name, sv, tmp)
	{
		service_release(sv, false);
		if (r >= 0)
			r = service_rebuild(sv, &diff);
	}
	HASH_ITER(hh, s->by_name, sv, tmp)
	if (r >= 0)
		r = service_claim(sv);
	s->generation++;
	s->host.keep(false, s->host.data);
	s->host.wake(s->host.data);
	if (r < 0)
		return err_set(err, r, "out of memory");
	*ret = diff;
	return 0;
}

/* Beginning and end. */

static int on_found(uint32_t service, const struct lb_vip *vip, void *data)
{
	struct services *s = data;
	struct frontend *f = new0(struct frontend);

	if (!f)
		return -ENOMEM;
	f->vip = *vip;
	f->id = service;
	HASH_ADD(hh, s->frontends, vip, sizeof(f->vip), f);
	s->orphans = true;
	return 0;
}

int services_new(struct lb *lb, const struct services_host *host, struct services **ret, struct err *err)
{
	_cleanup_(services_freep) struct services *s = new0(struct services);
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->lb = lb;
	s->host = *host;
	r = lb_each_service(lb, on_found, s);
	if (r < 0)
		return err_set(err, r, "cannot read the table of services: %s", strerror(-r));
	*ret = TAKE_PTR(s);
	return 0;
}

struct services *services_free(struct services *s)
{
	struct service *sv, *tmp;
	struct frontend *f, *next;

	if (!s)
		return NULL;
	HASH_ITER(hh, s->by_name, sv, tmp)
	{
		HASH_DEL(s->by_name, sv);
		service_free(sv);
	}
	HASH_ITER(hh, s->frontends, f, next)
	{
		HASH_DEL(s->frontends, f);
		frontend_free(f);
	}
	addrs_done(&s->names);
	addrs_done(&s->interfaces);
	json_decref(s->memory);
	free(s->by_backend);
	free(s->by_service);
	free(s);
	return NULL;
}
