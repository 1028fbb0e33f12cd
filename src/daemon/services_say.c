// SPDX-License-Identifier: GPL-2.0-or-later
/* What changes the model besides the configuration: checks, operators and time. And looking things up in it. */
#include <errno.h>

#include "daemon/services_priv.h"

/* Verdicts: the first check decides at once, later ones only when enough in a row say the other thing. */

static void verdict_set(struct backend *b, enum backend_state verdict, const char *why)
{
	struct services *s = b->service->all;
	bool recovered = b->verdict == BACKEND_DOWN && verdict == BACKEND_UP;

	b->verdict = verdict;
	b->streak = 0;
	backend_refresh(b, why);
	if (recovered && b->state == BACKEND_UP && b->service->conf->slow_start_ms && !b->ramp_ms) {
		b->ramp_ms = s->now_ms ? s->now_ms : 1;
		s->n_ramping++;
		service_dirty(b->service);
	}
	s->host.keep(false, s->host.data);
}

void services_report(struct services *s, struct backend *b, const struct check_result *result, uint64_t now_ms)
{
	const struct config_health *health = &b->service->conf->health;
	enum backend_state says = result->ok ? BACKEND_UP : BACKEND_DOWN;
	unsigned int wanted = result->ok ? health->rise : health->fall;
	char why[sizeof(result->error) + 64];

	s->now_ms = now_ms;
	b->last = *result;
	b->results = b->results << 1 | result->ok;
	b->n_results += b->n_results < BACKEND_RESULTS;
	if (b->verdict == says) {
		b->streak = 0;
		return;
	}
	b->streak++;
	if (b->verdict != BACKEND_UNKNOWN && b->streak < wanted)
		return;
	if (result->ok)
		(void)snprintf(why, sizeof(why), "%u check%s passed", b->streak, b->streak == 1 ? "" : "s");
	else
		(void)snprintf(why, sizeof(why), "%u check%s failed: %s", b->streak, b->streak == 1 ? "" : "s",
			       result->error);
	verdict_set(b, says, why);
}

/* While a change is in the air the rest of the checks that it takes fit into one interval. */
unsigned int services_check_delay(const struct backend *b)
{
	const struct config_health *health = &b->service->conf->health;
	unsigned int wanted = b->last.ok ? health->rise : health->fall;

	return b->streak && wanted > 1 ? health->interval_ms / wanted : health->interval_ms;
}

void services_drain(struct services *s, struct backend *b, bool on, uint64_t now_ms)
{
	s->now_ms = now_ms;
	b->drained = on;
	backend_refresh(b, "an operator said so");
	s->host.keep(true, s->host.data);
}

void services_set_weight(struct services *s, struct backend *b, uint32_t weight, uint64_t now_ms)
{
	s->now_ms = now_ms;
	b->weight_said = weight != b->weight;
	b->said_weight = weight;
	service_dirty(b->service);
	backend_refresh(b, "an operator said so");
	s->host.keep(true, s->host.data);
}

static void service_tick(struct service *sv)
{
	struct services *s = sv->all;

	for (struct frontend *f = sv->frontends; f; f = f->next)
		if (f->failed)
			service_dirty(sv);
	for (struct backend *b = sv->backends; b && s->n_ramping; b = b->hh.next) {
		if (!b->ramp_ms)
			continue;
		service_dirty(sv);
		if (s->now_ms < b->ramp_ms + sv->conf->slow_start_ms)
			continue;
		b->ramp_ms = 0;
		s->n_ramping--;
	}
}

void services_tick(struct services *s, uint64_t now_ms)
{
	s->now_ms = now_ms;
	for (struct service *sv = s->by_name; sv; sv = sv->hh.next)
		service_tick(sv);
}

struct service *services_first(const struct services *s)
{
	return s->by_name;
}

struct service *services_find(const struct services *s, const char *name)
{
	struct service *sv = NULL;

	HASH_FIND_STR(s->by_name, name, sv);
	return sv;
}

static int find_by_address(const struct service *service, const char *host, uint16_t port, struct backend **ret)
{
	struct backend_key key = { .port = port };
	struct backend *b = NULL;
	struct err ignored;

	if (addr_parse(host, &key.addr, &ignored) < 0)
		return -EINVAL;
	HASH_FIND(hh, service->backends, &key, sizeof(key), b);
	if (!b)
		return -ENOENT;
	*ret = b;
	return 0;
}

int service_find_backend(const struct service *service, const char *text, struct backend **ret, struct err *err)
{
	struct backend *found = NULL;
	char host[256];
	uint16_t port;
	int r = addr_split(text, host, sizeof(host), &port, err);

	if (r < 0)
		return r;
	r = find_by_address(service, host, port, ret);
	if (!r)
		return 0;
	for (struct backend *b = service->backends; r == -EINVAL && b; b = b->hh.next) {
		if (!b->name || !streq(b->name, host) || b->key.port != port)
			continue;
		if (found)
			return err_set(err, -EINVAL,
				       "'%s' has several addresses: name one of them, as 'waggle status' shows them",
				       text);
		found = b;
	}
	if (!found)
		return err_set(err, -ENOENT, "the service '%s' has no backend '%s': 'waggle status' shows those it has",
			       service->name, text);
	*ret = found;
	return 0;
}

struct backend *services_backend_of(const struct services *s, uint32_t backend_id)
{
	return backend_id < s->n_by_backend ? s->by_backend[backend_id] : NULL;
}

struct service *services_service_of(const struct services *s, uint32_t service_id)
{
	return service_id < s->n_by_service && s->by_service[service_id] ? s->by_service[service_id]->service : NULL;
}

uint64_t services_generation(const struct services *s)
{
	return s->generation;
}

size_t services_count(const struct services *s, size_t ret_backends[_BACKEND_STATE_MAX])
{
	memset(ret_backends, 0, _BACKEND_STATE_MAX * sizeof(*ret_backends));
	for (const struct service *sv = s->by_name; sv; sv = sv->hh.next)
		for (const struct backend *b = sv->backends; b; b = b->hh.next)
			ret_backends[b->state]++;
	return HASH_COUNT(s->by_name);
}
