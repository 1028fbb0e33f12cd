// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SYN cookies: services whose SYNs are answered by the programs, and the connections that are made by the ACK. Sequence
 * numbers are the kernel's, so a test reads the cookie from the first answer, and builds the rest from that.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "packet.h"

#define ISN 0x01020304U /* of clients, as packets are built */
#define BACKEND_ISN 0xfffffff0U

static const enum who one[] = { BACKEND1, NOBODY };
static const enum who two[] = { BACKEND1, BACKEND2, NOBODY };

static struct lb_plan web(uint16_t flags)
{
	struct lb_plan plan =
		fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, one, 8080);

	plan.flags |= flags;
	fx_plan(&plan);
	return plan;
}

static const struct seg syn = {
	.src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 80, .tcp_flags = TH_SYN, .mss = 1460
};

/* The sequence number of what comes out for a packet. */
static uint32_t cookie_for(const struct seg *in)
{
	struct pkt p = {}, got = {};
	uint32_t seq;

	pkt_build(&p, in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_COOKIE_SENT);
	memcpy(&seq, got.b + pkt_l3(&got) + (fx.family == 4 ? 20 : 40) + 4, sizeof(seq));
	return ntohl(seq);
}

static struct seg ack_to(uint32_t cookie)
{
	struct seg s = syn;

	s.tcp_flags = TH_ACK;
	s.mss = 0;
	s.numbered = true;
	s.seq = ISN + 1;
	s.ack = cookie + 1;
	s.window = 501;
	return s;
}

/* The SYN that an ACK becomes. */
static struct seg syn_of(uint16_t mss)
{
	return (struct seg){ .src = OWN,
			     .dst = BACKEND1,
			     .sport = fx_conns() == 1 ? ntohs(fx_conn()->nport) : 0,
			     .dport = 8080,
			     .tcp_flags = TH_SYN,
			     .mss = mss,
			     .numbered = true,
			     .seq = ISN,
			     .window = 501,
			     .ttl = 63 };
}

/* Runs a packet whose result is not looked at. */
static void run(const struct seg *in, enum pk_reason reason)
{
	struct pkt p = {}, got = {};

	pkt_build(&p, in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), reason);
}

/* What TC sends by bpf_clone_redirect() is seen at the other end of the link. */
static int tap_open(void)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex("pk1") };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

/* Waits for this packet; the kernel's own are left aside. */
static void tap_expect(int fd, const struct seg *seg)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct pkt want = {}, got = {};

	pkt_build(&want, seg);
	pkt_ether(&want, OWN, seg->dst);
	while (poll(&p, 1, 10000) == 1) {
		ssize_t n = recv(fd, got.b, sizeof(got.b), 0);

		assert_true(n > 0);
		if ((size_t)n == want.n && !memcmp(got.b, want.b, want.n))
			return;
	}
	fail_msg("the packet was not sent");
}

/* The backend's answer: in XDP it is passed on to TC, which sends two packets. */
static void meet(uint32_t cookie)
{
	struct seg back = { .src = BACKEND1,
			    .dst = OWN,
			    .sport = 8080,
			    .dport = ntohs(fx_conn()->nport),
			    .tcp_flags = TH_SYN | TH_ACK,
			    .mss = 1400,
			    .numbered = true,
			    .seq = BACKEND_ISN,
			    .ack = ISN + 1,
			    .window = 65160 };
	struct seg ack = { .src = OWN,
			   .dst = BACKEND1,
			   .sport = back.dport,
			   .dport = 8080,
			   .numbered = true,
			   .seq = ISN + 1,
			   .ack = BACKEND_ISN + 1,
			   .window = 501 };
	struct seg opened = { .src = SERVICE,
			      .dst = CLIENT,
			      .sport = 80,
			      .dport = 40000,
			      .numbered = true,
			      .seq = cookie + 1,
			      .ack = ISN + 1,
			      .window = 65160 };
	enum fx_hook hook = fx.hook;
	_cleanup_close_ int tap = tap_open();

	if (hook == FX_XDP)
		kept(&back, PK_TO_TC);
	fx.hook = FX_TC;
	sent(&back, &opened, PK_RETURNED);
	fx.hook = hook;
	tap_expect(tap, &ack);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
}

/* A connection that both sides know of. Returns the cookie. */
static uint32_t begin(void)
{
	uint32_t cookie = cookie_for(&syn);
	struct seg ack = ack_to(cookie);

	run(&ack, PK_COOKIE_ACCEPTED);
	meet(cookie);
	return cookie;
}

static void answered(void)
{
	struct seg in = syn, out = {
		.src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .tcp_flags = TH_SYN | TH_ACK, .mss = 1460
	};

	web(LB_PLAN_COOKIES);
	if (fx.family == 6)
		out.mss = 1440;
	out.numbered = true;
	out.ack = ISN + 1;
	out.seq = cookie_for(&in);
	sent(&in, &out, PK_COOKIE_SENT);
	/* Data of TCP Fast Open is not taken. */
	in.payload = 300;
	sent(&in, &out, PK_COOKIE_SENT);
	in.payload = 0;
	/* Other options before it, at odd bytes too; none at all; one that is smaller, and one that is larger. */
	in.nops = 3;
	sent(&in, &out, PK_COOKIE_SENT);
	in.nops = 0;
	in.mss = 0;
	out.mss = fx.family == 4 ? 536 : 1220;
	out.seq = cookie_for(&in);
	sent(&in, &out, PK_COOKIE_SENT);
	in.mss = out.mss = 1300;
	out.seq = cookie_for(&in);
	sent(&in, &out, PK_COOKIE_SENT);
	in.mss = 8960;
	out.mss = fx.family == 4 ? 1460 : 1440;
	out.seq = cookie_for(&in);
	sent(&in, &out, PK_COOKIE_SENT);
	assert_int_equal(fx_conns(), 0);
	assert_int_equal(fx_service_conns(1), 0);
}

static void answered_vlan(void)
{
	struct seg in = syn, out = {
		.src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .tcp_flags = TH_SYN | TH_ACK, .mss = 1460
	};
	struct pkt p = {}, got = {};

	web(LB_PLAN_COOKIES);
	in.vlan = out.vlan = 0x6007;
	in.mss = out.mss = fx.family == 4 ? 1460 : 1440;
	out.numbered = true;
	out.ack = ISN + 1;
	pkt_build(&p, &in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_COOKIE_SENT);
	memcpy(&out.seq, got.b + 18 + (fx.family == 4 ? 20 : 40) + 4, sizeof(out.seq));
	out.seq = ntohl(out.seq);
	sent(&in, &out, PK_COOKIE_SENT);
}

/* What no answer can be made of in place is dropped, and not let through to a backend. */
static void odd_ones(void)
{
	struct seg in = syn;

	web(LB_PLAN_COOKIES);
	if (fx.family == 4)
		in.ip_opts = 8;
	else
		in.exts = 1;
	kept(&in, PK_NO_COOKIE);
	in = syn;
	in.tcp_flags = TH_SYN | TH_FIN;
	kept(&in, PK_NO_COOKIE);
	in.tcp_flags = TH_SYN | TH_RST;
	kept(&in, PK_NO_COOKIE);
	assert_int_equal(fx_conns(), 0);
}

/* Each size comes back out of the cookie, rounded down. */
static void made(void)
{
	static const uint16_t v4[][2] = { { 500, 536 },	  { 536, 536 },	  { 1299, 536 },  { 1300, 1300 },
					  { 1399, 1300 }, { 1400, 1400 }, { 1459, 1400 }, { 1460, 1460 } };
	static const uint16_t v6[][2] = { { 1000, 1220 }, { 1220, 1220 }, { 1359, 1220 }, { 1360, 1360 },
					  { 1439, 1360 }, { 1440, 1440 }, { 8960, 1440 } };
	size_t n = fx.family == 4 ? ARRAY_SIZE(v4) : ARRAY_SIZE(v6);

	for (size_t i = 0; i < n; i++) {
		struct seg in = syn, out, ack;

		fx_reset();
		web(LB_PLAN_COOKIES);
		in.mss = fx.family == 4 ? v4[i][0] : v6[i][0];
		ack = ack_to(cookie_for(&in));
		run(&ack, PK_COOKIE_ACCEPTED);
		assert_int_equal(fx_conn()->state, PK_STATE_NEW);
		assert_int_equal(fx_backend_conns(4), 1);
		/* The same again, as if the first had been lost; what the client sends before it may is not let through. */
		out = syn_of(fx.family == 4 ? v4[i][1] : v6[i][1]);
		sent(&ack, &out, PK_COOKIE_ACCEPTED);
		ack.payload = 77;
		sent(&ack, &out, PK_COOKIE_ACCEPTED);
		assert_int_equal(fx_conns(), 1);
		assert_int_equal(fx_service_conns(1), 1);
	}
}

/* The first that arrives is not the ACK, but a probe of the window, with the number before: whatever the size. */
static void made_by_a_probe(void)
{
	static const uint16_t sizes[] = { 1220, 1360, 1400, 1440, 1460, 8940 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct seg in = syn, ack, out;
		uint32_t isn;

		fx_reset();
		web(LB_PLAN_COOKIES);
		in.mss = sizes[i];
		ack = ack_to(cookie_for(&in));
		ack.seq--;
		run(&ack, PK_COOKIE_ACCEPTED);
		isn = ack.seq;
		ack.seq++;
		out = syn_of(fx.family == 4 ? (sizes[i] < 1300 ? 536 : sizes[i] < 1400 ? 1300 : sizes[i] < 1460 ? 1400 : 1460) :
					      (sizes[i] < 1360 ? 1220 : sizes[i] < 1440 ? 1360 : 1440));
		assert_int_equal(out.seq, isn);
		sent(&ack, &out, PK_COOKIE_ACCEPTED);
		ack.seq--;
		sent(&ack, &out, PK_COOKIE_ACCEPTED);
	}
}

static void refused(void)
{
	struct seg ack;
	uint32_t cookie;

	web(LB_PLAN_COOKIES);
	/* Nobody was sent one. */
	ack = ack_to(0x12345678);
	kept(&ack, PK_NO_CONN);
	cookie = cookie_for(&syn);
	kept(&ack, PK_COOKIE_REFUSED);
	ack = ack_to(cookie + 1000);
	kept(&ack, PK_COOKIE_REFUSED);
	ack = ack_to(cookie);
	ack.seq += 100;
	kept(&ack, PK_COOKIE_REFUSED);
	ack = ack_to(cookie);
	ack.sport++;
	kept(&ack, PK_COOKIE_REFUSED);
	ack = ack_to(cookie);
	ack.src = CLIENT2;
	kept(&ack, PK_COOKIE_REFUSED);
	ack = ack_to(cookie);
	ack.tcp_flags = TH_ACK | TH_RST;
	kept(&ack, PK_NO_CONN);
	ack.tcp_flags = TH_ACK | TH_SYN;
	kept(&ack, PK_NO_CONN);
	assert_int_equal(fx_conns(), 0);
	/* And the right one is right. */
	ack = ack_to(cookie);
	run(&ack, PK_COOKIE_ACCEPTED);
}

static void numbers(void)
{
	struct seg in, out, back, home;
	uint32_t cookie;

	web(LB_PLAN_COOKIES);
	cookie = begin();
	in = ack_to(cookie);
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
	meet(cookie);
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

	web(LB_PLAN_COOKIES);
	in = ack_to(begin());
	in.tcp_flags = TH_ACK | TH_FIN;
	run(&in, PK_FORWARDED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSING);
	back = (struct seg){ .src = BACKEND1,
			     .dst = OWN,
			     .sport = 8080,
			     .dport = ntohs(fx_conn()->nport),
			     .tcp_flags = TH_ACK | TH_FIN };
	run(&back, PK_RETURNED);
	assert_int_equal(fx_conn()->state, PK_STATE_CLOSED);
	/* Who comes again gets another cookie, and the record goes. */
	(void)cookie_for(&syn);
	assert_int_equal(fx_conns(), 0);
}

/* The backend refuses: the client, who believes to be connected, is told with the number that it expects. */
static void reset_by_backend(void)
{
	uint32_t cookie;
	struct seg ack, back, home;

	web(LB_PLAN_COOKIES);
	cookie = cookie_for(&syn);
	ack = ack_to(cookie);
	run(&ack, PK_COOKIE_ACCEPTED);
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

	web(LB_PLAN_COOKIES);
	ack = ack_to(cookie_for(&syn));
	run(&ack, PK_COOKIE_ACCEPTED);
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

	web(LB_PLAN_COOKIES);
	ack = ack_to(cookie_for(&syn));
	run(&ack, PK_COOKIE_ACCEPTED);
	/* Once more, with another number perhaps: it is answered as ever. */
	(void)cookie_for(&syn);
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

/* The backend is taken for down before it has answered: another one gets the SYN. */
static void another_backend(void)
{
	struct lb_plan plan = fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, two, 8080);
	struct seg ack, out;

	plan.flags |= LB_PLAN_COOKIES;
	fx_plan(&plan);
	ack = ack_to(cookie_for(&syn));
	run(&ack, PK_COOKIE_ACCEPTED);
	assert_int_equal(fx_conn()->backend, 4);
	fx_backend_flags(4, LB_BACKEND_DOWN);
	run(&ack, PK_COOKIE_ACCEPTED);
	assert_int_equal(fx_conn()->backend, 5);
	out = syn_of(fx.family == 4 ? 1460 : 1440);
	out.dst = BACKEND2;
	sent(&ack, &out, PK_COOKIE_ACCEPTED);
}

/* An ICMP error quotes what the client was sent: the backend gets it in its own numbers. */
static void icmp_quote(void)
{
	struct seg home = { .src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .numbered = true, .payload = 99 };
	struct seg back = { .src = BACKEND1, .dst = OWN, .sport = 8080, .numbered = true, .payload = 99 };
	struct seg in = { .src = ROUTER,
			  .dst = SERVICE,
			  .proto = IPPROTO_ICMP,
			  .icmp_type = fx.family == 4 ? ICMP_DEST_UNREACH : 1,
			  .icmp_code = fx.family == 4 ? ICMP_HOST_UNREACH : 3,
			  .quote_len = fx.family == 4 ? 28 : 48 };
	struct seg out = in;
	struct pkt quote = {}, want = {};

	web(LB_PLAN_COOKIES);
	home.seq = begin() + 1 + 2000;
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

/* Under a flood, and not before: more than PK_FLOOD_SYNS new ones within a tick, of which too few were completed. */
static void flood(void)
{
	struct seg in = syn;

	web(LB_PLAN_COOKIES_AUTO);
	for (unsigned int i = 0; i < PK_FLOOD_SYNS; i++) {
		in.sport = (uint16_t)(1024 + i);
		run(&in, PK_FORWARDED);
	}
	in.sport++;
	(void)cookie_for(&in);
	in.sport++;
	(void)cookie_for(&in);
}

/* As many that are completed are none. */
static void no_flood(void)
{
	struct seg in = syn, back = { .src = BACKEND1, .dst = OWN, .sport = 8080, .tcp_flags = TH_SYN | TH_ACK };

	web(LB_PLAN_COOKIES_AUTO);
	for (unsigned int i = 0; i < 2 * PK_FLOOD_SYNS; i++) {
		struct pkt p = {}, got = {};
		uint16_t port;

		in.sport = (uint16_t)(1024 + i);
		in.tcp_flags = TH_SYN;
		pkt_build(&p, &in);
		(void)fx_run(&p, &got);
		assert_int_equal(fx_reason(), PK_FORWARDED);
		memcpy(&port, got.b + pkt_l3(&got) + (fx.family == 4 ? 20 : 40), sizeof(port));
		back.dport = ntohs(port);
		run(&back, PK_RETURNED);
		in.tcp_flags = TH_ACK;
		run(&in, PK_FORWARDED);
	}
}

/* Services that do not ask for it, and other ways of forwarding, go on as ever. */
static void off(void)
{
	struct lb_plan plan;
	struct seg in = syn;

	web(0);
	in.mss = 0;
	for (unsigned int i = 0; i < PK_FLOOD_SYNS + 5; i++) {
		in.sport = (uint16_t)(1024 + i);
		run(&in, PK_FORWARDED);
	}
	plan = fx_service(2, SERVICE2, 80, IPPROTO_TCP, LB_FORWARD_DNAT, LB_ROUND_ROBIN, one, 8080);
	plan.flags |= LB_PLAN_COOKIES;
	fx_plan(&plan);
	in.dst = SERVICE2;
	run(&in, PK_FORWARDED);
}

/* Limits are for who has answered; who may not come is not answered at all. */
static void limits(void)
{
	struct lb_plan plan = web(LB_PLAN_COOKIES);
	struct seg in = syn, ack;

	plan.quota = 1;
	fx_plan(&plan);
	ack = ack_to(cookie_for(&in));
	run(&ack, PK_COOKIE_ACCEPTED);
	in.sport = ack.sport = 40001;
	ack.ack = cookie_for(&in) + 1;
	kept(&ack, PK_QUOTA);
	assert_int_equal(fx_conns(), 1);
	fx.ctl->on |= PK_ON_ACL | PK_ON_ACL_ALLOW;
	in.sport = 40002;
	kept(&in, PK_DENIED);
}

/* Who has answered a cookie keeps the record until it is too old. */
static void kept_under_flood(void)
{
	struct seg ack;

	web(LB_PLAN_COOKIES);
	ack = ack_to(cookie_for(&syn));
	run(&ack, PK_COOKIE_ACCEPTED);
	for (size_t i = 0; i < fx.buckets; i++)
		for (unsigned int w = 0; w < PK_WAYS; w++)
			if (fx.table[i].conn[w].state != PK_STATE_FREE)
				assert_false(fx.table[i].flags & 1U << w);
	fx_age(fx_conn(), PK_TICKS_NEW + 1);
	assert_int_equal(fx_sweep().freed, 1);
	assert_int_equal(fx_service_conns(1), 0);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "a SYN is answered", answered, false, 0 },
		{ "a SYN is answered with its VLAN tag", answered_vlan, true, 0 },
		{ "a SYN that cannot be answered in place", odd_ones, false, 0 },
		{ "an ACK becomes a SYN", made, false, 0 },
		{ "a probe of the window becomes a SYN", made_by_a_probe, false, 0 },
		{ "a wrong cookie", refused, false, 0 },
		{ "sequence numbers", numbers, false, 0 },
		{ "closed by both", closed_by_both, false, 0 },
		{ "the backend refuses", reset_by_backend, false, 0 },
		{ "the backend knows an older one", old_connection, false, 0 },
		{ "the client resets", reset_by_client, false, 0 },
		{ "the backend goes down", another_backend, false, 0 },
		{ "what an ICMP error quotes", icmp_quote, false, 0 },
		{ "a flood", flood, false, 0 },
		{ "no flood", no_flood, false, 0 },
		{ "off", off, false, 0 },
		{ "limits", limits, false, 0 },
		{ "the record stays", kept_under_flood, false, 0 },
	};

	return fx_main("packets, SYN cookies", tests, ARRAY_SIZE(tests));
}
