// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A configuration as JSON, in the words of the YAML and with every default filled in. JSON is YAML, so what comes out
 * can be read again, and says the same.
 */
#include "model/config_priv.h"

#include <jansson.h>
#include <netinet/in.h>

static json_t *duration(unsigned int ms)
{
	return json_string(config_duration(ms).text);
}

static json_t *endpoint(const struct lb_addr *addr, uint16_t port)
{
	char text[ADDR_TEXT_MAX];

	return json_string(addr_format(addr, port, text));
}

static void set_string(json_t *o, const char *key, const char *text)
{
	if (text)
		(void)json_object_set_new(o, key, json_string(text));
}

/* 0 means that the key is not there. */
static void set_number(json_t *o, const char *key, uint32_t v)
{
	if (v)
		(void)json_object_set_new(o, key, json_integer(v));
}

static json_t *strings(const struct config_strings *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->n; i++)
		(void)json_array_append_new(list, json_string(s->v[i]));
	return list;
}

/* An empty list of these means that the key is not there. */
static void set_list(json_t *o, const char *key, json_t *list)
{
	if (json_array_size(list))
		(void)json_object_set(o, key, list);
	json_decref(list);
}

static json_t *cgroups(const struct config_strings *s)
{
	return s->n ? strings(s) : json_pack("[s]", "/");
}

static void add_cidrs(json_t *list, const struct config_cidrs *s)
{
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < s->n; i++)
		(void)json_array_append_new(list, json_string(addr_format_cidr(&s->v[i].addr, s->v[i].prefix, text)));
}

static void set_cidrs(json_t *o, const char *key, const struct config_cidrs *s)
{
	json_t *list = json_array();

	add_cidrs(list, s);
	set_list(o, key, list);
}

static void set_ports(json_t *o, const char *key, const struct config_ports *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->n; i++) {
		const struct config_port_range *r = &s->v[i];
		char text[16];

		(void)snprintf(text, sizeof(text), "%u-%u", r->first, r->last);
		(void)json_array_append_new(list, r->first == r->last ? json_integer(r->first) : json_string(text));
	}
	set_list(o, key, list);
}

static json_t *health_json(const struct config_health *h)
{
	json_t *o = json_object();
	char status[16];

	if (h->check == CONFIG_CHECK_NONE) {
		json_decref(o);
		return json_string(config_check_words[CONFIG_CHECK_NONE]);
	}
	(void)json_object_set_new(o, config_check_words[h->check],
				  h->check == CONFIG_CHECK_TCP ? json_true() : json_string(h->path));
	set_number(o, "port", h->port);
	if (h->check != CONFIG_CHECK_TCP) {
		(void)snprintf(status, sizeof(status), "%u-%u", h->status_min, h->status_max);
		set_string(o, "host", h->host);
		set_string(o, "status", status);
		set_string(o, "body", h->body);
	}
	if (h->check == CONFIG_CHECK_HTTPS)
		(void)json_object_set_new(o, "verify", json_boolean(h->verify));
	(void)json_object_set_new(o, "interval", duration(h->interval_ms));
	(void)json_object_set_new(o, "timeout", duration(h->timeout_ms));
	(void)json_object_set_new(o, "jitter", duration(h->jitter_ms));
	(void)json_object_set_new(o, "rise", json_integer(h->rise));
	(void)json_object_set_new(o, "fall", json_integer(h->fall));
	return o;
}

static json_t *backend_json(const struct config_backend *b)
{
	char text[ADDR_TEXT_MAX];

	if (b->is_name)
		return json_pack("{s:o, s:i}", "address", json_sprintf("%s:%u", b->host, b->port), "weight",
				 (int)b->weight);
	return json_pack("{s:s, s:i}", "address", addr_format(&b->addr, b->port, text), "weight", (int)b->weight);
}

static json_t *service_json(const struct config_service *s)
{
	json_t *o = json_pack("{s:s, s:o, s:s, s:s, s:s, s:I, s:I, s:b}", "name", s->name, "listen",
			      s->interface ? json_string(s->listen) : endpoint(&s->addr, s->port), "protocol",
			      s->proto == IPPROTO_UDP ? "udp" : "tcp", "scheduler", lb_scheduler_words[s->scheduler],
			      "forward", lb_forward_words[s->forward], "table-size", (json_int_t)s->table_size, "seed",
			      (json_int_t)s->seed, "panic", s->panic);
	json_t *backends = json_array();

	(void)json_object_set_new(o, "passive", duration(s->passive_ms));
	(void)json_object_set_new(o, "slow-start", duration(s->slow_start_ms));
	(void)json_object_set_new(o, "resolve", duration(s->resolve_ms));
	set_number(o, "max-connections", s->max_connections);
	set_number(o, "syn-rate", s->syn_rate);
	(void)json_object_set_new(o, "syn-cookies", json_string(config_cookies_words[s->syn_cookies]));
	(void)json_object_set_new(o, "tcp-idle", duration(s->tcp_idle_ms));
	(void)json_object_set_new(o, "udp-idle", duration(s->udp_idle_ms));
	(void)json_object_set_new(o, "health", health_json(&s->health));
	for (size_t i = 0; i < s->n_backends; i++)
		(void)json_array_append_new(backends, backend_json(&s->backends[i]));
	(void)json_object_set_new(o, "backends", backends);
	return o;
}

static json_t *packet_json(const struct config *c)
{
	json_t *o = json_object(), *list = json_array();

	for (size_t i = 0; i < c->n_interfaces; i++)
		(void)json_array_append_new(list, json_pack("{s:s, s:s}", "name", c->interfaces[i].name, "hook",
							    config_interface_words[c->interfaces[i].hook]));
	(void)json_object_set_new(o, "interfaces", list);
	set_cidrs(o, "allow", &c->allow);
	set_cidrs(o, "deny", &c->deny);
	set_number(o, "source-rate", c->source_rate);
	return o;
}

static json_t *accelerate_json(const struct config_accelerate *a)
{
	json_t *o = json_pack("{s:o}", "cgroups", cgroups(&a->cgroups));

	set_ports(o, "ports", &a->ports);
	set_ports(o, "exclude-ports", &a->exclude_ports);
	set_list(o, "trust", strings(&a->trust));
	set_number(o, "max-sockets", a->max_sockets);
	return o;
}

static json_t *redirect_json(const struct config_redirect *r)
{
	json_t *o = json_pack("{s:s, s:o, s:s, s:s}", "cgroup", r->cgroup, "to", endpoint(&r->addr, r->port), "fail",
			      r->fail_open ? "open" : "closed", "direction", r->inbound ? "inbound" : "outbound");

	set_string(o, "proxy-cgroup", r->proxy_cgroup);
	set_ports(o, "ports", &r->ports);
	set_ports(o, "exclude-ports", &r->exclude_ports);
	set_cidrs(o, "cidrs", &r->cidrs);
	set_cidrs(o, "exclude-cidrs", &r->exclude_cidrs);
	set_list(o, "exclude-users", strings(&r->exclude_users));
	if (r->dns_port)
		(void)json_object_set_new(o, "dns", endpoint(&r->dns_addr, r->dns_port));
	return o;
}

static json_t *policy_json(const struct config_policy *p)
{
	json_t *o = json_pack("{s:s, s:s}", "action", p->allow ? "allow" : "deny", "on-change",
			      p->reset ? "close" : "leave");
	json_t *to = strings(&p->to_identities);

	set_list(o, "from", strings(&p->from));
	add_cidrs(to, &p->to);
	set_list(o, "to", to);
	set_ports(o, "ports", &p->ports);
	return o;
}

static json_t *identities_json(const struct config *c)
{
	json_t *all = json_object();

	for (size_t i = 0; i < c->n_identities; i++) {
		json_t *o = json_object();

		set_list(o, "cgroups", strings(&c->identities[i].cgroups));
		set_cidrs(o, "cidrs", &c->identities[i].cidrs);
		(void)json_object_set_new(all, c->identities[i].name, o);
	}
	return all;
}

json_t *config_to_json(const struct config *c)
{
	json_t *o = json_object(), *services = json_array(), *redirects = json_array(), *policies = json_array();

	for (size_t i = 0; i < c->n_services; i++)
		(void)json_array_append_new(services, service_json(&c->services[i]));
	for (size_t i = 0; i < c->n_redirects; i++)
		(void)json_array_append_new(redirects, redirect_json(&c->redirects[i]));
	for (size_t i = 0; i < c->n_policies; i++)
		(void)json_array_append_new(policies, policy_json(&c->policies[i]));
	(void)json_object_set_new(o, "services", services);
	if (c->connect_on)
		(void)json_object_set_new(o, "connect", json_pack("{s:o}", "cgroups", cgroups(&c->connect_cgroups)));
	if (c->n_interfaces)
		(void)json_object_set_new(o, "packet", packet_json(c));
	if (c->accelerate.on)
		(void)json_object_set_new(o, "accelerate", accelerate_json(&c->accelerate));
	(void)json_object_set_new(o, "redirect", redirects);
	(void)json_object_set_new(o, "identities", identities_json(c));
	(void)json_object_set_new(o, "policy", policies);
	if (c->metrics_port)
		(void)json_object_set_new(o, "metrics",
					  json_pack("{s:o, s:b}", "listen", endpoint(&c->metrics_addr, c->metrics_port),
						    "allow-remote", c->metrics_allow_remote));
	return o;
}
