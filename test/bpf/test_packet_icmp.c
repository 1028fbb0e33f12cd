// SPDX-License-Identifier: GPL-2.0-or-later
/* ICMP: pings, and errors that are to reach the other end of the connection they speak of. */
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>

#include "packet.h"

static const enum who one[] = { BACKEND1, NOBODY };

static void service(enum lb_forward forward)
{
	bool tunnel = forward == LB_FORWARD_IPIP || forward == LB_FORWARD_GUE;

	fx_backends_family(tunnel ? 4 : 0);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, forward, LB_ROUND_ROBIN, one, 8080);
	fx_backends_family(tunnel ? 4 : 0);
	fx_service(2, SERVICE, 53, IPPROTO_UDP, forward, LB_ROUND_ROBIN, one, 5353);
}

/* A connection of either protocol; returns the client's packet. */
static struct seg begin(uint8_t proto)
{
	struct seg in = { .src = CLIENT,
			  .dst = SERVICE,
			  .sport = 40000,
			  .dport = proto == IPPROTO_TCP ? 80 : 53,
			  .proto = proto,
			  .tcp_flags = TH_SYN,
			  .payload = 64 };
	struct pkt p = {}, got = {};

	pkt_build(&p, &in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_FORWARDED);
	return in;
}

static struct seg error_of(enum who src, enum who dst, const struct pkt *quote, size_t beyond)
{
	return (struct seg){ .src = src,
			     .dst = dst,
			     .proto = IPPROTO_ICMP,
			     .quote = quote,
			     .icmp_type = fx.family == 4 ? ICMP_UNREACH : ICMP6_PACKET_TOO_BIG,
			     .icmp_code = fx.family == 4 ? ICMP_UNREACH_NEEDFRAG : 0,
			     .icmp_rest = 1400,
			     .quote_len = (uint16_t)((fx.family == 4 ? 20 : 40) + beyond) };
}

static void ping(void)
{
	struct seg in = { .src = CLIENT,
			  .dst = SERVICE,
			  .proto = IPPROTO_ICMP,
			  .payload = 56,
			  .icmp_rest = 0x12340001,
			  .icmp_type = fx.family == 4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST };
	struct seg out = in;

	service(LB_FORWARD_NAT);
	out.src = SERVICE;
	out.dst = CLIENT;
	out.icmp_type = fx.family == 4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	/* All identifiers: a checksum without its carry is wrong for few of them. */
	for (uint32_t id = 0; id < 65536; id += 13) {
		in.icmp_rest = out.icmp_rest = id << 16 | 1;
		sent(&in, &out, PK_PING);
	}
	in.ttl = 1;
	sent(&in, &out, PK_PING);
	in.ttl = 0;
	in.dst = SERVICE2;
	kept(&in, PK_NOT_OURS);
	in.dst = OWN;
	kept(&in, PK_NOT_OURS);
	in.dst = SERVICE;
	in.icmp_type = fx.family == 4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	kept(&in, PK_NOT_OURS);
}

/* From a router near the client, about what the backend sent: for the backend. */
static void to_backend(enum lb_forward forward, uint8_t proto, size_t beyond)
{
	struct pkt quote_in = {}, quote_out = {};
	struct seg in, out, q_in, q_out;
	bool nat = forward == LB_FORWARD_NAT;

	service(forward);
	(void)begin(proto);
	q_in = (struct seg){ .src = SERVICE,
			     .dst = CLIENT,
			     .sport = proto == IPPROTO_TCP ? 80 : 53,
			     .dport = 40000,
			     .proto = proto,
			     .payload = 700,
			     .ttl = 50,
			     .id = 99 };
	q_out = q_in;
	q_out.src = BACKEND1;
	q_out.sport = proto == IPPROTO_TCP ? 8080 : 5353;
	if (nat) {
		q_out.dst = OWN;
		q_out.dport = ntohs(fx_conn()->nport);
	}
	pkt_build(&quote_in, &q_in);
	pkt_build(&quote_out, &q_out);
	in = error_of(ROUTER, SERVICE, &quote_in, beyond);
	out = error_of(ROUTER, BACKEND1, &quote_out, beyond);
	out.ttl = 63;
	sent(&in, &out, PK_ICMP_STEERED);
}

/* From a router near the backend, about what we sent: for the client, from the service. */
static void to_client(enum lb_forward forward, uint8_t proto, size_t beyond)
{
	struct pkt quote_in = {}, quote_out = {};
	struct seg in, out, q_in, q_out;
	bool nat = forward == LB_FORWARD_NAT;

	service(forward);
	q_out = begin(proto);
	q_out.ttl = 60;
	q_in = q_out;
	q_in.dst = BACKEND1;
	q_in.dport = proto == IPPROTO_TCP ? 8080 : 5353;
	if (nat) {
		q_in.src = OWN;
		q_in.sport = ntohs(fx_conn()->nport);
	}
	pkt_build(&quote_in, &q_in);
	pkt_build(&quote_out, &q_out);
	in = error_of(ROUTER, nat ? OWN : CLIENT, &quote_in, beyond);
	out = error_of(SERVICE, CLIENT, &quote_out, beyond);
	out.ttl = 63;
	sent(&in, &out, PK_ICMP_STEERED);
	/* The backend says that nobody listens. */
	in.src = BACKEND1;
	in.icmp_type = out.icmp_type = fx.family == 4 ? ICMP_UNREACH : ICMP6_DST_UNREACH;
	in.icmp_code = out.icmp_code = fx.family == 4 ? ICMP_UNREACH_PORT : ICMP6_DST_UNREACH_NOPORT;
	in.icmp_rest = out.icmp_rest = 0;
	sent(&in, &out, PK_ICMP_STEERED);
}

static void nat_to_backend(void)
{
	to_backend(LB_FORWARD_NAT, IPPROTO_TCP, 8);
}

static void nat_to_backend_udp(void)
{
	to_backend(LB_FORWARD_NAT, IPPROTO_UDP, 200);
}

static void nat_to_client(void)
{
	to_client(LB_FORWARD_NAT, IPPROTO_TCP, 8);
}

static void nat_to_client_udp(void)
{
	to_client(LB_FORWARD_NAT, IPPROTO_UDP, 40);
}

static void dnat_to_backend(void)
{
	to_backend(LB_FORWARD_DNAT, IPPROTO_TCP, 8);
}

static void dnat_to_client(void)
{
	to_client(LB_FORWARD_DNAT, IPPROTO_UDP, 8);
}

/* Where the backend has the service's address itself, the error goes there as it is. */
static void one_way(enum lb_forward forward)
{
	struct outer o = { .src = OWN, .dst = BACKEND1, .family = 4, .gue = forward == LB_FORWARD_GUE };
	struct pkt quote = {}, p = {}, got = {};
	struct seg in, out, q;

	service(forward);
	(void)begin(IPPROTO_TCP);
	q = (struct seg){ .src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .payload = 700, .ttl = 50 };
	pkt_build(&quote, &q);
	in = error_of(ROUTER, SERVICE, &quote, 8);
	out = in;
	out.ttl = 63;
	if (forward == LB_FORWARD_DSR) {
		out.l2_dst = BACKEND1;
		sent(&in, &out, PK_ICMP_STEERED);
		return;
	}
	pkt_build(&p, &in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_ICMP_STEERED);
	if (o.gue)
		o.sport = (uint16_t)(got.b[34] << 8 | got.b[35]);
	sent_wrapped(&in, &out, &o, PK_ICMP_STEERED);
}

static void dsr_one_way(void)
{
	one_way(LB_FORWARD_DSR);
}

static void ipip_one_way(void)
{
	one_way(LB_FORWARD_IPIP);
}

static void gue_one_way(void)
{
	one_way(LB_FORWARD_GUE);
}

/* What fits into a tunnel is learned from the routers in between. */
static void tunnel_mtu(enum lb_forward forward)
{
	struct outer o = { .src = OWN, .dst = BACKEND1, .family = 4, .gue = forward == LB_FORWARD_GUE, .sport = 0xc123 };
	struct seg big = { .src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 80, .payload = 1300 }, in;
	struct pkt quote = {}, p = {}, got = {};
	uint16_t mtu = o.gue ? 1400 - 32 : 1400 - 20;

	service(forward);
	(void)begin(IPPROTO_TCP);
	pkt_build(&quote, &big);
	pkt_wrap(&quote, &o);
	in = error_of(ROUTER, OWN, &quote, 120);
	in.family = 4;
	in.icmp_type = ICMP_UNREACH;
	in.icmp_code = ICMP_UNREACH_NEEDFRAG;
	in.quote_len = 140;
	/* The host is to see it too. */
	kept(&in, PK_NOT_OURS);
	pkt_build(&p, &big);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_FORWARDED);
	big.payload = 1400;
	pkt_build(&p, &big);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_TOO_BIG_TOLD);
	/* Ethernet, IP, ICMP: the MTU is in its last two bytes. */
	size_t at = 14 + (fx.family == 4 ? 20 : 40) + 6;

	assert_int_equal(got.b[at] << 8 | got.b[at + 1], mtu);
	/* With the least that a router may quote, nobody can be told. */
	in.quote_len = 28;
	kept(&in, PK_NOT_OURS);
}

static void ipip_mtu(void)
{
	tunnel_mtu(LB_FORWARD_IPIP);
}

static void gue_mtu(void)
{
	tunnel_mtu(LB_FORWARD_GUE);
}

static void errors_of_others(void)
{
	struct seg q = { .src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40001 }, in;
	struct pkt quote = {}, p = {}, got = {};

	service(LB_FORWARD_NAT);
	(void)begin(IPPROTO_TCP);
	pkt_build(&quote, &q);
	in = error_of(ROUTER, SERVICE, &quote, 8);
	kept(&in, PK_NOT_OURS);
	q.dport = 40000;
	q.proto = 132;
	pkt_build(&quote, &q);
	kept(&in, PK_NOT_OURS);
	q.proto = IPPROTO_TCP;
	pkt_build(&quote, &q);
	/* The same is fine; and cut at each byte it is left alone. */
	pkt_build(&p, &in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_ICMP_STEERED);
	for (size_t n = p.n - 1; n >= (fx.hook == FX_XDP ? 14 : fx.family == 4 ? 34 : 54); n--) {
		enum pk_reason r;

		p.n = n;
		(void)fx_run(&p, &got);
		r = fx_reason();
		assert_true(r == PK_TRUNCATED || r == PK_NOT_OURS);
	}
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "ping of a service address, and of no other", ping, false, 0 },
		{ "nat: an error for the backend, eight bytes quoted", nat_to_backend, false, 0 },
		{ "nat: an error for the backend, UDP", nat_to_backend_udp, false, 0 },
		{ "nat: an error for the client, eight bytes quoted", nat_to_client, false, 0 },
		{ "nat: an error for the client, UDP", nat_to_client_udp, false, 0 },
		{ "dnat: an error for the backend", dnat_to_backend, false, 0 },
		{ "dnat: an error for the client", dnat_to_client, false, 0 },
		{ "dsr: an error for the backend", dsr_one_way, false, 0 },
		{ "ipip: an error for the backend", ipip_one_way, false, 0 },
		{ "gue: an error for the backend", gue_one_way, false, 0 },
		{ "ipip: what fits is learned", ipip_mtu, false, 0 },
		{ "gue: what fits is learned", gue_mtu, false, 0 },
		{ "errors of others are left alone", errors_of_others, false, 0 },
	};

	return fx_main("packet: icmp", tests, ARRAY_SIZE(tests));
}
