// SPDX-License-Identifier: GPL-2.0-or-later
#include "services_fx.h"

#include <errno.h>
#include <stdio.h>

struct lb fake;

int lb_each_service(struct lb *lb, int (*fn)(uint32_t service, const struct lb_vip *vip, void *data), void *data)
{
	int r = 0;

	for (uint32_t i = 1; i < FAKE_MAX && !r; i++)
		if (lb->services[i].is_used)
			r = fn(i, &lb->services[i].vip, data);
	return r;
}

static uint32_t fake_find(const struct lb *lb, const struct lb_vip *vip)
{
	for (uint32_t i = 1; i < FAKE_MAX; i++)
		if (lb->services[i].is_used && !memcmp(&lb->services[i].vip, vip, sizeof(*vip)))
			return i;
	return LB_NONE;
}

uint32_t lb_find_backend(const struct lb *lb, uint32_t service, const struct lb_addr *addr, uint16_t port)
{
	for (uint32_t i = 1; i <= lb->n_backends; i++)
		if (lb->backends[i].service == service && lb->backends[i].port == port &&
		    !memcmp(&lb->backends[i].addr, addr, sizeof(*addr)))
			return i;
	return LB_NONE;
}

int lb_apply(struct lb *lb, const struct lb_service_spec *spec, uint32_t *ret_service, struct err *err)
{
	uint32_t id = fake_find(lb, &spec->vip);

	if (lb->full)
		return err_set(err, -ENOSPC, "the table is full");
	for (uint32_t i = 1; !id && i < FAKE_MAX; i++)
		if (!lb->services[i].is_used)
			id = i;
	lb->services[id].is_used = true;
	lb->services[id].vip = spec->vip;
	lb->services[id].plan = spec->plan;
	lb->services[id].n = spec->n_backends;
	for (size_t i = 0; i < spec->n_backends; i++) {
		const struct lb_backend_spec *b = &spec->backends[i];

		lb->services[id].backends[i] = *b;
		if (lb_find_backend(lb, id, &b->addr, b->port))
			continue;
		lb->n_backends++;
		lb->backends[lb->n_backends].addr = b->addr;
		lb->backends[lb->n_backends].port = b->port;
		lb->backends[lb->n_backends].service = id;
	}
	lb->applied++;
	*ret_service = id;
	return 0;
}

int lb_remove(struct lb *lb, const struct lb_vip *vip, struct err *err)
{
	uint32_t id = fake_find(lb, vip);

	if (!id)
		return err_set(err, -ENOENT, "no such service");
	lb->services[id].is_used = false;
	lb->removed++;
	return 0;
}

void lb_begin(struct lb *lb)
{
	(void)lb;
}

int lb_end(struct lb *lb, struct err *err)
{
	(void)lb;
	(void)err;
	return 0;
}

int lb_backend_counts(const struct lb *lb, uint32_t backend, struct lb_counts *ret)
{
	*ret = (struct lb_counts){ .conns = backend <= lb->n_backends, .picks = 10 * backend };
	return 0;
}

struct told told;

static void on_added(struct backend *b, void *data)
{
	(void)b;
	(void)data;
	told.added++;
}

static void on_removed(struct backend *b, void *data)
{
	(void)b;
	(void)data;
	told.removed++;
}

static void on_rechecked(struct backend *b, void *data)
{
	(void)b;
	(void)data;
	told.rechecked++;
}

static void on_changed(const struct backend *b, enum backend_state was, const char *why, void *data)
{
	(void)data;
	told.changed++;
	(void)snprintf(told.last, sizeof(told.last), "%s %s->%s %s", b->text, backend_state_words[was],
		       backend_state_words[b->state], why);
}

static void on_wake(void *data)
{
	(void)data;
	told.woken++;
}

static void on_keep(bool at_once, void *data)
{
	(void)at_once;
	(void)data;
	told.kept++;
}

const struct services_host host = { on_added, on_removed, on_rechecked, on_changed, on_wake, on_keep, NULL };

static struct config *config_of(const char *text)
{
	struct config_errors errors = {};
	struct config *made = NULL;
	struct err err = {};

	if (config_load_buffer("test.yaml", text, strlen(text), &made, &errors, &err) < 0)
		fail_msg("%s%s", errors.n ? errors.v[0].text : "", err.text);
	return made;
}

struct services *model;
struct config *config;
uint64_t now_ms;

void reload(const char *text, struct services_diff *ret)
{
	struct config *next = config_of(text);
	struct services_diff diff;
	struct err err = {};

	if (services_configure(model, next, now_ms, &diff, &err) < 0)
		fail_msg("%s", err.text);
	(void)config_free(config);
	config = next;
	if (ret)
		*ret = diff;
}

int apply(void)
{
	struct err err = {};

	return services_apply(model, &err);
}

void begin(const char *text)
{
	struct err err = {};

	now_ms = 1000;
	memset(&told, 0, sizeof(told));
	assert_int_equal(services_new(&fake, &host, &model, &err), 0);
	reload(text, NULL);
}

void end(void)
{
	model = services_free(model);
	config = config_free(config);
}

int clear(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	return 0;
}

struct backend *backend(const char *service, const char *text)
{
	struct backend *b = NULL;
	struct err err = {};

	if (service_find_backend(services_find(model, service), text, &b, &err) < 0)
		fail_msg("%s", err.text);
	return b;
}

void check(struct backend *b, bool ok)
{
	struct check_result result = { .ok = ok, .at_ms = now_ms, .latency_us = 1500 };

	if (!ok)
		(void)snprintf(result.error, sizeof(result.error), "refused");
	services_report(model, b, &result, now_ms);
}

void weights_are(size_t n, const uint32_t *weights)
{
	assert_int_equal(fake.services[1].n, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(fake.services[1].backends[i].weight, weights[i]);
}
