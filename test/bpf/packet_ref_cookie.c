// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SYN cookies: what is answered, which ACKs are right, and what numbers each side is to see. The cookies themselves are
 * the kernel's; of them it is only known that they rise with the SYN's sequence number, and by what is added to them.
 */
#include <netinet/in.h>
#include <string.h>

#include "packet_ref_priv.h"

/* By number of an MSS: the largest of these that is not more than the client's. */
static const uint16_t sizes[2][4] = { { 536, 1300, 1400, 1460 }, { 1220, 1360, 1440, 8940 } };

/* A segment without data, to be made of a packet. */
struct made {
	struct gen_end src, dst;
	uint8_t ttl, flags;
	uint16_t window;
	uint32_t seq, ack;
	uint32_t mss; /* 0: no option */
};

static void put32(uint8_t *b, uint32_t v)
{
	put16(b, v >> 16);
	put16(b + 2, v & 0xffff);
}

static size_t head_of(int family)
{
	return family == 4 ? 20 : 40;
}

static bool is_plain(const struct view *v)
{
	return v->frag == 0 && v->l4 - v->l3 == head_of(v->family);
}

static uint32_t seq_of(const struct view *v)
{
	return get32(v->b + v->l4 + 4);
}

static uint32_t ack_of(const struct view *v)
{
	return get32(v->b + v->l4 + 8);
}

static uint32_t window_of(const struct view *v)
{
	return get16(v->b + v->l4 + 14);
}

/* In the place of v's, of which the IP header stays but for what it says of the segment, and for marks of congestion. */
static void put_made(struct want *w, size_t l3, const struct view *v, const struct made *m)
{
	size_t head = head_of(v->family), size = m->mss ? 24 : 20, bytes = v->family == 4 ? 4 : 16;
	uint8_t *ip = w->p.b + l3, *l4 = ip + head;

	memcpy(ip, v->b + v->l3, head);
	memcpy(ip + (v->family == 4 ? 12 : 8), m->src.addr.b, bytes);
	memcpy(ip + (v->family == 4 ? 16 : 24), m->dst.addr.b, bytes);
	memset(l4, 0, size);
	put16(l4, m->src.port);
	put16(l4 + 2, m->dst.port);
	put32(l4 + 4, m->seq);
	put32(l4 + 8, m->ack);
	l4[12] = (uint8_t)(size << 2);
	l4[13] = m->flags;
	put16(l4 + 14, m->window);
	if (m->mss)
		put32(l4 + 20, 2U << 24 | 4U << 16 | m->mss);
	check_follows(l4 + 16, 65535, (sum_l4(ip, v->family, l4, size, 16) + IPPROTO_TCP + (uint32_t)size) % 65535);
	note_check(w, l3 + head + 16);
	w->p.n = l3 + head + size;
	if (v->family == 6) {
		ip[1] &= 0xcf;
		put16(ip + 4, (uint32_t)size);
		ip[7] = m->ttl;
		return;
	}
	ip[1] &= 0xfc;
	put16(ip + 2, (uint32_t)(head + size));
	ip[8] = m->ttl;
	put16(ip + 10, 0);
	check_follows(ip + 10, 65535, sum_v4(ip));
	note_check(w, l3 + 10);
}

/* Back by the way that it came, in the name of whom it was sent to. */
static void put_back(struct want *w, const struct view *v, const struct made *m)
{
	memcpy(w->p.b, v->b + 6, 6);
	memcpy(w->p.b + 6, v->b, 6);
	memcpy(w->p.b + 12, v->b + 12, v->l3 - 12);
	put_made(w, v->l3, v, m);
}

/* What the SYN tells of, or what everybody has to take. */
static uint32_t mss_of(const struct view *v)
{
	const uint8_t *opt = v->b + v->l4 + 20, *end = v->b + v->l4 + (v->b[v->l4 + 12] >> 4) * 4U;
	const uint8_t *there = v->b + v->n;

	if (end > there)
		end = there;
	for (int i = 0; i < 8 && opt + 2 <= end && opt[0] != 0; i++) {
		if (opt[0] == 1) {
			opt++;
			continue;
		}
		if (opt[0] == 2)
			return opt[1] == 4 && opt + 4 <= end ? get16(opt + 2) : sizes[v->family == 6][0];
		if (opt[1] < 2)
			break;
		opt += opt[1];
	}
	return sizes[v->family == 6][0];
}

static uint32_t size_of(uint32_t mss, int family)
{
	uint32_t i = 3;

	while (i && sizes[family == 6][i] > mss)
		i--;
	return i;
}

size_t ref_known_cookies(struct ref *r, const struct gen_cookie **ret)
{
	size_t n = r->n_sent < REF_COOKIES ? r->n_sent : REF_COOKIES;

	for (size_t i = 0; i < n; i++)
		r->known_cookies[i] = r->sent[i].c;
	*ret = r->known_cookies;
	return n;
}

/* The cookie is what came out; from then on the program is held to it. */
void want_cookie(struct ref *r, struct want *w, const struct view *v, const uint8_t *out, size_t out_n)
{
	uint32_t mss, most = v->family == 4 ? 1460 : 1440;
	size_t at = v->l3 + head_of(v->family) + 4;
	struct ref_cookie *sent;
	struct made m = { .src = v->dst, .dst = v->src, .ttl = 64, .flags = TCP_SYN | TCP_ACK };

	w->reason = PK_LENGTH;
	if (!length_is_true(v))
		return;
	w->reason = PK_NO_COOKIE;
	if (!is_plain(v) || v->tcp_flags & (TCP_RST | TCP_FIN))
		return;
	w->reason = PK_COOKIE_SENT;
	mss = mss_of(v);
	m.seq = at + 4 <= out_n ? get32(out + at) : 0;
	m.ack = seq_of(v) + 1;
	m.mss = mss < most ? mss : most;
	put_back(w, v, &m);
	sent = &r->sent[r->n_sent++ % REF_COOKIES];
	*sent = (struct ref_cookie){ .c = { v->src, v->dst, seq_of(v), m.seq },
				     .base = m.seq - 2 * size_of(mss, v->family) - seq_of(v),
				     .at = r->now };
}

/* What an ACK says of its SYN. */
struct answer {
	uint32_t seq, mss;
	bool old; /* the kernel may have forgotten the cookie */
};

/*
 * Whether an ACK answers a cookie. One that comes with the number before, a probe of the window, makes what was added
 * odd.
 */
static bool is_answer(const struct ref *r, const struct view *v, struct answer *ret)
{
	uint32_t apart = ack_of(v) - seq_of(v), added = 8;
	size_t n = r->n_sent < REF_COOKIES ? r->n_sent : REF_COOKIES;

	/* From the latest on. */
	for (size_t i = 0; i < n && added > 7; i++) {
		const struct ref_cookie *c = &r->sent[(r->n_sent - 1 - i) % REF_COOKIES];

		if (!end_is(&c->c.client, &v->src) || !end_is(&c->c.vip, &v->dst))
			continue;
		added = apart - c->base;
		ret->old = r->now - c->at > REF_COOKIE_SECONDS;
	}
	if (added > 7)
		return false;
	ret->seq = seq_of(v) - (added % 2 ? 0 : 1);
	ret->mss = sizes[v->family == 6][added / 2];
	return true;
}

/* The same; a program may have refused an old one. */
static bool is_accepted(const struct ref *r, const struct view *v, enum pk_reason reason, struct answer *ret)
{
	return is_answer(r, v, ret) && !(ret->old && reason == PK_COOKIE_REFUSED);
}

enum cookie_new want_cookie_new(struct ref *r, struct want *w, const struct view *v, uint32_t forward,
				enum pk_reason reason, const uint8_t *out, size_t out_n)
{
	struct answer a;

	if (r->cookies == REF_COOKIES_OFF || v->proto != IPPROTO_TCP || forward != LB_FORWARD_NAT)
		return COOKIE_NONE;
	if ((v->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		/* Of so many SYNs far fewer than half have become connections. */
		if (++r->syns <= PK_FLOOD_SYNS && r->cookies == REF_COOKIES_AUTO)
			return COOKIE_NONE;
		want_cookie(r, w, v, out, out_n);
		return COOKIE_DONE;
	}
	if ((v->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK || !r->n_sent)
		return COOKIE_NONE;
	w->reason = PK_NO_COOKIE;
	if (!is_plain(v))
		return COOKIE_DONE;
	w->reason = PK_COOKIE_REFUSED;
	return is_accepted(r, v, reason, &a) ? COOKIE_ACCEPTED : COOKIE_DONE;
}

/* A copy of v, in which a number of the header is another one. */
static void renumbered(struct ref *r, const struct view *v, size_t field, uint32_t number, struct view *ret)
{
	static struct gen_pkt p;
	uint8_t *l4 = p.b + v->l4;
	uint32_t was;

	memcpy(p.b, v->b, v->n);
	*ret = *v;
	ret->b = p.b;
	was = sum_of(l4 + field, 4);
	put32(l4 + field, number);
	check_follows(l4 + 16, was, sum_of(l4 + field, 4));
	r->n_changed++;
}

/* The SYN as the client sent it, as far as that is known; in a frame as the ACK came in. */
static void made_syn(const struct view *v, const struct answer *a, struct view *ret)
{
	static struct want w;
	const struct made m = {
		.src = v->src,
		.dst = v->dst,
		.ttl = v->ttl,
		.flags = TCP_SYN,
		.window = (uint16_t)window_of(v),
		.seq = a->seq,
		.mss = a->mss,
	};

	w.n_checks = 0;
	memcpy(w.p.b, v->b, v->l3);
	put_made(&w, v->l3, v, &m);
	*ret = *v;
	ret->b = w.p.b;
	ret->n = w.p.n;
	ret->len = (uint32_t)(w.p.n - v->l3);
	ret->tos = v->tos & 0xfc;
	ret->tcp_flags = TCP_SYN;
}

int cookie_to_backend(struct ref *r, struct ref_conn *c, const struct view *v, enum pk_reason reason, struct view *ret)
{
	struct answer a;

	*ret = *v;
	if (v->frag == 2)
		return GO;
	if (c->met) {
		if (v->tcp_flags & TCP_ACK)
			renumbered(r, v, 8, ack_of(v) + c->diff, ret);
		return GO;
	}
	if (v->tcp_flags & TCP_RST)
		return GO;
	if (!is_plain(v))
		return PK_NO_COOKIE;
	if (!(v->tcp_flags & TCP_ACK) || !is_accepted(r, v, reason, &a))
		return PK_COOKIE_REFUSED;
	c->told = ack_of(v) - 1;
	c->window = (uint16_t)window_of(v);
	made_syn(v, &a, ret);
	r->n_accepted++;
	return v->tcp_flags & TCP_SYN ? GO : PK_COOKIE_ACCEPTED;
}

void cookie_to_client(struct ref *r, const struct ref_conn *c, const struct view *v, struct view *ret)
{
	*ret = *v;
	if (v->frag != 2)
		renumbered(r, v, 4, c->met ? seq_of(v) - c->diff : c->told + 1, ret);
}

/* Of a connection that the client knows nothing of. */
static void want_reset(struct want *w, const struct view *v)
{
	const struct made m = { .src = v->dst, .dst = v->src, .ttl = 64, .flags = TCP_RST };
	struct made reset = m;

	w->reason = PK_NO_CONN;
	if (!is_plain(v) || !(v->tcp_flags & TCP_ACK))
		return;
	w->reason = PK_FORWARDED;
	reset.seq = ack_of(v);
	put_back(w, v, &reset);
}

/* What is sent to the backend beside what is sent to the client. */
static struct want beside;

static void want_beside(struct ref *r, const struct view *v, const struct ref_conn *c)
{
	const struct made m = {
		.src = v->dst,
		.dst = v->src,
		.ttl = 64,
		.flags = TCP_ACK,
		.window = c->window,
		.seq = ack_of(v),
		.ack = seq_of(v) + 1,
	};

	memset(&beside, 0, sizeof(beside));
	put_macs(&beside, (uint8_t)(0x11 + c->backend));
	put16(beside.p.b + 12, v->family == 4 ? 0x0800 : 0x86dd);
	put_made(&beside, 14, v, &m);
	r->has_beside = true;
}

bool ref_is_beside(const uint8_t *b, size_t n)
{
	size_t at;

	return same_bytes(&beside, b, n, &at);
}

/* The backend's SYN-ACK: an ACK to either side. */
static void want_meet(struct ref *r, struct want *w, const struct view *v, struct ref_conn *c)
{
	uint8_t hop = hop_to(&c->c.client.addr);
	struct made m = { .src = c->c.vip, .dst = c->c.client, .ttl = 64, .flags = TCP_ACK };
	uint32_t cookie = c->met ? seq_of(v) - c->diff : c->told;

	w->reason = PK_TTL;
	if (v->ttl <= 1)
		return;
	w->reason = PK_LENGTH;
	if (!length_is_true(v))
		return;
	w->reason = PK_NO_COOKIE;
	if (!is_plain(v))
		return;
	w->reason = PK_RETURNED;
	c->diff = seq_of(v) - cookie;
	c->met = true;
	r->n_met++;
	seen(c, v, true);
	if (c->state == PK_STATE_NEW)
		c->state = PK_STATE_OPEN;
	want_beside(r, v, c);
	w->any = w->no_way = !hop;
	m.seq = cookie + 1;
	m.ack = ack_of(v);
	m.window = (uint16_t)window_of(v);
	put_macs(w, hop);
	put16(w->p.b + 12, v->family == 4 ? 0x0800 : 0x86dd);
	put_made(w, 14, v, &m);
}

bool want_cookie_back(struct ref *r, struct want *w, const struct view *v, struct ref_conn *c)
{
	if ((v->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == (TCP_SYN | TCP_ACK)) {
		/* Two packets of one are beyond XDP. */
		w->reason = PK_TO_TC;
		if (!r->is_xdp)
			want_meet(r, w, v, c);
		return true;
	}
	if (c->met || v->tcp_flags & TCP_RST)
		return false;
	want_reset(w, v);
	return true;
}

void cookie_in_error(struct ref *r, struct want *w, const struct view *v, const struct view *q,
		     const struct ref_conn *c)
{
	uint8_t *icmp = w->p.b + 14 + (v->l4 - v->l3), *l4 = w->p.b + 14 + (q->l4 - v->l3);
	uint32_t was;

	if (!c->cookie || !c->met || q->l4 + 8 > v->n)
		return;
	was = sum_of(l4 + 4, 4);
	put32(l4 + 4, get32(l4 + 4) + c->diff);
	check_follows(icmp + 2, was, sum_of(l4 + 4, 4));
	r->n_changed++;
}
