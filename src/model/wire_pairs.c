// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/wire_pairs.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/socket.h>

#include "model/wire.h"

#define TEXT_ROOM_MIN 4096

static const char *const tcp_state_words[] = {
	"unknown", "established", "syn-sent", "syn-recv", "fin-wait1", "fin-wait2",    "time-wait",
	"close",   "close-wait",  "last-ack", "listen",	  "closing",   "new-syn-recv",
};

static int compare_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static uint64_t key_number(const struct ac_sock_dump *d)
{
	return (uint64_t)d->sock.key.client_seq << 32 | d->sock.key.server_seq;
}

static int compare_cookies(const void *a, const void *b)
{
	const struct ac_sock_dump *const *x = a, *const *y = b;

	return compare_u64((*x)->sock.cookie, (*y)->sock.cookie);
}

static int compare_keys(const void *a, const void *b)
{
	const struct ac_sock_dump *const *x = a, *const *y = b;
	int r = compare_u64(key_number(*x), key_number(*y));

	return r ? r : (*x)->sock.is_server - (*y)->sock.is_server;
}

static uint64_t pair_born(const struct wire_pair *p)
{
	return p->client ? p->client->sock.born_ns : p->server->sock.born_ns;
}

static uint64_t pair_cookie(const struct wire_pair *p)
{
	return p->client ? p->client->sock.cookie : p->server->sock.cookie;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct wire_pair *x = a, *y = b;
	int r = compare_u64(pair_born(x), pair_born(y));

	return r ? r : compare_u64(pair_cookie(x), pair_cookie(y));
}

/* What is not paired yet, sorted by cookie; an entry that has found its peer becomes NULL in `open`. */
struct pairing {
	const struct ac_sock_dump **by_cookie; /* all */
	const struct ac_sock_dump **open;      /* the same order; NULL: paired */
	size_t n;
	struct wire_pairs out;
};

static size_t find_cookie(const struct pairing *p, uint64_t cookie)
{
	size_t low = 0, high = p->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->by_cookie[mid]->sock.cookie < cookie)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->n && p->by_cookie[low]->sock.cookie == cookie ? low : p->n;
}

static void pairing_add(struct pairing *p, const struct ac_sock_dump *a, const struct ac_sock_dump *b)
{
	p->out.v[p->out.n_pairs] =
		(struct wire_pair){ .client = a->sock.is_server ? b : a, .server = a->sock.is_server ? a : b };
	p->out.n_joined += wire_pair_is_joined(&p->out.v[p->out.n_pairs]);
	p->out.n_pairs++;
}

/* Either end may be the one that knows the other; neither may name a third. */
static bool ends_agree(const struct ac_sock_dump *a, const struct ac_sock_dump *b)
{
	return a != b && a->sock.is_server != b->sock.is_server &&
	       (!a->sock.peer_cookie || a->sock.peer_cookie == b->sock.cookie) &&
	       (!b->sock.peer_cookie || b->sock.peer_cookie == a->sock.cookie);
}

static void pair_by_cookie(struct pairing *p)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct ac_sock_dump *d = p->open[i];
		size_t j;

		if (!d || !d->sock.peer_cookie)
			continue;
		j = find_cookie(p, d->sock.peer_cookie);
		if (j == p->n || !p->open[j] || !ends_agree(d, p->open[j]))
			continue;
		pairing_add(p, d, p->open[j]);
		p->open[i] = p->open[j] = NULL;
	}
}

/* Of those left: the same two numbers, if exactly one client and one server have them. */
static void pair_by_key(struct pairing *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->open[i])
			p->open[n++] = p->open[i];
	qsort(p->open, n, sizeof(*p->open), compare_keys);
	for (size_t i = 0; i < n;) {
		size_t end = i + 1;

		while (end < n && key_number(p->open[end]) == key_number(p->open[i]))
			end++;
		if (end - i == 2 && key_number(p->open[i]) && ends_agree(p->open[i], p->open[i + 1])) {
			pairing_add(p, p->open[i], p->open[i + 1]);
			p->open[i] = p->open[i + 1] = NULL;
		}
		i = end;
	}
	p->n = n;
}

static void add_singles(struct pairing *p)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct ac_sock_dump *d = p->open[i];
		struct wire_pair *out = &p->out.v[p->out.n_pairs + p->out.n_singles];

		if (!d)
			continue;
		*out = (struct wire_pair){ .client = d->sock.is_server ? NULL : d,
					   .server = d->sock.is_server ? d : NULL };
		p->out.n_singles++;
	}
}

int wire_pairs_make(const struct ac_sock_dump *dumps, size_t n, struct wire_pairs *ret)
{
	_cleanup_free_ const struct ac_sock_dump **by_cookie = calloc(n + 1, sizeof(*by_cookie));
	_cleanup_free_ const struct ac_sock_dump **open = calloc(n + 1, sizeof(*open));
	struct pairing p = { .by_cookie = by_cookie, .open = open, .n = n };

	p.out.v = calloc(n + 1, sizeof(*p.out.v));
	if (!by_cookie || !open || !p.out.v) {
		free(p.out.v);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		by_cookie[i] = &dumps[i];
	qsort(by_cookie, n, sizeof(*by_cookie), compare_cookies);
	memcpy(open, by_cookie, n * sizeof(*open));
	pair_by_cookie(&p);
	pair_by_key(&p);
	add_singles(&p);
	qsort(p.out.v, p.out.n_pairs, sizeof(*p.out.v), compare_pairs);
	qsort(p.out.v + p.out.n_pairs, p.out.n_singles, sizeof(*p.out.v), compare_pairs);
	*ret = p.out;
	return 0;
}

void wire_pairs_done(struct wire_pairs *p)
{
	free(p->v);
	*p = (struct wire_pairs){};
}

/* A socket that was joined and is in the map no more was taken out by its own end. */
static enum ac_why end_why(const struct ac_sock_dump *d)
{
	if (!d || d->in_map)
		return AC_WHY_NONE;
	return d->sock.state == AC_SOCK_JOINED ? AC_WHY_PEER_GONE : d->sock.why;
}

bool wire_pair_is_joined(const struct wire_pair *p)
{
	return p->client && p->server && p->client->in_map && p->server->in_map;
}

static void set(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new_nocheck(o, key, value);
}

static void set_int(json_t *o, const char *key, uint64_t value)
{
	set(o, key, json_integer((json_int_t)value));
}

static void set_process(json_t *o, const struct ac_sock_dump *d, const struct wire_lookup *lookup)
{
	const char *comm = NULL;
	int64_t pid = 0;
	bool has = d->inode && lookup->process(lookup->data, d->inode, &pid, &comm);

	set(o, "pid", has ? json_integer(pid) : json_null());
	set(o, "process", has ? wire_string(comm) : json_null());
}

json_t *wire_end_json(const struct ac_sock_dump *d, const struct wire_lookup *lookup)
{
	const struct ac_sock *s = &d->sock;
	char local[WIRE_ADDR_MAX], remote[WIRE_ADDR_MAX];
	json_t *o = json_object();

	if (!o)
		return NULL;
	wire_addr_format(d->family, d->local_addr, d->local_port, local);
	wire_addr_format(d->family, d->remote_addr, d->remote_port, remote);
	set(o, "role", json_string_nocheck(s->is_server ? "server" : "client"));
	set(o, "local", json_string_nocheck(local));
	set(o, "remote", json_string_nocheck(remote));
	set(o, "family", json_string_nocheck(d->family == AF_INET6 ? "ipv6" : "ipv4"));
	set_int(o, "netns", d->netns);
	set_process(o, d, lookup);
	set(o, "cgroup", wire_string(lookup->cgroup(lookup->data, d->cgroup)));
	set(o, "tcp_state",
	    json_string_nocheck(tcp_state_words[d->tcp_state < ARRAY_SIZE(tcp_state_words) ? d->tcp_state : 0]));
	set(o, "mode", json_string_nocheck(d->in_map ? "joined" : "tcp"));
	/* Before the first send tx_why is only where the next one would be held up. */
	set(o, "tx_reason",
	    d->in_map && s->tcp_sends && s->tx_why ? json_string_nocheck(wire_why_word(s->tx_why)) : json_null());
	set_int(o, "joined_bytes", s->joined_bytes);
	set_int(o, "tcp_bytes", s->tcp_bytes);
	set_int(o, "joined_sends", s->joined_sends);
	set_int(o, "tcp_sends", s->tcp_sends);
	set_int(o, "fallbacks", s->fallbacks);
	set_int(o, "queued_bytes", d->rmem_bytes);
	set_int(o, "cookie", s->cookie);
	return o;
}

json_t *wire_pair_json(const struct wire_pair *p, const struct wire_lookup *lookup)
{
	/* Of a single socket only its own end counts. */
	bool joined = (!p->client || p->client->in_map) && (!p->server || p->server->in_map);
	enum ac_why why = end_why(p->client) ? end_why(p->client) : end_why(p->server);
	json_t *o = json_object();

	if (!o)
		return NULL;
	set(o, "state", json_string_nocheck(joined ? "joined" : "watched"));
	set(o, "reason", joined ? json_null() : json_string_nocheck(wire_why_word(why)));
	set(o, "text", joined ? json_null() : json_string_nocheck(wire_why_text(why)));
	if (p->client)
		set(o, "client", wire_end_json(p->client, lookup));
	if (p->server)
		set(o, "server", wire_end_json(p->server, lookup));
	return o;
}

static int text_reserve(struct wire_pairs_text *t, size_t n)
{
	size_t room = t->room ? t->room : TEXT_ROOM_MIN;
	char *buf;

	if (n <= t->room)
		return 0;
	while (room < n)
		room *= 2;
	buf = realloc(t->buf, room);
	if (!buf)
		return -ENOMEM;
	t->buf = buf;
	t->room = room;
	return 0;
}

static int text_element(struct wire_pairs_text *t, size_t i, size_t *ret_n)
{
	const struct wire_pairs *p = t->pairs;
	json_t *o = wire_pair_json(&p->v[i], t->lookup);
	const char *before = i == 0 || i == p->n_pairs ? "\n" : ",\n";
	size_t lead = strlen(before), n;
	int r;

	if (!o)
		return -ENOMEM;
	n = json_dumpb(o, t->buf ? t->buf + lead : NULL, t->buf ? t->room - lead : 0, JSON_COMPACT);
	if (n + lead > t->room) {
		r = text_reserve(t, n + lead);
		if (r < 0) {
			json_decref(o);
			return r;
		}
		n = json_dumpb(o, t->buf + lead, t->room - lead, JSON_COMPACT);
	}
	json_decref(o);
	if (!n)
		return -ENOMEM;
	memcpy(t->buf, before, lead);
	*ret_n = n + lead;
	return 0;
}

static int text_printf(struct wire_pairs_text *t, size_t *ret_n, const char *fmt, ...) _printf_(3, 4);
static int text_printf(struct wire_pairs_text *t, size_t *ret_n, const char *fmt, ...)
{
	int r = text_reserve(t, TEXT_ROOM_MIN), n;
	va_list ap;

	if (r < 0)
		return r;
	va_start(ap, fmt);
	n = vsnprintf(t->buf, t->room, fmt, ap);
	va_end(ap);
	*ret_n = (size_t)n;
	return 0;
}

/* Pieces: the opening, each pair, the divider, each single socket, the closing. */
int wire_pairs_text_next(struct wire_pairs_text *t, const char **ret, size_t *ret_n)
{
	const struct wire_pairs *p = t->pairs;
	size_t step = t->next, n = 0;
	int r;

	if (step == 0)
		r = text_printf(t, &n,
				"{\"summary\":{\"pairs\":%zu,\"joined\":%zu,\"watched\":%zu,\"singles\":%zu},\n\"pairs\":[",
				p->n_pairs, p->n_joined, p->n_pairs - p->n_joined, p->n_singles);
	else if (step <= p->n_pairs)
		r = text_element(t, step - 1, &n);
	else if (step == p->n_pairs + 1)
		r = text_printf(t, &n, "],\n\"singles\":[");
	else if (step <= p->n_pairs + 1 + p->n_singles)
		r = text_element(t, step - 2, &n);
	else if (step == p->n_pairs + p->n_singles + 2)
		r = text_printf(t, &n, "]}\n");
	else
		return 0;
	if (r < 0)
		return r;
	t->next++;
	*ret = t->buf;
	*ret_n = n;
	return 1;
}

void wire_pairs_text_done(struct wire_pairs_text *t)
{
	free(t->buf);
	*t = (struct wire_pairs_text){};
}
