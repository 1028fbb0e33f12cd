// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One packet a row: what comes in, and what becomes of it. Each through XDP and TC, in IPv4 and IPv6, on tables of its
 * own; what comes out is compared byte by byte, and the counted reason with it. A row says how a packet of its way of
 * forwarding differs from an ordinary one: TCP, from CLIENT:40000 to SERVICE:80, ACK, TTL 64, no payload.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "packet.h"

#define NAT LB_FORWARD_NAT
#define DNAT LB_FORWARD_DNAT
#define DSR LB_FORWARD_DSR
#define IPIP LB_FORWARD_IPIP
#define GUE LB_FORWARD_GUE

struct row {
	const char *name;
	enum lb_forward forward;
	struct seg in;
	enum pk_reason reason; /* FORWARDED: as the way of forwarding does it */
	uint16_t mss;	       /* of what comes out; 0: as it was */
	int family;	       /* 0: both */
	bool xdp_only;
};

static const struct row rows[] = {
	{ "nat: a SYN", NAT, { .tcp_flags = TH_SYN }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: a SYN with data", NAT, { .tcp_flags = TH_SYN, .payload = 99 }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: a SYN with ECN's flags", NAT, { .tcp_flags = TH_SYN | 0xc0 }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: an MSS that fits", NAT, { .tcp_flags = TH_SYN, .mss = 1200 }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: an MSS for jumbo frames, IPv4", NAT, { .tcp_flags = TH_SYN, .mss = 8960 }, PK_FORWARDED, 1460, 4, 0 },
	{ "nat: an MSS for jumbo frames, IPv6", NAT, { .tcp_flags = TH_SYN, .mss = 8940 }, PK_FORWARDED, 1440, 6, 0 },
	{ "nat: an MSS at an odd byte, IPv4",
	  NAT,
	  { .tcp_flags = TH_SYN, .mss = 9000, .nops = 1 },
	  PK_FORWARDED,
	  1460,
	  4,
	  0 },
	{ "nat: an MSS at an odd byte, IPv6",
	  NAT,
	  { .tcp_flags = TH_SYN, .mss = 9000, .nops = 3 },
	  PK_FORWARDED,
	  1440,
	  6,
	  0 },
	{ "nat: TOS and DSCP stay", NAT, { .tcp_flags = TH_SYN, .tos = 0xb8 }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: the last hop but one", NAT, { .tcp_flags = TH_SYN, .ttl = 2 }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: the last hop", NAT, { .tcp_flags = TH_SYN, .ttl = 1 }, PK_TTL, 0, 0, 0 },
	{ "nat: an id, and it may be cut",
	  NAT,
	  { .tcp_flags = TH_SYN, .id = 77, .may_frag = true },
	  PK_FORWARDED,
	  0,
	  4,
	  0 },
	{ "nat: IP options, one word", NAT, { .tcp_flags = TH_SYN, .ip_opts = 4 }, PK_FORWARDED, 0, 4, 0 },
	{ "nat: IP options, all there may be", NAT, { .tcp_flags = TH_SYN, .ip_opts = 40 }, PK_FORWARDED, 0, 4, 0 },
	{ "nat: an extension header", NAT, { .tcp_flags = TH_SYN, .exts = 1 }, PK_FORWARDED, 0, 6, 0 },
	{ "nat: six extension headers", NAT, { .tcp_flags = TH_SYN, .exts = 6 }, PK_FORWARDED, 0, 6, 0 },
	{ "nat: seven are too many", NAT, { .tcp_flags = TH_SYN, .exts = 7 }, PK_NOT_OURS, 0, 6, 0 },
	{ "nat: a tag is taken off", NAT, { .tcp_flags = TH_SYN, .vlan = 0x2005 }, PK_FORWARDED, 0, 0, true },
	{ "nat: a tag without a network", NAT, { .tcp_flags = TH_SYN, .vlan = 0x2000 }, PK_NOT_IP, 0, 0, true },
	{ "nat: the middle of nothing", NAT, { .payload = 1 }, PK_NO_CONN, 0, 0, 0 },
	{ "nat: a reset of nothing", NAT, { .tcp_flags = TH_RST }, PK_NO_CONN, 0, 0, 0 },
	{ "nat: a FIN of nothing", NAT, { .tcp_flags = TH_FIN | TH_ACK }, PK_NO_CONN, 0, 0, 0 },
	{ "nat: an answer to nothing", NAT, { .tcp_flags = TH_SYN | TH_ACK }, PK_NO_CONN, 0, 0, 0 },
	{ "nat: UDP", NAT, { .proto = IPPROTO_UDP, .payload = 33 }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: UDP without a byte", NAT, { .proto = IPPROTO_UDP }, PK_FORWARDED, 0, 0, 0 },
	{ "nat: UDP of the size of the link, IPv4",
	  NAT,
	  { .proto = IPPROTO_UDP, .payload = 1472 },
	  PK_FORWARDED,
	  0,
	  4,
	  0 },
	{ "nat: UDP of the size of the link, IPv6",
	  NAT,
	  { .proto = IPPROTO_UDP, .payload = 1452 },
	  PK_FORWARDED,
	  0,
	  6,
	  0 },
	{ "nat: one byte more, that may be cut",
	  NAT,
	  { .proto = IPPROTO_UDP, .payload = 1473, .may_frag = true },
	  PK_TOO_BIG,
	  0,
	  4,
	  0 },
	{ "nat: UDP without a checksum",
	  NAT,
	  { .proto = IPPROTO_UDP, .payload = 7, .no_check = true },
	  PK_FORWARDED,
	  0,
	  4,
	  0 },
	{ "nat: the first fragment",
	  NAT,
	  { .proto = IPPROTO_UDP, .payload = 500, .frag_len = 200, .frag_id = 9 },
	  PK_FORWARDED,
	  0,
	  0,
	  0 },
	{ "nat: a later fragment alone",
	  NAT,
	  { .proto = IPPROTO_UDP, .payload = 500, .frag_at = 200, .frag_len = 200, .frag_id = 8 },
	  PK_FRAGMENT,
	  0,
	  0,
	  0 },
	{ "nat: another port", NAT, { .tcp_flags = TH_SYN, .dport = 81 }, PK_NOT_OURS, 0, 0, 0 },
	{ "nat: another address", NAT, { .tcp_flags = TH_SYN, .dst = SERVICE2 }, PK_NOT_OURS, 0, 0, 0 },
	{ "nat: the balancer's own address", NAT, { .tcp_flags = TH_SYN, .dst = OWN }, PK_NOT_OURS, 0, 0, 0 },
	{ "nat: the backend's own address",
	  NAT,
	  { .tcp_flags = TH_SYN, .dst = BACKEND1, .dport = 8080 },
	  PK_NOT_OURS,
	  0,
	  0,
	  0 },
	{ "nat: SCTP", NAT, { .proto = 132, .payload = 40 }, PK_NOT_OURS, 0, 0, 0 },
	{ "nat: GRE", NAT, { .proto = 47, .payload = 40 }, PK_NOT_OURS, 0, 0, 0 },
	{ "nat: ESP", NAT, { .proto = 50, .payload = 40 }, PK_NOT_OURS, 0, 0, 0 },
	{ "dnat: a SYN", DNAT, { .tcp_flags = TH_SYN }, PK_FORWARDED, 0, 0, 0 },
	{ "dnat: the middle is taken over", DNAT, { .payload = 10 }, PK_FORWARDED, 0, 0, 0 },
	{ "dnat: an MSS for jumbo frames", DNAT, { .tcp_flags = TH_SYN, .mss = 9000 }, PK_FORWARDED, 1460, 4, 0 },
	{ "dnat: UDP", DNAT, { .proto = IPPROTO_UDP, .payload = 1 }, PK_FORWARDED, 0, 0, 0 },
	{ "dnat: UDP without a checksum",
	  DNAT,
	  { .proto = IPPROTO_UDP, .payload = 1, .no_check = true },
	  PK_FORWARDED,
	  0,
	  4,
	  0 },
	{ "dnat: IP options", DNAT, { .tcp_flags = TH_SYN, .ip_opts = 12 }, PK_FORWARDED, 0, 4, 0 },
	{ "dnat: extension headers", DNAT, { .tcp_flags = TH_SYN, .exts = 3 }, PK_FORWARDED, 0, 6, 0 },
	{ "dnat: the last hop", DNAT, { .tcp_flags = TH_SYN, .ttl = 1 }, PK_TTL, 0, 0, 0 },
	{ "dsr: a SYN", DSR, { .tcp_flags = TH_SYN }, PK_FORWARDED, 0, 0, 0 },
	{ "dsr: the middle is taken over", DSR, { .payload = 1000 }, PK_FORWARDED, 0, 0, 0 },
	{ "dsr: a reset", DSR, { .tcp_flags = TH_RST }, PK_FORWARDED, 0, 0, 0 },
	{ "dsr: UDP", DSR, { .proto = IPPROTO_UDP, .payload = 300 }, PK_FORWARDED, 0, 0, 0 },
	{ "dsr: IP options", DSR, { .tcp_flags = TH_SYN, .ip_opts = 20 }, PK_FORWARDED, 0, 4, 0 },
	{ "dsr: extension headers", DSR, { .tcp_flags = TH_SYN, .exts = 2 }, PK_FORWARDED, 0, 6, 0 },
	{ "dsr: a tag is taken off", DSR, { .tcp_flags = TH_SYN, .vlan = 9 }, PK_FORWARDED, 0, 0, true },
	{ "dsr: TOS stays", DSR, { .tcp_flags = TH_SYN, .tos = 0x28 }, PK_FORWARDED, 0, 0, 0 },
	{ "dsr: the last hop", DSR, { .tcp_flags = TH_SYN, .ttl = 1 }, PK_TTL, 0, 0, 0 },
	{ "ipip: a SYN", IPIP, { .tcp_flags = TH_SYN }, PK_FORWARDED, 0, 4, 0 },
	{ "ipip: TOS outside too", IPIP, { .tcp_flags = TH_SYN, .tos = 0x48 }, PK_FORWARDED, 0, 4, 0 },
	{ "ipip: may be cut, outside too",
	  IPIP,
	  { .tcp_flags = TH_SYN, .may_frag = true, .id = 513 },
	  PK_FORWARDED,
	  0,
	  4,
	  0 },
	{ "ipip: an MSS with room for the tunnel", IPIP, { .tcp_flags = TH_SYN, .mss = 1460 }, PK_FORWARDED, 1440, 4, 0 },
	{ "ipip: the largest that fits", IPIP, { .payload = 1440 }, PK_FORWARDED, 0, 4, 0 },
	{ "ipip: UDP", IPIP, { .proto = IPPROTO_UDP, .payload = 64 }, PK_FORWARDED, 0, 4, 0 },
	{ "ipip: IP options", IPIP, { .payload = 5, .ip_opts = 8 }, PK_FORWARDED, 0, 4, 0 },
	{ "ipip: a tag is taken off", IPIP, { .payload = 5, .vlan = 0x4007 }, PK_FORWARDED, 0, 4, true },
	{ "ipip: the last hop", IPIP, { .ttl = 1 }, PK_TTL, 0, 0, 0 },
	{ "gue: the last hop", GUE, { .ttl = 1 }, PK_TTL, 0, 0, 0 },
	{ "gue: another port", GUE, { .dport = 6080 }, PK_NOT_OURS, 0, 0, 0 },
};

static const struct row *row;

static void ordinary(struct seg *s)
{
	s->src = s->src ? s->src : CLIENT;
	s->dst = s->dst ? s->dst : SERVICE;
	s->sport = s->sport ? s->sport : 40000;
	s->dport = s->dport ? s->dport : 80;
}

/* What is to come out of a packet that is forwarded. nat's port is the one in the record. */
static void forwarded(const struct seg *in)
{
	struct outer outer = {
		.src = OWN, .dst = BACKEND1, .family = fx.family, .tos = in->tos, .may_frag = in->may_frag, .id = in->id
	};
	struct seg out = *in;
	struct pkt p = {}, got = {};

	/* Makes the record, from which the port is known; and then again, with the record that there is. */
	pkt_build(&p, in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_FORWARDED);
	out.ttl = (uint8_t)((in->ttl ? in->ttl : 64) - 1);
	out.vlan = 0;
	out.mss = row->mss ? row->mss : in->mss;
	if (row->forward <= DNAT) {
		out.dst = BACKEND1;
		out.dport = 8080;
	}
	if (row->forward == NAT) {
		out.src = OWN;
		out.sport = ntohs(fx_conn()->nport);
	}
	if (row->forward == DSR)
		out.l2_dst = BACKEND1;
	if (row->forward == IPIP)
		sent_wrapped(in, &out, &outer, PK_FORWARDED);
	else
		sent(in, &out, PK_FORWARDED);
	assert_int_equal(fx_conns(), 1);
	assert_int_equal(fx_backend_conns(in->proto == IPPROTO_UDP ? 8 : 4), 1);
}

static void run_row(void)
{
	static const enum who one[] = { BACKEND1, NOBODY };
	uint16_t port = row->forward <= DNAT ? 8080 : 80;
	struct seg in = row->in;

	fx_service(1, SERVICE, 80, IPPROTO_TCP, row->forward, LB_ROUND_ROBIN, one, port);
	fx_service(2, SERVICE, 80, IPPROTO_UDP, row->forward, LB_ROUND_ROBIN, one, port);
	ordinary(&in);
	if (row->reason == PK_FORWARDED)
		forwarded(&in);
	else
		kept(&in, row->reason);
}

/* A test has no argument of its own: one function that goes through the table, a line each. */
static void all_rows(void)
{
	size_t n = 0;

	for (row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		if ((row->family && row->family != fx.family) || (row->xdp_only && fx.hook != FX_XDP))
			continue;
		fx_reset();
		print_message("  %s\n", row->name);
		run_row();
		n++;
	}
	print_message("%zu rows\n", n);
	assert_true(n > ARRAY_SIZE(rows) / 2);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "rows", all_rows, false, 0 },
	};

	return fx_main("packet: rows", tests, ARRAY_SIZE(tests));
}
