// SPDX-License-Identifier: GPL-2.0-or-later
/* Values that are lists (a single value is a list of one), and addresses with ports. */
#include "model/config_priv.h"

#include "base/num.h"

#define PORT_MAX 65535

/* A list that is being filled; n entries are in use. */
struct filling {
	void *v;
	size_t n, room, size;
	struct config_nodes nodes; /* of paths, one each */
};

static void *fill(struct config_decode *d, struct filling *f)
{
	if (f->n == f->room) {
		size_t room = f->room ? f->room * 2 : 4;
		void *v = reallocarray(f->v, room, f->size);

		if (!v) {
			d->no_memory = true;
			return NULL;
		}
		f->v = v;
		f->room = room;
	}
	return (char *)f->v + f->n * f->size;
}

static void add_path(struct config_decode *d, const struct config_node *e, const struct config_key *key, void *data)
{
	struct filling *f = data;
	char *path = NULL, **slot = fill(d, f);

	if (!slot)
		return;
	config_path(d, e, key, &path);
	if (!path)
		return;
	*slot = path;
	f->n++;
	(void)config_note(d, &f->nodes, e);
}

static int path_compare(const void *items, size_t a, size_t b)
{
	const struct filling *f = items;
	char **v = f->v;

	return strcmp(v[a], v[b]);
}

static void path_again(struct config_decode *d, const void *items, size_t first, size_t again)
{
	const struct filling *f = items;
	struct config_pos pos = config_pos(d, f->nodes.v[first]);

	config_error(d, f->nodes.v[again], "'%s' is there twice, first at %s: keep one",
		     config_shown(((char **)f->v)[again]).text, config_place(&pos).text);
}

void config_paths(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	struct config_strings *s = slot;
	struct filling f = { .size = sizeof(*s->v) };
	const struct config_dup dup = { &f, path_compare, path_again };

	config_each(d, node, key, add_path, &f);
	s->v = f.v;
	s->n = f.n;
	if (f.nodes.n == f.n)
		config_duplicates(d, f.n, &dup);
	free(f.nodes.v);
}

static void add_cidr(struct config_decode *d, const struct config_node *e, const struct config_key *key, void *data)
{
	const char *text = config_text(d, e, key);
	struct filling *f = data;
	struct config_cidr *slot = text ? fill(d, f) : NULL;
	struct err err;

	if (!slot)
		return;
	if (addr_parse_cidr(text, &slot->addr, &slot->prefix, &err) < 0)
		config_error(d, e, "%s", err.text);
	else
		f->n++;
}

void config_cidrs(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	struct config_cidrs *s = slot;
	struct filling f = { .size = sizeof(*s->v) };

	config_each(d, node, key, add_cidr, &f);
	s->v = f.v;
	s->n = f.n;
}

static bool parse_range(const char *text, struct config_port_range *ret)
{
	const char *dash = strchr(text, '-');
	size_t n = dash ? (size_t)(dash - text) : strlen(text);
	uint64_t first, last;
	char low[8];

	if (!n || n >= sizeof(low))
		return false;
	memcpy(low, text, n);
	low[n] = '\0';
	if (low[0] == '0' || num_parse_u64(low, 1, PORT_MAX, &first) < 0)
		return false;
	last = first;
	if (dash && (dash[1] == '0' || num_parse_u64(dash + 1, first, PORT_MAX, &last) < 0))
		return false;
	*ret = (struct config_port_range){ (uint16_t)first, (uint16_t)last };
	return true;
}

static void add_ports(struct config_decode *d, const struct config_node *e, const struct config_key *key, void *data)
{
	const char *text = config_text(d, e, key);
	struct filling *f = data;
	struct config_port_range *slot = text ? fill(d, f) : NULL;

	if (!slot)
		return;
	if (parse_range(text, slot))
		f->n++;
	else
		config_error(d, e,
			     "'%s' in '%s' is not a port: write ports from 1 to 65535 and ranges, as in [80, 8000-8100]",
			     config_shown(text).text, key->name);
}

void config_ports(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	struct config_ports *s = slot;
	struct filling f = { .size = sizeof(*s->v) };

	config_each(d, node, key, add_ports, &f);
	s->v = f.v;
	s->n = f.n;
}

/* An address that a connection can go to: neither unspecified nor multicast. */
static bool addr_is_usable(const struct lb_addr *a)
{
	const uint8_t *b = (const uint8_t *)a;
	static const struct lb_addr none;

	if (addr_is_v4(a))
		return a->v6[3] && (b[12] & 0xf0) != 0xe0 && a->v6[3] != 0xffffffff;
	return memcmp(a, &none, sizeof(none)) != 0 && b[0] != 0xff;
}

bool config_endpoint_any(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			 struct lb_addr *ret_addr, uint16_t *ret_port)
{
	const char *text = config_text(d, node, key);
	char host[ADDR_TEXT_MAX];
	struct err err;

	if (!text)
		return false;
	if (addr_split(text, host, sizeof(host), ret_port, &err) < 0 || addr_parse(host, ret_addr, &err) < 0) {
		config_error(d, node, "%s", err.text);
		return false;
	}
	if (text[0] == '[' && !strchr(host, ':')) {
		config_error(d, node, "'%s' has brackets around IPv4: write %s:%u", text, host, *ret_port);
		return false;
	}
	return true;
}

bool config_endpoint(struct config_decode *d, const struct config_node *node, const struct config_key *key,
		     struct lb_addr *ret_addr, uint16_t *ret_port)
{
	struct lb_addr addr;
	uint16_t port;

	if (!config_endpoint_any(d, node, key, &addr, &port))
		return false;
	if (!addr_is_usable(&addr)) {
		config_error(d, node, "'%s' in '%s' is not the address of one machine: write it as in %s", node->text,
			     key->name, key->example);
		return false;
	}
	*ret_addr = addr;
	*ret_port = port;
	return true;
}
