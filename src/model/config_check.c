// SPDX-License-Identifier: GPL-2.0-or-later
/* What only shows when all files were read: equal names and addresses, and values that do not go together. */
#include "model/config_priv.h"

#include <netinet/in.h>

#include "model/ring.h"

static int order_compare(const void *a, const void *b, void *data)
{
	const struct config_dup *dup = data;
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	int r = dup->compare(dup->items, x, y);

	return r ? r : (x > y) - (x < y);
}

void config_duplicates(struct config_decode *d, size_t n, const struct config_dup *dup)
{
	_cleanup_free_ size_t *order = NULL;
	size_t first = 0;

	if (n < 2)
		return;
	order = calloc(n, sizeof(*order));
	if (!order) {
		d->no_memory = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	qsort_r(order, n, sizeof(*order), order_compare, (void *)dup);
	for (size_t i = 1; i < n; i++) {
		if (dup->compare(dup->items, order[first], order[i]) == 0)
			dup->report(d, dup->items, order[first], order[i]);
		else
			first = i;
	}
}

/* Where the value of a service's key stands, or the service. */
static struct config_pos service_pos(const struct config_decode *d, size_t i, const char *key)
{
	struct config_pos pos = d->c->services[i].pos;
	const struct config_node *node = config_find(d->services.v[i], key);

	if (node) {
		pos.line = node->line;
		pos.column = node->column;
	}
	return pos;
}

/* What could not be read (NULL) is equal to nothing: such items are told apart by their index. */
static int text_compare(const char *a, const char *b, size_t i, size_t k)
{
	if (a && b)
		return strcmp(a, b);
	return a || b ? (a ? 1 : -1) : (i > k) - (i < k);
}

static int name_compare(const void *items, size_t a, size_t b)
{
	const struct config *c = items;

	return text_compare(c->services[a].name, c->services[b].name, a, b);
}

static void name_again(struct config_decode *d, const void *items, size_t first, size_t again)
{
	struct config_pos at = service_pos(d, again, "name"), before = service_pos(d, first, "name");

	config_error_at(d, &at, "there is a service '%s' already, at %s: give it another name",
			d->c->services[again].name, config_place(&before).text);
}

static int listen_compare(const void *items, size_t a, size_t b)
{
	const struct config_service *s = ((const struct config *)items)->services + a;
	const struct config_service *t = ((const struct config *)items)->services + b;

	if (!s->port && !t->port)
		return (a > b) - (a < b);
	if (s->port != t->port)
		return s->port < t->port ? -1 : 1;
	if (s->proto != t->proto)
		return s->proto < t->proto ? -1 : 1;
	if (s->interface && t->interface)
		return strcmp(s->interface, t->interface);
	if (s->interface || t->interface)
		return s->interface ? 1 : -1;
	return memcmp(&s->addr, &t->addr, sizeof(s->addr));
}

static void listen_again(struct config_decode *d, const void *items, size_t first, size_t again)
{
	struct config_pos at = service_pos(d, again, "listen"), before = service_pos(d, first, "listen");

	config_error_at(d, &at, "'%s' by %s is the address of another service already, at %s: listen on another one",
			config_shown(d->c->services[again].listen).text,
			d->c->services[again].proto == IPPROTO_UDP ? "udp" : "tcp", config_place(&before).text);
}

static int backend_compare(const void *items, size_t a, size_t b)
{
	const struct config_backend *x = (const struct config_backend *)items + a;
	const struct config_backend *y = (const struct config_backend *)items + b;

	if (!x->port && !y->port)
		return (a > b) - (a < b);
	if (x->port != y->port)
		return x->port < y->port ? -1 : 1;
	if (x->is_name != y->is_name)
		return x->is_name ? 1 : -1;
	return x->is_name ? strcasecmp(x->host, y->host) : memcmp(&x->addr, &y->addr, sizeof(x->addr));
}

static void backend_again(struct config_decode *d, const void *items, size_t first, size_t again)
{
	const struct config_backend *b = items;

	config_error_at(d, &b[again].pos, "backend '%s:%u' is there twice, first at %s: keep one, and give it a weight",
			config_shown(b[again].host).text, b[again].port, config_place(&b[first].pos).text);
}

static void check_backend_family(struct config_decode *d, const struct config_service *s,
				 const struct config_backend *b)
{
	bool tunnels = s->forward == LB_FORWARD_IPIP || s->forward == LB_FORWARD_GUE;
	const char *family = addr_is_v4(&b->addr) ? "IPv4" : "IPv6";

	if (addr_is_v4(&b->addr) == addr_is_v4(&s->addr) || (tunnels && !d->c->connect_on))
		return;
	if (tunnels)
		config_error_at(d, &b->pos,
				"backend '%s' is %s and its service is not, which connect cannot bridge: use one family, or "
				"serve by packet alone",
				b->host, family);
	else
		config_error_at(d, &b->pos,
				"backend '%s' is %s and its service is not, which forward: %s cannot bridge: use one family, or "
				"forward: ipip or gue, by packet alone",
				b->host, family, lb_forward_words[s->forward]);
}

static void check_backend(struct config_decode *d, const struct config_service *s, const struct config_backend *b)
{
	bool keeps_port = s->forward == LB_FORWARD_DSR || s->forward == LB_FORWARD_IPIP || s->forward == LB_FORWARD_GUE;

	if (!b->port || !s->port)
		return;
	if (!b->is_name && !s->interface) {
		if (b->port == s->port && memcmp(&b->addr, &s->addr, sizeof(b->addr)) == 0) {
			config_error_at(d, &b->pos,
					"backend '%s:%u' is the service itself: write the address of a server", b->host,
					b->port);
			return;
		}
		check_backend_family(d, s, b);
	}
	if (keeps_port && b->port != s->port)
		config_error_at(d, &b->pos,
				"forward: %s cannot change the port: let the backend listen on %u, or write "
				"forward: nat",
				lb_forward_words[s->forward], s->port);
}

static void check_table_size(struct config_decode *d, size_t i)
{
	char all[160] = "";

	for (const uint32_t *size = ring_table_sizes; *size; size++) {
		size_t n = strlen(all);

		if (d->c->services[i].table_size == *size)
			return;
		(void)snprintf(all + n, sizeof(all) - n, "%s%u", n ? ", " : "", *size);
	}
	struct config_pos at = service_pos(d, i, "table-size");

	config_error_at(d, &at, "a table cannot have %u entries: write one of %s", d->c->services[i].table_size, all);
}

static void check_service(struct config_decode *d, size_t i)
{
	const struct config_service *s = &d->c->services[i];
	const struct config_dup backends = { s->backends, backend_compare, backend_again };

	check_table_size(d, i);
	if (s->proto == IPPROTO_UDP && s->health.check != CONFIG_CHECK_NONE && !s->health.port) {
		struct config_pos at = service_pos(d, i, "health");

		config_error_at(d, &at,
				"a check by %s needs a TCP port, which a UDP service has not: add port: 8081 to health",
				config_check_words[s->health.check]);
	}
	if (s->syn_cookies != CONFIG_COOKIES_OFF && (s->proto == IPPROTO_UDP || s->forward != LB_FORWARD_NAT)) {
		struct config_pos at = service_pos(d, i, "syn-cookies");

		config_error_at(d, &at,
				"SYN cookies are for TCP with forward: nat, where this machine stands between both sides: "
				"leave syn-cookies out");
	}
	for (size_t k = 0; k < s->n_backends; k++)
		check_backend(d, s, &s->backends[k]);
	config_duplicates(d, s->n_backends, &backends);
}

void config_check(struct config_decode *d)
{
	const struct config_dup names = { d->c, name_compare, name_again };
	const struct config_dup listens = { d->c, listen_compare, listen_again };

	/* Without a word about it, services are there for this machine. */
	d->c->connect_on = d->has_connect || !d->has_packet;
	for (size_t i = 0; i < d->services.n; i++)
		check_service(d, i);
	config_duplicates(d, d->services.n, &names);
	config_duplicates(d, d->services.n, &listens);
	config_check_hooks(d);
}
