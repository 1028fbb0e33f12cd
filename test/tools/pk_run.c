// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packet hook without the daemon, for tests: services from its arguments, until SIGTERM.
 *
 *   pk_run IFACE:HOOK... -- PROTO FORWARD SCHEDULER VIP:PORT BACKEND:PORT... [-- PROTO ...]
 *
 * Prints how each interface is served, then "ready"; at SIGUSR1 all counts that are not 0 and every connection; a
 * backend written as !ADDRESS:PORT is down from the first SIGUSR2 on.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <poll.h>

#include "hook/packet.h"
#include "model/addr.h"
#include "model/ring.h"
#include "sys/bpf.h"
#include "tool.h"

#define MAX 16

struct service {
	struct lb_service_spec spec;
	struct lb_backend_spec backends[MAX];
	bool fails[MAX];
};

static struct service services[MAX];
static struct config_interface interfaces[MAX];
static size_t n_services, n_interfaces;
static struct err err;

static const char *const hooks[] = {
	[CONFIG_HOOK_AUTO] = "auto",
	[CONFIG_HOOK_XDP] = "xdp",
	[CONFIG_HOOK_XDP_GENERIC] = "xdp-generic",
	[CONFIG_HOOK_TC] = "tc",
};

static void die(const char *what)
{
	(void)fprintf(stderr, "pk_run: %s: %s\n", what, err.text);
	exit(1);
}

static int word(const char *const *words, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (streq(words[i], text))
			return (int)i;
	die(text);
	return 0;
}

static void parse_interface(char *arg)
{
	char *colon = strrchr(arg, ':');

	if (!colon || n_interfaces == MAX)
		die(arg);
	*colon = '\0';
	interfaces[n_interfaces].name = arg;
	interfaces[n_interfaces++].hook = (enum config_packet_hook)word(hooks, ARRAY_SIZE(hooks), colon + 1);
}

static void parse_addr(const char *text, struct lb_addr *addr, uint16_t *port)
{
	char host[64];

	if (addr_split(text, host, sizeof(host), port, &err) < 0 || addr_parse(host, addr, &err) < 0)
		die(text);
}

/* argv[0] is the protocol; returns how many arguments the service had. */
static int parse_service(char **argv)
{
	static const char *const forwards[] = { "nat", "dnat", "dsr", "ipip", "gue" };
	static const char *const schedulers[] = { "maglev", "round-robin", "least-conn", "random", "source" };
	struct service *s = &services[n_services++];
	uint16_t port;
	int n = 4;

	if (n_services > MAX || !argv[0] || !argv[1] || !argv[2] || !argv[3])
		die("too few words for a service");
	s->spec.vip.proto = streq(argv[0], "udp") ? IPPROTO_UDP : IPPROTO_TCP;
	s->spec.plan.forward = (uint8_t)word(forwards, ARRAY_SIZE(forwards), argv[1]);
	s->spec.plan.scheduler = (uint8_t)word(schedulers, ARRAY_SIZE(schedulers), argv[2]);
	s->spec.plan.flags = LB_PLAN_PACKET;
	s->spec.plan.udp_idle_ms = 30000;
	s->spec.plan.tcp_idle_ms = 7200000;
	s->spec.table_size = RING_TABLE_DEFAULT;
	parse_addr(argv[3], &s->spec.vip.addr, &port);
	s->spec.vip.port = htons(port);
	for (; argv[n] && !streq(argv[n], "--") && s->spec.n_backends < MAX; n++) {
		struct lb_backend_spec *b = &s->backends[s->spec.n_backends];

		s->fails[s->spec.n_backends++] = argv[n][0] == '!';
		parse_addr(argv[n] + (argv[n][0] == '!'), &b->addr, &b->port);
		b->weight = 1;
	}
	s->spec.backends = s->backends;
	return n;
}

static void apply(struct lb *lb)
{
	uint32_t id;

	for (size_t i = 0; i < n_services; i++)
		if (lb_apply(lb, &services[i].spec, &id, &err) < 0)
			die("lb_apply");
}

static void fail_backends(void)
{
	for (size_t i = 0; i < n_services; i++)
		for (size_t j = 0; j < services[i].spec.n_backends; j++)
			if (services[i].fails[j]) {
				services[i].backends[j].weight = 0;
				services[i].backends[j].flags |= LB_BACKEND_DOWN;
			}
}

static int print_conn(const struct pk_conn *c, uint64_t idle_ms, void *data)
{
	char client[ADDR_TEXT_MAX], vip[ADDR_TEXT_MAX];

	(void)data;
	printf("conn %s %s -> %s backend %u idle %llu\n", packet_state_words[c->state],
	       addr_format(&c->client, ntohs(c->cport), client), addr_format(&c->vip, ntohs(c->vport), vip), c->backend,
	       (unsigned long long)idle_ms);
	return 0;
}

static void print_all(const struct packet *p)
{
	uint64_t reasons[_PK_REASON_MAX];

	if (packet_stats(p, reasons) < 0)
		die("packet_stats");
	for (int i = 0; i < _PK_REASON_MAX; i++)
		if (reasons[i])
			printf("count %s %llu\n", packet_reason_words[i], (unsigned long long)reasons[i]);
	(void)packet_each_conn(p, print_conn, NULL);
	printf("end\n");
}

/* Returns at SIGTERM. */
static void serve(struct lb *lb, struct packet *p, int signals)
{
	for (;;) {
		struct pollfd fd = { .fd = signals, .events = POLLIN };
		struct signalfd_siginfo info;

		if (poll(&fd, 1, PACKET_TICK_MS) < 0 && errno != EINTR)
			die("poll");
		if (packet_tick(p) < 0)
			die("packet_tick");
		if (!(fd.revents & POLLIN) || read(signals, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo == SIGTERM)
			return;
		if (info.ssi_signo == SIGUSR1) {
			print_all(p);
		} else {
			fail_backends();
			apply(lb);
			if (packet_apply(p, &err) < 0)
				die("packet_apply");
			printf("failed\n");
		}
	}
}

int main(int argc, char **argv)
{
	_cleanup_(packet_closep) struct packet *p = NULL;
	struct packet_opts opts = { .interfaces = interfaces, .max_conns = 65536 };
	_cleanup_(lb_closep) struct lb *lb = NULL;
	const struct packet_attach *attached;
	_cleanup_close_ int signals = -1;
	bool taken_over;
	sigset_t set;
	int i = 1;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigaddset(&set, SIGUSR2);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	bpf_sys_init();
	while (i < argc && !streq(argv[i], "--"))
		parse_interface(argv[i++]);
	while (i < argc && streq(argv[i], "--"))
		i += 1 + parse_service(argv + i + 1);
	opts.n_interfaces = n_interfaces;
	if (lb_open(&(struct lb_limits){ .ring_entries = 1 << 20 }, &lb, &taken_over, &err) < 0)
		die("lb_open");
	lb_ctl(lb)->on = 1;
	apply(lb);
	if (packet_open(lb, &opts, &p, &err) < 0)
		die("packet_open");
	for (size_t k = 0; k < packet_attached(p, &attached); k++)
		printf("%s: %s: %s\n", attached[k].name, attached[k].hook, attached[k].why);
	printf("ready%s\n", taken_over ? " again" : "");
	serve(lb, p, signals);
	return 0;
}
