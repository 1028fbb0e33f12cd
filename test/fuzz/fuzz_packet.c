// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packet hook's program for XDP, or with FUZZ_TC that for TC, compiled for user space: the input says which packets a
 * small world sends, and how they are spoiled; the program must read and write nothing but the packet and its maps, and do
 * with each what the reference in plain C does (test/bpf/packet_ref.h). In some worlds a service asks for SYN cookies.
 */
#include <assert.h>
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "packet_ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define HEADROOM 256
#define ROOM 8192
#define MAPS_MAX 32
#define PACKETS_MAX 64
#define BUCKETS 1024
#define IFINDEX 7

/* A packet's memory has to be where 32 bits reach; what is not the packet is poisoned. */
static uint8_t *room;

/* What can be reached of a packet. Only multiples of eight are poisoned exactly, and heads move by what is none. */
static void frame_readable(uint32_t data, uint32_t end)
{
	uint32_t begin = data & ~7U;

	ASAN_POISON_MEMORY_REGION(room, ROOM);
	ASAN_UNPOISON_MEMORY_REGION((void *)(uintptr_t)begin, end - begin);
}

#if FUZZ_TC
#include "packet_skb.h"
#else
#include "packet_xdp.h"
#endif

typedef struct pk_ctx frame;

/* Maps: arrays are memory; hashes are lists, for the world is small. */
struct shim_map {
	const void *map;
	struct shim_type type;
	uint8_t *memory; /* of a list: key and value, one after the other */
	size_t n, room;
};

static struct shim_map maps[MAPS_MAX];
static size_t n_maps;

static unsigned int entries_of(const void *map, unsigned int declared)
{
	if (map == &pk_seqs)
		return BUCKETS * PK_WAYS;
	return map == &pk_table ? BUCKETS : declared < 64 ? 64 : declared;
}

static bool is_array(const struct shim_map *m)
{
	return m->type.type == BPF_MAP_TYPE_ARRAY || m->type.type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static struct shim_map *map_of(const void *map, struct shim_type type)
{
	struct shim_map *m;

	for (size_t i = 0; i < n_maps; i++)
		if (maps[i].map == map)
			return &maps[i];
	assert(n_maps < MAPS_MAX);
	m = &maps[n_maps++];
	*m = (struct shim_map){ .map = map, .type = type };
	m->type.entries = entries_of(map, type.entries);
	if (is_array(m))
		m->memory = calloc(m->type.entries, type.value);
	return m;
}

void *shim_lookup(const void *map, struct shim_type type, const void *key)
{
	struct shim_map *m = map_of(map, type);
	size_t size = type.key + type.value;
	uint32_t index;

	if (is_array(m)) {
		memcpy(&index, key, sizeof(index));
		return index < m->type.entries ? m->memory + (size_t)index * type.value : NULL;
	}
	for (size_t i = 0; i < m->n; i++)
		if (!memcmp(m->memory + i * size, key, type.key))
			return m->memory + i * size + type.key;
	return NULL;
}

long shim_update(const void *map, struct shim_type type, const void *key, const void *value)
{
	struct shim_map *m = map_of(map, type);
	size_t size = type.key + type.value;
	void *old = shim_lookup(map, type, key);

	if (old) {
		memcpy(old, value, type.value);
		return 0;
	}
	if (is_array(m))
		return -1;
	if (m->n == m->room) {
		m->room = m->room ? 2 * m->room : 64;
		m->memory = realloc(m->memory, m->room * size);
		assert(m->memory);
	}
	memcpy(m->memory + m->n * size, key, type.key);
	memcpy(m->memory + m->n++ * size + type.key, value, type.value);
	return 0;
}

static void map_empty(const void *map)
{
	for (size_t i = 0; i < n_maps; i++)
		if (maps[i].map == map && is_array(&maps[i]))
			memset(maps[i].memory, 0, (size_t)maps[i].type.entries * maps[i].type.value);
		else if (maps[i].map == map)
			maps[i].n = 0;
}

/* Helpers. */
int shim_tail_call(void *ctx, unsigned int index)
{
	static int depth;
	int r;

	int (*const steps[])(frame *) = FUZZ_STEPS;

	assert(index < sizeof(steps) / sizeof(steps[0]) && depth < 33);
	depth++;
	r = steps[index](ctx);
	depth--;
	return r;
}

uint64_t bpf_jiffies64(void)
{
	return 1ULL << 30;
}

static uint32_t random_state;

uint32_t bpf_get_prandom_u32(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state;
}

long bpf_redirect(uint32_t ifindex, uint64_t flags)
{
	(void)ifindex;
	(void)flags;
	return FUZZ_REDIRECT;
}

/* Of backends and of routers; others on the link have no entry, and the rest no route. */
static int hop_of(const struct bpf_fib_lookup *p, uint8_t *ret_mac)
{
	const uint8_t *v4 = (const uint8_t *)&p->ipv4_dst, *v6 = (const uint8_t *)p->ipv6_dst;
	static const uint8_t link[16] = { 0x20, 1, 0, 2 };

	if (p->family == AF_INET) {
		*ret_mac = (uint8_t)(0x11 + v4[3] - 11);
		if (!memcmp(v4, "\xc6\x12\x00", 3))
			return v4[3] >= 11 && v4[3] <= 13 ? BPF_FIB_LKUP_RET_SUCCESS :
			       v4[3] == 1		  ? BPF_FIB_LKUP_RET_NOT_FWDED :
							    BPF_FIB_LKUP_RET_NO_NEIGH;
		*ret_mac = 0xfe;
		return !memcmp(v4, "\xc6\x33\x64", 3) || !memcmp(v4, "\xcb\x00\x71", 3) ? BPF_FIB_LKUP_RET_SUCCESS :
											  BPF_FIB_LKUP_RET_NOT_FWDED;
	}
	*ret_mac = v6[15];
	if (!memcmp(v6, link, 15))
		return v6[15] >= 0x11 && v6[15] <= 0x13 ? BPF_FIB_LKUP_RET_SUCCESS :
		       v6[15] == 1			? BPF_FIB_LKUP_RET_NOT_FWDED :
							  BPF_FIB_LKUP_RET_NO_NEIGH;
	*ret_mac = 0xfe;
	return !memcmp(v6, link, 7) && (v6[7] == 0xc || v6[7] == 0xd) ? BPF_FIB_LKUP_RET_SUCCESS :
									BPF_FIB_LKUP_RET_NOT_FWDED;
}

long bpf_fib_lookup(void *ctx, struct bpf_fib_lookup *params, int len, uint32_t flags)
{
	static const uint8_t mac[ETH_ALEN] = { 2 };

	(void)ctx;
	(void)len;
	(void)flags;
	memcpy(params->dmac, mac, ETH_ALEN);
	memcpy(params->smac, mac, ETH_ALEN);
	params->smac[5] = 1;
	params->ifindex = IFINDEX;
	params->mtu_result = 1500;
	return hop_of(params, &params->dmac[5]);
}

long bpf_loop(uint32_t n, void *fn, void *data, uint64_t flags)
{
	long (*each)(uint32_t, void *) = (long (*)(uint32_t, void *))fn;

	(void)flags;
	for (uint32_t i = 0; i < n; i++)
		if (each(i, data))
			return i + 1;
	return n;
}

struct bpf_sock *bpf_skc_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, uint32_t len, uint64_t netns,
				    uint64_t flags)
{
	(void)ctx;
	(void)tuple;
	(void)len;
	(void)netns;
	(void)flags;
	return NULL;
}

long bpf_sk_release(void *sk)
{
	(void)sk;
	return 0;
}

/*
 * SYN cookies, with the kernel's rule and a hash of our own: the client's sequence number, and the number of an MSS that
 * is added last, of which any of 0 to 3 is right.
 */
static uint32_t cookie_secret(const void *addrs, size_t n, const struct pk_tcp *tcp)
{
	const uint8_t *b = addrs;
	uint32_t h = 2166136261U;

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 16777619U;
	return (h ^ tcp->sport) * 16777619U ^ tcp->dport;
}

static int64_t cookie_make(uint32_t secret, const struct pk_tcp *tcp, uint32_t len)
{
	static const uint8_t least[] = { TCP_OPT_MSS, 4, 536 >> 8, 536 & 255 };

	/* What the kernel's helper wants, and that it is asked for the smallest. */
	assert(len == sizeof(*tcp) + sizeof(least) && tcp->off >> 4 == len / 4);
	assert((tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !memcmp(tcp + 1, least, sizeof(least)));
	return (int64_t)(secret + bpf_ntohl(tcp->seq)) | 536LL << 32;
}

static long cookie_is_right(uint32_t secret, const struct pk_tcp *tcp)
{
	assert(tcp->flags == TCP_ACK);
	return bpf_ntohl(tcp->ack) - bpf_ntohl(tcp->seq) - secret < 4 ? 0 : -1;
}

int64_t bpf_tcp_raw_gen_syncookie_ipv4(void *ip, void *tcp, uint32_t len)
{
	const struct pk_ip4 *h = ip;

	assert(h->ver_ihl == 0x45 && h->proto == IPPROTO_TCP);
	return cookie_make(cookie_secret(&h->src, 8, tcp), tcp, len);
}

int64_t bpf_tcp_raw_gen_syncookie_ipv6(void *ip, void *tcp, uint32_t len)
{
	const struct pk_ip6 *h = ip;

	assert(h->flow == bpf_htonl(0x60000000) && h->next == IPPROTO_TCP);
	return cookie_make(cookie_secret(h->src, 32, tcp), tcp, len);
}

long bpf_tcp_raw_check_syncookie_ipv4(void *ip, void *tcp)
{
	return cookie_is_right(cookie_secret(&((const struct pk_ip4 *)ip)->src, 8, tcp), tcp);
}

long bpf_tcp_raw_check_syncookie_ipv6(void *ip, void *tcp)
{
	return cookie_is_right(cookie_secret(((const struct pk_ip6 *)ip)->src, 32, tcp), tcp);
}

/* The world of packet_gen.h. */
static struct lb_addr addr_of(struct gen_addr a)
{
	struct lb_addr ret = {};

	if (a.family == 4) {
		ret.v6[2] = bpf_htonl(0xffff);
		memcpy(&ret.v6[3], a.b, 4);
	} else {
		memcpy(&ret, a.b, 16);
	}
	return ret;
}

#define AT(map, type, i) (*(type *)bpf_map_lookup_elem(&(map), &(uint32_t){ i }))

static void gate(const struct lb_addr *addr, uint16_t port, uint8_t proto)
{
	struct pk_admin a = { .addr = *addr, .port = bpf_htons(port), .proto = proto };

	pk_admin_gate(&a);
}

static void add_service(uint32_t id, int family, int tunnels_family)
{
	uint32_t forward = (id - 1) % GEN_SERVICES;
	bool tunnel = forward == LB_FORWARD_IPIP || forward == LB_FORWARD_GUE;
	int far = tunnel ? tunnels_family : family;
	struct lb_vip vip = { .addr = addr_of(gen_vip(family)),
			      .port = bpf_htons(gen_port(forward)),
			      .proto = id <= GEN_SERVICES ? IPPROTO_TCP : IPPROTO_UDP };
	struct pk_addr addr = { .services = 1 };

	AT(lb_plans, struct lb_plan, id) = (struct lb_plan){ .service = id,
							     .ring = id,
							     .n = GEN_BACKENDS,
							     .n_backends = GEN_BACKENDS,
							     .scheduler = id % _LB_SCHEDULER_MAX,
							     .forward = (uint8_t)forward,
							     .flags = LB_PLAN_PACKET,
							     .tcp_idle_ms = 7200000,
							     .udp_idle_ms = 30000 };
	AT(lb_services, struct lb_service, id).plan = id;
	for (uint32_t i = 0; i < GEN_BACKENDS; i++) {
		struct lb_backend b = { .addr = addr_of(gen_backend(far, i)),
					.port = bpf_htons(gen_backend_port(forward)),
					.service = id,
					.weight = 1,
					.flags = far == 4 ? LB_BACKEND_V4 : 0 };

		AT(lb_backends, struct lb_backend, id * 4 + i) = b;
		AT(pk_far, struct pk_far, id * 4 + i) = (struct pk_far){ .nat = far == 4 ? 1 : 2 };
		AT(lb_ring, struct lb_line, id).backend[i] = id * 4 + i;
		gate(&b.addr, gen_backend_port(forward), vip.proto);
	}
	bpf_map_update_elem(&lb_vips, &vip, &id, BPF_ANY);
	bpf_map_update_elem(&pk_addrs, &vip.addr, &addr, BPF_ANY);
	gate(&vip.addr, gen_port(forward), vip.proto);
}

static void add_cookies(const struct ref *r)
{
	static const uint16_t flags[] = { 0, LB_PLAN_COOKIES_AUTO, LB_PLAN_COOKIES };
	uint32_t first = 1;

	AT(lb_plans, struct lb_plan, first).flags |= flags[r->cookies];
	AT(pk_uses, struct pk_use, first).syns = r->syns;
	AT(pk_uses, struct pk_use, first).tick = (uint32_t)(bpf_jiffies64() >> 24);
}

static void make_world(int family, int tunnels_family)
{
	map_empty(&pk_table);
	map_empty(&pk_far);
	map_empty(&pk_gate);
	map_empty(&pk_uses);
	map_empty(&pk_seqs);
	map_empty(&pk_hops);
	map_empty(&pk_frags);
	map_empty(&pk_stats);
	map_empty(&pk_addrs);
	map_empty(&lb_vips);
	map_empty(&lb_load);
	map_empty(&lb_cursors);
	AT(pk_ctl, struct pk_ctl, 0) = (struct pk_ctl){ .seed = { 0x1234567890abcdef, 0xfedcba0987654321 },
							.abi = PK_ABI_VERSION,
							.on = PK_ON,
							.bucket_mask = BUCKETS - 1,
							.hz = 250,
							.tick_shift = 24,
							.nat_port = 1024,
							.nat_groups = 512,
							.max_backends = 64 };
	AT(lb_ctl, struct lb_ctl, 0) = (struct lb_ctl){ .abi = LB_ABI_VERSION, .on = 1 };
	AT(pk_nats, struct lb_addr, 1) = addr_of(gen_own(4));
	AT(pk_nats, struct lb_addr, 2) = addr_of(gen_own(6));
	for (uint32_t id = 1; id <= 2 * GEN_SERVICES; id++)
		add_service(id, family, tunnels_family);
}

/* The input, a byte or two a choice. When it has ended everything is 0. */
struct input {
	const uint8_t *data;
	size_t n;
};

static uint32_t input_below(void *data, uint32_t n)
{
	struct input *in = data;
	uint32_t v = 0;

	for (int i = n > 256 ? 2 : 1; i && in->n; i--, in->n--)
		v = v << 8 | *in->data++;
	return v % n;
}

static enum pk_reason reason_of(void)
{
	enum pk_reason found = _PK_REASON_MAX;

	for (uint32_t i = 0; i < _PK_REASON_MAX; i++) {
		uint64_t *n = &AT(pk_stats, uint64_t, i);

		/* Just once. */
		assert(*n == 0 || (*n == 1 && found == _PK_REASON_MAX));
		if (*n)
			found = (enum pk_reason)i;
		*n = 0;
	}
	assert(found != _PK_REASON_MAX);
	return found;
}

static void wrong_is(const char *what)
{
	(void)fprintf(stderr, "%s\n", what);
	abort();
}

/* How often each thing became of a packet, ever. */
static uint64_t reached[_PK_REASON_MAX];

static void one_packet(struct ref *r, const struct gen_pkt *in)
{
	enum pk_reason reason;
	uint8_t out[ROOM];
	const char *wrong;
	frame ctx;
	int action;

	ASAN_UNPOISON_MEMORY_REGION(room, ROOM);
	memcpy(room + HEADROOM, in->b, in->n);
	ctx = frame_make((uint32_t)(uintptr_t)room + HEADROOM, (uint32_t)in->n);
	frame_show(&ctx);
	action = FUZZ_FIRST(&ctx);
	ASAN_UNPOISON_MEMORY_REGION(room, ROOM);
	memcpy(out, (void *)(uintptr_t)ctx.data, frame_bytes(&ctx));
	reason = reason_of();
	reached[reason]++;
	wrong = ref_check(r, in, reason, frame_verdict(action), out, frame_bytes(&ctx));
	if (wrong)
		wrong_is(wrong);
#if FUZZ_TC
	if (r->has_beside != (n_cloned > 0) || (n_cloned && !ref_is_beside(cloned, n_cloned)))
		wrong_is("not the second packet that was to be sent");
#endif
}

/* So that a corpus that has lost its way is noticed: the corpus in the tree gets to all of these. */
static void tell_unreached(void)
{
	static const struct {
		enum pk_reason reason;
		const char *word;
	} all[] = {
		{ PK_FORWARDED, "forwarded" },
		{ PK_RETURNED, "returned" },
		{ PK_ICMP_STEERED, "icmp-steered" },
		{ PK_COOKIE_SENT, "cookie-sent" },
		{ PK_COOKIE_ACCEPTED, "cookie-accepted" },
		{ PK_COOKIE_REFUSED, "cookie-refused" },
		{ PK_NO_COOKIE, "no-cookie" },
#if !FUZZ_TC
		{ PK_TO_TC, "to-tc" },
#endif
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		(void)fprintf(stderr, "%s: %s: %llu packets\n", reached[all[i].reason] ? "reached" : "never reached",
			      all[i].word, (unsigned long long)reached[all[i].reason]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct ref r;
	static struct gen_pkt p;
	struct input in = { data, n };
	struct gen g = { .below = input_below, .data = &in };
	uint32_t first = input_below(&in, 6);

	if (!room) {
		room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		assert(room != MAP_FAILED);
		(void)atexit(tell_unreached);
	}
	memset(&r, 0, sizeof(r));
	r.family = g.family = first % 2 ? 6 : 4;
	r.tunnels_family = input_below(&in, 2) ? 6 : 4;
	r.is_xdp = !FUZZ_TC;
	r.mtu = 1500;
	r.cookies = (enum ref_cookies)(first / 2);
	r.syns = PK_FLOOD_SYNS - 4;
	g.numbers = r.cookies != REF_COOKIES_OFF;
	random_state = 1;
	make_world(r.family, r.tunnels_family);
	add_cookies(&r);
	for (int i = 0; i < PACKETS_MAX && in.n; i++) {
		g.n_conns = ref_known(&r, &g.conns);
		g.n_cookies = ref_known_cookies(&r, &g.cookies);
		gen_packet(&g, &p);
		if (p.n >= ETH_HLEN)
			one_packet(&r, &p);
	}
	return 0;
}
