// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/packet_bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "lab/prog.h"
#include "sys/proc.h"

#define IP_MS 20000
#define LINK "pk0"
#define OWN 0xc6120001	    /* 198.18.0.1 */
#define VIP 0xc6130001	    /* 198.19.0.1, and on */
#define CLIENTS 0x0a000000  /* 10.0.0.0/8: 2^24 of them */
#define BACKENDS 0xac100000 /* 172.16.0.0/12 */
#define OTHER_VIPS 0xc6140000
#define OTHER_BACKENDS 0xac180000
#define OTHER_BACKENDS_EACH 10
#define CLIENT_PORT 40000
#define SERVICE_PORT 80
#define RING 65537

/* Nothing is ever sent: the packets begin and end in BPF_PROG_TEST_RUN. But the kernel's routes are asked for. */
static const char net_setup[] = "link add " LINK " type veth peer name pk1\n"
				"link set " LINK " up\n"
				"link set pk1 up\n"
				"link set lo up\n"
				"address add 198.18.0.1/24 dev " LINK "\n"
				"address add 2001:2::1/64 dev " LINK " nodad\n"
				"neighbour add 198.18.0.254 lladdr 02:00:00:00:00:fe dev " LINK " nud permanent\n"
				"neighbour add 2001:2::fe lladdr 02:00:00:00:00:fe dev " LINK " nud permanent\n"
				"route add default via 198.18.0.254\n"
				"route add default via 2001:2::fe\n";

static const struct kind {
	enum lb_forward forward;
	uint8_t proto;
	bool v6;
	uint32_t quota;
} kinds[_BED_SERVICE_MAX] = {
	[BED_IPIP] = { LB_FORWARD_IPIP, IPPROTO_TCP, false, 0 },
	[BED_NAT] = { LB_FORWARD_NAT, IPPROTO_TCP, false, 0 },
	[BED_DSR] = { LB_FORWARD_DSR, IPPROTO_TCP, false, 0 },
	[BED_GUE] = { LB_FORWARD_GUE, IPPROTO_TCP, false, 0 },
	[BED_UDP] = { LB_FORWARD_IPIP, IPPROTO_UDP, false, 0 },
	[BED_V6] = { LB_FORWARD_IPIP, IPPROTO_TCP, true, 0 },
	[BED_FLOOD] = { LB_FORWARD_IPIP, IPPROTO_TCP, false, 0 },
	[BED_QUOTA] = { LB_FORWARD_IPIP, IPPROTO_TCP, false, PACKET_BED_QUOTA },
};

static struct lb_addr v4(uint32_t addr)
{
	return (struct lb_addr){ .v6 = { 0, 0, htonl(0xffff), htonl(addr) } };
}

/* 2001:2:0:NET::HOST */
static struct lb_addr v6(uint32_t net, uint32_t host)
{
	return (struct lb_addr){ .v6 = { htonl(0x20010002), htonl(net), 0, htonl(host) } };
}

static struct lb_addr vip_of(enum packet_bed_service s)
{
	return kinds[s].v6 ? v6(0xf, VIP + s) : v4(VIP + s);
}

static int enter_new(int *ret_netns, int *ret_was, struct err *err)
{
	*ret_was = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (*ret_was < 0 || unshare(CLONE_NEWNET) < 0)
		return err_set(err, -errno, "cannot make a network namespace: %s", strerror(errno));
	*ret_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return *ret_netns < 0 ? err_set(err, -errno, "cannot open a network namespace: %s", strerror(errno)) : 0;
}

static int set_on(const char *path, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, "1", 1) != 1 ? err_set(err, -errno, "cannot set '%s': %s", path, strerror(errno)) :
						  0;
}

static int make_net(struct err *err)
{
	static const char *const argv[] = { "ip", "-batch", "-", NULL };
	const struct prog_spec spec = { .argv = argv, .input = net_setup, .netns_fd = -1, .cgroup_fd = -1 };
	int r = prog_run(&spec, IP_MS, err);

	if (r >= 0)
		r = set_on("/proc/sys/net/ipv4/conf/all/forwarding", err);
	return r < 0 ? r : set_on("/proc/sys/net/ipv6/conf/all/forwarding", err);
}

/* A bpffs on DIR/NAME of the lab, for this process alone. */
static int make_pins(const struct lab *lab, const char *name, char *ret, size_t n, struct err *err)
{
	char dir[160];
	int r = lab_mkdir(lab, name, err);

	if (r < 0)
		return r;
	(void)snprintf(dir, sizeof(dir), "%s/%s", lab->dir, name);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("bpf", dir, "bpf", 0, NULL) < 0)
		return err_set(err, -errno, "cannot mount a bpffs on '%s': %s", dir, strerror(errno));
	(void)snprintf(ret, n, "%s/pins", dir);
	return 0;
}

static int apply_one(struct packet_bed *bed, enum packet_bed_service s, struct err *err)
{
	struct lb_backend_spec backends[PACKET_BED_BACKENDS];
	struct lb_service_spec spec = {
		.vip = { .addr = vip_of(s), .port = htons(SERVICE_PORT), .proto = kinds[s].proto },
		.plan = { .scheduler = LB_MAGLEV,
			  .forward = kinds[s].forward,
			  .flags = LB_PLAN_PACKET,
			  .quota = kinds[s].quota,
			  .tcp_idle_ms = 7200000,
			  .udp_idle_ms = 30000 },
		.table_size = RING,
		.backends = backends,
		.n_backends = PACKET_BED_BACKENDS,
	};

	for (uint32_t i = 0; i < PACKET_BED_BACKENDS; i++)
		backends[i] = (struct lb_backend_spec){
			.addr = kinds[s].v6 ? v6(0xb, i + 1) : v4(BACKENDS + (s << 8) + i + 1),
			.port = SERVICE_PORT,
			.weight = 1,
		};
	return lb_apply(bed->lb, &spec, &bed->services[s], err);
}

static int apply_others(struct packet_bed *bed, uint32_t n, struct err *err)
{
	struct lb_backend_spec backends[OTHER_BACKENDS_EACH];
	struct lb_service_spec spec = {
		.vip = { .port = htons(SERVICE_PORT), .proto = IPPROTO_TCP },
		.plan = { .scheduler = LB_ROUND_ROBIN,
			  .forward = LB_FORWARD_IPIP,
			  .flags = LB_PLAN_PACKET,
			  .tcp_idle_ms = 7200000 },
		.backends = backends,
		.n_backends = OTHER_BACKENDS_EACH,
	};
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < n; i++) {
		uint32_t id;

		spec.vip.addr = v4(OTHER_VIPS + i);
		for (uint32_t k = 0; k < OTHER_BACKENDS_EACH; k++)
			backends[k] = (struct lb_backend_spec){
				.addr = v4(OTHER_BACKENDS + i * OTHER_BACKENDS_EACH + k),
				.port = SERVICE_PORT,
				.weight = 1,
			};
		r = lb_apply(bed->lb, &spec, &id, err);
	}
	return r;
}

static int make_services(struct packet_bed *bed, uint32_t others, struct err *err)
{
	int r = 0, end;

	lb_begin(bed->lb);
	/* Those that are measured last: their ids are not the lowest of all. */
	r = apply_others(bed, others, err);
	for (enum packet_bed_service s = 0; r >= 0 && s < _BED_SERVICE_MAX; s++)
		r = apply_one(bed, s, err);
	end = lb_end(bed->lb, err);
	return r < 0 ? r : end;
}

static int make_tables(struct packet_bed *bed, uint32_t others, struct err *err)
{
	const struct lb_limits limits = {
		.services = others + 64,
		.backends = others * OTHER_BACKENDS_EACH + _BED_SERVICE_MAX * PACKET_BED_BACKENDS + 64,
	};
	const struct packet_opts opts = { .max_conns = PACKET_BED_CONNS };
	bool taken_over;
	int r = lb_open(&limits, &bed->lb, &taken_over, err);

	if (r >= 0)
		r = make_services(bed, others, err);
	if (r >= 0)
		r = packet_open(bed->lb, &opts, &bed->packet, err);
	if (r >= 0)
		lb_ctl(bed->lb)->on = 1;
	return r < 0 ? r : replay_open(bed->packet, if_nametoindex(LINK), &bed->replay, err);
}

int packet_bed_make(const struct lab *lab, const char *name, uint32_t others, struct packet_bed *ret, struct err *err)
{
	struct packet_bed bed = PACKET_BED_NONE;
	char pins[192], was_pins[192];
	const char *env = getenv("WAGGLE_BPF_DIR");
	int was = -1, r;

	(void)snprintf(was_pins, sizeof(was_pins), "%s", env ? env : "");
	r = make_pins(lab, name, pins, sizeof(pins), err);
	if (r < 0)
		return r;
	if (setenv("WAGGLE_BPF_DIR", pins, 1) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = enter_new(&bed.netns_fd, &was, err);
	if (r >= 0)
		r = make_net(err);
	if (r >= 0)
		r = make_tables(&bed, others, err);
	if (was >= 0)
		netns_return(was);
	if (setenv("WAGGLE_BPF_DIR", was_pins, 1) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		packet_bed_done(&bed);
		return r;
	}
	*ret = bed;
	return 0;
}

void packet_bed_done(struct packet_bed *bed)
{
	bed->replay = replay_close(bed->replay);
	bed->packet = packet_close(bed->packet);
	bed->lb = lb_close(bed->lb);
	if (bed->netns_fd >= 0)
		(void)close(bed->netns_fd);
	bed->netns_fd = -1;
}

/* Checksums are left 0: what is changed is the difference, and nobody checks the sum. */
static size_t put_ip(uint8_t *head, enum packet_bed_service s, const struct lb_addr *src, const struct lb_addr *dst)
{
	struct ethhdr eth = { .h_dest = { 2, 0, 0, 0, 0, 1 }, .h_source = { 2, 0, 0, 0, 0, 0xfe } };
	struct iphdr ip = { .version = 4,
			    .ihl = 5,
			    .tot_len = htons(RP_HEAD - ETH_HLEN),
			    .frag_off = htons(IP_DF),
			    .ttl = 64,
			    .protocol = kinds[s].proto,
			    .saddr = src->v6[3],
			    .daddr = dst->v6[3] };
	struct ip6_hdr ip6 = { .ip6_flow = htonl(6U << 28),
			       .ip6_plen = htons(RP_HEAD - ETH_HLEN - sizeof(ip6)),
			       .ip6_nxt = kinds[s].proto,
			       .ip6_hlim = 64 };

	memcpy(&ip6.ip6_src, src, sizeof(ip6.ip6_src));
	memcpy(&ip6.ip6_dst, dst, sizeof(ip6.ip6_dst));
	eth.h_proto = htons(kinds[s].v6 ? ETH_P_IPV6 : ETH_P_IP);
	memcpy(head, &eth, sizeof(eth));
	if (kinds[s].v6)
		memcpy(head + sizeof(eth), &ip6, sizeof(ip6));
	else
		memcpy(head + sizeof(eth), &ip, sizeof(ip));
	return sizeof(eth) + (kinds[s].v6 ? sizeof(ip6) : sizeof(ip));
}

static void put_ports(uint8_t *head, size_t at, enum packet_bed_service s, uint16_t sport, uint16_t dport,
		      uint8_t flags)
{
	struct tcphdr tcp = { .th_sport = htons(sport), .th_dport = htons(dport), .th_off = 5, .th_flags = flags };
	struct udphdr udp = { .uh_sport = htons(sport), .uh_dport = htons(dport), .uh_ulen = htons(RP_HEAD - at) };

	if (kinds[s].proto == IPPROTO_TCP)
		memcpy(head + at, &tcp, sizeof(tcp));
	else
		memcpy(head + at, &udp, sizeof(udp));
}

struct replay_packet packet_bed_packet(enum packet_bed_service s, enum packet_bed_way way, uint32_t flows,
				       uint32_t first)
{
	struct lb_addr vip = way == BED_NOT_OURS ? v4(VIP + 0x1000) : vip_of(s), client, own = v4(OWN);
	struct replay_packet p = { .flows = flows, .first = CLIENTS + first };
	size_t l4;

	client = kinds[s].v6 ? v6(0xc, p.first) : v4(p.first);
	if (way == BED_FROM_BACKEND || way == BED_FROM_BACKEND_SYN) {
		p.list = true;
		l4 = put_ip(p.head, s, &own, &own);
		put_ports(p.head, l4, s, SERVICE_PORT, 0, way == BED_FROM_BACKEND ? TH_ACK : TH_SYN | TH_ACK);
		p.port_at = (uint32_t)l4 + 2;
	} else {
		l4 = put_ip(p.head, s, &client, &vip);
		put_ports(p.head, l4, s, CLIENT_PORT, SERVICE_PORT, way == BED_SYN ? TH_SYN : TH_ACK);
	}
	/* The last word of the source. */
	p.word_at = ETH_HLEN +
		    (uint32_t)(kinds[s].v6 ? offsetof(struct ip6_hdr, ip6_dst) : offsetof(struct iphdr, daddr)) - 4;
	return p;
}

int packet_bed_run(struct packet_bed *bed, const struct replay_packet *p, enum rp_prog prog, uint32_t start, uint32_t n,
		   uint32_t *ret_ns, struct err *err)
{
	uint32_t ns, verdict;
	int was = netns_enter(bed->netns_fd), r;

	if (was < 0)
		return err_set(err, was, "cannot enter a network namespace: %s", strerror(-was));
	r = replay_run(bed->replay, p, prog, start, n, &ns, &verdict, err);
	netns_return(was);
	if (r >= 0 && ret_ns)
		*ret_ns = ns;
	return r;
}

void packet_bed_reset(struct packet_bed *bed)
{
	replay_forget(bed->replay);
}

static int run_all(struct packet_bed *bed, enum packet_bed_service s, enum packet_bed_way way, uint32_t flows,
		   uint32_t first, struct err *err)
{
	struct replay_packet p = packet_bed_packet(s, way, flows, first);

	return packet_bed_run(bed, &p, RP_PACKET, 0, flows, NULL, err);
}

static int establish_nat(struct packet_bed *bed, uint32_t flows, uint32_t first, struct err *err)
{
	int r = run_all(bed, BED_NAT, BED_SYN, flows, first, err);

	if (r >= 0)
		r = replay_list(bed->replay, flows, err);
	if (r >= 0)
		r = run_all(bed, BED_NAT, BED_FROM_BACKEND_SYN, flows, first, err);
	return r < 0 ? r : run_all(bed, BED_NAT, BED_FROM_CLIENT, flows, first, err);
}

int packet_bed_establish(struct packet_bed *bed, enum packet_bed_service s, uint32_t flows, uint32_t first,
			 struct err *err)
{
	uint32_t open = 0;
	int r = 0;

	/* While room is short, whoever comes may evict who has not been answered yet: who is answered soon stays. */
	for (int i = 0; r >= 0 && i < 8 && open < flows; i++) {
		if (s == BED_NAT)
			r = establish_nat(bed, flows, first, err);
		else
			r = run_all(bed, s, BED_FROM_CLIENT, flows, first, err);
		open = replay_count(bed->replay, bed->services[s], PK_STATE_OPEN);
	}
	if (r >= 0 && open < flows)
		return err_set(err, -EIO, "only %u of %u connections are established", open, flows);
	return r;
}
