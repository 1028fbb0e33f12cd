// SPDX-License-Identifier: GPL-2.0-or-later
/* The objects, their tables, and how a packet is run through them. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "packet.h"

struct fx fx;

#define BUCKETS 1024
#define CASES_MAX 512

static const char *const shared[] = {
	"lb_vips",    "lb_services", "lb_plans", "lb_backends", "lb_load",  "lb_cursors", "lb_ring",
	"lb_traffic", "lb_stats",    "lb_ctl",	 "lb_events",	"pk_table", "pk_far",	  "pk_hops",
	"pk_nats",    "pk_gate",     "pk_uses",	 "pk_addrs",	"pk_links", "pk_frags",	  "pk_acl",
	"pk_sources", "pk_ctl",	     "pk_stats", "pk_seqs",
};

/* The link: own end pk0, and all that a packet may meet behind it. */
static const char *const net_setup[] = {
	"ip link add pk0 type veth peer name pk1",
	"ip link set pk0 address 02:00:00:00:00:01",
	"ip link set pk0 up",
	"ip link set pk1 up",
	"ip link set lo up",
	"ip address add 198.18.0.1/24 dev pk0",
	"ip address add 2001:2::1/64 dev pk0 nodad",
	"echo 1 >/proc/sys/net/ipv4/conf/all/forwarding",
	"echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
	"for i in 11 12 13 fe; do ip neighbour add 2001:2::$i lladdr 02:00:00:00:00:$i dev pk0 nud permanent; done",
	"for i in 11 12 13; do ip neighbour add 198.18.0.$i lladdr 02:00:00:00:00:$i dev pk0 nud permanent; done",
	"ip neighbour add 198.18.0.254 lladdr 02:00:00:00:00:fe dev pk0 nud permanent",
	"ip route add 198.51.100.0/24 via 198.18.0.254",
	"ip route add 203.0.113.0/24 via 198.18.0.254",
	"ip route add 2001:2:0:c::/64 via 2001:2::fe",
	"ip route add 2001:2:0:d::/64 via 2001:2::fe",
};

int fx_map(const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(fx.obj[FX_XDP], name);

	if (fd < 0)
		fail_msg("there is no map %s", name);
	return fd;
}

static struct bpf_object *open_object(const char *variable)
{
	const char *path = getenv(variable);
	struct bpf_object *obj = path ? bpf_object__open_file(path, NULL) : NULL;
	struct bpf_map *map;

	if (!obj) {
		print_error("%s is not set, or no object: run this with 'meson test'\n", variable);
		return NULL;
	}
	bpf_object__for_each_map(map, obj) {
		const char *name = bpf_map__name(map);

		if (streq(name, "pk_table"))
			(void)bpf_map__set_max_entries(map, BUCKETS);
		else if (streq(name, "pk_seqs"))
			(void)bpf_map__set_max_entries(map, BUCKETS * PK_WAYS);
		else if (streq(name, "pk_far") || streq(name, "lb_backends") || streq(name, "lb_load"))
			(void)bpf_map__set_max_entries(map, FX_BACKENDS);
		else if (streq(name, "pk_uses") || streq(name, "lb_plans") || streq(name, "lb_services"))
			(void)bpf_map__set_max_entries(map, FX_SERVICES);
		else if (streq(name, "lb_ring"))
			(void)bpf_map__set_max_entries(map, 1024);
	}
	return obj;
}

static bool load_objects(void)
{
	fx.obj[FX_XDP] = open_object("XDP_OBJECT");
	fx.obj[FX_TC] = open_object("TC_OBJECT");
	if (!fx.obj[FX_XDP] || !fx.obj[FX_TC] || bpf_object__load(fx.obj[FX_XDP]))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(fx.obj[FX_TC], shared[i]);

		/* What an object does not use is not in it. */
		if (map && bpf_object__find_map_by_name(fx.obj[FX_XDP], shared[i]) &&
		    bpf_map__reuse_fd(map, bpf_object__find_map_fd_by_name(fx.obj[FX_XDP], shared[i])))
			return false;
	}
	return bpf_object__load(fx.obj[FX_TC]) == 0;
}

static void *map_memory(const char *name, size_t size)
{
	long page = sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, (size + (size_t)page - 1) & ~((size_t)page - 1), PROT_READ | PROT_WRITE, MAP_SHARED,
		       bpf_object__find_map_fd_by_name(fx.obj[FX_XDP], name), 0);

	return p == MAP_FAILED ? NULL : p;
}

int fx_open(void **state)
{
	if (unshare(CLONE_NEWNET) < 0) {
		print_error("cannot make a namespace: %s: run as root\n", strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(net_setup); i++)
		/* NOLINTNEXTLINE(cert-env33-c): a fixed list */
		if (system(net_setup[i])) {
			print_error("failed: %s\n", net_setup[i]);
			return -1;
		}
	fx.ifindex = if_nametoindex("pk0");
	if (!load_objects())
		return -1;
	fx.prog[FX_XDP] = bpf_program__fd(bpf_object__find_program_by_name(fx.obj[FX_XDP], "pk_xdp"));
	fx.prog[FX_TC] = bpf_program__fd(bpf_object__find_program_by_name(fx.obj[FX_TC], "pk_tc"));
	fx.admin = bpf_program__fd(bpf_object__find_program_by_name(fx.obj[FX_XDP], "pk_admin"));
	fx.buckets = BUCKETS;
	fx.table = map_memory("pk_table", BUCKETS * sizeof(struct pk_bucket));
	fx.ctl = map_memory("pk_ctl", sizeof(struct pk_ctl));
	return fx.table && fx.ctl ? 0 : -1;
}

int fx_close(void **state)
{
	bpf_object__close(fx.obj[FX_XDP]);
	bpf_object__close(fx.obj[FX_TC]);
	return 0;
}

static void zero_array(const char *name, uint32_t n, size_t size)
{
	_cleanup_free_ void *zero = calloc((size_t)libbpf_num_possible_cpus(), size);
	int fd = fx_map(name);

	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(bpf_map_update_elem(fd, &i, zero, BPF_ANY), 0);
}

static void empty_hash(const char *name)
{
	uint8_t key[64];
	int fd = fx_map(name);

	while (!bpf_map_get_next_key(fd, NULL, key))
		assert_int_equal(bpf_map_delete_elem(fd, key), 0);
}

static void admin(struct pk_admin *a)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = a, .data_size_in = sizeof(*a), .data_out = a,
		    .data_size_out = sizeof(*a), .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(fx.admin, &opts), 0);
	assert_int_equal(opts.retval, 2);
}

static void read_reasons(uint64_t ret[_PK_REASON_MAX])
{
	int cpus = libbpf_num_possible_cpus(), fd = fx_map("pk_stats");
	uint64_t v[256];

	for (uint32_t i = 0; i < _PK_REASON_MAX; i++) {
		assert_int_equal(bpf_map_lookup_elem(fd, &i, v), 0);
		ret[i] = 0;
		for (int c = 0; c < cpus; c++)
			ret[i] += v[c];
	}
}

static void set_nat(uint32_t i, int family)
{
	struct lb_addr own = fx_addr(OWN, family);

	assert_int_equal(bpf_map_update_elem(fx_map("pk_nats"), &i, &own, BPF_ANY), 0);
}

void fx_reset(void)
{
	struct lb_ctl lb = { .abi = LB_ABI_VERSION, .on = 1 };
	struct timespec res;
	uint32_t zero = 0;

	memset(fx.table, 0, BUCKETS * sizeof(struct pk_bucket));
	zero_array("pk_far", FX_BACKENDS, sizeof(struct pk_far));
	zero_array("lb_backends", FX_BACKENDS, sizeof(struct lb_backend));
	zero_array("lb_load", FX_BACKENDS, sizeof(struct lb_load));
	zero_array("pk_uses", FX_SERVICES, sizeof(struct pk_use));
	zero_array("lb_plans", FX_SERVICES, sizeof(struct lb_plan));
	zero_array("lb_services", FX_SERVICES, sizeof(struct lb_service));
	zero_array("lb_cursors", FX_SERVICES, sizeof(struct lb_cursor));
	zero_array("pk_gate", 1 << (PK_GATE_BITS - 6), sizeof(uint64_t));
	zero_array("pk_hops", PK_HOPS, sizeof(struct pk_hop));
	empty_hash("lb_vips");
	empty_hash("pk_addrs");
	empty_hash("pk_links");
	empty_hash("pk_frags");
	empty_hash("pk_acl");
	empty_hash("pk_sources");
	assert_int_equal(clock_getres(CLOCK_MONOTONIC_COARSE, &res), 0);
	*fx.ctl = (struct pk_ctl){
		.seed = { 0x1234567890abcdef, 0xfedcba0987654321 },
		.abi = PK_ABI_VERSION,
		.on = PK_ON,
		.bucket_mask = BUCKETS - 1,
		.hz = (uint32_t)(1000000000 / res.tv_nsec),
		/* Hours: no test shall see a tick pass. */
		.tick_shift = 24,
		.nat_port = 1024,
		.nat_groups = 512,
		.max_backends = FX_BACKENDS,
	};
	assert_int_equal(bpf_map_update_elem(fx_map("lb_ctl"), &zero, &lb, BPF_ANY), 0);
	set_nat(1, 4);
	set_nat(2, 6);
	read_reasons(fx.reasons);
}

uint32_t fx_now(void)
{
	struct pk_admin a = { .op = PK_ADMIN_NOW };

	admin(&a);
	return a.tick;
}

struct pk_admin fx_sweep(void)
{
	struct pk_admin a = { .op = PK_ADMIN_SWEEP, .n = fx.buckets };

	admin(&a);
	return a;
}

void fx_gate(const struct lb_addr *addr, uint16_t port, uint8_t proto)
{
	struct pk_admin a = { .op = PK_ADMIN_GATE, .addr = *addr, .port = htons(port), .proto = proto };

	admin(&a);
}

static int backends_family;

void fx_backends_family(int family)
{
	backends_family = family;
}

/* Backend ids: service * 4 and on. */
static uint32_t add_backend(uint32_t service, uint32_t i, enum who who, uint16_t port, uint8_t proto)
{
	int family = backends_family ? backends_family : fx.family;
	struct lb_backend b = { .addr = fx_addr(who, family),
				.port = htons(port),
				.service = service,
				.weight = 1,
				.flags = family == 4 ? LB_BACKEND_V4 : 0 };
	struct pk_far far = { .nat = family == 4 ? 1 : 2 };
	uint32_t id = service * 4 + i;

	assert_int_equal(bpf_map_update_elem(fx_map("lb_backends"), &id, &b, BPF_ANY), 0);
	assert_int_equal(bpf_map_update_elem(fx_map("pk_far"), &id, &far, BPF_ANY), 0);
	fx_gate(&b.addr, port, proto);
	return id;
}

struct lb_plan fx_service(uint32_t id, enum who vip, uint16_t port, uint8_t proto, enum lb_forward forward,
			  enum lb_scheduler scheduler, const enum who *backends, uint16_t backend_port)
{
	struct lb_vip key = { .addr = fx_addr(vip, 0), .port = htons(port), .proto = proto };
	struct lb_service service = { .plan = id };
	struct lb_plan plan = { .service = id,
				.ring = id * 4,
				.scheduler = scheduler,
				.forward = forward,
				.flags = LB_PLAN_PACKET,
				.udp_idle_ms = 30000,
				.tcp_idle_ms = 7200000 };
	struct pk_addr addr = { .services = 1 };
	uint32_t line[LB_RING_LINE] = {};

	for (; backends[plan.n_backends]; plan.n_backends++)
		line[plan.n_backends] =
			add_backend(id, plan.n_backends, backends[plan.n_backends], backend_port, proto);
	plan.n = plan.n_backends;
	assert_int_equal(bpf_map_update_elem(fx_map("lb_ring"), &plan.ring, line, BPF_ANY), 0);
	fx_plan(&plan);
	assert_int_equal(bpf_map_update_elem(fx_map("lb_services"), &id, &service, BPF_ANY), 0);
	assert_int_equal(bpf_map_update_elem(fx_map("lb_vips"), &key, &id, BPF_ANY), 0);
	assert_int_equal(bpf_map_update_elem(fx_map("pk_addrs"), &key.addr, &addr, BPF_ANY), 0);
	fx_gate(&key.addr, port, proto);
	backends_family = 0;
	return plan;
}

void fx_plan(const struct lb_plan *plan)
{
	assert_int_equal(bpf_map_update_elem(fx_map("lb_plans"), &plan->service, plan, BPF_ANY), 0);
}

void fx_backend_flags(uint32_t id, uint16_t flags)
{
	struct lb_backend b;

	assert_int_equal(bpf_map_lookup_elem(fx_map("lb_backends"), &id, &b), 0);
	b.flags = (uint16_t)((b.flags & LB_BACKEND_V4) | flags);
	assert_int_equal(bpf_map_update_elem(fx_map("lb_backends"), &id, &b, BPF_ANY), 0);
}

uint64_t fx_backend_conns(uint32_t id)
{
	struct lb_load load;

	assert_int_equal(bpf_map_lookup_elem(fx_map("lb_load"), &id, &load), 0);
	return load.packet_conns;
}

uint64_t fx_backend_closed(uint32_t id)
{
	struct lb_load load;

	assert_int_equal(bpf_map_lookup_elem(fx_map("lb_load"), &id, &load), 0);
	return load.packet_closed;
}

uint64_t fx_service_conns(uint32_t id)
{
	struct pk_use use;

	assert_int_equal(bpf_map_lookup_elem(fx_map("pk_uses"), &id, &use), 0);
	return use.conns;
}

size_t fx_conns(void)
{
	size_t n = 0;

	for (size_t i = 0; i < BUCKETS; i++)
		for (size_t w = 0; w < PK_WAYS; w++)
			n += fx.table[i].conn[w].state != PK_STATE_FREE;
	return n;
}

struct pk_conn *fx_conn(void)
{
	struct pk_conn *found = NULL;

	assert_int_equal(fx_conns(), 1);
	for (size_t i = 0; i < BUCKETS; i++)
		for (size_t w = 0; w < PK_WAYS; w++)
			if (fx.table[i].conn[w].state != PK_STATE_FREE)
				found = &fx.table[i].conn[w];
	return found;
}

void fx_age(struct pk_conn *c, uint32_t ticks)
{
	c->seen -= ticks;
}

int fx_run(const struct pkt *in, struct pkt *out)
{
	struct xdp_md xdp = { .data_end = (uint32_t)in->n, .ingress_ifindex = fx.ifindex };
	struct __sk_buff skb = { .ifindex = fx.ifindex, .ingress_ifindex = fx.ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in->b, .data_size_in = (uint32_t)in->n, .data_out = out->b,
		    .data_size_out = sizeof(out->b), .repeat = 1);

	if (fx.hook == FX_XDP) {
		opts.ctx_in = &xdp;
		opts.ctx_size_in = sizeof(xdp);
	} else {
		opts.ctx_in = &skb;
		opts.ctx_size_in = sizeof(skb);
	}
	if (bpf_prog_test_run_opts(fx.prog[fx.hook], &opts))
		fail_msg("BPF_PROG_TEST_RUN: %s", strerror(errno));
	out->n = opts.data_size_out;
	return (int)opts.retval;
}

static const char *const words[] = {
#define X(id, kind, word, text) [PK_##id] = word,
	PK_REASON_LIST(X)
#undef X
};

enum pk_reason fx_reason(void)
{
	enum pk_reason found = _PK_REASON_MAX;
	uint64_t now[_PK_REASON_MAX];

	read_reasons(now);
	for (int i = 0; i < _PK_REASON_MAX; i++) {
		if (now[i] == fx.reasons[i])
			continue;
		if (now[i] != fx.reasons[i] + 1 || found != _PK_REASON_MAX)
			fail_msg("one packet was counted more than once: %s", words[i]);
		found = (enum pk_reason)i;
	}
	memcpy(fx.reasons, now, sizeof(now));
	if (found == _PK_REASON_MAX)
		fail_msg("the packet was not counted");
	return found;
}

static void dump(const char *what, const struct pkt *p, const struct pkt *other)
{
	print_error("%s, %zu bytes:", what, p->n);
	for (size_t i = 0; i < p->n && i < 160; i++)
		print_error("%s%s%02x", i % 16 ? "" : "\n  ", i < other->n && p->b[i] == other->b[i] ? " " : "*",
			    p->b[i]);
	print_error("\n");
}

/* What the kernel returns for a packet that goes out of the interface it came in by. */
static int verdict_sent(void)
{
	return fx.hook == FX_XDP ? 3 /* XDP_TX */ : 7 /* TC_ACT_REDIRECT */;
}

/* Packets that were compared byte by byte, of this process. */
static size_t n_compared;

static void check_reason(enum pk_reason want, int line)
{
	enum pk_reason got = fx_reason();

	if (got != want)
		fail_msg("line %d: the reason is '%s', not '%s'", line, words[got], words[want]);
}

void fx_sent(const struct seg *in, const struct seg *out, const struct outer *outer, enum pk_reason reason, int line)
{
	struct pkt a = {}, want = {}, got = {};
	int verdict;

	pkt_build(&a, in);
	verdict = fx_run(&a, &got);
	check_reason(reason, line);
	if (verdict != verdict_sent())
		fail_msg("line %d: the verdict is %d", line, verdict);
	pkt_build(&want, out);
	if (outer) {
		pkt_wrap(&want, outer);
		pkt_ether(&want, OWN, outer->dst);
	} else {
		pkt_ether(&want, out->l2_src ? out->l2_src : OWN, out->l2_dst ? out->l2_dst : out->dst);
	}
	if (got.n != want.n || memcmp(got.b, want.b, want.n)) {
		dump("got", &got, &want);
		dump("wanted", &want, &got);
		fail_msg("line %d: the packet is not the one that was wanted", line);
	}
	n_compared++;
}

void fx_kept_bytes(const struct pkt *in, enum pk_reason reason, int line)
{
	bool pass = reason < PK_NO_BACKEND;
	struct pkt got = {};
	int verdict = fx_run(in, &got), want = fx.hook == FX_XDP ? (pass ? 2 : 1) : pass ? -1 : 2;

	check_reason(reason, line);
	if (verdict != want)
		fail_msg("line %d: the verdict is %d, not %d", line, verdict, want);
	if (pass && (got.n != in->n || memcmp(got.b, in->b, in->n))) {
		dump("got", &got, in);
		fail_msg("line %d: a packet that was passed has changed", line);
	}
	n_compared++;
}

void fx_kept(const struct seg *in, enum pk_reason reason, int line)
{
	struct pkt a = {};

	pkt_build(&a, in);
	fx_kept_bytes(&a, reason, line);
}

struct fx_case {
	const struct fx_test *test;
	enum fx_hook hook;
	int family;
	char name[160];
};

static void run_case(void **state)
{
	const struct fx_case *c = *state;

	fx.hook = c->hook;
	fx.family = c->family;
	fx_reset();
	c->test->fn();
}

int fx_main(const char *group, const struct fx_test *tests, size_t n)
{
	static struct fx_case cases[CASES_MAX];
	static struct CMUnitTest units[CASES_MAX];
	size_t k = 0;
	int r;

	for (size_t i = 0; i < n; i++)
		for (int hook = FX_XDP; hook <= FX_TC; hook++)
			for (int family = 4; family <= 6; family += 2) {
				if ((tests[i].xdp_only && hook != FX_XDP) ||
				    (tests[i].family && tests[i].family != family))
					continue;
				if (k == CASES_MAX)
					return 1;
				cases[k] = (struct fx_case){ .test = &tests[i],
							     .hook = (enum fx_hook)hook,
							     .family = family };
				(void)snprintf(cases[k].name, sizeof(cases[k].name), "%s, %s, IPv%d", tests[i].name,
					       hook == FX_XDP ? "XDP" : "TC", family);
				units[k] = (struct CMUnitTest){ .name = cases[k].name,
								.test_func = run_case,
								.initial_state = &cases[k] };
				k++;
			}
	r = _cmocka_run_group_tests(group, units, k, fx_open, fx_close);
	print_message("%s: %zu packets compared\n", group, n_compared);
	return r;
}

int fx_tap(void)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex("pk1") };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}
