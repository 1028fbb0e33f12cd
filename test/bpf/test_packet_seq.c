// SPDX-License-Identifier: GPL-2.0-or-later
/* Connections that were made by a SYN cookie: their sequence numbers, and how they end. */
#include <arpa/inet.h>
#include <netinet/ip_icmp.h>

#include "packet_cookie.h"

static void numbers(void)
{
	struct seg in, out, back, home;
	uint32_t cookie;

	cookie_web(LB_PLAN_COOKIES);
	cookie = cookie_begin();
	in = cookie_ack(cookie);
	in.payload = 1001;
	in.tcp_flags = TH_ACK | TH_PUSH;
	out = in;
	out.src = OWN;
	out.dst = BACKEND1;
	out.sport = ntohs(fx_conn()->nport);
	out.dport = 8080;
	out.ack = BACKEND_ISN + 1;
	out.ttl = 63;
	sent(&in, &out, PK_FORWARDED);
	/* Beyond where 32 bits end. */
	in.ack += 4000;
	out.ack += 4000;
	in.window = out.window = 0xffff;
	sent(&in, &out, PK_FORWARDED);
	back = (struct seg){ .src = BACKEND1,
			     .dst = OWN,
			     .sport = 8080,
			     .dport = out.sport,
			     .payload = 1400,
			     .numbered = true,
			     .seq = BACKEND_ISN + 1,
			     .ack = ISN + 1002,
			     .window = 400 };
	home = back;
	home.src = SERVICE;
	home.dst = CLIENT;
	home.sport = 80;
	home.dport = 40000;
	home.seq = cookie + 1;
	home.ttl = 63;
	sent(&back, &home, PK_RETURNED);
	back.seq += 5000;
	home.seq += 5000;
	sent(&back, &home, PK_RETURNED);
	/* The SYN-ACK again, for the ACK was lost. */
	cookie_meet(cookie);
	/* A reset has nothing that it acknowledges. */
	in.payload = out.payload = 0;
	in.tcp_flags = out.tcp_flags = TH_RST;
	in.ack = out.ack = 0;
	sent(&in, &out, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
}

static void closed_by_both(void)
{
	struct seg in, back;

	cookie_web(LB_PLAN_COOKIES);
	in = cookie_ack(cookie_begin());
	in.tcp_flags = TH_ACK | TH_FIN;
	cookie_run(&in, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSING);
	back = (struct seg){ .src = BACKEND1,
			     .dst = OWN,
			     .sport = 8080,
			     .dport = ntohs(fx_conn()->nport),
			     .tcp_flags = TH_ACK | TH_FIN };
	cookie_run(&back, PK_RETURNED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
	/* Who comes again gets another cookie, and the record goes. */
	(void)cookie_for(&cookie_syn);
	assert_int_equal(fx_conns(), 0);
}

/* The backend refuses: the client, who believes to be connected, is told with the number that it expects. */
static void reset_by_backend(void)
{
	uint32_t cookie;
	struct seg ack, back, home;

	cookie_web(LB_PLAN_COOKIES);
	cookie = cookie_for(&cookie_syn);
	ack = cookie_ack(cookie);
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	back = (struct seg){ .src = BACKEND1,
			     .dst = OWN,
			     .sport = 8080,
			     .dport = ntohs(fx_conn()->nport),
			     .tcp_flags = TH_RST | TH_ACK,
			     .numbered = true,
			     .ack = ISN + 1 };
	home = back;
	home.src = SERVICE;
	home.dst = CLIENT;
	home.sport = 80;
	home.dport = 40000;
	home.seq = cookie + 1;
	home.ttl = 63;
	sent(&back, &home, PK_RETURNED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
}

/* A backend that still knows an older connection with that port says so, and is told that it is over. */
static void old_connection(void)
{
	struct seg ack, back, out;

	cookie_web(LB_PLAN_COOKIES);
	ack = cookie_ack(cookie_for(&cookie_syn));
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	back = (struct seg){ .src = BACKEND1,
			     .dst = OWN,
			     .sport = 8080,
			     .dport = ntohs(fx_conn()->nport),
			     .numbered = true,
			     .seq = 77777,
			     .ack = 88888,
			     .window = 500 };
	out = (struct seg){ .src = OWN,
			    .dst = BACKEND1,
			    .sport = back.dport,
			    .dport = 8080,
			    .tcp_flags = TH_RST,
			    .numbered = true,
			    .seq = 88888 };
	sent(&back, &out, PK_FORWARDED);
}

/* Reset by the client before there is a backend; a SYN of the same port then is a new one. */
static void reset_by_client(void)
{
	struct seg ack, out;

	cookie_web(LB_PLAN_COOKIES);
	ack = cookie_ack(cookie_for(&cookie_syn));
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	/* Once more, with another number perhaps: it is answered as ever. */
	(void)cookie_for(&cookie_syn);
	assert_int_equal(fx_conns(), 1);
	ack.tcp_flags = TH_RST;
	ack.ack = 0;
	out = ack;
	out.src = OWN;
	out.dst = BACKEND1;
	out.sport = ntohs(fx_conn()->nport);
	out.dport = 8080;
	out.ttl = 63;
	sent(&ack, &out, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
}

/* An ICMP error quotes what the client was sent: the backend gets it in its own numbers. */
static void icmp_quote(void)
{
	struct seg home = {
		.src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .numbered = true, .payload = 99
	};
	struct seg back = { .src = BACKEND1, .dst = OWN, .sport = 8080, .numbered = true, .payload = 99 };
	struct seg in = { .src = ROUTER,
			  .dst = SERVICE,
			  .proto = IPPROTO_ICMP,
			  .icmp_type = fx.family == 4 ? ICMP_DEST_UNREACH : 1,
			  .icmp_code = fx.family == 4 ? ICMP_HOST_UNREACH : 3,
			  .quote_len = fx.family == 4 ? 28 : 48 };
	struct seg out = in;
	struct pkt quote = {}, want = {};

	cookie_web(LB_PLAN_COOKIES);
	home.seq = cookie_begin() + 1 + 2000;
	back.seq = BACKEND_ISN + 1 + 2000;
	back.dport = ntohs(fx_conn()->nport);
	pkt_build(&quote, &home);
	pkt_build(&want, &back);
	in.quote = &quote;
	out.quote = &want;
	out.dst = BACKEND1;
	out.ttl = 63;
	sent(&in, &out, PK_ICMP_STEERED);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "sequence numbers", numbers, false, 0 },
		{ "closed by both", closed_by_both, false, 0 },
		{ "the backend refuses", reset_by_backend, false, 0 },
		{ "the backend knows an older one", old_connection, false, 0 },
		{ "the client resets", reset_by_client, false, 0 },
		{ "what an ICMP error quotes", icmp_quote, false, 0 },
	};

	return fx_main("packets, connections made by SYN cookies", tests, ARRAY_SIZE(tests));
}
