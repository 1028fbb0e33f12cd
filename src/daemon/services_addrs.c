// SPDX-License-Identifier: GPL-2.0-or-later
/* Addresses that were found out: those of names, which become backends, and those of interfaces, which are listened on. */
#include <errno.h>

#include "daemon/services_priv.h"

struct addrs *addrs_find(struct addrs *head, const char *key)
{
	struct addrs *a = NULL;

	HASH_FIND_STR(head, key, a);
	return a;
}

static struct addrs *addrs_get(struct addrs **head, const char *key)
{
	struct addrs *a = addrs_find(*head, key);

	if (a)
		return a;
	a = new0(struct addrs);
	if (!a || !(a->key = strdup(key))) {
		free(a);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, *head, a->key, strlen(a->key), a);
	return a;
}

int addrs_set(struct addrs **head, const char *key, const struct lb_addr *v, size_t n)
{
	_cleanup_free_ struct lb_addr *copy = calloc(n + 1, sizeof(*copy));
	struct addrs *a = copy ? addrs_get(head, key) : NULL;

	if (!a)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		copy[i] = v[i];
	free(a->v);
	a->v = TAKE_PTR(copy);
	a->n = n;
	a->known = true;
	return 0;
}

static void addrs_remove(struct addrs **head, struct addrs *a)
{
	HASH_DEL(*head, a);
	free(a->key);
	free(a->v);
	free(a);
}

void addrs_done(struct addrs **head)
{
	struct addrs *a, *tmp;

	HASH_ITER(hh, *head, a, tmp)
	addrs_remove(head, a);
}

/*
 * Which names the configuration has, and how often each is wanted. Others are forgotten, but not at once: the one
 * before may be put back.
 */
int names_collect(struct services *s, const struct config *config)
{
	struct addrs *a, *tmp;

	HASH_ITER(hh, s->names, a, tmp)
	a->interval_ms = 0;
	for (size_t i = 0; i < config->n_services; i++) {
		const struct config_service *conf = &config->services[i];

		for (size_t j = 0; j < conf->n_backends; j++) {
			if (!conf->backends[j].is_name)
				continue;
			a = addrs_get(&s->names, conf->backends[j].host);
			if (!a)
				return -ENOMEM;
			if (!a->interval_ms || a->interval_ms > conf->resolve_ms)
				a->interval_ms = conf->resolve_ms;
		}
	}
	HASH_ITER(hh, s->names, a, tmp)
	{
		a->unused = a->interval_ms ? 0 : a->unused + 1;
		if (a->unused > 1)
			addrs_remove(&s->names, a);
	}
	return 0;
}

static int set_addrs(struct services *s, struct addrs **head, const char *key, const struct lb_addr *v, size_t n,
		     bool *ret_changed)
{
	const struct addrs *a = addrs_find(*head, key);

	*ret_changed = !a || !a->known || a->n != n || (n && memcmp(a->v, v, n * sizeof(*v)) != 0);
	return *ret_changed ? addrs_set(head, key, v, n) : 0;
}

int services_set_name(struct services *s, const char *host, const struct lb_addr *addrs, size_t n, uint64_t now_ms)
{
	struct services_diff diff = {};
	struct service *sv, *tmp;
	bool changed;
	int r;

	s->now_ms = now_ms;
	if (!addrs_find(s->names, host))
		return 0;
	r = set_addrs(s, &s->names, host, addrs, n, &changed);
	if (r < 0 || !changed)
		return r;
	HASH_ITER(hh, s->by_name, sv, tmp)
	{
		for (size_t i = 0; i < sv->conf->n_backends; i++) {
			const struct config_backend *entry = &sv->conf->backends[i];

			if (!entry->is_name || !streq(entry->host, host))
				continue;
			r = service_rebuild(sv, &diff);
			if (r < 0)
				return r;
			break;
		}
	}
	s->host.keep(false, s->host.data);
	return 0;
}

int services_each_name(const struct services *s,
		       int (*fn)(const char *host, unsigned int interval_ms, bool known, void *data), void *data)
{
	int r = 0;

	for (const struct addrs *a = s->names; a && !r; a = a->hh.next)
		if (a->interval_ms)
			r = fn(a->key, a->interval_ms, a->known, data);
	return r;
}

int services_set_interface(struct services *s, const char *name, const struct lb_addr *addrs, size_t n, uint64_t now_ms)
{
	struct service *sv, *tmp;
	bool changed;
	int r;

	s->now_ms = now_ms;
	r = set_addrs(s, &s->interfaces, name, addrs, n, &changed);
	if (r < 0 || !changed)
		return r;
	HASH_ITER(hh, s->by_name, sv, tmp)
	service_release(sv, false);
	HASH_ITER(hh, s->by_name, sv, tmp)
	{
		if (!sv->conf->interface || !streq(sv->conf->interface, name))
			continue;
		r = service_claim(sv);
		if (r < 0)
			return r;
		service_dirty(sv);
	}
	s->generation++;
	s->host.wake(s->host.data);
	return 0;
}

int services_each_interface(const struct services *s, int (*fn)(const char *name, void *data), void *data)
{
	int r = 0;

	for (const struct service *sv = s->by_name; sv && !r; sv = sv->hh.next)
		if (sv->conf->interface)
			r = fn(sv->conf->interface, data);
	return r;
}
