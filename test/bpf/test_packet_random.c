// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Random packets through the programs and through a reference in plain C, which have to agree on every verdict,
 * reason and byte. The seeds are fixed; PACKET_SEED and PACKET_ROUNDS try others, and more.
 */
#include <netinet/in.h>

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
static void make_world(int tunnels_family)
{
	static const enum who both[] = { BACKEND1, BACKEND2, NOBODY };
	static const enum lb_scheduler schedulers[] = { LB_ROUND_ROBIN, LB_MAGLEV, LB_RANDOM, LB_LEAST_CONN,
							LB_SOURCE };

	for (uint32_t i = 0; i < 2 * GEN_SERVICES; i++) {
		enum lb_forward forward = (enum lb_forward)(i % GEN_SERVICES);

		if (forward == LB_FORWARD_IPIP || forward == LB_FORWARD_GUE)
			fx_backends_family(tunnels_family);
		fx_service(i + 1, SERVICE, gen_port(forward), i < GEN_SERVICES ? IPPROTO_TCP : IPPROTO_UDP, forward,
			   schedulers[i % 5], both, gen_backend_port(forward));
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

static void one_packet(struct ref *r, struct gen *g, uint64_t seed, size_t round)
{
	struct gen_pkt in;
	struct pkt a = {}, out = {};
	enum pk_reason reason;
	const char *wrong;
	int verdict;

	g->n_conns = ref_known(r, &g->conns);
	gen_packet(g, &in);
	/* The kernel's test runs of TC want a whole IP header. */
	if (in.n < (fx.hook == FX_TC ? 54U : 14U))
		return;
	assert_true(in.n <= sizeof(a.b));
	memcpy(a.b, in.b, in.n);
	a.n = in.n;
	verdict = fx_run(&a, &out);
	reason = fx_reason();
	wrong = ref_check(r, &in, reason, verdict_of(verdict), out.b, out.n);
	if (!wrong)
		return;
	show("in", in.b, in.n);
	show("out", out.b, out.n);
	fail_msg("seed %llu, round %zu: %s", (unsigned long long)seed, round, wrong);
}

static void run_random(int tunnels_family, uint64_t seed)
{
	static struct ref r;
	uint64_t state = number_of("PACKET_SEED", seed), rounds = number_of("PACKET_ROUNDS", ROUNDS), begun = state;
	struct gen g = { .family = fx.family, .below = random_below, .data = &state };

	memset(&r, 0, sizeof(r));
	r.family = fx.family;
	r.tunnels_family = tunnels_family;
	r.is_xdp = fx.hook == FX_XDP;
	r.mtu = 1500;
	make_world(tunnels_family);
	/* With more the table would begin to evict. */
	for (size_t i = 0; i < rounds && r.n_conns < REF_CONNS / 2; i++)
		one_packet(&r, &g, begun, i);
	/* It was not all noise. */
	assert_true(r.n_conns > 50);
	assert_int_equal(fx_conns(), r.n_conns);
}

static void random_packets(void)
{
	run_random(fx.family, 0x9e3779b97f4a7c15);
}

static void random_packets_again(void)
{
	run_random(fx.family, 0x1234567);
}

static void random_packets_across(void)
{
	run_random(fx.family == 4 ? 6 : 4, 0xdeadbeef);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "random packets", random_packets, false, 0 },
		{ "random packets, another seed", random_packets_again, false, 0 },
		{ "random packets, tunnels to backends of the other family", random_packets_across, false, 0 },
	};

	return fx_main("packet: random", tests, ARRAY_SIZE(tests));
}
