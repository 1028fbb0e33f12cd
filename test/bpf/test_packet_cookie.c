// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SYN cookies: services whose SYNs are answered by the programs, and the connections that are made by the ACK. Sequence
 * numbers are the kernel's, so a test reads the cookie from the first answer, and builds the rest from that.
 */
#include <arpa/inet.h>

#include "packet_cookie.h"

static const enum who one[] = { BACKEND1, NOBODY };
static const enum who two[] = { BACKEND1, BACKEND2, NOBODY };

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

static void answered(void)
{
	struct seg in = cookie_syn, out = {
		.src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .tcp_flags = TH_SYN | TH_ACK, .mss = 1460
	};

	cookie_web(LB_PLAN_COOKIES);
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
	struct seg in = cookie_syn, out = {
		.src = SERVICE, .dst = CLIENT, .sport = 80, .dport = 40000, .tcp_flags = TH_SYN | TH_ACK, .mss = 1460
	};
	struct pkt p = {}, got = {};

	cookie_web(LB_PLAN_COOKIES);
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
	struct seg in = cookie_syn;

	cookie_web(LB_PLAN_COOKIES);
	if (fx.family == 4)
		in.ip_opts = 8;
	else
		in.exts = 1;
	kept(&in, PK_NO_COOKIE);
	in = cookie_syn;
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
		struct seg in = cookie_syn, out, ack;

		fx_reset();
		cookie_web(LB_PLAN_COOKIES);
		in.mss = fx.family == 4 ? v4[i][0] : v6[i][0];
		ack = cookie_ack(cookie_for(&in));
		cookie_run(&ack, PK_COOKIE_ACCEPTED);
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
		struct seg in = cookie_syn, ack, out;
		uint32_t isn;

		fx_reset();
		cookie_web(LB_PLAN_COOKIES);
		in.mss = sizes[i];
		ack = cookie_ack(cookie_for(&in));
		ack.seq--;
		cookie_run(&ack, PK_COOKIE_ACCEPTED);
		isn = ack.seq;
		ack.seq++;
		out = syn_of(fx.family == 4 ? (sizes[i] < 1300 ? 536 :
					       sizes[i] < 1400 ? 1300 :
					       sizes[i] < 1460 ? 1400 :
								 1460) :
					      (sizes[i] < 1360 ? 1220 :
					       sizes[i] < 1440 ? 1360 :
								 1440));
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

	cookie_web(LB_PLAN_COOKIES);
	/* Nobody was sent one. */
	ack = cookie_ack(0x12345678);
	kept(&ack, PK_NO_CONN);
	cookie = cookie_for(&cookie_syn);
	kept(&ack, PK_COOKIE_REFUSED);
	ack = cookie_ack(cookie + 1000);
	kept(&ack, PK_COOKIE_REFUSED);
	ack = cookie_ack(cookie);
	ack.seq += 100;
	kept(&ack, PK_COOKIE_REFUSED);
	ack = cookie_ack(cookie);
	ack.sport++;
	kept(&ack, PK_COOKIE_REFUSED);
	ack = cookie_ack(cookie);
	ack.src = CLIENT2;
	kept(&ack, PK_COOKIE_REFUSED);
	ack = cookie_ack(cookie);
	ack.tcp_flags = TH_ACK | TH_RST;
	kept(&ack, PK_NO_CONN);
	ack.tcp_flags = TH_ACK | TH_SYN;
	kept(&ack, PK_NO_CONN);
	assert_int_equal(fx_conns(), 0);
	/* And the right one is right. */
	ack = cookie_ack(cookie);
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
}

/* Under a flood, and not before: more than PK_FLOOD_SYNS new ones within a tick, of which too few were completed. */
static void flood(void)
{
	struct seg in = cookie_syn;

	cookie_web(LB_PLAN_COOKIES_AUTO);
	for (unsigned int i = 0; i < PK_FLOOD_SYNS; i++) {
		in.sport = (uint16_t)(1024 + i);
		cookie_run(&in, PK_FORWARDED);
	}
	in.sport++;
	(void)cookie_for(&in);
	in.sport++;
	(void)cookie_for(&in);
}

/* As many that are completed are none. */
static void no_flood(void)
{
	struct seg in = cookie_syn, back = { .src = BACKEND1, .dst = OWN, .sport = 8080, .tcp_flags = TH_SYN | TH_ACK };

	cookie_web(LB_PLAN_COOKIES_AUTO);
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
		cookie_run(&back, PK_RETURNED);
		in.tcp_flags = TH_ACK;
		cookie_run(&in, PK_FORWARDED);
	}
}

/* Services that do not ask for it, and other ways of forwarding, go on as ever. */
static void off(void)
{
	struct lb_plan plan;
	struct seg in = cookie_syn;

	cookie_web(0);
	in.mss = 0;
	for (unsigned int i = 0; i < PK_FLOOD_SYNS + 5; i++) {
		in.sport = (uint16_t)(1024 + i);
		cookie_run(&in, PK_FORWARDED);
	}
	plan = fx_service(2, SERVICE2, 80, IPPROTO_TCP, LB_FORWARD_DNAT, LB_ROUND_ROBIN, one, 8080);
	plan.flags |= LB_PLAN_COOKIES;
	fx_plan(&plan);
	in.dst = SERVICE2;
	cookie_run(&in, PK_FORWARDED);
}

/* Limits are for who has answered; who may not come is not answered at all. */
static void limits(void)
{
	struct lb_plan plan = cookie_web(LB_PLAN_COOKIES);
	struct seg in = cookie_syn, ack;

	plan.quota = 1;
	fx_plan(&plan);
	ack = cookie_ack(cookie_for(&in));
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
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

	cookie_web(LB_PLAN_COOKIES);
	ack = cookie_ack(cookie_for(&cookie_syn));
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	for (size_t i = 0; i < fx.buckets; i++)
		for (unsigned int w = 0; w < PK_WAYS; w++)
			if (fx.table[i].conn[w].state != PK_STATE_FREE)
				assert_false(fx.table[i].flags & 1U << w);
	fx_age(fx_conn(), PK_TICKS_NEW + 1);
	assert_int_equal(fx_sweep().freed, 1);
	assert_int_equal(fx_reason(), PK_COOKIE_UNANSWERED);
	assert_int_equal(fx_service_conns(1), 0);
}

/*
 * The SYN to the backend is lost: whatever the client sends makes it again, its FIN too, and even when the record has
 * been given up. Nothing else does; but that is counted.
 */
static void lost(void)
{
	static const uint8_t flags[] = { TH_ACK, TH_ACK | TH_PUSH, TH_ACK | TH_FIN };
	struct seg ack, out;

	cookie_web(LB_PLAN_COOKIES);
	ack = cookie_ack(cookie_for(&cookie_syn));
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct seg again = ack;

		again.tcp_flags = flags[i];
		again.payload = flags[i] & TH_PUSH ? 20 : 0;
		out = syn_of(fx.family == 4 ? 1460 : 1440);
		sent(&again, &out, PK_COOKIE_ACCEPTED);
	}
	assert_int_equal(fx_conn()->state, PK_STATE_NEW);
	fx_age(fx_conn(), PK_TICKS_NEW);
	assert_int_equal(fx_sweep().freed, 0);
	fx_age(fx_conn(), 1);
	assert_int_equal(fx_sweep().freed, 1);
	assert_int_equal(fx_reason(), PK_COOKIE_UNANSWERED);
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	out = syn_of(fx.family == 4 ? 1460 : 1440);
	sent(&ack, &out, PK_COOKIE_ACCEPTED);
	/* One that was answered ends like any other. */
	cookie_meet(ack.ack - 1);
	ack.tcp_flags = TH_RST;
	cookie_run(&ack, PK_FORWARDED);
	fx_age(fx_conn(), PK_TICKS_CLOSED + 1);
	assert_int_equal(fx_sweep().freed, 1);
	ack.tcp_flags = TH_RST;
	kept(&ack, PK_NO_CONN);
}

/* The backend is taken for down before it has answered: another one gets the SYN. */
static void another_backend(void)
{
	struct lb_plan plan = fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, two, 8080);
	struct seg ack, out;

	plan.flags |= LB_PLAN_COOKIES;
	fx_plan(&plan);
	ack = cookie_ack(cookie_for(&cookie_syn));
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	assert_int_equal(fx_conn()->backend, 4);
	fx_backend_flags(4, LB_BACKEND_DOWN);
	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	assert_int_equal(fx_conn()->backend, 5);
	out = syn_of(fx.family == 4 ? 1460 : 1440);
	out.dst = BACKEND2;
	sent(&ack, &out, PK_COOKIE_ACCEPTED);
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
		{ "the backend goes down", another_backend, false, 0 },
		{ "a flood", flood, false, 0 },
		{ "no flood", no_flood, false, 0 },
		{ "off", off, false, 0 },
		{ "limits", limits, false, 0 },
		{ "the record stays", kept_under_flood, false, 0 },
		{ "the SYN to the backend is lost", lost, false, 0 },
	};

	return fx_main("packets, SYN cookies", tests, ARRAY_SIZE(tests));
}
