// SPDX-License-Identifier: GPL-2.0-or-later
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "packet_ref_priv.h"

/* The world. */
bool is_tunnel(uint32_t forward)
{
	return forward == LB_FORWARD_IPIP || forward == LB_FORWARD_GUE;
}

static int backend_family(const struct ref *r, uint32_t forward)
{
	return is_tunnel(forward) ? r->tunnels_family : r->family;
}

static bool is_service(const struct ref *r, const struct gen_end *e, uint8_t proto, uint32_t *ret_forward)
{
	struct gen_addr vip = gen_vip(r->family);

	if ((proto != IPPROTO_TCP && proto != IPPROTO_UDP) || !addr_is(&e->addr, &vip))
		return false;
	for (uint32_t i = 0; i < GEN_SERVICES; i++)
		if (e->port == gen_port(i)) {
			*ret_forward = i;
			return true;
		}
	return false;
}

/* Whose packets are looked at closer. */
static bool is_someone(const struct ref *r, const struct gen_end *e, uint8_t proto)
{
	uint32_t forward;

	if (is_service(r, e, proto, &forward))
		return true;
	for (uint32_t i = 0; i < GEN_SERVICES; i++)
		for (uint32_t b = 0; b < GEN_BACKENDS; b++) {
			struct gen_end x = { gen_backend(backend_family(r, i), b), gen_backend_port(i) };

			if (end_is(e, &x))
				return true;
		}
	return false;
}

static struct ref_conn *find_client(struct ref *r, const struct gen_end *src, const struct gen_end *dst, uint8_t proto)
{
	for (size_t i = 0; i < r->n_conns; i++) {
		struct gen_conn *c = &r->conns[i].c;

		if (c->proto == proto && end_is(&c->client, src) && end_is(&c->vip, dst))
			return &r->conns[i];
	}
	return NULL;
}

static struct ref_conn *find_backend(struct ref *r, const struct gen_end *src, const struct gen_end *dst, uint8_t proto)
{
	for (size_t i = 0; i < r->n_conns; i++) {
		struct ref_conn *c = &r->conns[i];

		if (c->forward <= LB_FORWARD_DNAT && c->backend >= 0 && c->c.proto == proto &&
		    end_is(&c->c.backend, src) && end_is(&c->c.own, dst))
			return c;
	}
	return NULL;
}

/*
 * The same, of a connection of which no packet to the backend has come out yet: the program says that it is one of
 * these. A port of nat may be that of a connection that has ended.
 */
static struct ref_conn *find_unknown(struct ref *r, const struct gen_end *src, const struct gen_end *dst, uint8_t proto)
{
	struct gen_end own = { gen_own(r->family), dst->port };

	for (size_t i = 0; i < r->n_conns; i++) {
		struct ref_conn *c = &r->conns[i];

		if (c->forward > LB_FORWARD_DNAT || c->backend >= 0 || c->c.proto != proto ||
		    !end_is(c->forward == LB_FORWARD_NAT ? &own : &c->c.client, dst))
			continue;
		for (uint32_t b = 0; b < GEN_BACKENDS; b++) {
			struct gen_end e = { gen_backend(r->family, b), gen_backend_port(c->forward) };

			if (!end_is(&e, src))
				continue;
			c->backend = (int)b;
			c->c.backend = e;
			c->c.own = *dst;
			return c;
		}
	}
	return NULL;
}

size_t ref_known(struct ref *r, const struct gen_conn **ret)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_conns; i++)
		if (r->conns[i].backend >= 0) {
			r->known[n] = r->conns[i].c;
			r->known[n++].waiting = r->conns[i].cookie && !r->conns[i].met;
		}
	*ret = r->known;
	return n;
}

/* The next hop towards a client: the router's, or its own if it is a backend too. 0: not known here. */
uint8_t hop_to(const struct gen_addr *a)
{
	static const uint8_t nets[][8] = { { 0x20, 1, 0, 2, 0, 0, 0, 0xc }, { 0x20, 1, 0, 2, 0, 0, 0, 0xd } };

	for (uint32_t i = 0; i < 3; i++) {
		struct gen_addr b = gen_backend(a->family, i);

		if (addr_is(a, &b))
			return (uint8_t)(0x11 + i);
	}
	if (a->family == 4)
		return !memcmp(a->b, "\xc6\x33\x64", 3) || !memcmp(a->b, "\xcb\x00\x71", 3) ? 0xfe : 0;
	return !memcmp(a->b, nets[0], 8) || !memcmp(a->b, nets[1], 8) ? 0xfe : 0;
}

/* What TCP's flags mean: see docs/packet.md. */
static void seen_tcp(struct ref_conn *c, uint8_t flags, bool back)
{
	bool sees_answers = c->forward <= LB_FORWARD_DNAT;

	if (flags & TCP_RST) {
		c->state = PK_STATE_CLOSED;
	} else if (flags & TCP_FIN) {
		if (back)
			c->fin_backend = true;
		else
			c->fin_client = true;
		c->state = c->fin_backend && c->fin_client ? PK_STATE_CLOSED : PK_STATE_CLOSING;
	} else {
		if (back)
			c->answered = true;
		/* A reset that nobody believed. */
		if (c->state == PK_STATE_CLOSED && !c->fin_backend && !c->fin_client)
			c->state = PK_STATE_OPEN;
		if (c->state == PK_STATE_NEW && !back && !(flags & TCP_SYN) && (c->answered || !sees_answers))
			c->state = PK_STATE_OPEN;
	}
}

void seen(struct ref_conn *c, const struct view *v, bool back)
{
	if (v->frag == 2)
		return;
	if (c->fresh) {
		c->fresh = false;
		return;
	}
	if (c->c.proto == IPPROTO_TCP) {
		if (c->state != PK_STATE_OPEN || v->tcp_flags & (TCP_FIN | TCP_RST))
			seen_tcp(c, v->tcp_flags, back);
	} else if (c->state != PK_STATE_OPEN && (back || c->forward > LB_FORWARD_DNAT)) {
		c->state = PK_STATE_OPEN;
	}
}

/* Which backend, and which port for nat, a new connection was given: by the packet that came out. */
static bool learn(struct ref *r, struct ref_conn *c, const uint8_t *out, size_t n)
{
	int family = backend_family(r, c->forward);
	size_t dst = family == 4 ? 30 : 38;

	if (n < dst + (family == 4 ? 4 : 16))
		return false;
	for (uint32_t i = 0; i < GEN_BACKENDS; i++) {
		struct gen_addr a = gen_backend(family, i), got = get_addr(out + dst, family);

		if (c->forward == LB_FORWARD_DSR ? out[5] == 0x11 + i : addr_is(&a, &got))
			c->backend = (int)i;
	}
	if (c->backend < 0)
		return false;
	c->c.backend.addr = gen_backend(family, (uint32_t)c->backend);
	c->c.backend.port = gen_backend_port(c->forward);
	c->c.own = c->c.client;
	return true;
}

/* The source port of nat: free, and of those that are given out. */
static bool learn_port(struct ref *r, struct ref_conn *c, const struct view *v, const uint8_t *out)
{
	struct gen_end own = { gen_own(r->family), (uint16_t)get16(out + 14 + (v->l4 - v->l3)) };

	if (own.port < 1024 || own.port >= 1024 + 512 * PK_NAT_GROUP ||
	    find_backend(r, &c->c.backend, &own, c->c.proto))
		return false;
	c->c.own = own;
	return true;
}

/* To the backend of a connection. */
static void want_forward(struct ref *r, struct want *w, const struct view *v, struct ref_conn *c, enum pk_reason reason,
			 const uint8_t *out, size_t out_n)
{
	uint32_t extra = tunnel_extra(r, c->forward), mtu = r->mtu, pmtu;
	bool is_new = c->backend < 0;
	struct view as;

	if (v->ttl <= 1) {
		w->reason = PK_TTL;
		return;
	}
	if (!length_is_true(v)) {
		w->reason = PK_LENGTH;
		return;
	}
	pmtu = c->backend >= 0 ? r->pmtu[c->forward][c->backend] : 0;
	if (pmtu && pmtu < mtu)
		mtu = pmtu;
	if (v->len + extra > mtu) {
		want_too_big(w, v, mtu - extra);
		return;
	}
	w->reason = PK_FORWARDED;
	if (c->cookie) {
		int r2 = cookie_to_backend(r, c, v, reason, &as);

		w->reason = r2 == GO ? PK_FORWARDED : (enum pk_reason)r2;
		if (r2 != GO && r2 != PK_COOKIE_ACCEPTED)
			return;
		v = &as;
	}
	seen(c, v, false);
	if (is_new && (!learn(r, c, out, out_n) ||
		       (c->forward == LB_FORWARD_NAT && (v->frag == 2 || !learn_port(r, c, v, out))))) {
		w->any = v->frag == 2;
		c->backend = -1;
		if (!w->any)
			w->p.n = 0;
		return;
	}
	(void)copy_untagged(w, v);
	put_macs(w, (uint8_t)(0x11 + c->backend));
	mtu -= extra;
	if (c->forward == LB_FORWARD_NAT || c->forward == LB_FORWARD_DNAT)
		put_ends(w, v, &c->c.own, &c->c.backend, mtu - 20 - (v->family == 4 ? 20 : 40));
	else
		put_ends(w, v, NULL, NULL, mtu - 20 - (v->family == 4 ? 20 : 40));
	one_hop_less(w, w->p.b + 14, v->family);
	if (is_tunnel(c->forward))
		put_outer(r, w, v, c, out, out_n);
}

/* To the client of a connection. */
static void want_return(struct ref *r, struct want *w, const struct view *v, struct ref_conn *c, enum pk_reason reason)
{
	uint8_t hop = hop_to(&c->c.client.addr);
	struct view as;

	if (v->ttl <= 1) {
		w->reason = PK_TTL;
		return;
	}
	if (!length_is_true(v)) {
		w->reason = PK_LENGTH;
		return;
	}
	if (!hop) {
		/* TC gives it to the kernel, which asks for the neighbour and knows the size. */
		w->no_way = w->any = true;
		w->reason = PK_RETURNED;
		if (reason == PK_RETURNED)
			seen(c, v, true);
		return;
	}
	if (v->len > r->mtu) {
		want_too_big(w, v, r->mtu);
		return;
	}
	w->reason = PK_RETURNED;
	if (c->cookie) {
		cookie_to_client(r, c, v, &as);
		v = &as;
	}
	seen(c, v, true);
	(void)copy_untagged(w, v);
	put_macs(w, hop);
	put_ends(w, v, &c->c.vip, &c->c.client, r->mtu - 20 - (v->family == 4 ? 20 : 40));
	one_hop_less(w, w->p.b + 14, v->family);
}

static void want_error_to_backend(struct ref *r, struct want *w, const struct view *v, const struct view *q,
				  struct ref_conn *c, const uint8_t *out, size_t out_n)
{
	w->reason = PK_ICMP_STEERED;
	if (c->backend < 0) {
		w->any = true;
		return;
	}
	if (c->forward == LB_FORWARD_NAT || c->forward == LB_FORWARD_DNAT) {
		put_error(w, v, q, &v->src.addr, &c->c.backend.addr, &c->c.backend, &c->c.own);
		cookie_in_error(r, w, v, q, c);
	} else {
		(void)copy_untagged(w, v);
		one_hop_less(w, w->p.b + 14, v->family);
		if (is_tunnel(c->forward))
			put_outer(r, w, v, c, out, out_n);
	}
	put_macs(w, (uint8_t)(0x11 + c->backend));
}

/* About a packet in a tunnel: how large it may be is kept in mind, no more. */
static void note_pmtu(struct ref *r, const struct view *v, const struct view *q, uint32_t mtu)
{
	size_t off = q->l4 + (q->proto == IPPROTO_UDP ? 12 : 0);
	uint32_t least = v->family == 4 ? 552 : 1280;
	struct ref_conn *c;
	struct view inner;

	if (off >= v->n || !view_quote(v, off, v->b[off] >> 4 == 6 ? 6 : 4, &inner))
		return;
	c = find_client(r, &inner.src, &inner.dst, inner.proto);
	if (c && c->backend >= 0 && addr_is(&c->c.backend.addr, &q->dst.addr))
		r->pmtu[c->forward][c->backend] = mtu < least ? least : mtu;
}

static void want_error(struct ref *r, struct want *w, const struct view *v, const uint8_t *out, size_t out_n)
{
	const uint8_t *icmp = v->b + v->l4;
	uint32_t mtu = v->family == 6 ? (icmp[0] == 2 && !get16(icmp + 4) ? get16(icmp + 6) : 0) :
					(icmp[0] == 3 && icmp[1] == 4 ? get16(icmp + 6) : 0);
	struct ref_conn *c;
	struct view q;

	if (!view_quote(v, v->l4 + 8, v->family, &q))
		return;
	if (q.proto == IPPROTO_IPIP || q.proto == IPPROTO_IPV6 ||
	    (q.proto == IPPROTO_UDP && q.dst.port == PK_GUE_PORT)) {
		if (mtu)
			note_pmtu(r, v, &q, mtu);
		return;
	}
	if ((q.proto != IPPROTO_TCP && q.proto != IPPROTO_UDP) || !length_is_true(v) || v->ttl <= 1)
		return;
	c = find_client(r, &q.dst, &q.src, q.proto);
	if (c) {
		want_error_to_backend(r, w, v, &q, c, out, out_n);
		return;
	}
	c = find_backend(r, &q.dst, &q.src, q.proto);
	if (!c)
		return;
	w->reason = PK_ICMP_STEERED;
	w->any = w->no_way = !hop_to(&c->c.client.addr);
	put_error(w, v, &q, &c->c.vip.addr, &c->c.client.addr, &c->c.client, &c->c.vip);
	put_macs(w, hop_to(&c->c.client.addr));
}

static void want_icmp(struct ref *r, struct want *w, const struct view *v, const uint8_t *out, size_t out_n)
{
	struct gen_addr vip = gen_vip(r->family);
	uint8_t type;

	w->reason = PK_TRUNCATED;
	if (v->l4 + 8 > v->n)
		return;
	w->reason = PK_NOT_OURS;
	type = v->b[v->l4];
	if (v->frag)
		return;
	if (type == (v->family == 4 ? 8 : 128) && !v->b[v->l4 + 1]) {
		if (addr_is(&v->dst.addr, &vip) && length_is_true(v))
			want_ping(w, v);
	} else if (v->family == 4 ? type == 3 || type == 4 || type == 11 || type == 12 : type >= 1 && type <= 4) {
		want_error(r, w, v, out, out_n);
	}
}

static bool is_over(const struct ref_conn *c, const struct view *v)
{
	return c->c.proto == IPPROTO_TCP && (v->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
	       (c->state == PK_STATE_CLOSED || c->state == PK_STATE_CLOSING);
}

static struct ref_conn *new_conn(struct ref *r, const struct view *v, uint32_t forward)
{
	struct ref_conn *c = &r->conns[r->n_conns++];

	*c = (struct ref_conn){ .c = { .proto = v->proto, .client = v->src, .vip = v->dst },
				.forward = forward,
				.backend = -1,
				.state = PK_STATE_NEW,
				.fresh = true };
	return c;
}

static void want_segment(struct ref *r, struct want *w, const struct view *v, enum pk_reason reason, const uint8_t *out,
			 size_t out_n)
{
	struct ref_conn *c = find_client(r, &v->src, &v->dst, v->proto);
	uint32_t forward;

	if (c && v->frag != 2 && is_over(c, v)) {
		*c = r->conns[--r->n_conns];
		c = NULL;
	}
	if (!c && is_service(r, &v->dst, v->proto, &forward)) {
		enum cookie_new what = want_cookie_new(r, w, v, forward, reason, out, out_n);

		if (what == COOKIE_DONE)
			return;
		if (what == COOKIE_NONE && v->proto == IPPROTO_TCP && forward == LB_FORWARD_NAT &&
		    (v->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN) {
			w->reason = PK_NO_CONN;
			return;
		}
		c = new_conn(r, v, forward);
		c->cookie = what == COOKIE_ACCEPTED;
		/* What comes next is its SYN to the backend, made of the ACK. */
		if (c->cookie)
			c->fresh = false;
	}
	if (c && c->cookie && !c->met && v->frag != 2 && (v->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		want_cookie(r, w, v, out, out_n);
		return;
	}
	if (c) {
		want_forward(r, w, v, c, reason, out, out_n);
		return;
	}
	c = find_backend(r, &v->src, &v->dst, v->proto);
	if (!c && reason != PK_NOT_OURS)
		c = find_unknown(r, &v->src, &v->dst, v->proto);
	if (c && !(c->cookie && want_cookie_back(r, w, v, c)))
		want_return(r, w, v, c, reason);
}

static bool find_frag(struct ref *r, struct view *v)
{
	for (size_t i = 0; i < REF_FRAGS && i < r->n_frags; i++) {
		const struct ref_frag *f = &r->frags[i];

		if (f->id == v->frag_id && f->proto == v->proto && addr_is(&f->src, &v->src.addr) &&
		    addr_is(&f->dst, &v->dst.addr)) {
			v->src.port = f->sport;
			v->dst.port = f->dport;
			return true;
		}
	}
	return false;
}

/* The same key again: it is overwritten. */
static void note_frag(struct ref *r, const struct view *v)
{
	struct view old = *v;
	struct ref_frag f = { v->src.addr, v->dst.addr, v->frag_id, v->proto, v->src.port, v->dst.port };
	size_t i;

	if (!find_frag(r, &old)) {
		r->frags[r->n_frags++ % REF_FRAGS] = f;
		return;
	}
	for (i = 0; r->frags[i].id != f.id || r->frags[i].proto != f.proto || !addr_is(&r->frags[i].src, &f.src) ||
		    !addr_is(&r->frags[i].dst, &f.dst);
	     i++)
		;
	r->frags[i] = f;
}

static void want_all(struct ref *r, struct want *w, const struct gen_pkt *in, enum pk_reason reason, const uint8_t *out,
		     size_t out_n)
{
	struct view v;
	int what = view_of(r, in, &v);

	w->reason = (enum pk_reason)what;
	if (what != GO)
		return;
	w->reason = PK_FRAGMENT;
	if (v.frag == 2 && !find_frag(r, &v))
		return;
	w->reason = PK_NOT_OURS;
	if (v.proto == IPPROTO_ICMP || v.proto == IPPROTO_ICMPV6) {
		want_icmp(r, w, &v, out, out_n);
		return;
	}
	if (!is_someone(r, &v.dst, v.proto) && !is_someone(r, &v.src, v.proto))
		return;
	if (v.frag == 1)
		note_frag(r, &v);
	want_segment(r, w, &v, reason, out, out_n);
}

static bool is_check(const struct want *w, size_t at)
{
	for (size_t i = 0; i < w->n_checks; i++)
		if (w->checks[i] == at)
			return true;
	return false;
}

/* Byte by byte, but that a checksum has two ways of being zero. */
bool same_bytes(const struct want *w, const uint8_t *out, size_t n, size_t *ret_at)
{
	if (n != w->p.n)
		return false;
	for (size_t i = 0; i < n; i++) {
		*ret_at = i;
		if (is_check(w, i) && i + 1 < n) {
			uint32_t a = get16(out + i), b = get16(w->p.b + i);

			if (a % 65535 != b % 65535 || (i == w->udp_check && !a))
				return false;
			i++;
		} else if (out[i] != w->p.b[i]) {
			return false;
		}
	}
	return true;
}

static enum ref_verdict verdict_of(enum pk_reason reason)
{
	return reason < PK_NOT_OURS ? REF_SENT : reason < PK_NO_BACKEND ? REF_PASS : REF_DROP;
}

const char *ref_check(struct ref *r, const struct gen_pkt *in, enum pk_reason reason, enum ref_verdict verdict,
		      const uint8_t *out, size_t out_n)
{
	static struct want w;
	size_t at = 0;

	memset(&w, 0, sizeof(w));
	r->has_beside = false;
	want_all(r, &w, in, reason, out, out_n);
	if (w.no_way && (reason == PK_NO_ROUTE || reason == PK_NO_NEIGHBOUR))
		w.reason = reason;
	if (reason != w.reason) {
		(void)snprintf(r->why, sizeof(r->why), "reason %d, and not %d", (int)reason, (int)w.reason);
		return r->why;
	}
	if (verdict != verdict_of(reason)) {
		(void)snprintf(r->why, sizeof(r->why), "verdict %d of reason %d", (int)verdict, (int)reason);
		return r->why;
	}
	if (verdict == REF_PASS) {
		w.p = *in;
		w.n_checks = 0;
	}
	if (verdict == REF_DROP || w.any)
		return NULL;
	if (!same_bytes(&w, out, out_n, &at)) {
		(void)snprintf(r->why, sizeof(r->why), "%zu bytes, not %zu, or others from byte %zu on (reason %d)",
			       out_n, w.p.n, at, (int)reason);
		return r->why;
	}
	return NULL;
}
