// SPDX-License-Identifier: GPL-2.0-or-later
/* From the client's SYN to a connection that both sides know of. */
#include "packet_cookie.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

static const enum who one[] = { BACKEND1, NOBODY };

struct lb_plan cookie_web(uint16_t flags)
{
	struct lb_plan plan = fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_NAT, LB_ROUND_ROBIN, one, 8080);

	plan.flags |= flags;
	fx_plan(&plan);
	return plan;
}

const struct seg cookie_syn = {
	.src = CLIENT, .dst = SERVICE, .sport = 40000, .dport = 80, .tcp_flags = TH_SYN, .mss = 1460
};

/* The sequence number of what comes out for a packet. */
uint32_t cookie_for(const struct seg *in)
{
	struct pkt p = {}, got = {};
	uint32_t seq;

	pkt_build(&p, in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), PK_COOKIE_SENT);
	memcpy(&seq, got.b + pkt_l3(&got) + (fx.family == 4 ? 20 : 40) + 4, sizeof(seq));
	return ntohl(seq);
}

struct seg cookie_ack(uint32_t cookie)
{
	struct seg s = cookie_syn;

	s.tcp_flags = TH_ACK;
	s.mss = 0;
	s.numbered = true;
	s.seq = ISN + 1;
	s.ack = cookie + 1;
	s.window = 501;
	return s;
}

/* Runs a packet whose result is not looked at. */
void cookie_run(const struct seg *in, enum pk_reason reason)
{
	struct pkt p = {}, got = {};

	pkt_build(&p, in);
	(void)fx_run(&p, &got);
	assert_int_equal(fx_reason(), reason);
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
void cookie_meet(uint32_t cookie)
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
	_cleanup_close_ int tap = fx_tap();

	if (hook == FX_XDP)
		kept(&back, PK_TO_TC);
	fx.hook = FX_TC;
	sent(&back, &opened, PK_RETURNED);
	fx.hook = hook;
	tap_expect(tap, &ack);
	assert_int_equal(fx_conn()->state, PK_STATE_OPEN);
}

/* A connection that both sides know of. Returns the cookie. */
uint32_t cookie_begin(void)
{
	uint32_t cookie = cookie_for(&cookie_syn);
	struct seg ack = cookie_ack(cookie);

	cookie_run(&ack, PK_COOKIE_ACCEPTED);
	cookie_meet(cookie);
	return cookie;
}
