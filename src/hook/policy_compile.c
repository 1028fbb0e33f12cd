// SPDX-License-Identifier: GPL-2.0-or-later
/* The policies of a configuration as bit sets; identities are taken apart into what they stand for. */
#include <errno.h>

#include "hook/redirect_priv.h"

/* CIDRs of entries, gathered. */
struct gathered {
	struct class_cidr *v;
	size_t n, room;
};

static void gathered_done(struct gathered *g)
{
	free(g->v);
}

static int gather(struct gathered *g, const struct config_cidrs *cidrs, size_t entry)
{
	for (size_t i = 0; i < cidrs->n; i++) {
		if (g->n == g->room) {
			size_t room = g->room ? g->room * 2 : 64;
			struct class_cidr *v = reallocarray(g->v, room, sizeof(*v));

			if (!v)
				return -ENOMEM;
			g->v = v;
			g->room = room;
		}
		g->v[g->n++] = (struct class_cidr){ cidrs->v[i].addr, cidrs->v[i].prefix, false, (uint16_t)entry };
	}
	return 0;
}

/* Of each identity among the names. */
static int gather_identities(const struct config *c, struct gathered *g, const struct config_strings *names,
			     size_t entry)
{
	const struct config_identity *id;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < names->n; i++)
		if (rd_is_identity(c, names->v[i], &id))
			r = gather(g, &id->cidrs, entry);
	return r;
}

static int compile_to(const struct config *c, struct rd_compiled *out)
{
	_cleanup_(gathered_done) struct gathered g = {};
	struct rd_bits any = {};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < c->n_policies; i++) {
		const struct config_policy *p = &c->policies[i];

		if (!p->to.n && !p->to_identities.n)
			class_set(&any, (unsigned int)i);
		r = gather(&g, &p->to, i);
		if (r >= 0)
			r = gather_identities(c, &g, &p->to_identities, i);
	}
	return r < 0 ? r : classes_nets(&out->classes, g.v, g.n, &any, &out->nets[RD_TO]);
}

/* Clients of other machines have an address, and no cgroup: which entries are about them? */
static int compile_from(const struct config *c, struct rd_compiled *out)
{
	struct rd_bits any = {}, nets = {}, none = {};
	_cleanup_(gathered_done) struct gathered g = {};
	bool denies = false;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < c->n_policies; i++) {
		size_t before = g.n;

		if (!c->policies[i].from.n)
			class_set(&any, (unsigned int)i);
		r = gather_identities(c, &g, &c->policies[i].from, i);
		if (g.n > before)
			class_set(&nets, (unsigned int)i);
		denies |= !c->policies[i].allow;
		out->side.far |= !c->policies[i].allow && (!c->policies[i].from.n || g.n > before);
	}
	/* Where all is allowed it does not matter by which entry, and nobody has to wait for an address. */
	if (r >= 0 && denies && memcmp(&nets, &none, sizeof(nets)) != 0)
		r = classes_get(&out->classes, &nets, &out->side.from_nets);
	if (r >= 0)
		r = classes_get(&out->classes, &any, &out->side.group[RD_FROM]);
	return r < 0 ? r : classes_nets(&out->classes, g.v, g.n, &any, &out->nets[RD_FROM]);
}

static int compile_ports(const struct config *c, struct rd_compiled *out)
{
	_cleanup_free_ struct class_range *v = NULL;
	struct rd_bits any = {};
	size_t n = 0;

	for (size_t i = 0; i < c->n_policies; i++) {
		n += c->policies[i].ports.n;
		if (!c->policies[i].ports.n)
			class_set(&any, (unsigned int)i);
	}
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < c->n_policies; i++)
		for (size_t j = 0; j < c->policies[i].ports.n; j++)
			v[n++] = (struct class_range){ c->policies[i].ports.v[j].first, c->policies[i].ports.v[j].last,
						       false, (uint16_t)i };
	return classes_ports(&out->classes, v, n, &any, out->ports);
}

/* Is the cgroup, or one around it, among these cgroups and identities? */
static bool names_hold(const struct config *c, const struct rd_groups *g, const struct config_strings *names,
		       const struct rd_group *inner)
{
	const struct config_identity *id;

	for (size_t i = 0; i < names->n; i++) {
		if (!rd_is_identity(c, names->v[i], &id)) {
			if (rd_group_holds(rd_groups_get(g, names->v[i]), inner))
				return true;
			continue;
		}
		for (size_t j = 0; j < id->cgroups.n; j++)
			if (rd_group_holds(rd_groups_get(g, id->cgroups.v[j]), inner))
				return true;
	}
	return false;
}

static int add_group(struct rd_compiled *out, uint64_t cgroup, enum rd_net_what what, const struct rd_bits *bits)
{
	struct rd_group_class *v = &out->groups[out->n_groups];

	*v = (struct rd_group_class){ .cgroup = cgroup, .what = what };
	out->n_groups++;
	return classes_get(&out->classes, bits, &v->class);
}

static int compile_groups(const struct config *c, const struct rd_groups *g, struct rd_compiled *out)
{
	struct rd_bits none = {};
	int r = 0;

	out->groups = calloc(g->n * _RD_WHAT_MAX + 1, sizeof(*out->groups));
	if (!out->groups)
		return -ENOMEM;
	for (size_t i = 0; r >= 0 && i < g->n; i++) {
		struct rd_bits from = {}, to = {};

		if (!g->v[i].id)
			continue;
		for (size_t j = 0; j < c->n_policies; j++) {
			const struct config_policy *p = &c->policies[j];

			if (!p->from.n || names_hold(c, g, &p->from, &g->v[i]))
				class_set(&from, (unsigned int)j);
			if (names_hold(c, g, &p->to_identities, &g->v[i]))
				class_set(&to, (unsigned int)j);
		}
		out->side.to_groups |= memcmp(&to, &none, sizeof(to)) != 0;
		r = add_group(out, g->v[i].id, RD_FROM, &from);
		if (r >= 0)
			r = add_group(out, g->v[i].id, RD_TO, &to);
	}
	return r;
}

int rd_compile_policies(const struct config *c, const struct rd_groups *g, struct rd_compiled **ret, struct err *err)
{
	_cleanup_(rd_compiled_freep) struct rd_compiled *out = NULL;
	int r;

	if (c->n_policies > RD_ENTRIES)
		return err_set(err, -ENOSPC, "'policy' has %zu entries, and may have %d: put lists into fewer entries",
			       c->n_policies, RD_ENTRIES);
	if (!c->n_policies) {
		*ret = NULL;
		return 0;
	}
	out = rd_compiled_new(c->n_policies);
	if (!out)
		return rd_compile_fail(err, -ENOMEM, "policy");
	for (size_t i = 0; i < c->n_policies; i++) {
		out->origins[i] = i;
		out->entries[i] = (struct rd_entry){
			.id = i,
			.flags = (c->policies[i].allow ? 0 : RD_DENY) | (c->policies[i].reset ? RD_RESET : 0),
		};
	}
	r = compile_to(c, out);
	if (r >= 0)
		r = compile_from(c, out);
	if (r >= 0)
		r = compile_ports(c, out);
	if (r >= 0)
		r = compile_groups(c, g, out);
	if (r < 0)
		return rd_compile_fail(err, r, "policy");
	*ret = TAKE_PTR(out);
	return 0;
}
