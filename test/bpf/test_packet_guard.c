// SPDX-License-Identifier: GPL-2.0-or-later
/* Who may connect, how many, and who is picked. And what a flood of SYNs does to those that are there. */
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "packet.h"

static const enum who one[] = { BACKEND1, NOBODY };
static const enum who three[] = { BACKEND1, BACKEND2, BACKEND3, NOBODY };

static enum pk_reason run(const struct seg *in)
{
	struct pkt p = {}, got = {};

	pkt_build(&p, in);
	(void)fx_run(&p, &got);
	return fx_reason();
}

static struct seg syn(enum who src, uint16_t port)
{
	return (struct seg){ .src = src, .dst = SERVICE, .sport = port, .dport = 80, .tcp_flags = TH_SYN };
}

static void put_acl(enum who who, uint32_t prefix, uint32_t word)
{
	struct pk_acl_key key = { .prefix = (fx.family == 4 ? 96 : 0) + prefix, .addr = fx_addr(who, 0) };

	assert_int_equal(bpf_map_update_elem(fx_map("pk_acl"), &key, &word, BPF_ANY), 0);
	fx.ctl->on |= PK_ON_ACL;
}

static void sources(void)
{
	struct seg a = syn(CLIENT, 1000), b = syn(STRANGER, 1000), other = syn(STRANGER, 1000);

	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	put_acl(STRANGER, fx.family == 4 ? 24 : 64, PK_ACL_DENY);
	assert_int_equal(run(&a), PK_FORWARDED);
	assert_int_equal(run(&b), PK_DENIED);
	/* Only to services. */
	other.dport = 22;
	assert_int_equal(run(&other), PK_NOT_OURS);
	/* The longest prefix decides. */
	put_acl(STRANGER, fx.family == 4 ? 32 : 128, PK_ACL_ALLOW);
	assert_int_equal(run(&b), PK_FORWARDED);
	/* Only who is in the list. */
	fx.ctl->on |= PK_ON_ACL_ALLOW;
	a.sport = 1001;
	assert_int_equal(run(&a), PK_DENIED);
	b.sport = 1001;
	assert_int_equal(run(&b), PK_FORWARDED);
}

static void quota(void)
{
	struct lb_plan plan = fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);

	plan.quota = 5;
	fx_plan(&plan);
	for (uint16_t i = 0; i < 10; i++) {
		struct seg s = syn(CLIENT, (uint16_t)(2000 + i));

		assert_int_equal(run(&s), i < 5 ? PK_FORWARDED : PK_QUOTA);
	}
	/* Those that are there go on. */
	struct seg s = syn(CLIENT, 2000);

	assert_int_equal(run(&s), PK_FORWARDED);
	assert_int_equal(fx_service_conns(1), 5);
}

/* More than the rate in one go: the rest is refused, and nothing but that. */
static void rates(void)
{
	struct lb_plan plan = fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	uint32_t refused = 0;

	plan.syn_rate = 1;
	fx_plan(&plan);
	for (uint16_t i = 0; i < 50; i++) {
		struct seg s = syn(CLIENT, (uint16_t)(3000 + i));
		enum pk_reason r = run(&s);

		assert_true(r == PK_FORWARDED || r == PK_RATE);
		refused += r == PK_RATE;
	}
	assert_int_equal(fx_conns(), 50 - refused);
	assert_true(refused > 0);
}

static void source_rates(void)
{
	struct seg s = syn(CLIENT, 1);

	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	fx.ctl->on |= PK_ON_SOURCES;
	fx.ctl->source_rate = 1;
	assert_int_equal(run(&s), PK_FORWARDED);
	for (uint16_t i = 2; i < 20; i++) {
		s.sport = i;
		enum pk_reason r = run(&s);

		assert_true(r == PK_FORWARDED || r == PK_SOURCE_RATE);
	}
	/* Another source is another's business. */
	s = syn(CLIENT2, 1);
	assert_int_equal(run(&s), PK_FORWARDED);
}

static void picks(enum lb_scheduler scheduler, uint64_t ret[3])
{
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, scheduler, three, 80);
	for (uint16_t i = 0; i < 300; i++) {
		struct seg s = syn(CLIENT, (uint16_t)(4000 + i));

		assert_int_equal(run(&s), PK_FORWARDED);
	}
	for (uint32_t i = 0; i < 3; i++)
		ret[i] = fx_backend_conns(4 + i);
	assert_int_equal(ret[0] + ret[1] + ret[2], fx_conns());
}

static void round_robin(void)
{
	uint64_t n[3];

	picks(LB_ROUND_ROBIN, n);
	for (int i = 0; i < 3; i++)
		assert_int_equal(n[i], 100);
}

static void least_conn(void)
{
	uint64_t n[3];

	picks(LB_LEAST_CONN, n);
	for (int i = 0; i < 3; i++)
		assert_in_range(n[i], 80, 120);
}

/* By the hash of what a client is: the same again after everything was forgotten. */
static void maglev_is_repeatable(void)
{
	uint64_t a[3], b[3];

	picks(LB_MAGLEV, a);
	for (int i = 0; i < 3; i++)
		assert_in_range(a[i], 50, 150);
	fx_reset();
	picks(LB_MAGLEV, b);
	assert_memory_equal(a, b, sizeof(a));
}

static void source_affinity(void)
{
	uint64_t n[3];

	picks(LB_SOURCE, n);
	assert_true(n[0] == 300 || n[1] == 300 || n[2] == 300);
}

/*
 * 1000 established connections in a table of 8192 records, and ten times as many SYNs as it has room for: none is lost,
 * and all counts are right in the end.
 */
static void flood(void)
{
	struct seg s = syn(CLIENT, 0);
	uint32_t lost = 0;

	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	for (uint16_t i = 0; i < 1000; i++) {
		s = syn(CLIENT, (uint16_t)(10000 + i));
		assert_int_equal(run(&s), PK_FORWARDED);
		s.tcp_flags = TH_ACK;
		assert_int_equal(run(&s), PK_FORWARDED);
	}
	for (uint32_t i = 0; i < 80000; i++) {
		struct pkt p = {}, got = {};
		struct seg f = syn(i % 2 ? STRANGER : CLIENT2, (uint16_t)(i / 2));

		pkt_build(&p, &f);
		(void)fx_run(&p, &got);
	}
	for (uint32_t i = 0, open = 0; i < fx.buckets; i++)
		for (uint32_t w = 0; w < PK_WAYS; w++) {
			open += fx.table[i].conn[w].state == PK_STATE_OPEN;
			if (i + 1 == fx.buckets && w + 1 == PK_WAYS)
				lost = 1000 - open;
		}
	assert_int_equal(lost, 0);
	assert_int_equal(fx_service_conns(1), fx_conns());
	assert_int_equal(fx_backend_conns(4), fx_conns());
}

static uint32_t open_of(uint32_t service)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < fx.buckets; i++)
		for (uint32_t w = 0; w < PK_WAYS; w++)
			n += fx.table[i].conn[w].state == PK_STATE_OPEN && fx.table[i].conn[w].service == service;
	return n;
}

static void connect_from(enum who src, uint16_t port)
{
	struct seg s = syn(src, port);

	assert_int_equal(run(&s), PK_FORWARDED);
	s.tcp_flags = TH_ACK;
	assert_int_equal(run(&s), PK_FORWARDED);
}

/* A service that is flooded up to its quota: another keeps its connections, and gets new ones. */
static void flood_of_another(void)
{
	struct lb_plan plan = fx_service(2, SERVICE2, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	uint32_t refused = 0;

	plan.quota = 500;
	fx_plan(&plan);
	fx_service(1, SERVICE, 80, IPPROTO_TCP, LB_FORWARD_DSR, LB_ROUND_ROBIN, one, 80);
	for (uint16_t i = 0; i < 500; i++)
		connect_from(CLIENT, (uint16_t)(10000 + i));
	for (uint32_t i = 0; i < 20000; i++) {
		struct seg s = syn(i % 2 ? STRANGER : CLIENT2, (uint16_t)(i / 2));

		s.dst = SERVICE2;
		refused += run(&s) == PK_QUOTA;
	}
	assert_int_equal(refused, 20000 - 500);
	assert_int_equal(fx_service_conns(2), 500);
	for (uint16_t i = 0; i < 500; i++)
		connect_from(CLIENT, (uint16_t)(20000 + i));
	assert_int_equal(open_of(1), 1000);
	assert_int_equal(fx_service_conns(1), 1000);
}

int main(void)
{
	static const struct fx_test tests[] = {
		{ "sources: allowed and denied", sources, false, 0 },
		{ "quota of a service", quota, false, 0 },
		{ "rate of a service", rates, false, 0 },
		{ "rate of a source", source_rates, false, 0 },
		{ "round-robin", round_robin, false, 0 },
		{ "least-conn", least_conn, false, 0 },
		{ "maglev: the same again", maglev_is_repeatable, false, 0 },
		{ "source: one client, one backend", source_affinity, false, 0 },
		{ "a flood of SYNs", flood, true, 0 },
		{ "a flood of another service", flood_of_another, true, 0 },
	};

	return fx_main("packet: guard", tests, ARRAY_SIZE(tests));
}
