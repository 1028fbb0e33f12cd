// SPDX-License-Identifier: GPL-2.0-or-later
/* Cross checks of the sections beside services. Ports and networks are sets of numbers here. */
#include "model/config_priv.h"

#define REDIRECTS_MAX 1024 /* each is compared with the others of its cgroup */
#define GUESSED_MAX 256	   /* among more names it is not looked for one that was meant */

typedef unsigned __int128 number_t;

struct span {
	number_t first, last;
};

/* Disjoint and sorted once set_finish() has run. */
struct set {
	struct span *v;
	size_t n;
};

static void set_done(struct set *s)
{
	free(s->v);
}
#define _cleanup_set_ _cleanup_(set_done)

static int span_compare(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

/* Whether b, which does not begin before a, overlaps or follows at once; the last number of all has no next. */
static bool span_touches(const struct span *a, const struct span *b)
{
	return b->first <= a->last || b->first - 1 == a->last;
}

static void set_finish(struct set *s)
{
	size_t n = 0;

	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), span_compare);
	for (size_t i = 0; i < s->n; i++) {
		if (n && span_touches(&s->v[n - 1], &s->v[i])) {
			if (s->v[i].last > s->v[n - 1].last)
				s->v[n - 1].last = s->v[i].last;
		} else {
			s->v[n++] = s->v[i];
		}
	}
	s->n = n;
}

static struct set set_new(struct config_decode *d, size_t n)
{
	struct set s = { .v = calloc(n ? n : 1, sizeof(*s.v)), .n = n };

	if (!s.v) {
		d->no_memory = true;
		s.n = 0;
	}
	return s;
}

static struct set set_of_ports(struct config_decode *d, const struct config_ports *p)
{
	struct set s = set_new(d, p->n);

	for (size_t i = 0; i < s.n; i++)
		s.v[i] = (struct span){ p->v[i].first, p->v[i].last };
	set_finish(&s);
	return s;
}

static number_t number_of(const struct lb_addr *a)
{
	const uint8_t *bytes = (const uint8_t *)a;
	number_t v = 0;

	for (size_t i = 0; i < sizeof(*a); i++)
		v = v << 8 | bytes[i];
	return v;
}

static struct set set_of_cidrs(struct config_decode *d, const struct config_cidrs *c)
{
	struct set s = set_new(d, c->n);

	for (size_t i = 0; i < s.n; i++) {
		number_t first = number_of(&c->v[i].addr), all = ~(number_t)0;

		/* A shift by all 128 bits would be undefined. */
		s.v[i] = (struct span){ first, c->v[i].prefix == 128 ? first : first | all >> c->v[i].prefix };
	}
	set_finish(&s);
	return s;
}

/* a without b; of a set without spans nothing is left out: it stands for everything. */
static struct set set_minus(struct config_decode *d, struct set *a, const struct set *b, number_t max)
{
	struct set s = set_new(d, (a->n ? a->n : 1) + b->n);
	const struct span everything = { 0, max };
	size_t n = 0, k = 0;

	for (size_t i = 0; s.n && i < (a->n ? a->n : 1); i++) {
		struct span left = a->n ? a->v[i] : everything;
		bool is_empty = false;

		while (k < b->n && b->v[k].last < left.first)
			k++;
		for (size_t m = k; m < b->n && b->v[m].first <= left.last && !is_empty; m++) {
			if (b->v[m].first > left.first)
				s.v[n++] = (struct span){ left.first, b->v[m].first - 1 };
			is_empty = b->v[m].last >= left.last;
			left.first = b->v[m].last + 1;
		}
		if (!is_empty)
			s.v[n++] = left;
	}
	s.n = n;
	return s;
}

static bool set_meets(const struct set *a, const struct set *b)
{
	for (size_t i = 0, k = 0; i < a->n && k < b->n;) {
		if (a->v[i].last < b->v[k].first)
			i++;
		else if (b->v[k].last < a->v[i].first)
			k++;
		else
			return true;
	}
	return false;
}

static bool set_holds(const struct set *s, number_t first, number_t last)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->v[mid].last < first)
			low = mid + 1;
		else
			high = mid;
	}
	return low < s->n && s->v[low].first <= first && s->v[low].last >= last;
}

/* Where entry i of a list stands. */
static const struct config_node *entry_node(const struct config_node *map, const char *key, size_t i)
{
	const struct config_node *node = config_find(map, key);

	if (!node || node->kind != CONFIG_LIST)
		return node;
	for (const struct config_node *e = node->first; e; e = e->next)
		if (i-- == 0)
			return e;
	return node;
}

/* A port that is asked for and excluded as a whole. Part of a range may well be excluded. */
static void check_excluded(struct config_decode *d, const char *file, const struct config_node *map,
			   const struct config_ports *ports, const struct config_ports *exclude)
{
	_cleanup_set_ struct set excluded = set_of_ports(d, exclude);

	for (size_t i = 0; excluded.n && i < ports->n; i++)
		if (set_holds(&excluded, ports->v[i].first, ports->v[i].last))
			config_error_in(d, file, entry_node(map, "ports", i),
					"what 'ports' names here, 'exclude-ports' excludes: leave it out of one of them");
}

struct reach {
	struct set ports, addrs;
};

static struct reach reach_of(struct config_decode *d, const struct config_redirect *r)
{
	_cleanup_set_ struct set ports = set_of_ports(d, &r->ports), no_ports = set_of_ports(d, &r->exclude_ports);
	_cleanup_set_ struct set addrs = set_of_cidrs(d, &r->cidrs), no_addrs = set_of_cidrs(d, &r->exclude_cidrs);

	return (struct reach){ set_minus(d, &ports, &no_ports, UINT16_MAX),
			       set_minus(d, &addrs, &no_addrs, ~(number_t)0) };
}

static bool redirects_meet(const struct config_redirect *a, const struct config_redirect *b, const struct reach *ra,
			   const struct reach *rb)
{
	return a->cgroup && b->cgroup && a->inbound == b->inbound && streq(a->cgroup, b->cgroup) &&
	       set_meets(&ra->ports, &rb->ports) && set_meets(&ra->addrs, &rb->addrs);
}

static void check_overlaps(struct config_decode *d)
{
	const struct config_redirect *r = d->c->redirects;
	size_t n = d->redirects.n;
	_cleanup_free_ struct reach *reach = calloc(n + 1, sizeof(*reach));

	if (!reach) {
		d->no_memory = true;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		reach[i] = reach_of(d, &r[i]);
		for (size_t k = 0; k < i; k++) {
			if (!redirects_meet(&r[i], &r[k], &reach[i], &reach[k]))
				continue;
			config_error_at(d, &r[i].pos,
					"this redirect takes connections of '%s' that the one at %s takes already: give them "
					"different ports or cidrs",
					config_shown(r[i].cgroup).text, config_place(&r[k].pos).text);
			break;
		}
	}
	for (size_t i = 0; i < n; i++) {
		set_done(&reach[i].ports);
		set_done(&reach[i].addrs);
	}
}

/* Whether dir is above path, or the same. */
static bool path_is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return streq(dir, "/") || (strncmp(path, dir, n) == 0 && (!path[n] || path[n] == '/'));
}

/* A proxy whose own connections are redirected to it would talk to itself. */
static void check_proxy(struct config_decode *d, const struct config_redirect *r, const struct config_node *node)
{
	const struct config_node *proxy = config_find(node, "proxy-cgroup");

	if (r->cgroup && r->proxy_cgroup && path_is_in(r->cgroup, r->proxy_cgroup))
		config_error_in(
			d, r->pos.file, proxy,
			"the proxy's cgroup '%s' holds all of '%s', so that nothing is redirected: give the proxy one of its own",
			config_shown(r->proxy_cgroup).text, config_shown(r->cgroup).text);
	if (r->inbound || !r->cgroup || config_find(node, "exclude-users") || proxy)
		return;
	if (streq(r->cgroup, "/"))
		config_error_in(d, r->pos.file, config_find(node, "cgroup"),
				"the proxy itself is within '/', and would be redirected to itself: add proxy-cgroup: or "
				"exclude-users:");
}

static void check_inbound(struct config_decode *d, const struct config_redirect *r, const struct config_node *node)
{
	_cleanup_set_ struct set ports = set_of_ports(d, &r->ports), excluded = set_of_ports(d, &r->exclude_ports);

	if (!r->inbound)
		return;
	if (!config_find(node, "ports"))
		config_error_at(d, &r->pos, "an inbound redirect does not say which ports: add ports: [ 80 ]");
	else if (r->port && set_holds(&ports, r->port, r->port) && !set_holds(&excluded, r->port, r->port))
		config_error_in(d, r->pos.file, config_find(node, "ports"),
				"port %u is the proxy's own, and would be redirected to itself: add exclude-ports: [ %u ]",
				r->port, r->port);
	if (r->dns_port)
		config_error_in(d, r->pos.file, config_find(node, "dns"),
				"'dns' has no effect on an inbound redirect: leave it out");
}

static void check_redirects(struct config_decode *d)
{
	for (size_t i = 0; i < d->redirects.n; i++) {
		const struct config_redirect *r = &d->c->redirects[i];
		const struct config_node *node = d->redirects.v[i];

		check_proxy(d, r, node);
		check_inbound(d, r, node);
		check_excluded(d, r->pos.file, node, &r->ports, &r->exclude_ports);
	}
	if (d->redirects.n > REDIRECTS_MAX)
		config_error_at(d, &d->c->redirects[REDIRECTS_MAX].pos,
				"more than %d redirects: join those to the same proxy", REDIRECTS_MAX);
	else
		check_overlaps(d);
}

static int word_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names within from: or to: of a policy that no identity has. words: sorted, n of them, then NULL. */
static void check_names(struct config_decode *d, const char *file, const struct config_node *node,
			const char *const *words, size_t n)
{
	const struct config_node *e = node && node->kind == CONFIG_LIST ? node->first : node;

	for (; e; e = e == node ? NULL : e->next) {
		if (e->kind != CONFIG_SCALAR || !config_is_identity(e->text) || config_is_null(e) ||
		    bsearch(&e->text, words, n, sizeof(*words), word_compare))
			continue;
		d->file = file;
		if (n && n <= GUESSED_MAX && d->errors->n < CONFIG_ERRORS_MAX)
			config_wrong_word(d, e, "an identity", e->text, words);
		else
			config_error(d, e, "'%s' is not known as an identity: add it to identities:",
				     config_shown(e->text).text);
	}
}

static void check_policies(struct config_decode *d)
{
	_cleanup_free_ const char **words = calloc(d->c->n_identities + 1, sizeof(*words));
	size_t n = 0;

	if (!words) {
		d->no_memory = true;
		return;
	}
	for (size_t i = 0; i < d->c->n_identities; i++)
		if (d->c->identities[i].name)
			words[n++] = d->c->identities[i].name;
	qsort(words, n, sizeof(*words), word_compare);
	for (size_t i = 0; i < d->policies.n && !d->is_partial; i++) {
		const char *file = d->c->policies[i].pos.file;

		check_names(d, file, config_find(d->policies.v[i], "from"), words, n);
		check_names(d, file, config_find(d->policies.v[i], "to"), words, n);
	}
}

static int identity_compare(const void *items, size_t a, size_t b)
{
	const struct config_identity *v = items;

	if (v[a].name && v[b].name)
		return strcmp(v[a].name, v[b].name);
	return v[a].name || v[b].name ? (v[a].name ? 1 : -1) : (a > b) - (a < b);
}

static void identity_again(struct config_decode *d, const void *items, size_t first, size_t again)
{
	const struct config_identity *v = items;

	config_error_at(d, &v[again].pos, "'%s' is there twice, first at %s: keep one", v[again].name,
			config_place(&v[first].pos).text);
}

static int interface_compare(const void *items, size_t a, size_t b)
{
	const struct config_interface *v = items;

	if (v[a].name && v[b].name)
		return strcmp(v[a].name, v[b].name);
	return v[a].name || v[b].name ? (v[a].name ? 1 : -1) : (a > b) - (a < b);
}

static void interface_again(struct config_decode *d, const void *items, size_t first, size_t again)
{
	const struct config_interface *v = items;

	config_error_at(d, &v[again].pos, "interface '%s' is there twice, first at %s: keep one", v[again].name,
			config_place(&v[first].pos).text);
}

static bool is_loopback(const struct lb_addr *a)
{
	static const uint8_t v6[sizeof(*a)] = { [sizeof(*a) - 1] = 1 };

	return addr_is_v4(a) ? ((const uint8_t *)a)[12] == 127 : memcmp(a, v6, sizeof(v6)) == 0;
}

void config_check_hooks(struct config_decode *d)
{
	const struct config_dup identities = { d->c->identities, identity_compare, identity_again };
	const struct config_dup interfaces = { d->c->interfaces, interface_compare, interface_again };
	const char *file = d->c->files.v[0];

	config_duplicates(d, d->c->n_identities, &identities);
	config_duplicates(d, d->c->n_interfaces, &interfaces);
	if (d->accelerate)
		check_excluded(d, file, d->accelerate, &d->c->accelerate.ports, &d->c->accelerate.exclude_ports);
	check_redirects(d);
	check_policies(d);
	if (d->c->metrics_port && !is_loopback(&d->c->metrics_addr) && !d->c->metrics_allow_remote)
		config_error_in(d, file, config_find(d->metrics, "listen"),
				"anybody who reaches this address could read the metrics: listen on 127.0.0.1, or add "
				"allow-remote: true");
}
