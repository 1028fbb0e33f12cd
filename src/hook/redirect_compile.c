// SPDX-License-Identifier: GPL-2.0-or-later
/* The redirects of a configuration as bit sets. */
#include <errno.h>
#include <pwd.h>

#include "base/num.h"
#include "hook/redirect_priv.h"

struct rd_compiled *rd_compiled_new(size_t n_entries)
{
	struct rd_compiled *c = new0(struct rd_compiled);

	if (!c)
		return NULL;
	c->ports = calloc(65536, sizeof(*c->ports));
	c->entries = calloc(n_entries, sizeof(*c->entries));
	c->origins = calloc(n_entries, sizeof(*c->origins));
	if (!c->ports || !c->entries || !c->origins || classes_init(&c->classes) < 0)
		return rd_compiled_free(c);
	c->side.on = 1;
	c->side.n = (uint32_t)n_entries;
	return c;
}

struct rd_compiled *rd_compiled_free(struct rd_compiled *c)
{
	if (!c)
		return NULL;
	classes_done(&c->classes);
	for (int i = 0; i < _RD_WHAT_MAX; i++)
		class_nets_done(&c->nets[i]);
	free(c->ports);
	free(c->groups);
	free(c->users);
	free(c->entries);
	free(c->origins);
	free(c);
	return NULL;
}

int rd_compile_fail(struct err *err, int r, const char *section)
{
	if (r == -ENOSPC)
		return err_set(err, r, "'%s' has more different combinations of CIDRs and ports than %d: use fewer",
			       section, RD_CLASSES);
	return err_set(err, r, "cannot compile '%s': %s", section, strerror(-r));
}

/* Entries of the innermost cgroups first, and of one cgroup in the order of the file. */
struct order {
	size_t origin;
	unsigned int depth;
};

static int order_compare(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->depth != y->depth)
		return x->depth < y->depth ? 1 : -1;
	return x->origin < y->origin ? -1 : x->origin > y->origin;
}

static bool is_outbound(const struct config_redirect *e)
{
	return e->cgroup && !e->inbound;
}

static int order_entries(const struct config *c, const struct rd_groups *g, struct order **ret, size_t *ret_n)
{
	struct order *v = calloc(c->n_redirects + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_redirects; i++) {
		const struct config_redirect *e = &c->redirects[i];

		if (!is_outbound(e))
			continue;
		v[n++] = (struct order){ i, rd_group_depth(rd_groups_get(g, e->cgroup)) };
	}
	qsort(v, n, sizeof(*v), order_compare);
	*ret = v;
	*ret_n = n;
	return 0;
}

/* The CIDRs of one list, from v on; how many. */
static size_t put_cidrs(struct class_cidr *v, const struct config_cidrs *list, bool excluded, size_t entry)
{
	for (size_t j = 0; j < list->n; j++)
		v[j] = (struct class_cidr){ list->v[j].addr, list->v[j].prefix, excluded, (uint16_t)entry };
	return list->n;
}

static size_t put_ranges(struct class_range *v, const struct config_ports *list, bool excluded, size_t entry)
{
	for (size_t j = 0; j < list->n; j++)
		v[j] = (struct class_range){ list->v[j].first, list->v[j].last, excluded, (uint16_t)entry };
	return list->n;
}

/* CIDRs and ports of the destination: what is listed, or anything, but what is excluded. */
static int compile_to(const struct config *c, struct rd_compiled *out)
{
	struct rd_bits any_net = {}, any_port = {};
	_cleanup_free_ struct class_range *ranges = NULL;
	_cleanup_free_ struct class_cidr *cidrs = NULL;
	size_t n_cidrs = 0, n_ranges = 0;
	int r;

	for (size_t i = 0; i < out->side.n; i++) {
		const struct config_redirect *e = &c->redirects[out->origins[i]];

		n_cidrs += e->cidrs.n + e->exclude_cidrs.n;
		n_ranges += e->ports.n + e->exclude_ports.n;
		if (!e->cidrs.n)
			class_set(&any_net, (unsigned int)i);
		if (!e->ports.n)
			class_set(&any_port, (unsigned int)i);
	}
	cidrs = calloc(n_cidrs + 1, sizeof(*cidrs));
	ranges = calloc(n_ranges + 1, sizeof(*ranges));
	if (!cidrs || !ranges)
		return -ENOMEM;
	n_cidrs = n_ranges = 0;
	for (size_t i = 0; i < out->side.n; i++) {
		const struct config_redirect *e = &c->redirects[out->origins[i]];

		n_cidrs += put_cidrs(&cidrs[n_cidrs], &e->cidrs, false, i);
		n_cidrs += put_cidrs(&cidrs[n_cidrs], &e->exclude_cidrs, true, i);
		n_ranges += put_ranges(&ranges[n_ranges], &e->ports, false, i);
		n_ranges += put_ranges(&ranges[n_ranges], &e->exclude_ports, true, i);
	}
	r = classes_nets(&out->classes, cidrs, n_cidrs, &any_net, &out->nets[RD_TO]);
	return r < 0 ? r : classes_ports(&out->classes, ranges, n_ranges, &any_port, out->ports);
}

/* For a socket of this cgroup: entries of a cgroup around it, but for those whose proxy's is. */
static int compile_groups(const struct config *c, const struct rd_groups *g, struct rd_compiled *out)
{
	int r;

	out->groups = calloc(g->n + 1, sizeof(*out->groups));
	if (!out->groups)
		return -ENOMEM;
	for (size_t i = 0; i < g->n; i++) {
		struct rd_bits bits = {};

		if (!g->v[i].id)
			continue;
		for (size_t j = 0; j < out->side.n; j++) {
			const struct config_redirect *e = &c->redirects[out->origins[j]];
			const struct rd_group *proxy = e->proxy_cgroup ? rd_groups_get(g, e->proxy_cgroup) : NULL;

			if (rd_group_holds(rd_groups_get(g, e->cgroup), &g->v[i]) &&
			    !(proxy && rd_group_holds(proxy, &g->v[i])))
				class_set(&bits, (unsigned int)j);
		}
		out->groups[out->n_groups] = (struct rd_group_class){ .cgroup = g->v[i].id, .what = RD_FROM };
		r = classes_get(&out->classes, &bits, &out->groups[out->n_groups].class);
		if (r < 0)
			return r;
		out->n_groups++;
	}
	return 0;
}

static int user_find(const char *name, uint32_t *ret, struct err *err)
{
	const struct passwd *pw;
	uint64_t uid;

	if (num_parse_u64(name, 0, UINT32_MAX - 1, &uid) >= 0) {
		*ret = (uint32_t)uid;
		return 0;
	}
	pw = getpwnam(name);
	if (!pw)
		return err_set(err, -ENOENT, "there is no user '%s': give a name of /etc/passwd, or a number", name);
	*ret = pw->pw_uid;
	return 0;
}

static int user_add(struct rd_compiled *out, uint32_t uid)
{
	struct rd_user_class *v;

	for (size_t i = 0; i < out->n_users; i++)
		if (out->users[i].uid == uid)
			return 0;
	v = reallocarray(out->users, out->n_users + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	out->users = v;
	out->users[out->n_users++] = (struct rd_user_class){ .uid = uid };
	return 0;
}

/* Does this entry exclude this user? Names were resolved before, so none is unknown. */
static bool excludes_user(const struct config_redirect *e, uint32_t uid)
{
	uint32_t u;

	for (size_t i = 0; i < e->exclude_users.n; i++)
		if (user_find(e->exclude_users.v[i], &u, NULL) >= 0 && u == uid)
			return true;
	return false;
}

static int compile_users(const struct config *c, struct rd_compiled *out, struct err *err)
{
	struct rd_bits all = {};
	int r = 0;

	for (size_t i = 0; i < out->side.n; i++) {
		const struct config_redirect *e = &c->redirects[out->origins[i]];

		class_set(&all, (unsigned int)i);
		for (size_t j = 0; j < e->exclude_users.n; j++) {
			uint32_t uid;

			r = user_find(e->exclude_users.v[j], &uid, err);
			if (r < 0)
				return r;
			r = user_add(out, uid);
			if (r < 0)
				return err_set(err, r, "out of memory");
		}
	}
	for (size_t i = 0; r >= 0 && i < out->n_users; i++) {
		struct rd_bits bits = all;

		for (size_t j = 0; j < out->side.n; j++)
			if (excludes_user(&c->redirects[out->origins[j]], out->users[i].uid))
				class_unset(&bits, (unsigned int)j);
		r = classes_get(&out->classes, &bits, &out->users[i].class);
	}
	if (r >= 0)
		r = classes_get(&out->classes, &all, &out->side.user);
	return r < 0 ? rd_compile_fail(err, r, "redirect") : 0;
}

static int compile_entries(const struct config *c, struct rd_compiled *out)
{
	struct rd_bits dns = {};

	for (size_t i = 0; i < out->side.n; i++) {
		const struct config_redirect *e = &c->redirects[out->origins[i]];

		out->entries[i] = (struct rd_entry){
			.to = e->addr,
			.dns = e->dns_addr,
			.port = htobe16(e->port),
			.dns_port = htobe16(e->dns_port),
			.flags = (e->fail_open ? RD_FAIL_OPEN : 0) | (e->exclude_users.n ? RD_USERS : 0),
			.id = out->origins[i],
		};
		if (e->dns_port)
			class_set(&dns, (unsigned int)i);
	}
	return classes_get(&out->classes, &dns, &out->side.dns);
}

int rd_compile_redirects(const struct config *c, const struct rd_groups *g, struct rd_compiled **ret, struct err *err)
{
	_cleanup_(rd_compiled_freep) struct rd_compiled *out = NULL;
	_cleanup_free_ struct order *order = NULL;
	size_t n = 0;
	int r;

	r = order_entries(c, g, &order, &n);
	if (r < 0)
		return rd_compile_fail(err, r, "redirect");
	if (n > RD_ENTRIES)
		return err_set(err, -ENOSPC,
			       "'redirect' has %zu entries, and may have %d: put lists into fewer entries", n,
			       RD_ENTRIES);
	if (!n) {
		*ret = NULL;
		return 0;
	}
	out = rd_compiled_new(n);
	if (!out)
		return rd_compile_fail(err, -ENOMEM, "redirect");
	for (size_t i = 0; i < n; i++)
		out->origins[i] = order[i].origin;
	r = compile_to(c, out);
	if (r >= 0)
		r = compile_groups(c, g, out);
	if (r >= 0)
		r = compile_entries(c, out);
	if (r < 0)
		return rd_compile_fail(err, r, "redirect");
	r = compile_users(c, out, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(out);
	return 0;
}
