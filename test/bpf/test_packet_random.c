// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Random packets through the programs and through a reference in plain C, which have to agree on every verdict,
 * reason and byte. The seeds are fixed; PACKET_SEED and PACKET_ROUNDS try others, and more.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "packet.h"
#include "packet_ref.h"

#define ROUNDS 6000

static uint32_t random_below(void *data, uint32_t n)
{
	uint64_t *s = data;

	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return (uint32_t)((*s >> 32) * n >> 32);
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

/* The world of packet_gen.h. */
static void make_world(int tunnels_family, enum ref_cookies cookies, uint32_t syns)
{
	static const uint16_t flags[] = { 0, LB_PLAN_COOKIES_AUTO, LB_PLAN_COOKIES };
	struct pk_use use = { .tick = fx_now(), .syns = syns };
	uint32_t first = 1;
	static const enum who both[] = { BACKEND1, BACKEND2, NOBODY };
	static const enum lb_scheduler schedulers[] = { LB_ROUND_ROBIN, LB_MAGLEV, LB_RANDOM, LB_LEAST_CONN,
							LB_SOURCE };

	for (uint32_t i = 0; i < 2 * GEN_SERVICES; i++) {
		enum lb_forward forward = (enum lb_forward)(i % GEN_SERVICES);
		struct lb_plan plan;

		if (forward == LB_FORWARD_IPIP || forward == LB_FORWARD_GUE)
			fx_backends_family(tunnels_family);
		plan = fx_service(i + 1, SERVICE, gen_port(forward), i < GEN_SERVICES ? IPPROTO_TCP : IPPROTO_UDP,
				  forward, schedulers[i % 5], both, gen_backend_port(forward));
		if (i)
			continue;
		plan.flags |= flags[cookies];
		fx_plan(&plan);
		assert_int_equal(bpf_map_update_elem(fx_map("pk_uses"), &first, &use, BPF_ANY), 0);
	}
}

static enum ref_verdict verdict_of(int verdict)
{
	if (verdict == (fx.hook == FX_XDP ? 3 : 7))
		return REF_SENT;
	return verdict == (fx.hook == FX_XDP ? 2 : -1) ? REF_PASS : REF_DROP;
}

static void show(const char *what, const uint8_t *b, size_t n)
{
	print_error("%s, %zu bytes:", what, n);
	for (size_t i = 0; i < n && i < 256; i++)
		print_error("%s%02x", i % 16 ? " " : "\n  ", b[i]);
	print_error("\n");
}

static bool tap_has(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t b[4096];

	while (poll(&p, 1, 10000) == 1) {
		ssize_t n = recv(fd, b, sizeof(b), 0);

		if (n > 0 && ref_is_beside(b, (size_t)n))
			return true;
	}
	return false;
}

/* One run of a test. */
struct world {
	struct ref r;
	struct gen g;
	uint64_t state, begun;
	size_t round;
	int tap;
	size_t reasons[_PK_REASON_MAX];
};

static void run_one(struct world *w, const struct gen_pkt *in)
{
	struct pkt a = {}, out = {};
	enum pk_reason reason;
	const char *wrong;
	int verdict;

	assert_true(in->n <= sizeof(a.b));
	memcpy(a.b, in->b, in->n);
	a.n = in->n;
	w->r.now = (uint64_t)time(NULL);
	w->r.is_xdp = fx.hook == FX_XDP;
	verdict = fx_run(&a, &out);
	reason = fx_reason();
	w->reasons[reason]++;
	wrong = ref_check(&w->r, in, reason, verdict_of(verdict), out.b, out.n);
	if (!wrong && w->r.has_beside && !tap_has(w->tap))
		wrong = "the packet to the backend was not sent";
	if (wrong) {
		show("in", in->b, in->n);
		show("out", out.b, out.n);
		fail_msg("seed %llu, round %zu: %s", (unsigned long long)w->begun, w->round, wrong);
	}
	/* As on a machine: what XDP has passed on. */
	if (reason == PK_TO_TC) {
		fx.hook = FX_TC;
		run_one(w, in);
		fx.hook = FX_XDP;
	}
}

static void one_packet(struct world *w)
{
	struct gen_pkt in;

	w->g.n_conns = ref_known(&w->r, &w->g.conns);
	w->g.n_cookies = ref_known_cookies(&w->r, &w->g.cookies);
	gen_packet(&w->g, &in);
	/* The kernel's test runs of TC want a whole IP header. */
	if (in.n >= (fx.hook == FX_TC ? 54U : 14U))
		run_one(w, &in);
}

/* Each thing that becomes of packets where there are cookies. */
static void cookies_were_met(const struct world *w)
{
	print_message("# %zu cookies sent, %zu ACKs accepted, %zu refused, %zu met, %zu renumbered\n",
		      w->reasons[PK_COOKIE_SENT], w->r.n_accepted, w->reasons[PK_COOKIE_REFUSED], w->r.n_met,
		      w->r.n_changed);
	assert_true(w->reasons[PK_COOKIE_SENT] > 5);
	assert_true(w->reasons[PK_COOKIE_ACCEPTED] > 5);
	assert_true(w->reasons[PK_COOKIE_REFUSED] > 5);
	assert_true(w->reasons[PK_NO_COOKIE] > 0);
	assert_true(fx.hook == FX_TC || w->reasons[PK_TO_TC] > 0);
	assert_true(w->r.n_met > 0);
	assert_true(w->r.n_changed > 5);
}

static void run_random(int tunnels_family, uint64_t seed, enum ref_cookies cookies)
{
	static struct world w;
	uint64_t rounds = number_of("PACKET_ROUNDS", ROUNDS);
	_cleanup_close_ int tap = fx_tap();

	memset(&w, 0, sizeof(w));
	w.state = w.begun = number_of("PACKET_SEED", seed);
	w.tap = tap;
	w.g.family = w.r.family = fx.family;
	w.g.below = random_below;
	w.g.data = &w.state;
	w.g.numbers = cookies != REF_COOKIES_OFF;
	w.r.tunnels_family = tunnels_family;
	w.r.mtu = 1500;
	w.r.cookies = cookies;
	/* The flood's beginning is not what takes long to look at. */
	w.r.syns = PK_FLOOD_SYNS - 4;
	make_world(tunnels_family, cookies, w.r.syns);
	/* With more the table would begin to evict. */
	for (w.round = 0; w.round < rounds && w.r.n_conns < REF_CONNS / 2; w.round++)
		one_packet(&w);
	/* It was not all noise. */
	assert_true(w.r.n_conns > 50);
	assert_int_equal(fx_conns(), w.r.n_conns);
	if (cookies != REF_COOKIES_OFF)
		cookies_were_met(&w);
}

static void random_packets(void)
{
	run_random(fx.family, 0x9e3779b97f4a7c15, REF_COOKIES_OFF);
}

static void random_packets_again(void)
{
	run_random(fx.family, 0x1234567, REF_COOKIES_OFF);
}

static void random_packets_across(void)
{
	run_random(fx.family == 4 ? 6 : 4, 0xdeadbeef, REF_COOKIES_OFF);
}

static void random_packets_cookies(void)
{
	run_random(fx.family, 0xc00c1e, REF_COOKIES_ALWAYS);
}

static void random_packets_flood(void)
{
	run_random(fx.family, 0xf100d, REF_COOKIES_AUTO);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "random packets", random_packets, false, 0 },
		{ "random packets, another seed", random_packets_again, false, 0 },
		{ "random packets, tunnels to backends of the other family", random_packets_across, false, 0 },
		{ "random packets, SYN cookies", random_packets_cookies, false, 0 },
		{ "random packets, SYN cookies when a flood begins", random_packets_flood, false, 0 },
	};

	return fx_main("packet: random", tests, ARRAY_SIZE(tests));
}
