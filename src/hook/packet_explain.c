// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a flow would go: the core of the packet hook, loaded once more (bpf/explain.bpf.c), is run on one packet of the
 * flow. It shares the tables that the programs only read, and has its own of those that they write: these are filled
 * before each run with what the flow may need. So the answer is the programs' own, and nothing of it stays.
 */
#include "hook/packet_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/mman.h>

#include <bpf/bpf.h>

#include "explain.skel.h"
#include "model/addr.h"
#include "sys/bpf.h"

struct packet_explain {
	struct explain_skel *skel;
	struct lb_load *load; /* mapped */
	struct pk_far *far;   /* mapped */
	size_t load_bytes, far_bytes;
};

/* Read by the programs, and never written: the hook's own. */
static const char *const shared[] = {
	"lb_vips", "lb_services", "lb_plans", "lb_backends", "lb_ring", "lb_ctl", "pk_table",
	"pk_nats", "pk_gate",	  "pk_addrs", "pk_links",    "pk_acl",	"pk_ctl",
};

static bool is_shared(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
		if (streq(name, shared[i]))
			return true;
	return false;
}

/* What the programs write, as large as it must be for this. */
static int size_map(const struct packet *p, struct bpf_map *map)
{
	const char *name = bpf_map__name(map);
	int r;

	if (streq(name, "lb_load") || streq(name, "pk_far"))
		return bpf_map__set_max_entries(map, p->n_backends);
	if (streq(name, "lb_cursors") || streq(name, "pk_uses"))
		return bpf_map__set_max_entries(map, p->lb->n_services);
	/* Nobody reads these: what is not there is not counted. */
	if (streq(name, "lb_traffic"))
		return bpf_map__set_max_entries(map, 1);
	if (streq(name, "pk_frags"))
		return bpf_map__set_max_entries(map, 1024);
	/* One source, that nobody evicts. */
	if (streq(name, "pk_sources"))
		return (r = bpf_map__set_type(map, BPF_MAP_TYPE_HASH)) < 0 ? r : bpf_map__set_max_entries(map, 16);
	return 0;
}

static int prepare(const struct packet *p, struct explain_skel *skel)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, skel->obj) {
		const struct bpf_map *live = bpf_object__find_map_by_name(p->xdp->obj, bpf_map__name(map));
		int r;

		if (!is_shared(bpf_map__name(map)))
			r = size_map(p, map);
		else
			r = live ? bpf_map__reuse_fd(map, bpf_map__fd(live)) : -ENOENT;
		if (r < 0)
			return r;
	}
	return 0;
}

static void *map_memory(const struct bpf_map *map, size_t bytes)
{
	void *v = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return v == MAP_FAILED ? NULL : v;
}

static size_t pages(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

struct packet_explain *packet_explain_close(struct packet_explain *e)
{
	if (!e)
		return NULL;
	if (e->load)
		(void)munmap(e->load, e->load_bytes);
	if (e->far)
		(void)munmap(e->far, e->far_bytes);
	explain_skel__destroy(e->skel);
	free(e);
	return NULL;
}

static void packet_explain_closep(struct packet_explain **e)
{
	(void)packet_explain_close(*e);
}

static int explain_open(struct packet *p, struct err *err)
{
	_cleanup_(packet_explain_closep) struct packet_explain *e = new0(struct packet_explain);
	int r;

	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	e->skel = explain_skel__open();
	if (!e->skel)
		return err_set(err, -errno, "cannot open the program that explains: %s", strerror(errno));
	e->skel->rodata->pk_cookies_there = p->xdp->rodata->pk_cookies_there;
	r = prepare(p, e->skel);
	if (r >= 0)
		r = explain_skel__load(e->skel);
	if (r < 0)
		return err_set(err, r, "cannot load the program that explains: %s (%s)", strerror(-r), bpf_sys_last());
	e->load_bytes = pages(p->n_backends * sizeof(struct lb_load));
	e->far_bytes = pages(p->n_backends * sizeof(struct pk_far));
	e->load = map_memory(e->skel->maps.lb_load, e->load_bytes);
	e->far = map_memory(e->skel->maps.pk_far, e->far_bytes);
	if (!e->load || !e->far)
		return err_set(err, -ENOMEM, "cannot map the tables of the program that explains");
	p->explain = TAKE_PTR(e);
	return 0;
}

/* The frame that is run. Its checksums are adapted, and never looked at. */
struct frame {
	uint8_t v[ETH_HLEN + sizeof(struct ip6_hdr) + sizeof(struct tcphdr)];
	uint32_t n;
};

static void put(struct frame *f, const void *header, size_t n)
{
	memcpy(f->v + f->n, header, n);
	f->n += (uint32_t)n;
}

static void put_ip(struct frame *f, const struct packet_flow *flow, uint16_t body)
{
	if (addr_is_v4(&flow->client)) {
		struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = flow->proto };

		ip.tot_len = htons((uint16_t)(sizeof(ip) + body));
		ip.saddr = flow->client.v6[3];
		ip.daddr = flow->listen.v6[3];
		put(f, &ip, sizeof(ip));
	} else {
		struct ip6_hdr ip = { .ip6_flow = htonl(6U << 28), .ip6_plen = htons(body), .ip6_nxt = flow->proto };

		ip.ip6_hlim = 64;
		memcpy(&ip.ip6_src, &flow->client, sizeof(ip.ip6_src));
		memcpy(&ip.ip6_dst, &flow->listen, sizeof(ip.ip6_dst));
		put(f, &ip, sizeof(ip));
	}
}

/* The first packet of a connection, or one in the middle of it; of UDP, an empty datagram. */
static void frame_make(struct frame *f, const struct packet_flow *flow, bool first)
{
	struct ethhdr eth = { .h_dest = { 2 }, .h_source = { 2, 1 } };
	bool is_udp = flow->proto == IPPROTO_UDP;

	f->n = 0;
	eth.h_proto = htons(addr_is_v4(&flow->client) ? ETH_P_IP : ETH_P_IPV6);
	put(f, &eth, sizeof(eth));
	put_ip(f, flow, is_udp ? sizeof(struct udphdr) : sizeof(struct tcphdr));
	if (is_udp) {
		struct udphdr udp = { .source = htons(flow->client_port), .dest = htons(flow->port), .check = 1 };

		udp.len = htons(sizeof(udp));
		put(f, &udp, sizeof(udp));
	} else {
		struct tcphdr tcp = { .source = htons(flow->client_port), .dest = htons(flow->port), .doff = 5 };

		tcp.syn = first;
		tcp.ack = !first;
		tcp.window = htons(65535);
		put(f, &tcp, sizeof(tcp));
	}
}

static int run(const struct bpf_program *prog, struct frame *f, uint32_t ifindex, uint32_t *ret)
{
	struct xdp_md ctx = { .data_end = f->n, .ingress_ifindex = ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->v, .data_size_in = f->n, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);

	if (bpf_prog_test_run_opts(bpf_program__fd(prog), &opts))
		return -errno;
	*ret = opts.retval;
	return 0;
}

/* What the tables, with what was written to the copies of them, hold of the flow. */
static int ask(struct packet_explain *e, struct frame *f, uint32_t ifindex, struct pk_found *ret)
{
	uint32_t verdict;
	int r = run(e->skel->progs.pk_ask, f, ifindex, &verdict);

	if (r < 0)
		return r;
	*ret = e->skel->bss->found;
	return verdict == XDP_PASS ? 0 : -EIO;
}

static int empty(const struct bpf_map *map, void *key)
{
	int fd = bpf_map__fd(map);

	while (!bpf_map_get_next_key(fd, NULL, key))
		if (bpf_map_delete_elem(fd, key))
			return -errno;
	return 0;
}

/* One entry, as it is in the hook's own map; there may be none. */
static int copy_entry(const struct bpf_map *from, const struct bpf_map *to, const void *key)
{
	uint64_t value[8];

	if (bpf_map__value_size(from) > sizeof(value))
		return -E2BIG;
	if (bpf_map_lookup_elem(bpf_map__fd(from), key, value))
		return errno == ENOENT ? 0 : -errno;
	return bpf_map_update_elem(bpf_map__fd(to), key, value, BPF_ANY) ? -errno : 0;
}

static int forget(struct packet_explain *e)
{
	struct lb_addr source;
	uint32_t bucket;
	int r = empty(e->skel->maps.pk_copies, &bucket);

	return r < 0 ? r : empty(e->skel->maps.pk_sources, &source);
}

/* All that a run may write but the table, of which the programs take copies themselves. */
static int copy_all(struct packet *p, const struct packet_flow *flow, uint32_t service)
{
	struct packet_explain *e = p->explain;
	int r;

	memcpy(e->load, p->lb->load, p->n_backends * sizeof(*e->load));
	memcpy(e->far, p->far, p->n_backends * sizeof(*e->far));
	/* The way is looked up now, whatever was found a moment ago. */
	for (uint32_t i = 0; i < p->n_backends; i++)
		e->far[i].hop.ifindex = 0;
	if ((r = copy_entry(p->xdp->maps.lb_cursors, e->skel->maps.lb_cursors, &service)) < 0 ||
	    (r = copy_entry(p->xdp->maps.pk_uses, e->skel->maps.pk_uses, &service)) < 0)
		return r;
	return copy_entry(p->xdp->maps.pk_sources, e->skel->maps.pk_sources, &flow->client);
}

/* What became of the packet, by the counts before and after. */
static int run_core(struct packet_explain *e, struct frame *f, uint32_t ifindex, enum pk_reason *ret)
{
	uint64_t before[_PK_REASON_MAX], after[_PK_REASON_MAX];
	int fd = bpf_map__fd(e->skel->maps.pk_stats), r;
	uint32_t verdict;

	if ((r = bpf_sys_sum(fd, _PK_REASON_MAX, before)) < 0 ||
	    (r = run(e->skel->progs.pk_run, f, ifindex, &verdict)) < 0 ||
	    (r = bpf_sys_sum(fd, _PK_REASON_MAX, after)) < 0)
		return r;
	for (uint32_t i = 0; i < _PK_REASON_MAX; i++)
		if (after[i] != before[i]) {
			*ret = (enum pk_reason)i;
			return 0;
		}
	return -EIO;
}

/* A packet in the middle of a connection that goes on, the first of one otherwise. */
static bool is_first(const struct pk_found *found)
{
	return !found->has_conn || (found->conn.state != PK_STATE_OPEN && found->conn.state != PK_STATE_CLOSING);
}

static void tell(const struct packet_explain *e, const struct pk_found *was, const struct pk_found *is,
		 struct packet_told *ret)
{
	ret->plan = was->plan;
	ret->has_conn = is->has_conn;
	if (!is->has_conn)
		return;
	/* A record that is written anew is another one, even in the same place. */
	ret->is_new = !was->has_conn || was->index != is->index || was->conn.gen != is->conn.gen;
	ret->conn = ret->is_new ? is->conn : was->conn;
	ret->has_hop = ret->reason == PK_FORWARDED && e->far[is->conn.backend].hop.ifindex;
	if (ret->has_hop)
		ret->hop = e->far[is->conn.backend].hop;
}

static int explain(struct packet *p, const struct packet_flow *flow, uint32_t ifindex, struct packet_told *ret)
{
	struct packet_explain *e = p->explain;
	struct pk_found was, is;
	struct frame f = {};
	int r;

	if ((r = forget(e)) < 0)
		return r;
	frame_make(&f, flow, true);
	if ((r = ask(e, &f, ifindex, &was)) < 0 || (r = copy_all(p, flow, was.plan.service)) < 0)
		return r;
	frame_make(&f, flow, is_first(&was));
	if ((r = run_core(e, &f, ifindex, &ret->reason)) < 0 || (r = ask(e, &f, ifindex, &is)) < 0)
		return r;
	if (is.conn.backend >= p->n_backends)
		return -EIO;
	tell(e, &was, &is, ret);
	return forget(e);
}

static const struct packet_attach *attached_as(const struct packet *p, const char *name)
{
	for (size_t i = 0; i < p->n_attached; i++)
		if (streq(p->attached[i].name, name))
			return &p->attached[i];
	return NULL;
}

/* The interface that the kernel would answer the client by, if the hook is there; or else its first. */
static const struct packet_attach *guess(const struct packet *p, const struct lb_addr *client)
{
	const struct packet_attach *found = NULL;
	struct ifaddrs *all = NULL;
	struct lb_addr own, a;
	uint16_t port;

	if (packet_own_address(client, &own) < 0 || getifaddrs(&all) < 0)
		return p->attached;
	for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next)
		if (i->ifa_addr && (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6) &&
		    addr_from_sockaddr(i->ifa_addr, &a, &port) >= 0 && !memcmp(&a, &own, sizeof(a)))
			found = attached_as(p, i->ifa_name);
	freeifaddrs(all);
	return found ? found : p->attached;
}

int packet_explain(struct packet *p, const struct packet_flow *flow, struct packet_told *ret, struct err *err)
{
	uint32_t ifindex;
	int r;

	*ret = (struct packet_told){};
	if (!p->n_attached)
		return err_set(err, -ENODEV, "the packet hook serves no interface");
	ret->attach = flow->interface ? attached_as(p, flow->interface) : guess(p, &flow->client);
	if (!ret->attach)
		return err_set(err, -ENODEV, "the packet hook does not serve an interface '%.32s': see 'waggle status'",
			       flow->interface);
	ifindex = if_nametoindex(ret->attach->name);
	if (!ifindex)
		return err_set(err, -ENODEV, "there is no interface '%s' any more", ret->attach->name);
	if (!p->explain && (r = explain_open(p, err)) < 0)
		return r;
	r = explain(p, flow, ifindex, ret);
	return r < 0 ? err_set(err, r, "the packet program cannot be run: %s", strerror(-r)) : 0;
}
