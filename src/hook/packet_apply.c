// SPDX-License-Identifier: GPL-2.0-or-later
/* What services and backends need in the packet hook's own maps. */
#include "hook/packet_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include <bpf/bpf.h>

#include "model/addr.h"

static int gate_open(struct packet *p, const struct lb_addr *addr, __be16 port, uint8_t proto)
{
	struct pk_admin a = { .op = PK_ADMIN_GATE, .addr = *addr, .port = port, .proto = proto };

	return packet_admin(p, &a);
}

/* Index of an own address in pk_nats; 0: the table is full. */
static uint16_t nat_index(struct packet *p, const struct lb_addr *own)
{
	static const struct lb_addr none;

	for (uint16_t i = 1; i < PK_NATS; i++) {
		if (!memcmp(&p->nats[i], own, sizeof(*own)))
			return i;
		if (!memcmp(&p->nats[i], &none, sizeof(none))) {
			p->nats[i] = *own;
			return i;
		}
	}
	return 0;
}

int packet_own_address(const struct lb_addr *to, struct lb_addr *ret)
{
	struct sockaddr_storage sa, mine;
	socklen_t len = addr_to_sockaddr(to, 9, &sa), mine_len = sizeof(mine);
	_cleanup_close_ int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint16_t port;

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&mine, &mine_len) < 0)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&mine, ret, &port);
}

/*
 * Where a backend is reached from. It may have changed since, and connections that there are keep theirs: so it is
 * looked up at each change of the services, and entries of pk_nats stay.
 */
static void apply_own(struct packet *p, uint32_t id, const struct lb_backend *b)
{
	struct lb_addr own;

	if (packet_own_address(&b->addr, &own) < 0)
		return;
	p->far[id].nat = nat_index(p, &own);
}

static int apply_backend(struct packet *p, uint32_t id)
{
	const struct lb_backend *b = &p->lb->backends[id];
	int r;

	if (!b->service || b->flags & LB_BACKEND_GONE)
		return 0;
	if (p->gens[id] != b->gen + 1) {
		/* The next hop was that of another one. */
		p->far[id].hop.ifindex = 0;
		p->far[id].pmtu = 0;
		/* Its service's protocol is not known here: both, for a bit too many does no harm. */
		if ((r = gate_open(p, &b->addr, b->port, IPPROTO_TCP)) < 0 ||
		    (r = gate_open(p, &b->addr, b->port, IPPROTO_UDP)) < 0)
			return r;
		p->gens[id] = b->gen + 1;
	}
	apply_own(p, id, b);
	return 0;
}

static int apply_service(uint32_t service, const struct lb_vip *vip, void *data)
{
	struct packet *p = data;
	struct pk_addr addr = { .services = 1 };
	const struct lb_plan *plan = &p->lb->plans[p->lb->services[service].plan];

	if (!(plan->flags & LB_PLAN_PACKET))
		return 0;
	if (bpf_map_update_elem(bpf_map__fd(p->xdp->maps.pk_addrs), &vip->addr, &addr, BPF_ANY))
		return -errno;
	return gate_open(p, &vip->addr, vip->port, vip->proto);
}

struct addr_seen {
	const struct lb_addr *addr;
	const struct lb *lb;
	bool found;
};

static int addr_is_served(uint32_t service, const struct lb_vip *vip, void *data)
{
	struct addr_seen *s = data;

	s->found = s->lb->plans[s->lb->services[service].plan].flags & LB_PLAN_PACKET &&
		   !memcmp(&vip->addr, s->addr, sizeof(*s->addr));
	return s->found;
}

/* Addresses that have no service any more are not answered for. */
static void forget_addresses(struct packet *p)
{
	int fd = bpf_map__fd(p->xdp->maps.pk_addrs);
	struct lb_addr key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		struct addr_seen s = { .addr = &key, .lb = p->lb };

		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		(void)lb_each_service(p->lb, addr_is_served, &s);
		if (!s.found)
			(void)bpf_map_delete_elem(fd, &key);
	}
}

/* VLAN devices and their parents, for what XDP sends and receives. */
static int apply_links(struct packet *p, struct err *err)
{
	int fd = bpf_map__fd(p->xdp->maps.pk_links);
	_cleanup_free_ struct packet_link *links = NULL;
	size_t n;
	int r = packet_links(&links, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct pk_link_key down = { .ifindex = links[i].ifindex };
		struct pk_link_key up = { .ifindex = links[i].parent, .vid = links[i].vlan };
		struct pk_link parent = { .ifindex = links[i].parent, .vid = links[i].vlan };
		struct pk_link device = { .ifindex = links[i].ifindex };

		if (!streq(links[i].kind, "vlan") || !links[i].parent || !links[i].vlan)
			continue;
		if (bpf_map_update_elem(fd, &down, &parent, BPF_ANY) || bpf_map_update_elem(fd, &up, &device, BPF_ANY))
			return err_set(err, -errno, "cannot note the VLAN device '%s': %s", links[i].name,
				       strerror(errno));
	}
	return 0;
}

int packet_apply(struct packet *p, struct err *err)
{
	int r = apply_links(p, err);

	if (r < 0)
		return r;
	/* Backends first: a connection may begin as soon as its service's gate is open. */
	for (uint32_t id = 1; id < p->n_backends; id++) {
		r = apply_backend(p, id);
		if (r < 0)
			return err_set(err, r, "cannot let packets of a backend in: %s", strerror(-r));
	}
	r = lb_each_service(p->lb, apply_service, p);
	if (r < 0)
		return err_set(err, r, "cannot let packets of a service in: %s", strerror(-r));
	forget_addresses(p);
	return 0;
}

static int guard_list(int fd, const struct config_cidrs *list, uint32_t word)
{
	for (size_t i = 0; list && i < list->n; i++) {
		struct pk_acl_key key = { .prefix = list->v[i].prefix, .addr = list->v[i].addr };

		if (bpf_map_update_elem(fd, &key, &word, BPF_ANY))
			return -errno;
	}
	return 0;
}

static void guard_empty(int fd)
{
	struct pk_acl_key key;

	while (!bpf_map_get_next_key(fd, NULL, &key))
		if (bpf_map_delete_elem(fd, &key))
			return;
}

int packet_guard(struct packet *p, const struct packet_opts *opts, struct err *err)
{
	int fd = bpf_map__fd(p->xdp->maps.pk_acl), r;
	uint32_t on = p->ctl->on & ~(uint32_t)(PK_ON_ACL | PK_ON_ACL_ALLOW | PK_ON_SOURCES);

	/* While the lists are exchanged, none is in force: who is let in then is one of a handful. */
	__atomic_store_n(&p->ctl->on, on, __ATOMIC_RELEASE);
	guard_empty(fd);
	if ((r = guard_list(fd, opts->allow, PK_ACL_ALLOW)) < 0 || (r = guard_list(fd, opts->deny, PK_ACL_DENY)) < 0)
		return err_set(err, r, "cannot set the lists of sources: %s", strerror(-r));
	if (opts->allow && opts->allow->n)
		on |= PK_ON_ACL | PK_ON_ACL_ALLOW;
	if (opts->deny && opts->deny->n)
		on |= PK_ON_ACL;
	p->ctl->source_rate = opts->source_rate;
	if (opts->source_rate)
		on |= PK_ON_SOURCES;
	__atomic_store_n(&p->ctl->on, on, __ATOMIC_RELEASE);
	return 0;
}
