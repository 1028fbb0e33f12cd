// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets whose addresses are rewritten (nat, dnat) or only sent on (dsr). */
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "packet.h"

static const enum who one[] = { BACKEND1, NOBODY };

static void web(enum lb_forward forward)
{
	fx_service(1, SERVICE, 80, IPPROTO_TCP, forward, LB_ROUND_ROBIN, one, 8080);
	fx_service(2, SERVICE, 53, IPPROTO_UDP, forward, LB_ROUND_ROBIN, one, 5353);
}

static const struct seg syn = { .src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 80, .tcp_flags = TH_SYN };

static void nat_tcp_both_ways(void)
{
	struct seg in = syn, out = { .src = OWN, .dst = BACKEND1, .dport = 8080, .tcp_flags = TH_SYN, .ttl = 63 };
	struct seg back = { .src = BACKEND1, .dst = OWN, .sport = 8080, .tcp_flags = TH_SYN | TH_ACK };
	struct seg home = {
		.src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .tcp_flags = TH_SYN | TH_ACK, .ttl = 63
	};
	struct pkt first = {}, got = {};

	web(LB_FORWARD_NAT);
	pkt_build(&first, &in);
	(void)fx_run(&first, &got);
	assert_int_equal(fx_reason(), PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_NEW);
	out.sport = ntohs(fx_conn()->nport);
	assert_in_range(out.sport, 1024, 1024 + 512 * PK_NAT_GROUP - 1);
	/* Again: the same connection, the same port. */
	sent(&in, &out, PK_FORWARDED);
	assert_int_equal(fx_conns(), 1);
	back.dport = out.sport;
	sent(&back, &home, PK_RETURNED);
	assert_int_equal(fx_conn()->state, PK_STATE_NEW);
	in.tcp_flags = out.tcp_flags = TH_ACK;
	in.payload = out.payload = 100;
	sent(&in, &out, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
	back.tcp_flags = home.tcp_flags = TH_ACK;
	back.payload = home.payload = 1001;
	sent(&back, &home, PK_RETURNED);
	assert_int_equal(fx_backend_conns(4), 1);
	assert_int_equal(fx_service_conns(1), 1);
}

/* The first packet of a connection, whose result is not looked at: makes the record. */
static void begin(const struct seg *in)
{
	struct pkt p = {}, got = {};

	pkt_build(&p, in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_FORWARDED);
}

static const struct seg query = {
	.src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 53, .proto = IPPROTO_UDP, .payload = 33
};

static void nat_udp_both_ways(void)
{
	struct seg in = query, out = query, back, home;

	web(LB_FORWARD_NAT);
	begin(&in);
	out.src = OWN;
	out.dst = BACKEND1;
	out.sport = ntohs(fx_conn()->nport);
	out.dport = 5353;
	out.ttl = 63;
	sent(&in, &out, PK_FORWARDED);
	back = (struct seg){
		.src = BACKEND1, .dst = OWN, .sport = 5353, .dport = out.sport, .proto = IPPROTO_UDP, .payload = 512
	};
	home = (struct seg){ .src = SERVICE,
			     .dst = CLIENT,
			     .sport = 53,
			     .dport = 40000,
			     .proto = IPPROTO_UDP,
			     .payload = 512,
			     .ttl = 63 };
	sent(&back, &home, PK_RETURNED);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
}

/* No checksum in IPv4 stays none; in IPv6 it is not allowed, and not made up. */
static void nat_udp_no_checksum(void)
{
	struct seg in = query, out = query;

	web(LB_FORWARD_NAT);
	in.no_check = out.no_check = true;
	begin(&in);
	out.src = OWN;
	out.dst = BACKEND1;
	out.sport = ntohs(fx_conn()->nport);
	out.dport = 5353;
	out.ttl = 63;
	sent(&in, &out, PK_FORWARDED);
}

static void dnat_both_ways(void)
{
	struct seg in = syn, out = syn;
	struct seg back = {
		.src = BACKEND1, .dst = CLIENT, .sport = 8080, .dport = 40000, .tcp_flags = TH_SYN | TH_ACK
	};
	struct seg home = {
		.src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .tcp_flags = TH_SYN | TH_ACK, .ttl = 63
	};

	web(LB_FORWARD_DNAT);
	out.dst = BACKEND1;
	out.dport = 8080;
	out.ttl = 63;
	sent(&in, &out, PK_FORWARDED);
	sent(&in, &out, PK_FORWARDED);
	assert_int_equal(fx_conns(), 1);
	sent(&back, &home, PK_RETURNED);
	/* Nothing else of that backend is touched. */
	back.sport = 8081;
	kept(&back, PK_NOT_OURS);
	back.sport = 8080;
	back.dport = 40001;
	kept(&back, PK_NOT_OURS);
	back.dport = 40000;
	back.dst = CLIENT2;
	kept(&back, PK_NOT_OURS);
}

/* One port of a client to two services with the same backend: the second is refused, the first goes on. */
static void dnat_conflict(void)
{
	struct seg a = syn, b = syn, out = syn;

	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DNAT, LB_ROUND_ROBIN, one, 8080);
	fx_service(2, SERVICE2, 80, IPPROTO_TCP, LB_FORWARD_DNAT, LB_ROUND_ROBIN, one, 8080);
	out.dst = BACKEND1;
	out.dport = 8080;
	out.ttl = 63;
	sent(&a, &out, PK_FORWARDED);
	b.dst = SERVICE2;
	kept(&b, PK_NO_PORT);
	assert_int_equal(fx_conns(), 1);
	sent(&a, &out, PK_FORWARDED);
}

static void dsr_changes_the_hop_only(void)
{
	struct seg in = syn, out = syn;

	web(LB_FORWARD_DSR);
	out.ttl = 63;
	out.l2_dst = BACKEND1;
	sent(&in, &out, PK_FORWARDED);
	in.tcp_flags = out.tcp_flags = TH_ACK;
	in.payload = out.payload = 1;
	sent(&in, &out, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
}

static void not_ours(void)
{
	struct seg s = syn;

	web(LB_FORWARD_NAT);
	s.dport = 81;
	kept(&s, PK_NOT_OURS);
	s.dport = 80;
	s.proto = IPPROTO_UDP;
	kept(&s, PK_NOT_OURS);
	s.proto = IPPROTO_TCP;
	s.dst = SERVICE2;
	kept(&s, PK_NOT_OURS);
	s.dst = OWN;
	s.dport = 22;
	kept(&s, PK_NOT_OURS);
	s.proto = 132;
	kept(&s, PK_NOT_OURS);
	s = syn;
	s.src = BACKEND1;
	s.dst = OWN;
	s.sport = 8080;
	s.dport = 1024;
	kept(&s, PK_NOT_OURS);
	assert_int_equal(fx_conns(), 0);
}

static void off_passes_all(void)
{
	struct seg s = syn;

	web(LB_FORWARD_NAT);
	fx.ctl->on = 0;
	kept(&s, PK_OFF);
}

/* A service that only the connect hook serves. */
static void not_for_packets(void)
{
	struct lb_plan plan = fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, one, 8080);

	plan.flags = LB_PLAN_CONNECT;
	fx_plan(&plan);
	kept(&syn, PK_NOT_OURS);
}

static void no_backend(void)
{
	struct lb_plan plan = fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_MAGLEV, one, 8080);

	plan.n = 0;
	fx_plan(&plan);
	kept(&syn, PK_NO_BACKEND);
	assert_int_equal(fx_conns(), 0);
}

static void middle_without_beginning(void)
{
	struct seg s = syn;

	web(LB_FORWARD_NAT);
	s.tcp_flags = TH_ACK;
	kept(&s, PK_NO_CONN);
	s.tcp_flags = TH_SYN | TH_ACK;
	kept(&s, PK_NO_CONN);
	s.tcp_flags = TH_RST;
	kept(&s, PK_NO_CONN);
	s.tcp_flags = TH_FIN | TH_ACK;
	kept(&s, PK_NO_CONN);
	assert_int_equal(fx_conns(), 0);
}

/* Where the backend can be found again by the hash, another balancer's connections go on here. */
static void middle_is_taken_over(void)
{
	struct seg s = syn, out = syn;

	web(LB_FORWARD_DSR);
	s.tcp_flags = out.tcp_flags = TH_ACK;
	out.ttl = 63;
	out.l2_dst = BACKEND1;
	sent(&s, &out, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_NEW);
	sent(&s, &out, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
}

static void ttl_is_used_up(void)
{
	struct seg s = syn, out = syn;

	web(LB_FORWARD_DSR);
	s.ttl = 1;
	kept(&s, PK_TTL);
	s.ttl = 2;
	out.ttl = 1;
	out.l2_dst = BACKEND1;
	sent(&s, &out, PK_FORWARDED);
	/* Not our business otherwise. */
	s.ttl = 1;
	s.dport = 81;
	kept(&s, PK_NOT_OURS);
}

static void ip_options_and_extensions(void)
{
	struct seg in = syn, out;

	web(LB_FORWARD_NAT);
	in.ip_opts = 8;
	in.exts = 2;
	begin(&in);
	out = in;
	out.src = OWN;
	out.dst = BACKEND1;
	out.sport = ntohs(fx_conn()->nport);
	out.dport = 8080;
	out.ttl = 63;
	sent(&in, &out, PK_FORWARDED);
	/* The same connection without them. */
	in.ip_opts = out.ip_opts = 40;
	in.exts = out.exts = 0;
	sent(&in, &out, PK_FORWARDED);
	assert_int_equal(fx_conns(), 1);
	in.exts = out.exts = 6;
	sent(&in, &out, PK_FORWARDED);
	in.exts = 7;
	if (fx.family == 6)
		kept(&in, PK_NOT_OURS);
}

static void closing(void)
{
	struct seg in = syn, back;

	web(LB_FORWARD_NAT);
	begin(&in);
	back = (struct seg){ .src = BACKEND1,
			     .dst = OWN,
			     .sport = 8080,
			     .dport = ntohs(fx_conn()->nport),
			     .tcp_flags = TH_SYN | TH_ACK };
	assert_int_equal(fx_conn()->state, PK_STATE_NEW);
	struct pkt p = {}, got = {};

	pkt_build(&p, &back);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_RETURNED);
	in.tcp_flags = TH_ACK;
	begin(&in);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
	in.tcp_flags = TH_FIN | TH_ACK;
	begin(&in);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSING);
	back.tcp_flags = TH_FIN | TH_ACK;
	pkt_build(&p, &back);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_RETURNED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
	/* The record stays for a while, and is no load of the backend. */
	assert_int_equal(fx_backend_conns(4), 1);
	assert_int_equal(fx_backend_closed(4), 1);
	/* The last ACK still goes through. */
	in.tcp_flags = TH_ACK;
	begin(&in);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
	assert_int_equal(fx_backend_closed(4), 1);
	/* The client uses its port again: another connection. */
	in.tcp_flags = TH_SYN;
	begin(&in);
	assert_int_equal(fx_conn()->state, PK_STATE_NEW);
	assert_int_equal(fx_service_conns(1), 1);
	assert_int_equal(fx_backend_conns(4), 1);
	assert_int_equal(fx_backend_closed(4), 0);
}

static void reset_and_sweep(void)
{
	struct seg in = syn;
	struct pk_admin a;

	web(LB_FORWARD_NAT);
	begin(&in);
	in.tcp_flags = TH_RST;
	begin(&in);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
	assert_int_equal(fx_backend_closed(4), 1);
	/* Neither side believes the reset. */
	in.tcp_flags = TH_ACK;
	begin(&in);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
	assert_int_equal(fx_backend_closed(4), 0);
	in.tcp_flags = TH_RST;
	begin(&in);
	assert_int_equal(fx_backend_closed(4), 1);
	a = fx_sweep();
	assert_int_equal(a.freed, 0);
	assert_int_equal(a.live, 1);
	fx_age(fx_conn(), PK_TICKS_CLOSED + 1);
	a = fx_sweep();
	assert_int_equal(a.freed, 1);
	assert_int_equal(fx_conns(), 0);
	assert_int_equal(fx_service_conns(1), 0);
	assert_int_equal(fx_backend_conns(4), 0);
	assert_int_equal(fx_backend_closed(4), 0);
}

static void idle_times(void)
{
	struct seg in = query;

	web(LB_FORWARD_DSR);
	fx.ctl->tick_shift = 8;
	begin(&in);
	begin(&in);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
	/* 30 s, in ticks of 256 jiffies, and one. */
	fx_age(fx_conn(), 30 * fx.ctl->hz / 256 - 8);
	assert_int_equal(fx_sweep().freed, 0);
	fx_age(fx_conn(), 12);
	assert_int_equal(fx_sweep().freed, 1);
}

static void backend_goes_down(void)
{
	static const enum who two[] = { BACKEND1, BACKEND2, NOBODY };
	struct seg in = query, out = query, t = syn;
	struct lb_plan plan;

	plan = fx_service(2, SERVICE, 53, IPPROTO_UDP, LB_FORWARD_DSR, LB_ROUND_ROBIN, two, 53);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	begin(&in);
	begin(&in);
	out.ttl = 63;
	out.l2_dst = BACKEND1;
	sent(&in, &out, PK_FORWARDED);
	/* A flow of UDP finds another, the next time the first is picked it is not in the ring. */
	fx_backend_flags(8, LB_BACKEND_DOWN);
	plan.n = 1;
	plan.ring = 20;
	uint32_t line[LB_RING_LINE] = { 9 }, key = 20;

	assert_int_equal(bpf_map_update_elem(fx_map("lb_ring"), &key, line, BPF_ANY), 0);
	fx_plan(&plan);
	out.l2_dst = BACKEND2;
	sent(&in, &out, PK_FORWARDED);
	assert_int_equal(fx_backend_conns(8), 0);
	assert_int_equal(fx_backend_conns(9), 1);
	/* A connection of TCP waits until it is back. */
	begin(&t);
	t.tcp_flags = TH_ACK;
	begin(&t);
	fx_backend_flags(4, LB_BACKEND_DOWN);
	kept(&t, PK_BACKEND_DOWN);
	fx_backend_flags(4, LB_BACKEND_DRAINING);
	begin(&t);
}

static void lying_lengths(void)
{
	struct seg in = syn;
	struct pkt p = {};

	web(LB_FORWARD_NAT);
	in.payload = 100;
	pkt_build(&p, &in);
	/* The frame is shorter than the header says. */
	p.n -= 50;
	fx_kept_bytes(&p, PK_LENGTH, __LINE__);
}

/* A padded frame is fine. */
static void padding(void)
{
	struct seg in = query, out = query;
	struct pkt p = {}, got = {}, want = {};

	web(LB_FORWARD_DSR);
	in.payload = out.payload = 1;
	out.ttl = 63;
	pkt_build(&p, &in);
	p.n += 30;
	fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_FORWARDED);
	pkt_build(&want, &out);
	pkt_ether(&want, OWN, BACKEND1);
	want.n += 30;
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.b, want.b, want.n);
}

/* Cut at each byte: passed as it is, or dropped with a reason, and never sent. */
static void truncated_anywhere(void)
{
	struct seg in = syn;
	struct pkt p = {}, got = {};

	web(LB_FORWARD_NAT);
	in.exts = 2;
	in.ip_opts = 12;
	pkt_build(&p, &in);
	/* The kernel lets no socket buffer through that has not all of the fixed header. */
	for (size_t n = p.n - 1; n >= (fx.hook == FX_XDP ? 14 : fx.family == 4 ? 34 : 54); n--) {
		enum pk_reason r;

		p.n = n;
		(void)fx_run(&p, &got);
		r = fx_reason();
		assert_true(r == PK_TRUNCATED || r == PK_LENGTH);
	}
}

static void own_family_only(void)
{
	fx_backends_family(fx.family == 4 ? 6 : 4);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, one, 8080);
	kept(&syn, PK_FAMILY);
	assert_int_equal(fx_conns(), 0);
}

static void neighbour_is_asked_for(void)
{
	static const enum who far[] = { NEIGHBOUR, NOBODY };
	struct pkt p = {}, got = {};

	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, far, 8080);
	if (fx.hook == FX_XDP) {
		/* Untouched, to TC. */
		kept(&syn, PK_NO_NEIGHBOUR);
	} else {
		pkt_build(&p, &syn);
		assert_int_equal(fx_run(&p, &got), 7);
		assert_int_equal(fx_reason(), PK_FORWARDED);
	}
	assert_int_equal(fx_conns(), 1);
}

static void no_route(void)
{
	static const enum who far[] = { SERVICE2, NOBODY };

	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, far, 8080);
	kept(&syn, PK_NO_ROUTE);
}

/* MSS of a SYN that is too much for the link, at even and odd offsets. */
static void mss_is_clamped(void)
{
	struct seg in = syn, out = syn;

	web(LB_FORWARD_DSR);
	out.ttl = 63;
	out.l2_dst = BACKEND1;
	for (uint8_t nops = 0; nops < 8; nops++) {
		in.nops = out.nops = nops;
		in.mss = 8960;
		out.mss = fx.family == 4 ? 1460 : 1440;
		sent(&in, &out, PK_FORWARDED);
		in.mss = out.mss = 536;
		sent(&in, &out, PK_FORWARDED);
	}
}

/* As many connections to one backend as there are ports, nearly, and each port once. */
static void ports_are_used_once(void)
{
	static uint8_t seen[65536];
	struct seg in = syn;
	struct pkt p = {}, got = {};
	uint32_t ok = 0;

	memset(seen, 0, sizeof(seen));
	web(LB_FORWARD_NAT);
	fx.ctl->nat_groups = 256; /* 2048 ports */
	for (uint32_t i = 0; i < 1600; i++) {
		in.sport = (uint16_t)(10000 + i);
		pkt_build(&p, &in);
		(void)fx_run(&p, &got);
		ok += fx_reason() == PK_FORWARDED;
	}
	for (uint32_t i = 0; i < fx.buckets; i++)
		for (uint32_t w = 0; w < PK_WAYS; w++)
			if (fx.table[i].conn[w].state != PK_STATE_FREE)
				assert_int_equal(seen[ntohs(fx.table[i].conn[w].nport)]++, 0);
	/*
	 * 78 % of the ports are in use: with two groups to choose from hardly any connection finds none, and that one takes
	 * the port of another that nobody has answered.
	 */
	assert_in_range(ok, 1590, 1600);
	assert_in_range(fx_conns(), 1590, ok);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "nat: TCP, both ways", nat_tcp_both_ways, false, 0 },
		{ "nat: UDP, both ways", nat_udp_both_ways, false, 0 },
		{ "nat: UDP without a checksum", nat_udp_no_checksum, false, 4 },
		{ "nat: IP options and extension headers", ip_options_and_extensions, false, 0 },
		{ "nat: ports are used once, and nearly all of them", ports_are_used_once, false, 0 },
		{ "nat: FIN and FIN, and the port used again", closing, false, 0 },
		{ "nat: a reset, and what is swept when", reset_and_sweep, false, 0 },
		{ "nat: the middle of a connection without its beginning", middle_without_beginning, false, 0 },
		{ "nat: other families only by tunnels", own_family_only, false, 0 },
		{ "nat: a neighbour that is not known yet", neighbour_is_asked_for, false, 0 },
		{ "nat: no route", no_route, false, 0 },
		{ "dnat: both ways", dnat_both_ways, false, 0 },
		{ "dnat: a client's port cannot be used twice to a backend", dnat_conflict, false, 0 },
		{ "dsr: only the hop changes", dsr_changes_the_hop_only, false, 0 },
		{ "dsr: the middle of a connection is taken over", middle_is_taken_over, false, 0 },
		{ "dsr: MSS is clamped", mss_is_clamped, false, 0 },
		{ "not ours: passed as it came", not_ours, false, 0 },
		{ "off: passed as it came", off_passes_all, false, 0 },
		{ "a service of the connect hook alone", not_for_packets, false, 0 },
		{ "no backend", no_backend, false, 0 },
		{ "a backend goes down", backend_goes_down, false, 0 },
		{ "TTL and hop limit", ttl_is_used_up, false, 0 },
		{ "idle times", idle_times, false, 0 },
		{ "lengths that lie", lying_lengths, false, 0 },
		{ "padding", padding, false, 0 },
		{ "cut at each byte", truncated_anywhere, false, 0 },
	};

	return fx_main("packet: nat", tests, ARRAY_SIZE(tests));
}
