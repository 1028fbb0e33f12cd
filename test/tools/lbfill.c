// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fills the balancer's tables without a daemon; they stay pinned (WAGGLE_BPF_DIR).
 *
 *   lbfill [OPTIONS] VIP:PORT [BACKEND:PORT[=WEIGHT]...]   makes a service, or changes it to this
 *   lbfill --remove [--proto P] VIP:PORT
 *   lbfill --show                                          services, backends, counts as JSON
 *   lbfill --unpin
 *
 *   --proto tcp|udp  --scheduler WORD  --forward WORD  --table SIZE  --seed N  --passive-ms MS
 *   --hooks connect|packet|both (both)  --quota N  --syn-rate N  --tcp-idle-ms MS  --udp-idle-ms MS
 *   --services N  --backends N  --entries N            room, where the tables are made
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>

#include "base/num.h"
#include "hook/lb.h"
#include "model/addr.h"
#include "model/ring.h"
#include "sys/bpf.h"

static const char *const schedulers[] = {
#define X(id, word) [LB_##id] = word,
	LB_SCHEDULER_LIST(X)
#undef X
};
static const char *const forwards[] = {
#define X(id, word) [LB_FORWARD_##id] = word,
	LB_FORWARD_LIST(X)
#undef X
};
static const char *const stats[] = {
#define X(id, word, text) [LB_STAT_##id] = word,
	LB_STAT_LIST(X)
#undef X
};

static void die(const char *what)
{
	(void)fprintf(stderr, "lbfill: %s\n", what);
	exit(1);
}

static uint32_t number(const char *text)
{
	uint64_t n;

	if (num_parse_u64(text, 0, UINT32_MAX, &n) < 0)
		die(text);
	return (uint32_t)n;
}

static uint8_t word_of(const char *text, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (streq(words[i], text))
			return (uint8_t)i;
	die(text);
	return 0;
}

static void endpoint(const char *text, struct lb_addr *addr, uint16_t *port)
{
	struct err err = {};
	char host[64];

	if (addr_split(text, host, sizeof(host), port, &err) < 0 || addr_parse(host, addr, &err) < 0)
		die(err.text);
}

static struct lb_backend_spec *backends_of(char **args, size_t n)
{
	struct lb_backend_spec *b = calloc(n + 1, sizeof(*b));

	if (!b)
		die("out of memory");
	for (size_t i = 0; i < n; i++) {
		char *weight = strchr(args[i], '=');

		if (weight)
			*weight++ = '\0';
		b[i].weight = weight ? number(weight) : 1;
		endpoint(args[i], &b[i].addr, &b[i].port);
	}
	return b;
}

struct show {
	struct lb *lb;
	bool more;
};

static int show_service(uint32_t service, const struct lb_vip *vip, void *data)
{
	struct show *show = data;
	char text[ADDR_TEXT_MAX];

	printf("%s{\"id\": %u, \"vip\": \"%s\", \"proto\": %u}", show->more ? ", " : "", service,
	       addr_format(&vip->addr, ntohs(vip->port), text), vip->proto);
	show->more = true;
	return 0;
}

static void show(struct lb *lb)
{
	struct show s = { .lb = lb };
	uint64_t v[_LB_STAT_MAX];

	printf("{\"services\": [");
	(void)lb_each_service(lb, show_service, &s);
	printf("]");
	if (lb_stats(lb, v) < 0)
		die("cannot read the counters");
	for (size_t i = 0; i < _LB_STAT_MAX; i++)
		printf(", \"%s\": %llu", stats[i], (unsigned long long)v[i]);
	printf("}\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "proto", 1, NULL, 'p' },	 { "scheduler", 1, NULL, 's' },	  { "forward", 1, NULL, 'f' },
		{ "table", 1, NULL, 't' },	 { "seed", 1, NULL, 'e' },	  { "passive-ms", 1, NULL, 'm' },
		{ "hooks", 1, NULL, 'h' },	 { "quota", 1, NULL, 'q' },	  { "syn-rate", 1, NULL, 'y' },
		{ "tcp-idle-ms", 1, NULL, 'i' }, { "udp-idle-ms", 1, NULL, 'u' }, { "services", 1, NULL, 'S' },
		{ "backends", 1, NULL, 'B' },	 { "entries", 1, NULL, 'E' },	  { "remove", 0, NULL, 'r' },
		{ "show", 0, NULL, 'w' },	 { "unpin", 0, NULL, 'n' },	  {},
	};
	struct lb_service_spec spec = {
		.vip.proto = IPPROTO_TCP,
		.table_size = RING_TABLE_DEFAULT,
		.plan = { .scheduler = LB_ROUND_ROBIN,
			  .flags = LB_PLAN_CONNECT | LB_PLAN_PACKET,
			  .tcp_idle_ms = 7200000,
			  .udp_idle_ms = 30000 },
	};
	_cleanup_(lb_closep) struct lb *lb = NULL;
	bool remove = false, shown = false, taken_over;
	_cleanup_free_ struct lb_backend_spec *backends = NULL;
	struct lb_limits limits = {};
	struct err err = {};
	uint32_t service;
	uint16_t port;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			spec.vip.proto = streq(optarg, "udp") ? IPPROTO_UDP : IPPROTO_TCP;
			break;
		case 's':
			spec.plan.scheduler = word_of(optarg, schedulers, ARRAY_SIZE(schedulers));
			break;
		case 'f':
			spec.plan.forward = word_of(optarg, forwards, ARRAY_SIZE(forwards));
			break;
		case 't':
			spec.table_size = number(optarg);
			break;
		case 'e':
			spec.plan.seed = number(optarg);
			break;
		case 'm':
			spec.plan.passive_ms = number(optarg);
			spec.plan.flags |= LB_PLAN_PASSIVE;
			break;
		case 'h':
			spec.plan.flags &= (uint16_t) ~(streq(optarg, "connect") ? LB_PLAN_PACKET :
							streq(optarg, "packet")	 ? LB_PLAN_CONNECT :
										   0);
			break;
		case 'q':
			spec.plan.quota = number(optarg);
			break;
		case 'y':
			spec.plan.syn_rate = number(optarg);
			break;
		case 'i':
			spec.plan.tcp_idle_ms = number(optarg);
			break;
		case 'u':
			spec.plan.udp_idle_ms = number(optarg);
			break;
		case 'S':
			limits.services = number(optarg);
			break;
		case 'B':
			limits.backends = number(optarg);
			break;
		case 'E':
			limits.ring_entries = number(optarg);
			break;
		case 'r':
			remove = true;
			break;
		case 'w':
			shown = true;
			break;
		case 'n':
			if (lb_unpin(&err) < 0)
				die(err.text);
			return 0;
		default:
			return 2;
		}
	}
	bpf_sys_init();
	if (lb_open(&limits, &lb, &taken_over, &err) < 0)
		die(err.text);
	if (optind < argc) {
		endpoint(argv[optind], &spec.vip.addr, &port);
		spec.vip.port = htons(port);
		spec.n_backends = (size_t)(argc - optind - 1);
		spec.backends = backends = backends_of(argv + optind + 1, spec.n_backends);
		if ((remove ? lb_remove(lb, &spec.vip, &err) : lb_apply(lb, &spec, &service, &err)) < 0)
			die(err.text);
	}
	if (shown)
		show(lb);
	return 0;
}
