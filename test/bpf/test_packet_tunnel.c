// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets wrapped into packets, fragments, and packets that are too big. */
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>

#include "packet.h"

static const enum who one[] = { BACKEND1, NOBODY };
static const struct seg syn = { .src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 80, .tcp_flags = TH_SYN };

static void begin(const struct seg *in, struct pkt *ret)
{
	struct pkt p = {};

	pkt_build(&p, in);
	(void)fx_run(&p, ret);
	assert_int_equal(fx_reason(), PK_FORWARDED);
}

/* What is not fixed of the outer header: the port and the flow label that tell flows apart. */
static void learn(const struct pkt *got, struct outer *o)
{
	const uint8_t *ip = got->b + 14;

	if (o->family == 6)
		o->label = ((uint32_t)ip[1] & 15) << 16 | (uint32_t)ip[2] << 8 | ip[3];
	if (o->gue) {
		const uint8_t *udp = ip + (o->family == 6 ? 40 : 20);

		o->sport = (uint16_t)(udp[0] << 8 | udp[1]);
		assert_in_range(o->sport, 0xc000, 0xffff);
	}
}

static void wrapped(enum lb_forward forward, int outer_family)
{
	struct outer o = { .src = OWN, .dst = BACKEND1, .family = outer_family, .gue = forward == LB_FORWARD_GUE };
	struct seg in = syn, out = syn;
	struct pkt got = {};

	fx_backends_family(outer_family);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, forward, LB_ROUND_ROBIN, one, 80);
	begin(&in, &got);
	learn(&got, &o);
	out.ttl = 63;
	sent_wrapped(&in, &out, &o, PK_FORWARDED);
	in.payload = out.payload = 333;
	in.tcp_flags = out.tcp_flags = TH_ACK;
	in.tos = out.tos = o.tos = 0xb8;
	in.id = out.id = 77;
	o.id = fx.family == 4 && outer_family == 4 ? 77 : 0;
	sent_wrapped(&in, &out, &o, PK_FORWARDED);
	/* "Don't fragment" is the inner packet's. */
	if (fx.family == 4) {
		in.may_frag = out.may_frag = o.may_frag = true;
		sent_wrapped(&in, &out, &o, PK_FORWARDED);
	}
	assert_int_equal(fx_conns(), 1);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
}

static void ipip_in_v4(void)
{
	wrapped(LB_FORWARD_IPIP, 4);
}

static void ipip_in_v6(void)
{
	wrapped(LB_FORWARD_IPIP, 6);
}

static void gue_in_v4(void)
{
	wrapped(LB_FORWARD_GUE, 4);
}

static void gue_in_v6(void)
{
	wrapped(LB_FORWARD_GUE, 6);
}

/* Flows are spread over the port that GUE comes from; one flow keeps its own. */
static void gue_flows_differ(void)
{
	struct outer a = { .family = 4, .gue = true }, b = a;
	struct seg in = syn;
	struct pkt got = {};
	unsigned int differ = 0;

	fx_backends_family(4);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_GUE, LB_ROUND_ROBIN, one, 80);
	begin(&in, &got);
	learn(&got, &a);
	for (uint16_t i = 1; i <= 32; i++) {
		in.sport = (uint16_t)(40000 + i);
		begin(&in, &got);
		learn(&got, &b);
		differ += a.sport != b.sport;
		begin(&in, &got);
		a = b;
		learn(&got, &b);
		assert_int_equal(a.sport, b.sport);
	}
	assert_in_range(differ, 28, 32);
}

static void tunnel_clamps_mss(void)
{
	struct outer o = { .src = OWN, .dst = BACKEND1, .family = 4 };
	struct seg in = syn, out = syn;

	fx_backends_family(4);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_IPIP, LB_ROUND_ROBIN, one, 80);
	in.mss = 1460;
	out.mss = fx.family == 4 ? 1440 : 1420;
	out.ttl = 63;
	sent_wrapped(&in, &out, &o, PK_FORWARDED);
}

static void no_own_address(void)
{
	struct pk_far far = {};
	uint32_t id = 4;

	fx_backends_family(6);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_IPIP, LB_ROUND_ROBIN, one, 80);
	assert_int_equal(bpf_map_update_elem(fx_map("pk_far"), &id, &far, BPF_ANY), 0);
	kept(&syn, PK_NO_SOURCE);
}

/* What the sender of a packet that is too big is told. */
static void big(enum lb_forward forward, uint16_t mtu)
{
	struct seg in = { .src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 80, .payload = 1460 };
	struct seg told = { .src = SERVICE, .dst = CLIENT, .proto = IPPROTO_ICMP, .icmp_rest = mtu, .l2_src = OWN };
	struct pkt quote = {};

	fx_backends_family(4);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, forward, LB_ROUND_ROBIN, one, 80);
	pkt_build(&quote, &in);
	told.quote = &quote;
	told.icmp_type = fx.family == 4 ? ICMP_UNREACH : ICMP6_PACKET_TOO_BIG;
	told.icmp_code = fx.family == 4 ? ICMP_UNREACH_NEEDFRAG : 0;
	told.quote_len = fx.family == 4 ? 64 : 96;
	told.tos = fx.family == 4 ? 0xc0 : 0;
	sent(&in, &told, PK_TOO_BIG_TOLD);
	if (fx.family == 4) {
		in.may_frag = true;
		kept(&in, PK_TOO_BIG);
	}
	/* Just so. */
	in.may_frag = false;
	in.payload = (uint16_t)(mtu - (fx.family == 4 ? 40 : 60));
	begin(&in, &quote);
}

static void big_ipip(void)
{
	big(LB_FORWARD_IPIP, 1480);
}

static void big_gue(void)
{
	big(LB_FORWARD_GUE, 1468);
}

static void big_with_a_tag(void)
{
	struct seg in = { .src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 80, .payload = 1460, .vlan = 0x2005 };
	struct seg told = {
		.src = SERVICE, .dst = CLIENT, .proto = IPPROTO_ICMP, .icmp_rest = 1480, .l2_src = OWN, .vlan = 0x2005
	};
	struct pkt quote = {};

	fx_backends_family(4);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_IPIP, LB_ROUND_ROBIN, one, 80);
	pkt_build(&quote, &in);
	told.quote = &quote;
	told.icmp_type = fx.family == 4 ? ICMP_UNREACH : ICMP6_PACKET_TOO_BIG;
	told.icmp_code = fx.family == 4 ? ICMP_UNREACH_NEEDFRAG : 0;
	told.quote_len = fx.family == 4 ? 64 : 96;
	told.tos = fx.family == 4 ? 0xc0 : 0;
	sent(&in, &told, PK_TOO_BIG_TOLD);
}

static struct seg fragment(uint16_t at, uint32_t id)
{
	return (struct seg){ .src = CLIENT,
			     .dst = SERVICE,
			     .sport = 40000,
			     .dport = 53,
			     .proto = IPPROTO_UDP,
			     .payload = 1800,
			     .frag_at = at,
			     .frag_len = 800,
			     .frag_id = id };
}

static void fragments_follow_the_first(void)
{
	struct seg in = fragment(0, 7), out = in;
	struct pkt got = {};

	fx_service(2, SERVICE, 53, IPPROTO_UDP, LB_FORWARD_NAT, LB_ROUND_ROBIN, one, 5353);
	/* Before the first: nobody knows whose it is. */
	in.frag_at = 800;
	kept(&in, PK_FRAGMENT);
	in.frag_at = 0;
	begin(&in, &got);
	out.src = OWN;
	out.dst = BACKEND1;
	out.sport = ntohs(fx_conn()->nport);
	out.dport = 5353;
	out.ttl = 63;
	sent(&in, &out, PK_FORWARDED);
	in.frag_at = out.frag_at = 800;
	sent(&in, &out, PK_FORWARDED);
	in.frag_at = out.frag_at = 1600;
	sent(&in, &out, PK_FORWARDED);
	/* Of another packet. */
	in.frag_id = 8;
	kept(&in, PK_FRAGMENT);
	assert_int_equal(fx_conns(), 1);
}

static void fragments_of_a_backend(void)
{
	struct seg in = { .src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 53, .proto = IPPROTO_UDP };
	struct seg back = fragment(0, 9), home = back;
	struct pkt got = {};

	fx_service(2, SERVICE, 53, IPPROTO_UDP, LB_FORWARD_NAT, LB_ROUND_ROBIN, one, 5353);
	begin(&in, &got);
	back.src = BACKEND1;
	back.dst = OWN;
	back.sport = 5353;
	back.dport = ntohs(fx_conn()->nport);
	home.src = SERVICE;
	home.dst = CLIENT;
	home.sport = 53;
	home.dport = 40000;
	home.ttl = 63;
	for (uint16_t at = 0; at <= 1600; at = (uint16_t)(at + 800)) {
		back.frag_at = home.frag_at = at;
		sent(&back, &home, PK_RETURNED);
	}
}

static void fragments_in_a_tunnel(void)
{
	struct outer o = { .src = OWN, .dst = BACKEND1, .family = 4, .may_frag = fx.family == 4 };
	struct seg in = fragment(0, 7), out = in;

	fx_backends_family(4);
	fx_service(2, SERVICE, 53, IPPROTO_UDP, LB_FORWARD_IPIP, LB_ROUND_ROBIN, one, 53);
	o.id = fx.family == 4 ? 7 : 0;
	out.ttl = 63;
	for (uint16_t at = 0; at <= 1600; at = (uint16_t)(at + 800)) {
		in.frag_at = out.frag_at = at;
		sent_wrapped(&in, &out, &o, PK_FORWARDED);
	}
}

/* Never dropped when they are not ours. */
static void fragments_of_others(void)
{
	struct seg in = fragment(0, 7);

	fx_service(2, SERVICE, 53, IPPROTO_UDP, LB_FORWARD_NAT, LB_ROUND_ROBIN, one, 5353);
	in.dport = 54;
	kept(&in, PK_NOT_OURS);
	in.frag_at = 800;
	kept(&in, PK_FRAGMENT);
	in.dst = OWN;
	in.frag_at = 0;
	kept(&in, PK_NOT_OURS);
	in.frag_at = 1600;
	kept(&in, PK_FRAGMENT);
}

/* A VLAN device (with a number that exists nowhere) through which all of a backend's packets go. */
static void vlan_hop(uint16_t vlan)
{
	uint32_t id = 4;
	struct pk_far far;

	assert_int_equal(bpf_map_lookup_elem(fx_map("pk_far"), &id, &far), 0);
	far.hop = (struct pk_hop){ .dmac = { 2, 0, 0, 0, 0, 0x11 },
				   .smac = { 2, 0, 0, 0, 0, 1 },
				   .ifindex = fx.ifindex,
				   .phys = fx.ifindex,
				   .tick = fx_now(),
				   .mtu = 1500,
				   .vlan = vlan };
	assert_int_equal(bpf_map_update_elem(fx_map("pk_far"), &id, &far, BPF_ANY), 0);
}

static void vlan_tags(void)
{
	static const uint16_t ways[][3] = {
		/* tag of the frame, of the way out, and what it becomes: priority is kept */
		{ 0x2005, 0x0005, 0x2005 },
		{ 0x2005, 0x0006, 0x2006 },
		{ 0, 6, 6 },
		{ 0x4007, 0, 0 },
	};
	static const enum lb_forward forwards[] = { LB_FORWARD_NAT, LB_FORWARD_DSR, LB_FORWARD_IPIP, LB_FORWARD_GUE };

	for (size_t f = 0; f < ARRAY_SIZE(forwards); f++)
		for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
			struct outer o = {
				.src = OWN, .dst = BACKEND1, .family = fx.family, .gue = forwards[f] == LB_FORWARD_GUE
			};
			bool tunnel = forwards[f] == LB_FORWARD_IPIP || forwards[f] == LB_FORWARD_GUE;
			struct seg in = syn, out = syn;
			struct pkt got = {};

			fx_reset();
			fx_service(1, SERVICE, 80, IPPROTO_TCP, forwards[f], LB_ROUND_ROBIN, one, 80);
			vlan_hop(0);
			begin(&in, &got);
			learn(&got, &o);
			if (forwards[f] == LB_FORWARD_NAT) {
				out.src = OWN;
				out.dst = BACKEND1;
				out.sport = ntohs(fx_conn()->nport);
			}
			vlan_hop(ways[i][1]);
			in.vlan = ways[i][0];
			out.vlan = ways[i][2];
			out.ttl = 63;
			out.l2_dst = BACKEND1;
			fx_sent(&in, &out, tunnel ? &o : NULL, PK_FORWARDED, __LINE__);
		}
}

/* Double tags, and priority tags: the stack's. */
static void vlan_others(void)
{
	struct seg in = syn;

	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	in.vlan = 0xe000;
	kept(&in, PK_NOT_IP);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "ipip: in IPv4", ipip_in_v4, false, 0 },
		{ "ipip: in IPv6", ipip_in_v6, false, 0 },
		{ "gue: in IPv4", gue_in_v4, false, 0 },
		{ "gue: in IPv6", gue_in_v6, false, 0 },
		{ "gue: flows are told apart", gue_flows_differ, false, 0 },
		{ "ipip: MSS is clamped to what fits inside", tunnel_clamps_mss, false, 0 },
		{ "ipip: no own address of the family", no_own_address, false, 0 },
		{ "too big for ipip: the client is told", big_ipip, false, 0 },
		{ "too big for gue: the client is told", big_gue, false, 0 },
		{ "too big, in a VLAN", big_with_a_tag, true, 0 },
		{ "fragments follow their first", fragments_follow_the_first, false, 0 },
		{ "fragments from a backend", fragments_of_a_backend, false, 0 },
		{ "fragments in a tunnel", fragments_in_a_tunnel, false, 0 },
		{ "fragments of others are left alone", fragments_of_others, false, 0 },
		{ "tags are kept, changed, put and taken", vlan_tags, true, 0 },
		{ "tags that are the stack's", vlan_others, true, 0 },
	};

	return fx_main("packet: tunnels", tests, ARRAY_SIZE(tests));
}
