// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets as they are to come out. */
#include <netinet/in.h>
#include <string.h>

#include "packet_ref_priv.h"

/* Building what is to come out. */
void put_macs(struct want *w, uint8_t to)
{
	static const uint8_t macs[12] = { 2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1 };

	memcpy(w->p.b, macs, 12);
	w->p.b[5] = to;
}

/* The frame without its tag. Returns where the IP header is now, which is always the same place. */
uint8_t *copy_untagged(struct want *w, const struct view *v)
{
	w->p.n = v->n - v->l3 + 14;
	memcpy(w->p.b + 14, v->b + v->l3, v->n - v->l3);
	put16(w->p.b + 12, v->family == 4 ? 0x0800 : 0x86dd);
	return w->p.b + 14;
}

void one_hop_less(struct want *w, uint8_t *ip, int family)
{
	uint32_t was;

	if (family == 6) {
		ip[7]--;
		return;
	}
	was = sum_v4(ip);
	ip[8]--;
	check_follows(ip + 10, was, sum_v4(ip));
	note_check(w, (size_t)(ip - w->p.b) + 10);
}

static size_t check_at(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 16 : 6;
}

/* Lowers the MSS of a SYN. Returns nothing: whoever calls corrects the checksum. */
static void lower_mss(uint8_t *l4, size_t n, uint32_t max)
{
	size_t at = 20, end = (l4[12] >> 4) * 4U;

	for (int i = 0; i < 8 && at + 1 < end && at + 2 <= n; i++) {
		if (l4[at] == 0)
			return;
		if (l4[at] == 1) {
			at++;
			continue;
		}
		if (l4[at] == 2) {
			if (l4[at + 1] == 4 && at + 4 <= end && at + 4 <= n && get16(l4 + at + 2) > max)
				put16(l4 + at + 2, max);
			return;
		}
		if (l4[at + 1] < 2)
			return;
		at += l4[at + 1];
	}
}

/* The headers of a packet from one end to another, all in all: addresses, ports, MSS, checksum. */
void put_ends(struct want *w, const struct view *v, const struct gen_end *src, const struct gen_end *dst, uint32_t mss)
{
	uint8_t *ip = w->p.b + 14, *l4 = ip + (v->l4 - v->l3);
	size_t have = v->n - v->l4, check = check_at(v->proto);
	uint32_t was = v->frag == 2 ? 0 : sum_l4(ip, v->family, l4, have, check),
		 was4 = v->family == 4 ? sum_v4(ip) : 0;

	if (src) {
		memcpy(ip + (v->family == 4 ? 12 : 8), src->addr.b, v->family == 4 ? 4 : 16);
		memcpy(ip + (v->family == 4 ? 16 : 24), dst->addr.b, v->family == 4 ? 4 : 16);
	}
	if (v->family == 4)
		check_follows(ip + 10, was4, sum_v4(ip));
	if (v->frag == 2)
		return;
	if (src) {
		put16(l4, src->port);
		put16(l4 + 2, dst->port);
	}
	if (v->proto == IPPROTO_TCP && v->tcp_flags & TCP_SYN && !v->frag)
		lower_mss(l4, have, mss);
	if (v->proto == IPPROTO_UDP && !get16(l4 + check))
		return;
	check_follows(l4 + check, was, sum_l4(ip, v->family, l4, have, check));
	note_check(w, 14 + (v->l4 - v->l3) + check);
	if (v->proto == IPPROTO_UDP)
		w->udp_check = 14 + (v->l4 - v->l3) + check;
}

uint32_t tunnel_extra(const struct ref *r, uint32_t forward)
{
	if (!is_tunnel(forward))
		return 0;
	return (r->tunnels_family == 4 ? 20 : 40) + (forward == LB_FORWARD_GUE ? 12 : 0);
}

/* Puts an outer header before the IP header. Flow label and GUE's source port are whatever came out first. */
void put_outer(const struct ref *r, struct want *w, const struct view *v, struct ref_conn *c, const uint8_t *out,
	       size_t out_n)
{
	uint32_t extra = tunnel_extra(r, c->forward), head = r->tunnels_family == 4 ? 20 : 40;
	bool gue = c->forward == LB_FORWARD_GUE;
	uint8_t *ip = w->p.b + 14, proto = gue ? IPPROTO_UDP : v->family == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	struct gen_addr own = gen_own(r->tunnels_family);
	uint16_t id = v->family == 4 ? (uint16_t)get16(v->b + v->l3 + 4) : 0;
	uint16_t df = v->family == 4 ? get16(v->b + v->l3 + 6) & 0x4000 : 0x4000;

	memmove(ip + extra, ip, w->p.n - 14);
	w->p.n += extra;
	for (size_t i = 0; i < w->n_checks; i++)
		w->checks[i] += extra;
	if (w->udp_check)
		w->udp_check += extra;
	memset(ip, 0, extra);
	put16(w->p.b + 12, r->tunnels_family == 4 ? 0x0800 : 0x86dd);
	if (r->tunnels_family == 4) {
		ip[0] = 0x45;
		ip[1] = v->tos;
		put16(ip + 2, v->len + extra);
		put16(ip + 4, id);
		put16(ip + 6, df);
		ip[8] = 64;
		ip[9] = proto;
		memcpy(ip + 12, own.b, 4);
		memcpy(ip + 16, c->c.backend.addr.b, 4);
		check_follows(ip + 10, 65535, sum_v4(ip));
		note_check(w, 24);
	} else {
		if (!c->label_known && out_n >= 18) {
			c->label = get32(out + 14) & 0xfffff;
			c->label_known = true;
		}
		put16(ip, 0x6000 | (uint32_t)v->tos << 4 | c->label >> 16);
		put16(ip + 2, c->label);
		put16(ip + 4, v->len + extra - 40);
		ip[6] = proto;
		ip[7] = 64;
		memcpy(ip + 8, own.b, 16);
		memcpy(ip + 24, c->c.backend.addr.b, 16);
	}
	if (!gue)
		return;
	if (!c->gue_known && out_n >= 14 + head + 2) {
		c->gue_port = (uint16_t)get16(out + 14 + head);
		/* Of the dynamic ones; another is not what came out. */
		c->gue_known = c->gue_port >= 0xc000;
	}
	put16(ip + head, c->gue_port);
	put16(ip + head + 2, PK_GUE_PORT);
	put16(ip + head + 4, v->len + 12);
	ip[head + 9] = v->family == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
}

void want_too_big(struct want *w, const struct view *v, uint32_t mtu)
{
	uint32_t quote = v->family == 4 ? 64 : 96, head = v->family == 4 ? 20 : 40;
	uint8_t *ip = w->p.b + v->l3, *icmp = ip + head;
	uint32_t sum = 0;

	w->reason = PK_TOO_BIG;
	if (v->frag == 2 || mtu > 65535 || v->n < v->l3 + quote)
		return;
	if (v->family == 4 && !(get16(v->b + v->l3 + 6) & 0x4000))
		return;
	w->reason = PK_TOO_BIG_TOLD;
	memcpy(w->p.b, v->b + 6, 6);
	memcpy(w->p.b + 6, v->b, 6);
	memcpy(w->p.b + 12, v->b + 12, v->l3 - 12);
	memset(ip, 0, head + 8);
	memcpy(icmp + 8, v->b + v->l3, quote);
	w->p.n = v->l3 + head + 8 + quote;
	put16(icmp + 6, mtu);
	if (v->family == 4) {
		ip[0] = 0x45;
		ip[1] = 0xc0;
		put16(ip + 2, head + 8 + quote);
		put16(ip + 6, 0x4000);
		ip[8] = 64;
		ip[9] = IPPROTO_ICMP;
		memcpy(ip + 12, v->dst.addr.b, 4);
		memcpy(ip + 16, v->src.addr.b, 4);
		check_follows(ip + 10, 65535, sum_v4(ip));
		note_check(w, v->l3 + 10);
		icmp[0] = 3;
		icmp[1] = 4;
	} else {
		ip[0] = 0x60;
		put16(ip + 4, 8 + quote);
		ip[6] = IPPROTO_ICMPV6;
		ip[7] = 64;
		memcpy(ip + 8, v->dst.addr.b, 16);
		memcpy(ip + 24, v->src.addr.b, 16);
		icmp[0] = 2;
		sum = sum_of(ip + 8, 32) + 8 + quote + IPPROTO_ICMPV6;
	}
	check_follows(icmp + 2, 65535, (sum + sum_of(icmp, 8 + quote)) % 65535);
	note_check(w, v->l3 + head + 2);
}

/* The error with other addresses, within and without. */
void put_error(struct want *w, const struct view *v, const struct view *q, const struct gen_addr *src,
	       const struct gen_addr *dst, const struct gen_end *q_src, const struct gen_end *q_dst)
{
	uint8_t *ip = copy_untagged(w, v), *icmp = ip + (v->l4 - v->l3), *quote = ip + (q->l3 - v->l3);
	uint8_t *l4 = ip + (q->l4 - v->l3);
	size_t n = v->n - v->l4, have = v->n - q->l4, size = v->family == 4 ? 4 : 16;
	size_t at = v->family == 4 ? 12 : 8;
	uint32_t none = v->family == 4 ? sum_of(ip + 12, 8) : 0, was, q_was, was4;

	/* ICMP of IPv4 does not cover addresses. */
	was = (sum_l4(ip, v->family, icmp, n, 2) + 65535 - none) % 65535;
	q_was = (sum_of(quote + at, 2 * size) + sum_of(l4, 4)) % 65535;
	if (v->family == 4) {
		was4 = sum_of(quote + 12, 8);
		memcpy(quote + 12, q_src->addr.b, 4);
		memcpy(quote + 16, q_dst->addr.b, 4);
		check_follows(quote + 10, was4, sum_of(quote + 12, 8));
		note_check(w, (size_t)(quote - w->p.b) + 10);
		was4 = sum_v4(ip);
		memcpy(ip + 12, src->b, 4);
		memcpy(ip + 16, dst->b, 4);
		check_follows(ip + 10, was4, sum_v4(ip));
	} else {
		memcpy(quote + 8, q_src->addr.b, 16);
		memcpy(quote + 24, q_dst->addr.b, 16);
		memcpy(ip + 8, src->b, 16);
		memcpy(ip + 24, dst->b, 16);
	}
	put16(l4, q_src->port);
	put16(l4 + 2, q_dst->port);
	if (q->proto == IPPROTO_UDP && have >= 8 && get16(l4 + 6)) {
		check_follows(l4 + 6, q_was, (sum_of(quote + at, 2 * size) + sum_of(l4, 4)) % 65535);
		note_check(w, (size_t)(l4 - w->p.b) + 6);
	}
	none = v->family == 4 ? sum_of(ip + 12, 8) : 0;
	check_follows(icmp + 2, was, (sum_l4(ip, v->family, icmp, n, 2) + 65535 - none) % 65535);
	note_check(w, (size_t)(icmp - w->p.b) + 2);
	one_hop_less(w, ip, v->family);
}

void want_ping(struct want *w, const struct view *v)
{
	uint8_t *ip = w->p.b + v->l3, *icmp = w->p.b + v->l4;
	size_t at = v->family == 4 ? 12 : 8, size = v->family == 4 ? 4 : 16;
	uint32_t was, was4;

	w->reason = PK_PING;
	memcpy(w->p.b, v->b, v->n);
	w->p.n = v->n;
	memcpy(w->p.b, v->b + 6, 6);
	memcpy(w->p.b + 6, v->b, 6);
	was4 = v->family == 4 ? sum_v4(ip) : 0;
	memcpy(ip + at, v->dst.addr.b, size);
	memcpy(ip + at + size, v->src.addr.b, size);
	ip[v->family == 4 ? 8 : 7] = 64;
	if (v->family == 4) {
		check_follows(ip + 10, was4, sum_v4(ip));
		note_check(w, v->l3 + 10);
	}
	was = sum_of(icmp, 2);
	icmp[0] = v->family == 4 ? 0 : 129;
	check_follows(icmp + 2, was, sum_of(icmp, 2));
	note_check(w, v->l4 + 2);
}
