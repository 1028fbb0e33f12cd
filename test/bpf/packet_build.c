// SPDX-License-Identifier: GPL-2.0-or-later
/* From words to bytes: every length and checksum is made anew here, by the plainest code there is. */
#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

#include "packet.h"

/* Headers stand wherever a packet has them, quoted ones at any byte. */
typedef struct iphdr ip_at __attribute__((aligned(1)));
typedef struct ip6_hdr ip6_at __attribute__((aligned(1)));
typedef struct tcphdr tcp_at __attribute__((aligned(1)));
typedef struct udphdr udp_at __attribute__((aligned(1)));

static const struct {
	const char *v4, *v6;
	uint8_t mac; /* last byte; the rest is 02:00:00:00:00 */
} people[_WHO_MAX] = {
	[CLIENT] = { "198.51.100.7", "2001:2:0:c::7", 0xfe },  [CLIENT2] = { "198.51.100.8", "2001:2:0:c::8", 0xfe },
	[STRANGER] = { "203.0.113.9", "2001:2:0:d::9", 0xfe }, [SERVICE] = { "192.0.2.10", "2001:2:0:f::10", 0x01 },
	[SERVICE2] = { "192.0.2.20", "2001:2:0:f::20", 0x01 }, [OWN] = { "198.18.0.1", "2001:2::1", 0x01 },
	[BACKEND1] = { "198.18.0.11", "2001:2::11", 0x11 },    [BACKEND2] = { "198.18.0.12", "2001:2::12", 0x12 },
	[BACKEND3] = { "198.18.0.13", "2001:2::13", 0x13 },    [ROUTER] = { "198.18.0.254", "2001:2::fe", 0xfe },
	[NEIGHBOUR] = { "198.18.0.99", "2001:2::99", 0x99 },
};

struct lb_addr fx_addr(enum who who, int family)
{
	struct lb_addr a = {};

	assert_true(who > NOBODY && who < _WHO_MAX);
	if ((family ? family : fx.family) == 4) {
		a.v6[2] = htonl(0xffff);
		assert_int_equal(inet_pton(AF_INET, people[who].v4, &a.v6[3]), 1);
	} else {
		assert_int_equal(inet_pton(AF_INET6, people[who].v6, &a), 1);
	}
	return a;
}

uint16_t pkt_sum(const void *data, size_t n, uint32_t start)
{
	const uint8_t *b = data;
	uint64_t sum = start;

	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? b[i] : (uint32_t)b[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint16_t checksum(const void *data, size_t n, uint32_t start)
{
	return htons((uint16_t)~pkt_sum(data, n, start));
}

static uint32_t pseudo_sum(const struct seg *s, int family, uint8_t proto, size_t len)
{
	struct lb_addr src = fx_addr(s->src, family), dst = fx_addr(s->dst, family);
	uint32_t sum = proto + (uint32_t)len;

	if (family == 4)
		return sum + pkt_sum(&src.v6[3], 4, 0) + pkt_sum(&dst.v6[3], 4, 0);
	return sum + pkt_sum(&src, 16, 0) + pkt_sum(&dst, 16, 0);
}

static uint8_t proto_of(const struct seg *s, int family)
{
	if (s->proto == IPPROTO_ICMP && family == 6)
		return IPPROTO_ICMPV6;
	return s->proto ? s->proto : IPPROTO_TCP;
}

static size_t build_tcp(uint8_t *at, const struct seg *s)
{
	tcp_at *th = (tcp_at *)at;
	uint8_t *opt = (uint8_t *)(th + 1);
	size_t opts = 0;

	*th = (struct tcphdr){ .source = htons(s->sport),
			       .dest = htons(s->dport),
			       .seq = htonl(0x01020304),
			       .ack_seq = htonl(0x05060708),
			       .window = htons(512) };
	at[13] = s->tcp_flags ? s->tcp_flags : TH_ACK;
	if (s->numbered) {
		th->seq = htonl(s->seq);
		th->ack_seq = htonl(s->ack);
		th->window = htons(s->window);
	}
	for (size_t i = 0; i < s->nops; i++)
		opt[opts++] = 1;
	if (s->mss) {
		opt[opts++] = 2;
		opt[opts++] = 4;
		opt[opts++] = (uint8_t)(s->mss >> 8);
		opt[opts++] = (uint8_t)s->mss;
	}
	while (opts % 4)
		opt[opts++] = 0;
	th->doff = (uint16_t)((sizeof(*th) + opts) / 4) & 15;
	for (size_t i = 0; i < s->payload; i++)
		opt[opts + i] = (uint8_t)(i * 7 + 3);
	return sizeof(*th) + opts + s->payload;
}

static size_t build_udp(uint8_t *at, const struct seg *s)
{
	udp_at *uh = (udp_at *)at;

	*uh = (struct udphdr){ .source = htons(s->sport),
			       .dest = htons(s->dport),
			       .len = htons((uint16_t)(sizeof(*uh) + s->payload)) };
	for (size_t i = 0; i < s->payload; i++)
		at[sizeof(*uh) + i] = (uint8_t)(i * 5 + 1);
	return sizeof(*uh) + s->payload;
}

static size_t build_icmp(uint8_t *at, const struct seg *s)
{
	uint32_t rest = htonl(s->icmp_rest);
	size_t n = 8;

	memset(at, 0, 8);
	at[0] = s->icmp_type;
	at[1] = s->icmp_code;
	memcpy(at + 4, &rest, 4);
	if (s->quote) {
		memcpy(at + n, s->quote->b + pkt_l3(s->quote), s->quote_len);
		n += s->quote_len;
	}
	for (size_t i = 0; i < s->payload; i++)
		at[n + i] = (uint8_t)(i * 3 + 5);
	return n + s->payload;
}

/* The whole segment, with its checksum. */
static size_t build_l4(uint8_t *at, const struct seg *s, int family)
{
	uint8_t proto = proto_of(s, family);
	size_t n, check;
	uint16_t sum;

	switch (proto) {
	case IPPROTO_TCP:
		n = build_tcp(at, s);
		check = 16;
		break;
	case IPPROTO_UDP:
		n = build_udp(at, s);
		check = 6;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		n = build_icmp(at, s);
		check = 2;
		break;
	default:
		memset(at, 0x5a, s->payload);
		return s->payload;
	}
	if (s->no_check)
		return n;
	sum = checksum(at, n, proto == IPPROTO_ICMP ? 0 : pseudo_sum(s, family, proto, n));
	if (proto == IPPROTO_UDP && !sum)
		sum = 0xffff;
	memcpy(at + check, &sum, 2);
	return n;
}

static size_t build_v4(uint8_t *at, const struct seg *s, const uint8_t *l4, size_t n, bool more)
{
	ip_at *ip = (ip_at *)at;
	struct lb_addr src = fx_addr(s->src, 4), dst = fx_addr(s->dst, 4);
	size_t head = sizeof(*ip) + s->ip_opts;

	*ip = (struct iphdr){ .version = 4,
			      .ihl = (unsigned int)(head / 4) & 15,
			      .tos = s->tos,
			      .tot_len = htons((uint16_t)(head + n)),
			      .ttl = s->ttl ? s->ttl : 64,
			      .protocol = proto_of(s, 4),
			      .saddr = src.v6[3],
			      .daddr = dst.v6[3] };
	ip->id = htons((uint16_t)(s->frag_len ? s->frag_id : s->id));
	ip->frag_off =
		htons((uint16_t)(s->frag_at / 8 | (more ? IP_MF : 0) | (s->may_frag || s->frag_len ? 0 : IP_DF)));
	memset(ip + 1, 1, s->ip_opts);
	ip->check = checksum(ip, head, 0);
	memcpy(at + head, l4, n);
	return head + n;
}

static size_t build_v6(uint8_t *at, const struct seg *s, const uint8_t *l4, size_t n, bool more)
{
	ip6_at *ip = (ip6_at *)at;
	struct lb_addr src = fx_addr(s->src, 6), dst = fx_addr(s->dst, 6);
	uint8_t *next = &ip->ip6_nxt, *p = (uint8_t *)(ip + 1);

	memset(ip, 0, sizeof(*ip));
	ip->ip6_flow = htonl(0x60000000 | (uint32_t)s->tos << 20);
	ip->ip6_hlim = s->ttl ? s->ttl : 64;
	memcpy(&ip->ip6_src, &src, 16);
	memcpy(&ip->ip6_dst, &dst, 16);
	for (size_t i = 0; i < s->exts; i++, p += 8) {
		*next = IPPROTO_DSTOPTS;
		memcpy(p, "\0\0\1\4\0\0\0\0", 8);
		next = p;
	}
	if (s->frag_len) {
		uint16_t off = htons((uint16_t)(s->frag_at | more));
		uint32_t id = htonl(s->frag_id);

		*next = IPPROTO_FRAGMENT;
		memset(p, 0, 8);
		memcpy(p + 2, &off, 2);
		memcpy(p + 4, &id, 4);
		next = p;
		p += 8;
	}
	*next = proto_of(s, 6);
	memcpy(p, l4, n);
	p += n;
	ip->ip6_plen = htons((uint16_t)(p - (uint8_t *)(ip + 1)));
	return (size_t)(p - at);
}

static void put_mac(uint8_t *at, enum who who)
{
	memcpy(at, "\2\0\0\0\0", 5);
	at[5] = people[who].mac;
}

size_t pkt_l3(const struct pkt *p)
{
	return p->b[12] == 0x81 && p->b[13] == 0 ? 18 : 14;
}

void pkt_ether(struct pkt *p, enum who src, enum who dst)
{
	put_mac(p->b, dst);
	put_mac(p->b + 6, src);
}

void pkt_build(struct pkt *ret, const struct seg *s)
{
	int family = s->family ? s->family : fx.family;
	uint8_t l4[4096], *part = l4;
	size_t n = build_l4(l4, s, family), l3 = s->vlan ? 18 : 14;
	bool more = false;

	if (s->frag_len) {
		assert_true(s->frag_at < n);
		more = s->frag_at + s->frag_len < n;
		part = l4 + s->frag_at;
		n = more ? s->frag_len : n - s->frag_at;
	}
	pkt_ether(ret, s->l2_src ? s->l2_src : s->src, s->l2_dst ? s->l2_dst : s->dst);
	if (s->vlan) {
		memcpy(ret->b + 12, (uint8_t[]){ 0x81, 0, (uint8_t)(s->vlan >> 8), (uint8_t)s->vlan }, 4);
	}
	memcpy(ret->b + l3 - 2, family == 4 ? "\x08\x00" : "\x86\xdd", 2);
	ret->n = l3 + (family == 4 ? build_v4 : build_v6)(ret->b + l3, s, part, n, more);
}

void pkt_wrap(struct pkt *p, const struct outer *o)
{
	size_t l3 = pkt_l3(p), inner = p->n - l3, len = inner + (o->gue ? 12 : 0);
	bool inner_v4 = p->b[l3] >> 4 == 4;
	uint8_t copy[4096], *at = p->b + l3, proto = o->gue ? IPPROTO_UDP : inner_v4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	struct lb_addr src = fx_addr(o->src, o->family), dst = fx_addr(o->dst, o->family);

	memcpy(copy, p->b + l3, inner);
	if (o->family == 4) {
		ip_at *ip = (ip_at *)at;

		*ip = (struct iphdr){ .version = 4,
				      .ihl = 5,
				      .tos = o->tos,
				      .tot_len = htons((uint16_t)(20 + len)),
				      .ttl = 64,
				      .id = htons(o->id),
				      .frag_off = htons(o->may_frag ? 0 : IP_DF),
				      .protocol = proto,
				      .saddr = src.v6[3],
				      .daddr = dst.v6[3] };
		ip->check = checksum(ip, 20, 0);
		at += 20;
	} else {
		ip6_at *ip = (ip6_at *)at;

		memset(ip, 0, sizeof(*ip));
		ip->ip6_flow = htonl(0x60000000 | (uint32_t)o->tos << 20 | o->label);
		ip->ip6_plen = htons((uint16_t)len);
		ip->ip6_nxt = proto;
		ip->ip6_hlim = 64;
		memcpy(&ip->ip6_src, &src, 16);
		memcpy(&ip->ip6_dst, &dst, 16);
		at += 40;
	}
	if (o->gue) {
		struct udphdr uh = { .source = htons(o->sport),
				     .dest = htons(PK_GUE_PORT),
				     .len = htons((uint16_t)len) };

		memcpy(at, &uh, 8);
		memcpy(at + 8, (uint8_t[]){ 0, inner_v4 ? IPPROTO_IPIP : IPPROTO_IPV6, 0, 0 }, 4);
		at += 12;
	}
	memcpy(at, copy, inner);
	p->n = (size_t)(at - p->b) + inner;
	memcpy(p->b + l3 - 2, o->family == 4 ? "\x08\x00" : "\x86\xdd", 2);
}
