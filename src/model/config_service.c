// SPDX-License-Identifier: GPL-2.0-or-later
/* services: with their backends and health checks. */
#include "model/config_priv.h"

#include <ctype.h>
#include <net/if.h>
#include <netinet/in.h>

#include "base/num.h"
#include "model/ring.h"

#define SECOND 1000U
#define HOUR (3600 * SECOND)
#define HOST_MAX 254
#define BODY_MAX 65536
#define STATUS_MIN 100
#define STATUS_MAX 599

const char *const lb_scheduler_words[_LB_SCHEDULER_MAX] = {
#define X(id, word) [LB_##id] = word,
	LB_SCHEDULER_LIST(X)
#undef X
};

const char *const lb_forward_words[_LB_FORWARD_MAX] = {
#define X(id, word) [LB_FORWARD_##id] = word,
	LB_FORWARD_LIST(X)
#undef X
};

/* The same with a NULL at the end. */
static const char *const scheduler_choice[] = {
#define X(id, word) word,
	LB_SCHEDULER_LIST(X)
#undef X
		NULL,
};

static const char *const forward_choice[] = {
#define X(id, word) word,
	LB_FORWARD_LIST(X)
#undef X
		NULL,
};

static const char *const protocol_choice[] = { "tcp", "udp", NULL };

const char *const config_cookies_words[] = { "off", "auto", "always", NULL };

const char *const config_check_words[] = { "none", "tcp", "http", "https", NULL };

/* Printable, without spaces: it goes into a request line or a header. */
static bool is_graph(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

static bool set_check(struct config_decode *d, const struct config_node *node, struct config_health *h,
		      enum config_check check)
{
	if (h->check != CONFIG_CHECK_NONE) {
		config_error(d, node, "health has both '%s' and '%s': keep one", config_check_words[h->check],
			     config_check_words[check]);
		return false;
	}
	h->check = check;
	return true;
}

/* tcp, http and https have the whole struct config_health as their slot. */
static void health_tcp(struct config_decode *d, const struct config_node *node, const struct config_key *key,
		       void *slot)
{
	const char *text = config_text(d, node, key);

	if (!text)
		return;
	if (streq(text, "true") && !node->is_quoted)
		(void)set_check(d, node, slot, CONFIG_CHECK_TCP);
	else
		config_error(d, node, "'%s' does not fit 'tcp': write tcp: true", config_shown(text).text);
}

static void health_path(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			void *slot)
{
	const char *text = config_text(d, node, key);
	struct config_health *h = slot;

	if (!text)
		return;
	if (text[0] != '/' || !is_graph(text) || strlen(text) > 1024)
		config_error(d, node,
			     "'%s' is not the path of a request: begin it with '/', without spaces, as in /healthz",
			     config_shown(text).text);
	else if (set_check(d, node, h, streq(key->name, "http") ? CONFIG_CHECK_HTTP : CONFIG_CHECK_HTTPS))
		config_strdup(d, text, &h->path);
}

static void health_host(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			void *slot)
{
	const char *text = config_text(d, node, key);

	if (!text)
		return;
	if (is_graph(text) && strlen(text) < HOST_MAX)
		config_strdup(d, text, slot);
	else
		config_error(d, node, "'%s' is not the name of a host: write it as in %s", config_shown(text).text,
			     key->example);
}

static void health_port(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			void *slot)
{
	uint32_t port = 0;

	config_u32(d, node, key, &port);
	*(uint16_t *)slot = (uint16_t)port;
}

static void health_body(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			void *slot)
{
	const char *text = config_text(d, node, key);

	if (!text)
		return;
	if (strlen(text) <= BODY_MAX)
		config_strdup(d, text, slot);
	else
		config_error(d, node, "'body' has %zu bytes: write at most %d", strlen(text), BODY_MAX);
}

/* "200" or "200-399"; the slot is the struct. */
static void health_status(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			  void *slot)
{
	const char *text = config_text(d, node, key);
	struct config_health *h = slot;
	uint64_t min, max;
	char low[4] = "";

	if (!text)
		return;
	(void)snprintf(low, sizeof(low), "%.3s", text);
	if (num_parse_u64(low, STATUS_MIN, STATUS_MAX, &min) == 0 &&
	    num_parse_u64(text[3] == '-' ? text + 4 : text, min, STATUS_MAX, &max) == 0) {
		h->status_min = (unsigned int)min;
		h->status_max = (unsigned int)max;
		return;
	}
	config_error(d, node, "'%s' does not fit 'status': write one or a range from %d to %d, as in 200 or 200-399",
		     config_shown(text).text, STATUS_MIN, STATUS_MAX);
}

#define SLOT(field) offsetof(struct config_health, field)
static const struct config_key health_keys[] = {
	{ "http", health_path, 0, "/healthz", 0, 0, 0, NULL },
	{ "https", health_path, 0, "/healthz", 0, 0, 0, NULL },
	{ "tcp", health_tcp, 0, "true", 0, 0, 0, NULL },
	{ "host", health_host, SLOT(host), "www.example.org", 0, 0, 0, NULL },
	{ "port", health_port, SLOT(port), "8081", 0, 1, 65535, NULL },
	{ "status", health_status, 0, "200-399", 0, 0, 0, NULL },
	{ "body", health_body, SLOT(body), "ok", 0, 0, 0, NULL },
	{ "verify", config_bool, SLOT(verify), "true", 0, 0, 0, NULL },
	{ "interval", config_ms, SLOT(interval_ms), "2s", 0, 100, 24 * HOUR, NULL },
	{ "timeout", config_ms, SLOT(timeout_ms), "1s", 0, 10, HOUR, NULL },
	{ "jitter", config_ms, SLOT(jitter_ms), "200ms", 0, 0, HOUR, NULL },
	{ "rise", config_u32, SLOT(rise), "2", 0, 1, 1000, NULL },
	{ "fall", config_u32, SLOT(fall), "3", 0, 1, 1000, NULL },
	{ 0 },
};
#undef SLOT

/* Keys that the kind of check has no use for. */
static void health_check_use(struct config_decode *d, const struct config_node *node, const struct config_health *h)
{
	static const struct {
		const char *name;
		bool https_only;
	} rows[] = { { "host", false }, { "status", false }, { "body", false }, { "verify", true } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct config_node *at = config_find(node, rows[i].name);
		bool is_used = h->check == CONFIG_CHECK_HTTPS || (h->check == CONFIG_CHECK_HTTP && !rows[i].https_only);

		if (at && !is_used)
			config_error(d, at, "'%s' has no effect on a check by %s: leave it out, or check by %s",
				     rows[i].name, config_check_words[h->check], rows[i].https_only ? "https" : "http");
	}
}

static void health_begin(struct config_health *h)
{
	*h = (struct config_health){
		.status_min = 200, .status_max = 399, .jitter_ms = UINT32_MAX, .rise = 2, .fall = 3
	};
}

/* What depends on other values where it was not given. */
static void health_end(struct config_health *h)
{
	if (!h->interval_ms)
		h->interval_ms = 2 * SECOND;
	if (!h->timeout_ms)
		h->timeout_ms = h->interval_ms < SECOND ? h->interval_ms : SECOND;
	if (h->jitter_ms == UINT32_MAX)
		h->jitter_ms = h->interval_ms / 10;
}

static void health_not_longer(struct config_decode *d, const struct config_node *node, const char *name,
			      unsigned int ms, unsigned int interval_ms)
{
	const struct config_node *at = config_find(node, name);

	if (at && ms > interval_ms)
		config_error(d, at, "%s %s is longer than interval %s: write at most %s", name,
			     config_duration(ms).text, config_duration(interval_ms).text,
			     config_duration(interval_ms).text);
}

static void health_map(struct config_decode *d, const struct config_node *node, struct config_health *h)
{
	bool has_check = config_find(node, "tcp") || config_find(node, "http") || config_find(node, "https");
	bool is_interval_bad;

	health_begin(h);
	config_map(d, node, health_keys, "health", h);
	is_interval_bad = !h->interval_ms && config_find(node, "interval");
	health_end(h);
	if (!has_check)
		config_error(d, node,
			     "health does not say how to check: add tcp: true, http: /healthz or https: /healthz");
	else if (h->check != CONFIG_CHECK_NONE)
		health_check_use(d, node, h);
	if (is_interval_bad)
		return;
	health_not_longer(d, node, "timeout", h->timeout_ms, h->interval_ms);
	health_not_longer(d, node, "jitter", h->jitter_ms, h->interval_ms);
}

/* health: tcp, health: none, or a map. */
static void service_health(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			   void *slot)
{
	struct config_health *h = slot;

	if (node->kind == CONFIG_MAP) {
		health_map(d, node, h);
	} else if (node->kind == CONFIG_LIST) {
		config_error(d, node, "'health' wants tcp or a map, not a list: write health: %s", key->example);
	} else if (streq(node->text, "tcp")) {
		health_begin(h);
		h->check = CONFIG_CHECK_TCP;
		health_end(h);
	} else if (!streq(node->text, "none")) {
		config_error(d, node, "'%s' is not known as health: write tcp, none or a map, as in %s",
			     config_shown(node->text).text, key->example);
	}
}

static bool is_interface(const char *name)
{
	size_t n = strlen(name);

	if (!n || n >= IFNAMSIZ || streq(name, ".") || streq(name, "..") || streq(name, "localhost"))
		return false;
	/* Digits and dots alone are a mistyped address. */
	return is_graph(name) && !strpbrk(name, "/%[]*") && name[strspn(name, "0123456789.")];
}

static void service_listen(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			   void *slot)
{
	const char *text = config_text(d, node, key);
	struct config_service *s = slot;
	char host[HOST_MAX];
	struct err err;
	uint16_t port;

	if (!text)
		return;
	if (addr_split(text, host, sizeof(host), &port, &err) < 0) {
		config_error(d, node, "%s", err.text);
		return;
	}
	if (text[0] != '[' && is_interface(host)) {
		config_strdup(d, host, &s->interface);
	} else if (!config_endpoint(d, node, key, &s->addr, &port)) {
		return;
	}
	s->port = port;
	config_strdup(d, text, &s->listen);
}

static bool is_host_name(const char *name)
{
	size_t n = strlen(name), label = 0;
	const char *last = strrchr(name, '.');

	if (!n || n >= HOST_MAX)
		return false;
	/* "198.18.0.256" is a mistyped address. */
	last = last ? last + 1 : name;
	if (!last[strspn(last, "0123456789")])
		return false;
	for (const char *p = name; *p; p++) {
		if (*p == '.') {
			if (!label || p[-1] == '-')
				return false;
			label = 0;
		} else if ((!isalnum((unsigned char)*p) && *p != '_' && (*p != '-' || !label)) ||
			   ++label > CONFIG_NAME_MAX) {
			return false;
		}
	}
	return name[n - 1] != '-';
}

static void backend_address(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			    void *slot)
{
	const char *text = config_text(d, node, key);
	struct config_backend *b = slot;
	char host[HOST_MAX];
	struct err err;
	uint16_t port;

	if (!text)
		return;
	if (addr_split(text, host, sizeof(host), &port, &err) < 0) {
		config_error(d, node, "%s", err.text);
		return;
	}
	if (text[0] != '[' && is_host_name(host))
		b->is_name = true;
	else if (!config_endpoint(d, node, key, &b->addr, &port))
		return;
	b->port = port;
	config_strdup(d, host, &b->host);
}

#define SLOT(field) offsetof(struct config_backend, field)
static const struct config_key backend_keys[] = {
	{ "address", backend_address, 0, "198.18.0.2:80", CONFIG_REQUIRED, 0, 0, NULL },
	{ "weight", config_u32, SLOT(weight), "2", 0, 0, RING_WEIGHT_MAX, NULL },
	{ 0 },
};
#undef SLOT

static void service_backends(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			     void *slot)
{
	struct config_service *s = slot;
	struct config_backend *b;

	if (!config_is_list(d, node, key) || !node->n)
		return;
	b = config_grow(d, (void **)&s->backends, &s->n_backends, node->n, sizeof(*b));
	for (const struct config_node *e = node->first; b && e; e = e->next, b++) {
		b->weight = 1;
		b->pos = config_pos(d, e);
		if (e->kind == CONFIG_SCALAR)
			backend_address(d, e, &backend_keys[0], b);
		else
			config_map(d, e, backend_keys, "a backend", b);
	}
}

/* Kept as IPPROTO_*. */
static void service_protocol(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			     void *slot)
{
	unsigned int i = 0;

	config_word(d, node, key, &i);
	*(uint8_t *)slot = i ? IPPROTO_UDP : IPPROTO_TCP;
}

#define SLOT(field) offsetof(struct config_service, field)
static const struct config_key service_keys[] = {
	{ "name", config_name, SLOT(name), "web", CONFIG_REQUIRED, 0, 0, NULL },
	{ "listen", service_listen, 0, "198.18.0.5:80", CONFIG_REQUIRED, 0, 0, NULL },
	{ "protocol", service_protocol, SLOT(proto), "tcp", 0, 0, 0, protocol_choice },
	{ "scheduler", config_word, SLOT(scheduler), "maglev", 0, 0, 0, scheduler_choice },
	{ "forward", config_word, SLOT(forward), "nat", 0, 0, 0, forward_choice },
	{ "table-size", config_u32, SLOT(table_size), "65537", 0, 0, RING_MAX, NULL },
	{ "seed", config_u32, SLOT(seed), "1", 0, 0, UINT32_MAX, NULL },
	{ "panic", config_bool, SLOT(panic), "true", 0, 0, 0, NULL },
	{ "passive", config_ms, SLOT(passive_ms), "5s", 0, 0, 24 * HOUR, NULL },
	{ "slow-start", config_ms, SLOT(slow_start_ms), "30s", 0, 0, 24 * HOUR, NULL },
	{ "resolve", config_ms, SLOT(resolve_ms), "30s", 0, SECOND, 24 * HOUR, NULL },
	{ "max-connections", config_u32, SLOT(max_connections), "100000", 0, 1, UINT32_MAX, NULL },
	{ "syn-rate", config_u32, SLOT(syn_rate), "10000", 0, 1, UINT32_MAX, NULL },
	{ "syn-cookies", config_word, SLOT(syn_cookies), "auto", 0, 0, 0, config_cookies_words },
	{ "tcp-idle", config_ms, SLOT(tcp_idle_ms), "2h", 0, SECOND, 720 * HOUR, NULL },
	{ "udp-idle", config_ms, SLOT(udp_idle_ms), "30s", 0, SECOND, 720 * HOUR, NULL },
	{ "health", service_health, SLOT(health), "{ http: /healthz }", 0, 0, 0, NULL },
	{ "backends", service_backends, 0, "[ 198.18.0.2:80 ]", CONFIG_REQUIRED, 0, 0, NULL },
	{ 0 },
};
#undef SLOT

void config_services(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	struct config_service *s;

	if (!config_is_list(d, node, key) || !node->n)
		return;
	s = config_grow(d, (void **)&d->c->services, &d->c->n_services, node->n, sizeof(*s));
	for (const struct config_node *e = node->first; s && e; e = e->next, s++) {
		*s = (struct config_service){ .proto = IPPROTO_TCP,
					      .scheduler = LB_ROUND_ROBIN,
					      .forward = LB_FORWARD_NAT,
					      .table_size = RING_TABLE_DEFAULT,
					      .passive_ms = 5 * SECOND,
					      .resolve_ms = 30 * SECOND,
					      .tcp_idle_ms = 2 * HOUR,
					      .udp_idle_ms = 30 * SECOND,
					      .pos = config_pos(d, e) };
		if (!config_note(d, &d->services, e))
			return;
		config_map(d, e, service_keys, "a service", s);
	}
}
