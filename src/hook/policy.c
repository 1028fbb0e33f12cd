// SPDX-License-Identifier: GPL-2.0-or-later
#include "hook/policy.h"

#include <errno.h>

#include "hook/redirect_priv.h"

struct policy {
	struct rd_groups groups;
	struct rd_compiled *tables[_RD_TABLE_MAX];
};

int policy_open(const struct config *config, struct policy **ret, struct err *err)
{
	_cleanup_(policy_closep) struct policy *p = new0(struct policy);
	int r;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	r = rd_groups_find(config, "/", &p->groups, err);
	/* Here every cgroup exists, and is known by its place. */
	for (size_t i = 0; r >= 0 && i < p->groups.n; i++)
		p->groups.v[i].id = i + 1;
	if (r >= 0)
		r = rd_compile_redirects(config, &p->groups, &p->tables[RD_REDIRECT], err);
	if (r >= 0)
		r = rd_compile_policies(config, &p->groups, &p->tables[RD_POLICY], err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

struct policy *policy_close(struct policy *p)
{
	if (!p)
		return NULL;
	for (int i = 0; i < _RD_TABLE_MAX; i++)
		(void)rd_compiled_free(p->tables[i]);
	rd_groups_done(&p->groups);
	free(p);
	return NULL;
}

/* The class of the innermost cgroup of the table around this one; path NULL: of no cgroup. */
static uint32_t group_class(const struct policy *p, const struct rd_compiled *t, const char *path,
			    enum rd_net_what what, uint32_t otherwise)
{
	const struct rd_group *inner = NULL;
	struct rd_group self = { .path = (char *)path };

	for (size_t i = 0; path && i < p->groups.n; i++) {
		const struct rd_group *g = &p->groups.v[i];

		if (rd_group_holds(g, &self) && (!inner || rd_group_depth(g) > rd_group_depth(inner)))
			inner = g;
	}
	for (size_t i = 0; inner && i < t->n_groups; i++)
		if (t->groups[i].cgroup == inner->id && t->groups[i].what == what)
			return t->groups[i].class;
	return otherwise;
}

static uint32_t user_class(const struct rd_compiled *t, uint32_t uid)
{
	for (size_t i = 0; i < t->n_users; i++)
		if (t->users[i].uid == uid)
			return t->users[i].class;
	return t->side.user;
}

static const struct rd_bits *bits_of(const struct rd_compiled *t, uint32_t class)
{
	return &t->classes.bits[class];
}

static size_t ask_policy(const struct policy *p, const struct rd_compiled *t, const struct policy_question *q)
{
	const struct rd_bits *from = bits_of(t, group_class(p, t, q->from, RD_FROM, t->side.group[RD_FROM]));
	const struct rd_bits *from_net = bits_of(t, class_nets_find(&t->nets[RD_FROM], &q->source));
	const struct rd_bits *to = bits_of(t, q->to_group ? group_class(p, t, q->to_group, RD_TO, 0) : 0);
	const struct rd_bits *to_net = bits_of(t, class_nets_find(&t->nets[RD_TO], &q->to));
	const struct rd_bits *port = bits_of(t, t->ports[q->port]);
	struct rd_bits all;
	int i;

	for (i = 0; i < RD_WORDS; i++)
		all.w[i] = (from->w[i] | from_net->w[i]) & (to->w[i] | to_net->w[i]) & port->w[i];
	i = class_first(&all);
	return i < 0 ? POLICY_NONE : t->origins[i];
}

static size_t ask_redirect(const struct policy *p, const struct rd_compiled *t, const struct policy_question *q)
{
	const struct rd_bits *group = bits_of(t, group_class(p, t, q->from, RD_FROM, 0));
	const struct rd_bits *user = bits_of(t, user_class(t, q->uid));
	const struct rd_bits *net = bits_of(t, class_nets_find(&t->nets[RD_TO], &q->to));
	const struct rd_bits *port = bits_of(t, t->ports[q->port]);
	struct rd_bits all;
	int i;

	for (i = 0; i < RD_WORDS; i++)
		all.w[i] = group->w[i] & user->w[i] & net->w[i] & port->w[i];
	i = class_first(&all);
	if (i < 0)
		return POLICY_NONE;
	/* What is on its way to the proxy anyway is not redirected. */
	if (!memcmp(&t->entries[i].to, &q->to, sizeof(q->to)) && t->entries[i].port == htobe16(q->port))
		return POLICY_NONE;
	return t->origins[i];
}

int policy_ask(const struct policy *p, const struct policy_question *question, struct policy_answer *ret)
{
	const struct rd_compiled *policies = p->tables[RD_POLICY], *redirects = p->tables[RD_REDIRECT];
	_cleanup_free_ char *from = question->from ? rd_group_tidy(question->from) : NULL;
	_cleanup_free_ char *to_group = question->to_group ? rd_group_tidy(question->to_group) : NULL;
	struct policy_question q = *question;

	if ((question->from && !from) || (question->to_group && !to_group))
		return -ENOMEM;
	q.from = from;
	q.to_group = to_group;
	*ret = (struct policy_answer){ .allowed = true, .policy = POLICY_NONE, .redirect = POLICY_NONE };
	if (policies)
		ret->policy = ask_policy(p, policies, &q);
	for (size_t i = 0; policies && ret->policy != POLICY_NONE && i < policies->side.n; i++)
		if (policies->origins[i] == ret->policy)
			ret->allowed = !(policies->entries[i].flags & RD_DENY);
	/* What programs of this machine open is redirected. */
	if (redirects && ret->allowed && from)
		ret->redirect = ask_redirect(p, redirects, &q);
	return 0;
}
