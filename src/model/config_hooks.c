// SPDX-License-Identifier: GPL-2.0-or-later
/* The sections beside services: what each hook does, and for whom. */
#include "model/config_priv.h"

#include <ctype.h>
#include <net/if.h>

#include "base/num.h"

const char *const config_interface_words[] = { "auto", "xdp", "xdp-generic", "tc", NULL };
static const char *const action_choice[] = { "deny", "allow", NULL };
static const char *const change_choice[] = { "leave", "close", NULL };
static const char *const fail_choice[] = { "closed", "open", NULL };
static const char *const direction_choice[] = { "outbound", "inbound", NULL };

/* A bool: whether it is the second of two words. */
static void second_word(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			void *slot)
{
	unsigned int i = 0;

	config_word(d, node, key, &i);
	*(bool *)slot = i == 1;
}

/* packet: */

static void interface_name(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			   void *slot)
{
	const char *text = config_text(d, node, key);

	if (!text)
		return;
	if (strlen(text) >= IFNAMSIZ || strpbrk(text, "/: \t\n") || streq(text, ".") || streq(text, ".."))
		config_error(d, node, "'%s' is not the name of an interface: write at most %d characters, as in eth0",
			     config_shown(text).text, IFNAMSIZ - 1);
	else
		config_strdup(d, text, slot);
}

#define SLOT(field) offsetof(struct config_interface, field)
static const struct config_key interface_keys[] = {
	{ "name", interface_name, SLOT(name), "eth0", CONFIG_REQUIRED, 0, 0, NULL },
	{ "hook", config_word, SLOT(hook), "auto", 0, 0, 0, config_interface_words },
	{ 0 },
};
#undef SLOT

static void add_interface(struct config_decode *d, const struct config_node *e, const struct config_key *key,
			  void *data)
{
	struct config_interface *i = config_grow(d, (void **)&d->c->interfaces, &d->c->n_interfaces, 1, sizeof(*i));

	if (!i)
		return;
	i->pos = config_pos(d, e);
	if (e->kind == CONFIG_SCALAR)
		interface_name(d, e, &interface_keys[0], &i->name);
	else
		config_map(d, e, interface_keys, "an interface", i);
}

static void packet_interfaces(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			      void *slot)
{
	if (config_is_list(d, node, key))
		config_each(d, node, key, add_interface, NULL);
}

#define SLOT(field) offsetof(struct config, field)
static const struct config_key packet_keys[] = {
	{ "interfaces", packet_interfaces, 0, "[ eth0 ]", CONFIG_REQUIRED, 0, 0, NULL },
	{ "allow", config_cidrs, SLOT(allow), "[ 198.18.0.0/15 ]", 0, 0, 0, NULL },
	{ "deny", config_cidrs, SLOT(deny), "[ 198.18.0.0/15 ]", 0, 0, 0, NULL },
	{ "source-rate", config_u32, SLOT(source_rate), "1000", 0, 1, UINT32_MAX, NULL },
	{ 0 },
};

static void section_packet(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			   void *slot)
{
	d->has_packet = true;
	config_map(d, node, packet_keys, "packet", d->c);
}

/* connect: */

static const struct config_key connect_keys[] = {
	{ "cgroups", config_paths, SLOT(connect_cgroups), "[ / ]", 0, 0, 0, NULL },
	{ 0 },
};
#undef SLOT

static void section_connect(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			    void *slot)
{
	d->has_connect = true;
	config_map(d, node, connect_keys, "connect", d->c);
}

/* accelerate: */

#define SLOT(field) offsetof(struct config_accelerate, field)
static const struct config_key accelerate_keys[] = {
	{ "cgroups", config_paths, SLOT(cgroups), "[ / ]", 0, 0, 0, NULL },
	{ "ports", config_ports, SLOT(ports), "[ 80, 8000-8100 ]", 0, 0, 0, NULL },
	{ "exclude-ports", config_ports, SLOT(exclude_ports), "[ 22 ]", 0, 0, 0, NULL },
	{ "trust", config_paths, SLOT(trust), "[ /usr/sbin/nginx ]", 0, 0, 0, NULL },
	{ "max-sockets", config_u32, SLOT(max_sockets), "262144", 0, 2, 16777216, NULL },
	{ 0 },
};
#undef SLOT

static void section_accelerate(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			       void *slot)
{
	d->c->accelerate.on = true;
	d->accelerate = node;
	config_map(d, node, accelerate_keys, "accelerate", &d->c->accelerate);
}

/* redirect: */

static void redirect_to(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			void *slot)
{
	struct config_redirect *r = slot;

	(void)config_endpoint(d, node, key, &r->addr, &r->port);
}

static void redirect_dns(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			 void *slot)
{
	struct config_redirect *r = slot;

	(void)config_endpoint(d, node, key, &r->dns_addr, &r->dns_port);
}

static void add_string(struct config_decode *d, struct config_strings *s, const char *text)
{
	char **slot = config_grow(d, (void **)&s->v, &s->n, 1, sizeof(*slot));

	if (slot)
		config_strdup(d, text, slot);
	if (slot && !*slot)
		s->n--;
}

static void add_user(struct config_decode *d, const struct config_node *e, const struct config_key *key, void *data)
{
	const char *text = config_text(d, e, key);
	uint64_t uid;
	bool is_number;

	if (!text)
		return;
	is_number = isdigit((unsigned char)text[0]);
	if (is_number ? num_parse_u64(text, 0, UINT32_MAX - 1, &uid) < 0 :
			!config_name_is_valid(text[0] == '_' ? text + 1 : text))
		config_error(d, e, "'%s' is not a user: write a name or a number, as in %s", config_shown(text).text,
			     key->example);
	else
		add_string(d, data, text);
}

static void redirect_users(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			   void *slot)
{
	config_each(d, node, key, add_user, slot);
}

#define SLOT(field) offsetof(struct config_redirect, field)
static const struct config_key redirect_keys[] = {
	{ "cgroup", config_path, SLOT(cgroup), "/app", CONFIG_REQUIRED, 0, 0, NULL },
	{ "to", redirect_to, 0, "127.0.0.1:15001", CONFIG_REQUIRED, 0, 0, NULL },
	{ "proxy-cgroup", config_path, SLOT(proxy_cgroup), "/app/proxy", 0, 0, 0, NULL },
	{ "fail", second_word, SLOT(fail_open), "closed", 0, 0, 0, fail_choice },
	{ "direction", second_word, SLOT(inbound), "outbound", 0, 0, 0, direction_choice },
	{ "ports", config_ports, SLOT(ports), "[ 80, 8000-8100 ]", 0, 0, 0, NULL },
	{ "exclude-ports", config_ports, SLOT(exclude_ports), "[ 22 ]", 0, 0, 0, NULL },
	{ "cidrs", config_cidrs, SLOT(cidrs), "[ 198.18.0.0/15 ]", 0, 0, 0, NULL },
	{ "exclude-cidrs", config_cidrs, SLOT(exclude_cidrs), "[ 127.0.0.0/8 ]", 0, 0, 0, NULL },
	{ "exclude-users", redirect_users, SLOT(exclude_users), "[ proxy ]", 0, 0, 0, NULL },
	{ "dns", redirect_dns, 0, "127.0.0.1:15053", 0, 0, 0, NULL },
	{ 0 },
};
#undef SLOT

static void section_redirect(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			     void *slot)
{
	struct config_redirect *r;

	if (!config_is_list(d, node, key) || !node->n)
		return;
	r = config_grow(d, (void **)&d->c->redirects, &d->c->n_redirects, node->n, sizeof(*r));
	for (const struct config_node *e = node->first; r && e; e = e->next, r++) {
		r->pos = config_pos(d, e);
		if (!config_note(d, &d->redirects, e))
			return;
		config_map(d, e, redirect_keys, "a redirect", r);
	}
}

/* identities: and policy: */

#define SLOT(field) offsetof(struct config_identity, field)
static const struct config_key identity_keys[] = {
	{ "cgroups", config_paths, SLOT(cgroups), "[ /app ]", 0, 0, 0, NULL },
	{ "cidrs", config_cidrs, SLOT(cidrs), "[ 198.18.0.0/15 ]", 0, 0, 0, NULL },
	{ 0 },
};
#undef SLOT

/* What begins with a digit is the beginning of a network. */
bool config_is_identity(const char *text)
{
	return config_name_is_valid(text) && !isdigit((unsigned char)text[0]);
}

static void section_identities(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			       void *slot)
{
	struct config_identity *id;

	if (node->kind != CONFIG_MAP) {
		config_error(d, node, "'identities' wants names and what they stand for: write identities: %s",
			     key->example);
		return;
	}
	if (!node->n)
		return;
	id = config_grow(d, (void **)&d->c->identities, &d->c->n_identities, node->n / 2, sizeof(*id));
	for (const struct config_node *k = node->first; id && k; k = k->next->next, id++) {
		id->pos = config_pos(d, k);
		if (k->kind == CONFIG_SCALAR && config_is_identity(k->text))
			config_strdup(d, k->text, &id->name);
		else if (k->kind != CONFIG_BROKEN)
			config_error(d, k,
				     "'%s' is not a name: begin it with a letter, and go on with letters, digits, '.', '_' "
				     "and '-', as in frontend",
				     k->kind == CONFIG_SCALAR ? config_shown(k->text).text : "");
		if (k->next->kind != CONFIG_BROKEN && !k->next->n)
			config_error(d, k->next,
				     "an identity stands for cgroups, cidrs or both: write { cgroups: [ /app ] }");
		else
			config_map(d, k->next, identity_keys, "an identity", id);
	}
}

/* The slot of both is the whole policy. */
static void add_from(struct config_decode *d, const struct config_node *e, const struct config_key *key, void *data)
{
	const char *text = config_text(d, e, key);
	struct config_policy *p = data;
	char *path = NULL;

	if (!text)
		return;
	if (text[0] == '/') {
		config_path(d, e, key, &path);
		if (path)
			add_string(d, &p->from, path);
		free(path);
	} else if (config_is_identity(text)) {
		add_string(d, &p->from, text);
	} else {
		config_error(d, e,
			     "'%s' is neither a cgroup nor the name of an identity: write it as in /app or frontend",
			     config_shown(text).text);
	}
}

static void policy_from(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			void *slot)
{
	config_each(d, node, key, add_from, slot);
}

static void add_to(struct config_decode *d, const struct config_node *e, const struct config_key *key, void *data)
{
	const char *text = config_text(d, e, key);
	struct config_policy *p = data;
	struct config_cidr cidr, *slot;
	struct err err;

	if (!text)
		return;
	if (config_is_identity(text)) {
		add_string(d, &p->to_identities, text);
	} else if (addr_parse_cidr(text, &cidr.addr, &cidr.prefix, &err) < 0) {
		config_error(d, e, "%s", err.text);
	} else {
		slot = config_grow(d, (void **)&p->to.v, &p->to.n, 1, sizeof(cidr));
		if (slot)
			*slot = cidr;
	}
}

static void policy_to(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	config_each(d, node, key, add_to, slot);
}

#define SLOT(field) offsetof(struct config_policy, field)
static const struct config_key policy_keys[] = {
	{ "action", second_word, SLOT(allow), "deny", CONFIG_REQUIRED, 0, 0, action_choice },
	{ "from", policy_from, 0, "[ /app ]", 0, 0, 0, NULL },
	{ "to", policy_to, 0, "[ 198.18.0.0/15 ]", 0, 0, 0, NULL },
	{ "ports", config_ports, SLOT(ports), "[ 5432 ]", 0, 0, 0, NULL },
	{ "on-change", second_word, SLOT(reset), "close", 0, 0, 0, change_choice },
	{ 0 },
};
#undef SLOT

static void section_policy(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			   void *slot)
{
	struct config_policy *p;

	if (!config_is_list(d, node, key) || !node->n)
		return;
	p = config_grow(d, (void **)&d->c->policies, &d->c->n_policies, node->n, sizeof(*p));
	for (const struct config_node *e = node->first; p && e; e = e->next, p++) {
		p->pos = config_pos(d, e);
		if (!config_note(d, &d->policies, e))
			return;
		config_map(d, e, policy_keys, "a policy", p);
	}
}

/* metrics: and include: */

static void metrics_listen(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			   void *slot)
{
	struct lb_addr addr;
	uint16_t port;

	if (!config_endpoint_any(d, node, key, &addr, &port))
		return;
	d->c->metrics_addr = addr;
	d->c->metrics_port = port;
}

static const struct config_key metrics_keys[] = {
	{ "listen", metrics_listen, 0, "127.0.0.1:9469", CONFIG_REQUIRED, 0, 0, NULL },
	{ "allow-remote", config_bool, offsetof(struct config, metrics_allow_remote), "true", 0, 0, 0, NULL },
	{ 0 },
};

static void section_metrics(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			    void *slot)
{
	d->metrics = node;
	config_map(d, node, metrics_keys, "metrics", d->c);
}

static void section_include(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			    void *slot)
{
	if (config_text(d, node, key))
		d->include = node;
}

#define SECTION(name, fn, example)                  \
	{                                           \
		name, fn, 0, example, 0, 0, 0, NULL \
	}
static const struct config_key root_keys[] = {
	SECTION("services", config_services, "[ { name: web, listen: 198.18.0.5:80, backends: [ 198.18.0.2:80 ] } ]"),
	SECTION("include", section_include, "/etc/waggle/services.d"),
	SECTION("connect", section_connect, "{ cgroups: [ / ] }"),
	SECTION("packet", section_packet, "{ interfaces: [ eth0 ] }"),
	SECTION("accelerate", section_accelerate, "{ exclude-ports: [ 22 ] }"),
	SECTION("redirect", section_redirect, "[ { cgroup: /app, to: 127.0.0.1:15001 } ]"),
	SECTION("identities", section_identities, "{ frontend: { cgroups: [ /app ] } }"),
	SECTION("policy", section_policy, "[ { action: deny, from: /app, to: 198.18.0.0/15 } ]"),
	SECTION("metrics", section_metrics, "{ listen: 127.0.0.1:9469 }"),
	{ 0 },
};

static const struct config_key included_keys[] = {
	SECTION("services", config_services, "[ { name: web, listen: 198.18.0.5:80, backends: [ 198.18.0.2:80 ] } ]"),
	SECTION("redirect", section_redirect, "[ { cgroup: /app, to: 127.0.0.1:15001 } ]"),
	SECTION("policy", section_policy, "[ { action: deny, from: /app, to: 198.18.0.0/15 } ]"),
	{ 0 },
};

void config_decode_root(struct config_decode *d, const struct config_node *root, bool is_included)
{
	if (!root || config_is_null(root))
		return;
	if (is_included)
		config_map(d, root, included_keys, "an included file", d);
	else
		config_map(d, root, root_keys, "a configuration", d);
}
