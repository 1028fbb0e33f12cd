// SPDX-License-Identifier: GPL-2.0-or-later
#include <netinet/in.h>
#include <string.h>

#include "packet_gen.h"

struct gen_addr gen_client(int family, uint32_t i)
{
	if (family == 4)
		return (struct gen_addr){ { 198, 51, 100, (uint8_t)(7 + i) }, 4 };
	return (struct gen_addr){ { 0x20, 1, 0, 2, 0, 0, 0, 0xc, [15] = (uint8_t)(7 + i) }, 6 };
}

struct gen_addr gen_vip(int family)
{
	if (family == 4)
		return (struct gen_addr){ { 192, 0, 2, 10 }, 4 };
	return (struct gen_addr){ { 0x20, 1, 0, 2, 0, 0, 0, 0xf, [15] = 0x10 }, 6 };
}

struct gen_addr gen_own(int family)
{
	if (family == 4)
		return (struct gen_addr){ { 198, 18, 0, 1 }, 4 };
	return (struct gen_addr){ { 0x20, 1, 0, 2, [15] = 1 }, 6 };
}

struct gen_addr gen_backend(int family, uint32_t i)
{
	if (family == 4)
		return (struct gen_addr){ { 198, 18, 0, (uint8_t)(11 + i) }, 4 };
	return (struct gen_addr){ { 0x20, 1, 0, 2, [15] = (uint8_t)(0x11 + i) }, 6 };
}

uint16_t gen_client_port(uint32_t i)
{
	return (uint16_t)(40000 + i * 11);
}

uint16_t gen_port(uint32_t forward)
{
	return (uint16_t)(80 + forward);
}

/* Only nat and dnat change the port: they are the first two. */
uint16_t gen_backend_port(uint32_t forward)
{
	return (uint16_t)((forward < 2 ? 8080 : 80) + forward);
}

static void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, v >> 16);
	put16(at + 2, v);
}

static uint32_t below(struct gen *g, uint32_t n)
{
	return g->below(g->data, n);
}

static bool one_in(struct gen *g, uint32_t n)
{
	return below(g, n) == 0;
}

static uint32_t sum16(const uint8_t *b, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? b[i] : (uint32_t)b[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* What is to be built: a segment, and what is around it. */
struct plan {
	struct gen_end from, to;
	uint8_t proto;
	uint8_t tcp_flags;
	uint16_t window;
	uint32_t seq, ack;
	uint32_t payload;
	bool odd; /* options, extension headers, fragments: now and then */
};

static size_t put_pattern(uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		at[i] = (uint8_t)(i * 7 + 3);
	return n;
}

/* Options of TCP, in whatever order, padded. */
static size_t put_tcp_options(struct gen *g, uint8_t *at)
{
	size_t n = 0;

	while (n < 24 && !one_in(g, 4)) {
		switch (below(g, 5)) {
		case 0:
			at[n++] = 1;
			break;
		case 1:
			put16(at + n, 0x0204);
			put16(at + n + 2, 500 + below(g, 2000));
			n += 4;
			break;
		case 2:
			put16(at + n, 0x0303);
			at[n + 2] = 7;
			n += 3;
			break;
		case 3:
			put16(at + n, 0x0402);
			n += 2;
			break;
		default:
			put16(at + n, 0x080a);
			memset(at + n + 2, 0x11, 8);
			n += 10;
			break;
		}
	}
	while (n % 4)
		at[n++] = 0;
	return n;
}

static size_t put_tcp(struct gen *g, uint8_t *at, const struct plan *p)
{
	size_t opts = p->odd || p->tcp_flags & 2 ? put_tcp_options(g, at + 20) : 0;

	put16(at, p->from.port);
	put16(at + 2, p->to.port);
	put32(at + 4, p->seq);
	put32(at + 8, p->ack);
	at[12] = (uint8_t)((20 + opts) / 4 << 4);
	at[13] = p->tcp_flags;
	put16(at + 14, p->window);
	put16(at + 16, 0);
	put16(at + 18, 0);
	return 20 + opts + put_pattern(at + 20 + opts, p->payload);
}

static size_t put_udp(uint8_t *at, const struct plan *p)
{
	put16(at, p->from.port);
	put16(at + 2, p->to.port);
	put16(at + 4, 8 + p->payload);
	put16(at + 6, 0);
	return 8 + put_pattern(at + 8, p->payload);
}

static size_t addr_bytes(const struct gen_addr *a)
{
	return a->family == 4 ? 4 : 16;
}

/* The checksum of a segment at its place; ICMP of IPv4 has no pseudo header. */
static void put_check(uint8_t *l4, size_t n, size_t at, const struct plan *p)
{
	uint32_t sum = 0;

	if (p->proto != IPPROTO_ICMP) {
		sum = sum16(p->from.addr.b, addr_bytes(&p->from.addr), (uint32_t)p->proto + (uint32_t)n);
		sum = sum16(p->to.addr.b, addr_bytes(&p->to.addr), sum);
	}
	sum = ~sum16(l4, n, sum) & 0xffff;
	put16(l4 + at, p->proto == IPPROTO_UDP && !sum ? 0xffff : sum);
}

static size_t put_v4(struct gen *g, uint8_t *at, const struct plan *p, const uint8_t *part, size_t n, uint32_t frag_at,
		     bool more)
{
	size_t opts = p->odd && one_in(g, 3) ? 4 * (1 + below(g, 10)) : 0;

	memset(at, 0, 20);
	memset(at + 20, 1, opts);
	at[0] = (uint8_t)(0x45 + opts / 4);
	at[1] = (uint8_t)(below(g, 2) * 0x28);
	put16(at + 2, (uint32_t)(20 + opts + n));
	put16(at + 4, g->frag_id);
	put16(at + 6, frag_at / 8 | (more ? 0x2000 : 0) | (!more && !frag_at && !one_in(g, 4) ? 0x4000 : 0));
	at[8] = p->odd && one_in(g, 4) ? (uint8_t)below(g, 3) : 64;
	at[9] = p->proto;
	memcpy(at + 12, p->from.addr.b, 4);
	memcpy(at + 16, p->to.addr.b, 4);
	put16(at + 10, ~sum16(at, 20 + opts, 0) & 0xffff);
	memcpy(at + 20 + opts, part, n);
	return 20 + opts + n;
}

/* A header of options: hop-by-hop, routing or destination. Returns the next header's place. */
static uint8_t *put_extension(struct gen *g, uint8_t *at, uint8_t **next)
{
	static const uint8_t kinds[] = { 0, 43, 60 };
	size_t len = 8 * (1 + below(g, 3));

	/* So long that whoever counts in a byte, or a small mask, begins anew. */
	if (one_in(g, 40))
		len = 8 * (20 + below(g, 12));
	**next = kinds[below(g, 3)];
	memset(at, 0, len);
	at[1] = (uint8_t)(len / 8 - 1);
	*next = at;
	return at + len;
}

static size_t put_v6(struct gen *g, uint8_t *at, const struct plan *p, const uint8_t *part, size_t n, uint32_t frag_at,
		     bool more)
{
	uint32_t exts = p->odd && one_in(g, 2) ? below(g, 8) : 0;
	uint8_t *next = at + 6, *to = at + 40;

	memset(at, 0, 40);
	put32(at, 0x60000000 | below(g, 2) * 0x02800000);
	at[7] = p->odd && one_in(g, 4) ? (uint8_t)below(g, 3) : 64;
	memcpy(at + 8, p->from.addr.b, 16);
	memcpy(at + 24, p->to.addr.b, 16);
	for (uint32_t i = 0; i < exts; i++)
		to = put_extension(g, to, &next);
	if (frag_at || more || (p->odd && one_in(g, 6))) {
		*next = 44;
		memset(to, 0, 8);
		put16(to + 2, frag_at | more);
		put32(to + 4, g->frag_id);
		next = to;
		to += 8;
	}
	*next = p->proto;
	memcpy(to, part, n);
	to += n;
	put16(at + 4, (uint32_t)(to - at - 40));
	return (size_t)(to - at);
}

static void put_ether(struct gen *g, struct gen_pkt *ret, int family)
{
	static const uint8_t macs[12] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe };

	memcpy(ret->b, macs, 12);
	ret->n = 14;
	if (one_in(g, 30)) {
		put16(ret->b + 12, 0x8100);
		put16(ret->b + 14, below(g, 3) * 0x2001);
		ret->n = 18;
	}
	put16(ret->b + ret->n - 2, family == 4 ? 0x0800 : 0x86dd);
}

/* Puts a segment into a packet, or a part of it. */
static void put_packet(struct gen *g, struct gen_pkt *ret, const struct plan *p, const uint8_t *l4, size_t n)
{
	uint32_t frag_at = 0;
	bool more = false;
	size_t part = n;

	put_ether(g, ret, p->from.addr.family);
	if (p->odd && n > 64 && one_in(g, 2)) {
		/* The first half or the second; an id is soon used again. */
		g->frag_id = 1 + below(g, 4);
		part = n / 2 / 8 * 8;
		if (one_in(g, 2)) {
			frag_at = (uint32_t)part;
			part = n - part;
		} else {
			more = true;
		}
	} else {
		g->frag_id = 1 + below(g, 4);
	}
	ret->n +=
		(p->from.addr.family == 4 ? put_v4 : put_v6)(g, ret->b + ret->n, p, l4 + frag_at, part, frag_at, more);
}

static void put_segment(struct gen *g, struct gen_pkt *ret, const struct plan *p)
{
	uint8_t l4[GEN_BYTES];
	size_t n;

	if (p->proto == IPPROTO_TCP) {
		n = put_tcp(g, l4, p);
		put_check(l4, n, 16, p);
	} else {
		n = put_udp(l4, p);
		if (!(p->odd && p->from.addr.family == 4 && one_in(g, 4)))
			put_check(l4, n, 6, p);
	}
	put_packet(g, ret, p, l4, n);
}

static uint8_t flags_of(struct gen *g)
{
	static const uint8_t common[] = { 2, 2, 2, 0x10, 0x10, 0x10, 0x18, 0x11, 0x11, 4, 0x14, 0x12, 0 };

	return one_in(g, 30) ? (uint8_t)below(g, 256) : common[below(g, sizeof(common))];
}

static uint32_t number(struct gen *g)
{
	return below(g, 65536) << 16 | below(g, 65536);
}

static void choose_numbers(struct gen *g, struct plan *p)
{
	p->seq = 0x01020304;
	p->ack = 0x05060708;
	p->window = 512;
	if (!g->numbers || one_in(g, 3))
		return;
	p->seq = number(g);
	p->ack = number(g);
	p->window = (uint16_t)below(g, 65536);
}

static uint32_t payload_of(struct gen *g)
{
	if (one_in(g, 8))
		return 1350 + below(g, 200);
	return below(g, 200);
}

static void to_service(struct gen *g, struct plan *p)
{
	p->from.addr = gen_client(g->family, below(g, GEN_CLIENTS));
	p->from.port = gen_client_port(below(g, GEN_PORTS));
	p->to.addr = gen_vip(g->family);
	p->to.port = gen_port(g->numbers && one_in(g, 2) ? 0 : below(g, GEN_SERVICES));
}

/* To a SYN cookie: as the client's ACK or its probe of the window has it, or nearly so. */
static bool to_cookie(struct gen *g, struct plan *p)
{
	const struct gen_cookie *c;

	if (!g->n_cookies)
		return false;
	c = &g->cookies[below(g, (uint32_t)g->n_cookies)];
	p->proto = IPPROTO_TCP;
	p->from = c->client;
	p->to = c->vip;
	p->seq = c->seq + !one_in(g, 4);
	p->ack = c->cookie + 1;
	if (one_in(g, 6))
		p->ack += below(g, 20) - 8;
	if (one_in(g, 12))
		p->seq += below(g, 8) - 3;
	if (!one_in(g, 4))
		p->tcp_flags = 0x10;
	return true;
}

static bool from_backend(struct gen *g, struct plan *p)
{
	const struct gen_conn *c;

	if (!g->n_conns)
		return false;
	c = &g->conns[below(g, (uint32_t)g->n_conns)];
	if (g->numbers && !c->waiting)
		c = &g->conns[below(g, (uint32_t)g->n_conns)];
	p->proto = c->proto;
	p->from = c->backend;
	p->to = c->own;
	if (c->waiting && !one_in(g, 4))
		p->tcp_flags = 0x12;
	return true;
}

/* Of nobody's, or nearly somebody's. */
static void strange(struct gen *g, struct plan *p)
{
	struct plan other = *p;

	to_service(g, p);
	to_service(g, &other);
	switch (below(g, 6)) {
	case 0:
		p->to.port = (uint16_t)below(g, 65536);
		break;
	case 1:
		p->to.addr = gen_own(g->family);
		break;
	case 2:
		p->from = other.to;
		p->to = other.from;
		break;
	case 3:
		p->from.addr = gen_backend(g->family, below(g, GEN_BACKENDS));
		p->from.port = gen_backend_port(below(g, GEN_SERVICES));
		break;
	case 4:
		p->proto = (uint8_t)(p->proto == IPPROTO_TCP ? IPPROTO_UDP : IPPROTO_TCP);
		break;
	default:
		p->from.addr = gen_client(g->family == 4 ? 6 : 4, 0);
		p->to.addr = gen_vip(g->family == 4 ? 6 : 4);
		break;
	}
}

/* An error about a packet of a connection: as the client, or the backend, was sent it. */
static size_t put_error(struct gen *g, uint8_t *at, const struct gen_conn *c, bool to_backend)
{
	struct plan quoted = { .proto = c->proto, .payload = 64 };
	bool v4 = c->client.addr.family == 4;
	static const uint8_t kinds4[] = { 3, 3, 11, 12, 4, 5 }, kinds6[] = { 1, 2, 3, 4, 5, 127 };
	struct gen_pkt whole = {};
	size_t l3, n;

	quoted.from = to_backend ? c->own : c->vip;
	quoted.to = to_backend ? c->backend : c->client;
	quoted.odd = one_in(g, 6);
	choose_numbers(g, &quoted);
	put_segment(g, &whole, &quoted);
	l3 = whole.b[12] == 0x81 ? 18 : 14;
	n = whole.n - l3;
	/* Eight bytes after the IP header are all that some give. */
	if (n > (v4 ? 28U : 48U))
		n = (v4 ? 28U : 48U) + below(g, 40);
	if (n > whole.n - l3)
		n = whole.n - l3;
	memset(at, 0, 8);
	at[0] = v4 ? kinds4[below(g, 6)] : kinds6[below(g, 6)];
	at[1] = (uint8_t)below(g, 5);
	put16(at + 6, 1200 + below(g, 300));
	memcpy(at + 8, whole.b + l3, n);
	return 8 + n;
}

static void put_icmp(struct gen *g, struct gen_pkt *ret)
{
	struct plan p = { .proto = g->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, .odd = one_in(g, 8) };
	const struct gen_conn *c = g->n_conns ? &g->conns[below(g, (uint32_t)g->n_conns)] : NULL;
	uint8_t l4[GEN_BYTES];
	size_t n;

	p.from.addr = gen_client(g->family, below(g, GEN_CLIENTS));
	p.to.addr = gen_vip(g->family);
	if (!c || one_in(g, 4)) {
		memset(l4, 0, 8);
		l4[0] = g->family == 4 ? 8 : 128;
		l4[1] = one_in(g, 10);
		n = 8 + put_pattern(l4 + 8, below(g, 100));
		if (one_in(g, 3))
			p.to.addr = gen_own(g->family);
	} else {
		bool to_backend = one_in(g, 2);

		n = put_error(g, l4, c, to_backend);
		if (to_backend) {
			p.from.addr = c->backend.addr;
			p.to.addr = c->own.addr;
		}
		if (p.from.addr.family != g->family || p.to.addr.family != g->family) {
			p.from.addr = gen_client(g->family, 0);
			p.to.addr = gen_vip(g->family);
		}
	}
	put16(l4 + 2, 0);
	put_check(l4, n, 2, &p);
	put_packet(g, ret, &p, l4, n);
}

/* Cut, damaged, or with a length that is not true. */
static void spoil(struct gen *g, struct gen_pkt *p)
{
	size_t l3 = p->b[12] == 0x81 ? 18 : 14, at;

	switch (below(g, 5)) {
	case 0:
		p->n = 14 + below(g, (uint32_t)(p->n - 13));
		break;
	case 1:
		at = below(g, (uint32_t)(p->n < 120 ? p->n : 120));
		p->b[at] = (uint8_t)below(g, 256);
		break;
	case 2:
		at = l3 + (p->b[l3] >> 4 == 4 ? 2 : 4);
		if (at + 2 <= p->n)
			put16(p->b + at, below(g, one_in(g, 4) ? 65536 : 80));
		break;
	case 3:
		at = 1 + below(g, 40);
		memset(p->b + p->n, 0xee, at);
		p->n += at;
		break;
	default:
		at = l3 + below(g, 60);
		if (at < p->n)
			p->b[at] ^= (uint8_t)(1 << below(g, 8));
		break;
	}
}

void gen_packet(struct gen *g, struct gen_pkt *ret)
{
	struct plan p = { .proto = one_in(g, 3) ? IPPROTO_UDP : IPPROTO_TCP };
	uint32_t kind = below(g, 20);

	memset(ret, 0, sizeof(*ret));
	p.tcp_flags = flags_of(g);
	p.payload = payload_of(g);
	p.odd = one_in(g, 5);
	choose_numbers(g, &p);
	if (g->numbers && kind < 5 && to_cookie(g, &p)) {
		put_segment(g, ret, &p);
	} else if (kind < 9 || (kind < 14 && !from_backend(g, &p))) {
		to_service(g, &p);
		put_segment(g, ret, &p);
	} else if (kind < 14) {
		put_segment(g, ret, &p);
	} else if (kind < 17) {
		put_icmp(g, ret);
	} else {
		strange(g, &p);
		put_segment(g, ret, &p);
	}
	if (one_in(g, 6))
		spoil(g, ret);
}
