// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/wire_filter.h"

#include <errno.h>

#include "base/num.h"
#include "model/addr.h"
#include "model/wire.h"

const char *const wire_filter_words[_WIRE_FILTER_KINDS] = {
	[WIRE_FILTER_SERVICE] = "service",
	[WIRE_FILTER_ADDRESS] = "address",
	[WIRE_FILTER_PROCESS] = "process",
	[WIRE_FILTER_EVENT] = "event",
};

/* Those that the accelerator does not make. */
static const char *const event_words[] = {
	"backend",    "picked",	    "refused",	"timed-out", "no-backend",
	"redirected", "proxy-down", "straight", "denied",    "reload",
};

static const char *const address_fields[] = { "local", "remote", "client", "backend", "to" };

void wire_filter_done(struct wire_filter *f)
{
	for (size_t kind = 0; kind < _WIRE_FILTER_KINDS; kind++)
		for (size_t i = 0; i < f->n[kind]; i++)
			free(f->texts[kind][i]);
	*f = (struct wire_filter){};
}

const char *wire_filter_event(size_t i)
{
	if (i < ARRAY_SIZE(event_words))
		return event_words[i];
	i -= ARRAY_SIZE(event_words);
	return i < _AC_EVENT_MAX ? wire_event_word((unsigned int)i) : NULL;
}

static bool is_event(const char *text)
{
	const char *word;

	for (size_t i = 0; (word = wire_filter_event(i)); i++)
		if (streq(text, word))
			return true;
	return false;
}

static int parse_endpoint(const char *text, struct lb_addr *ret_addr, uint16_t *ret_port)
{
	char host[256];
	struct err ignored;
	int r = addr_split(text, host, sizeof(host), ret_port, &ignored);

	return r < 0 ? r : addr_parse(host, ret_addr, &ignored);
}

static int parse_address(const char *text, struct wire_filter_address *ret, struct err *err)
{
	struct wire_filter_address a = { .prefix = 128 };
	struct err ignored;

	if (addr_parse_cidr(text, &a.addr, &a.prefix, &ignored) < 0 && parse_endpoint(text, &a.addr, &a.port) < 0)
		return err_set(err, -EINVAL,
			       "'%.100s' is no address: write it as 198.18.0.2, 198.18.0.0/15 or 198.18.0.2:80", text);
	*ret = a;
	return 0;
}

int wire_filter_add(struct wire_filter *f, const char *kind, const char *value, struct err *err)
{
	struct wire_filter_address address = {};
	size_t k = 0;
	char *copy;

	while (k < _WIRE_FILTER_KINDS && !streq(kind, wire_filter_words[k]))
		k++;
	if (k == _WIRE_FILTER_KINDS)
		return err_set(err, -EINVAL, "there is no filter '%.60s': service, address, process and event are",
			       kind);
	if (f->n[k] == WIRE_FILTER_MAX)
		return err_set(err, -EINVAL, "more than %d of '%s': leave some out", WIRE_FILTER_MAX, kind);
	if (k == WIRE_FILTER_EVENT && !is_event(value))
		return err_set(err, -EINVAL, "there is no event '%.60s': see waggle-trace(8) for those there are",
			       value);
	if (k == WIRE_FILTER_ADDRESS && parse_address(value, &address, err) < 0)
		return -EINVAL;
	copy = strdup(value);
	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	f->addresses[f->n[k]] = k == WIRE_FILTER_ADDRESS ? address : f->addresses[f->n[k]];
	f->texts[k][f->n[k]++] = copy;
	return 0;
}

static bool same_bits(const struct lb_addr *a, const struct lb_addr *b, unsigned int n)
{
	const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
	unsigned int whole = n / 8, rest = n % 8;

	return !memcmp(x, y, whole) && (!rest || !((x[whole] ^ y[whole]) >> (8 - rest)));
}

static bool has_word(const struct wire_filter *f, enum wire_filter_kind kind, const char *text)
{
	for (size_t i = 0; text && i < f->n[kind]; i++)
		if (streq(text, f->texts[kind][i]))
			return true;
	return false;
}

static bool has_text(const struct wire_filter *f, enum wire_filter_kind kind, const json_t *v)
{
	return has_word(f, kind, json_string_value(v));
}

static bool has_endpoint(const struct wire_filter *f, const struct lb_addr *addr, uint16_t port)
{
	for (size_t i = 0; i < f->n[WIRE_FILTER_ADDRESS]; i++) {
		const struct wire_filter_address *a = &f->addresses[i];

		if ((!a->port || a->port == port) && same_bits(&a->addr, addr, a->prefix))
			return true;
	}
	return false;
}

static bool has_pid(const struct wire_filter *f, uint64_t pid)
{
	for (size_t i = 0; i < f->n[WIRE_FILTER_PROCESS]; i++) {
		uint64_t n;

		if (!num_parse_u64(f->texts[WIRE_FILTER_PROCESS][i], 1, INT32_MAX, &n) && n == pid)
			return true;
	}
	return false;
}

static bool has_address(const struct wire_filter *f, const json_t *event)
{
	for (size_t k = 0; k < ARRAY_SIZE(address_fields); k++) {
		const char *text = json_string_value(json_object_get(event, address_fields[k]));
		struct lb_addr addr;
		uint16_t port = 0;

		if (!text || parse_endpoint(text, &addr, &port) < 0)
			continue;
		if (has_endpoint(f, &addr, port))
			return true;
	}
	return false;
}

/* Of socket events there is the program alone, of learned ones its name. */
static bool has_process(const struct wire_filter *f, const json_t *event)
{
	const json_t *pid = json_object_get(event, "pid");

	if (json_is_integer(pid) && has_pid(f, (uint64_t)json_integer_value(pid)))
		return true;
	return has_text(f, WIRE_FILTER_PROCESS, json_object_get(event, "process")) ||
	       has_text(f, WIRE_FILTER_PROCESS, json_object_get(event, "program")) ||
	       has_text(f, WIRE_FILTER_PROCESS, json_object_get(event, "name"));
}

bool wire_filter_wants(const struct wire_filter *f, const json_t *event)
{
	return (!f->n[WIRE_FILTER_EVENT] || has_text(f, WIRE_FILTER_EVENT, json_object_get(event, "event"))) &&
	       (!f->n[WIRE_FILTER_SERVICE] || has_text(f, WIRE_FILTER_SERVICE, json_object_get(event, "service"))) &&
	       (!f->n[WIRE_FILTER_ADDRESS] || has_address(f, event)) &&
	       (!f->n[WIRE_FILTER_PROCESS] || has_process(f, event));
}

bool wire_filter_may_want(const struct wire_filter *f, const struct wire_event_view *v)
{
	if (f->n[WIRE_FILTER_EVENT] && !has_word(f, WIRE_FILTER_EVENT, v->event))
		return false;
	if (f->n[WIRE_FILTER_SERVICE] && !has_word(f, WIRE_FILTER_SERVICE, v->service))
		return false;
	if (f->n[WIRE_FILTER_ADDRESS] && v->addresses && !has_endpoint(f, &v->local, v->local_port) &&
	    !has_endpoint(f, &v->remote, v->remote_port))
		return false;
	return !f->n[WIRE_FILTER_PROCESS] || has_word(f, WIRE_FILTER_PROCESS, v->process) ||
	       (v->pid && has_pid(f, v->pid));
}

uint32_t wire_filter_kinds(const struct wire_filter *f, const char *const *words, size_t n, bool services)
{
	uint32_t kinds = 0;

	if (f->n[WIRE_FILTER_SERVICE] && !services)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (words[i] && (!f->n[WIRE_FILTER_EVENT] || has_word(f, WIRE_FILTER_EVENT, words[i])))
			kinds |= 1U << i;
	return kinds;
}
