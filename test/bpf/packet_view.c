// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets as they are understood, and their checksums. */
#include <netinet/in.h>
#include <string.h>

#include "packet_ref_priv.h"

#define EXT_MAX 6
#define HEAD_MAX 256

uint32_t get16(const uint8_t *b)
{
	return (uint32_t)b[0] << 8 | b[1];
}

uint32_t get32(const uint8_t *b)
{
	return get16(b) << 16 | get16(b + 2);
}

void put16(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

bool addr_is(const struct gen_addr *a, const struct gen_addr *b)
{
	return a->family == b->family && !memcmp(a->b, b->b, a->family == 4 ? 4 : 16);
}

bool end_is(const struct gen_end *a, const struct gen_end *b)
{
	return a->port == b->port && addr_is(&a->addr, &b->addr);
}

struct gen_addr get_addr(const uint8_t *b, int family)
{
	struct gen_addr a = { .family = (uint8_t)family };

	memcpy(a.b, b, family == 4 ? 4 : 16);
	return a;
}

bool is_mapped(const uint8_t *b)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(b, prefix, 12);
}

/* Parsing. What is returned is the reason for leaving a packet alone, or GO. */
#define GO (-1)

static int view_l4(struct view *v)
{
	size_t need = v->proto == IPPROTO_TCP ? 20 : v->proto == IPPROTO_UDP ? 8 : 0;

	if (!need)
		return v->proto == (v->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) ? GO : PK_NOT_OURS;
	if (v->l4 + need > v->n)
		return PK_TRUNCATED;
	v->src.port = (uint16_t)get16(v->b + v->l4);
	v->dst.port = (uint16_t)get16(v->b + v->l4 + 2);
	if (need == 20)
		v->tcp_flags = v->b[v->l4 + 13];
	return GO;
}

static int view_v4(struct view *v)
{
	const uint8_t *ip = v->b + v->l3;
	uint32_t ihl, off;

	if (v->l3 + 20 > v->n || ip[0] >> 4 != 4)
		return PK_TRUNCATED;
	ihl = (ip[0] & 15U) * 4;
	v->len = get16(ip + 2);
	if (ihl < 20 || v->len < ihl)
		return PK_TRUNCATED;
	v->l4 = v->l3 + ihl;
	v->proto = ip[9];
	v->ttl = ip[8];
	v->tos = ip[1];
	v->src.addr = get_addr(ip + 12, 4);
	v->dst.addr = get_addr(ip + 16, 4);
	if (v->proto == IPPROTO_ICMPV6)
		return PK_NOT_OURS;
	off = get16(ip + 6);
	v->frag = off & 0x1fff ? 2 : off & 0x2000 ? 1 : 0;
	v->frag_id = get16(ip + 4);
	return v->frag == 2 ? GO : view_l4(v);
}

static int view_v6(struct view *v)
{
	const uint8_t *ip = v->b + v->l3, *h;

	if (v->l3 + 40 > v->n || ip[0] >> 4 != 6)
		return PK_TRUNCATED;
	v->len = get16(ip + 4) + 40;
	v->proto = ip[6];
	v->ttl = ip[7];
	v->tos = (uint8_t)(get16(ip) >> 4);
	if (is_mapped(ip + 8) || is_mapped(ip + 24))
		return PK_NOT_OURS;
	v->src.addr = get_addr(ip + 8, 6);
	v->dst.addr = get_addr(ip + 24, 6);
	v->l4 = v->l3 + 40;
	for (int i = 0; i <= EXT_MAX; i++) {
		if (v->l4 > HEAD_MAX)
			return PK_TRUNCATED;
		if (v->proto != 0 && v->proto != 43 && v->proto != 44 && v->proto != 60)
			return view_l4(v);
		if (i == EXT_MAX)
			break;
		if (v->l4 + 8 > v->n)
			return PK_TRUNCATED;
		h = v->b + v->l4;
		if (v->proto == 44) {
			uint32_t off = get16(h + 2);

			v->frag = off >> 3 ? 2 : off & 1 ? 1 : 0;
			v->frag_id = get32(h + 4);
		}
		v->l4 += v->proto == 44 ? 8 : (h[1] + 1U) * 8;
		v->proto = h[0];
		if (v->frag == 2)
			return GO;
	}
	return PK_NOT_OURS;
}

int view_of(const struct ref *r, const struct gen_pkt *in, struct view *v)
{
	uint32_t type;

	*v = (struct view){ .b = in->b, .n = in->n, .l3 = 14 };
	if (in->n < 14)
		return PK_TRUNCATED;
	if (in->b[0] & 1)
		return PK_NOT_OURS;
	type = get16(in->b + 12);
	if (r->is_xdp && (type == 0x8100 || type == 0x88a8)) {
		if (in->n < 18)
			return PK_TRUNCATED;
		if (type != 0x8100 || !(get16(in->b + 14) & 0xfff))
			return PK_NOT_IP;
		v->tagged = true;
		v->l3 = 18;
		type = get16(in->b + 16);
	}
	v->family = type == 0x0800 ? 4 : type == 0x86dd ? 6 : 0;
	return v->family == 4 ? view_v4(v) : v->family == 6 ? view_v6(v) : PK_NOT_IP;
}

/* All of what it says it is must be there, and room for its own header in that. */
bool length_is_true(const struct view *v)
{
	size_t need = v->frag == 2 ? 0 : v->proto == IPPROTO_TCP ? 20 : 8;

	return v->l3 + v->len <= v->n && v->l4 - v->l3 + need <= v->len;
}

/* Checksums: a field c goes with bytes of sum s if c + s is a multiple of 65535. */
uint32_t sum_of(const uint8_t *b, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? b[i] : (uint32_t)b[i] << 8;
	return (uint32_t)(sum % 65535);
}

/* After the bytes of sum were changed to those of sum now, without the field itself. */
void check_follows(uint8_t *field, uint32_t was, uint32_t now)
{
	put16(field, (get16(field) + was + 65535 - now) % 65535);
}

void note_check(struct want *w, size_t at)
{
	w->checks[w->n_checks++] = at;
}

/* Sum of a header of IPv4 without its checksum. */
uint32_t sum_v4(const uint8_t *ip)
{
	uint8_t copy[60];
	size_t n = (ip[0] & 15U) * 4;

	memcpy(copy, ip, n);
	put16(copy + 10, 0);
	return sum_of(copy, n);
}

/* Sum of what the checksum of a segment covers and may have been changed: addresses, ports, options. */
uint32_t sum_l4(const uint8_t *ip, int family, const uint8_t *l4, size_t n, size_t check)
{
	uint8_t copy[GEN_BYTES];
	uint32_t sum = family == 4 ? sum_of(ip + 12, 8) : sum_of(ip + 8, 32);

	memcpy(copy, l4, n);
	if (check + 2 <= n)
		put16(copy + check, 0);
	return (sum + sum_of(copy, n)) % 65535;
}

/* The quoted packet of an error at off. False: it cannot be told whose it was. */
bool view_quote(const struct view *v, size_t off, int family, struct view *q)
{
	const uint8_t *ip = v->b + off;

	*q = (struct view){ .b = v->b, .n = v->n, .l3 = off, .family = family };
	if (off + (family == 4 ? 20 : 40) > v->n)
		return false;
	if (family == 4) {
		q->l4 = off + (ip[0] & 15U) * 4;
		q->proto = ip[9];
		if ((ip[0] & 15) < 5 || get16(ip + 6) & 0x1fff)
			return false;
		q->src.addr = get_addr(ip + 12, 4);
		q->dst.addr = get_addr(ip + 16, 4);
	} else {
		q->l4 = off + 40;
		q->proto = ip[6];
		if (is_mapped(ip + 8) || is_mapped(ip + 24))
			return false;
		q->src.addr = get_addr(ip + 8, 6);
		q->dst.addr = get_addr(ip + 24, 6);
		if (q->proto == 44) {
			if (q->l4 + 8 > v->n || get16(v->b + q->l4 + 2) >> 3)
				return false;
			q->proto = v->b[q->l4];
			q->l4 += 8;
		}
	}
	if (q->proto != IPPROTO_TCP && q->proto != IPPROTO_UDP)
		return true;
	if (q->l4 + 4 > v->n)
		return false;
	q->src.port = (uint16_t)get16(v->b + q->l4);
	q->dst.port = (uint16_t)get16(v->b + q->l4 + 2);
	return true;
}
