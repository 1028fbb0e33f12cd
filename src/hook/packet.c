// SPDX-License-Identifier: GPL-2.0-or-later
/* Life cycle of the packet hook: programs, pinned maps, the control record. */
#include "hook/packet.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "base/num.h"
#include "hook/packet_priv.h"
#include "sys/bpf.h"

/* The maps of this hook that outlive the process. pk_steps_* belong to one load of the programs: see pin_steps(). */
static const char *const packet_maps[] = {
	"pk_table", "pk_far",	"pk_hops", "pk_nats",	 "pk_gate", "pk_uses",	"pk_addrs",
	"pk_links", "pk_frags", "pk_acl",  "pk_sources", "pk_ctl",  "pk_stats", "pk_seqs",
};

static int packet_fail(struct err *err, int r, const char *what)
{
	if (r == -EPERM)
		return err_set(err, r, "%s: not permitted: run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
			       what);
	return err_set(err, r, "%s: %s (%s)", what, strerror(-r), bpf_sys_last());
}

int packet_pin_path(char *ret, size_t max, const char *name, struct err *err)
{
	int n = snprintf(ret, max, "%s/%s", lb_pin_dir(), name);

	return n < 0 || (size_t)n >= max ? err_set(err, -ENAMETOOLONG, "the path of '%s' is too long", name) : 0;
}

static uint32_t map_entries(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.max_entries;
}

/* A power of two of buckets, with room for so many records at three quarters. */
static uint32_t buckets_for(uint32_t conns)
{
	uint32_t n = 128;

	while (n * PK_WAYS < conns && n < 1U << 21)
		n *= 2;
	return n;
}

static int size_map(struct packet *p, const struct packet_opts *opts, struct bpf_map *map)
{
	uint32_t buckets = buckets_for(opts->max_conns ? opts->max_conns : PACKET_CONNS_DEFAULT);
	const char *name = bpf_map__name(map);

	if (streq(name, "pk_table"))
		return bpf_map__set_max_entries(map, buckets);
	if (streq(name, "pk_seqs"))
		return bpf_map__set_max_entries(map, PK_WAYS * buckets);
	if (streq(name, "pk_far"))
		return bpf_map__set_max_entries(map, p->lb->n_backends);
	if (streq(name, "pk_uses"))
		return bpf_map__set_max_entries(map, p->lb->n_services);
	return 0;
}

/* What is pinned is used again. */
static int reuse_pinned(struct bpf_map *map, struct err *err)
{
	char path[512];
	_cleanup_close_ int fd = -1;
	int r;

	if ((r = packet_pin_path(path, sizeof(path), bpf_map__name(map), err)) < 0)
		return r;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	r = bpf_map__reuse_fd(map, fd);
	return r < 0 ? packet_fail(err, r, "cannot use the tables of an earlier process") : 0;
}

static bool is_own_map(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(packet_maps); i++)
		if (streq(name, packet_maps[i]))
			return true;
	return false;
}

/* Of the first object: maps of the tables, and those of an earlier process. */
static int prepare_xdp(struct packet *p, const struct packet_opts *opts, struct err *err)
{
	struct bpf_map *map;
	int r;

	bpf_object__for_each_map(map, p->xdp->obj) {
		int fd = lb_map_fd(p->lb, bpf_map__name(map));

		if (fd >= 0)
			r = bpf_map__reuse_fd(map, fd);
		else if (is_own_map(bpf_map__name(map)))
			r = (r = size_map(p, opts, map)) < 0 ? r : reuse_pinned(map, err);
		else
			r = 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* Of the second: those of the first. */
static int prepare_tc(struct packet *p)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, p->tc->obj) {
		const struct bpf_map *first = bpf_object__find_map_by_name(p->xdp->obj, bpf_map__name(map));
		int r = first && !bpf_map__is_internal(map) ? bpf_map__reuse_fd(map, bpf_map__fd(first)) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

bool packet_has_cookies(void)
{
	/* One stands for all four: the kernel has them since 6.0, if it was built with SYN cookies. */
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_XDP, BPF_FUNC_tcp_raw_gen_syncookie_ipv4, NULL) == 1;
}

/* Before the programs are loaded: what the kernel does not have is not in them then. */
static void set_cookies(struct packet *p)
{
	bool have = packet_has_cookies();

	p->xdp->rodata->pk_cookies_there = have;
	p->tc->rodata->pk_cookies_there = have;
	if (!have)
		log_warn("this kernel has no SYN cookies (CONFIG_SYN_COOKIES): syn-cookies of services does nothing");
}

static int load(struct packet *p, const struct packet_opts *opts, struct err *err)
{
	int r;

	p->xdp = xdp_skel__open();
	p->tc = tc_skel__open();
	if (!p->xdp || !p->tc)
		return packet_fail(err, -errno, "cannot open the packet programs");
	set_cookies(p);
	r = prepare_xdp(p, opts, err);
	if (r < 0)
		return r;
	r = xdp_skel__load(p->xdp);
	if (r < 0)
		return packet_fail(err, r, "cannot load the packet programs for XDP");
	r = prepare_tc(p);
	if (r >= 0)
		r = tc_skel__load(p->tc);
	return r < 0 ? packet_fail(err, r, "cannot load the packet programs for TC") : 0;
}

static int pin_maps(struct packet *p, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(packet_maps); i++) {
		const struct bpf_map *map = bpf_object__find_map_by_name(p->xdp->obj, packet_maps[i]);
		char path[512];
		int r;

		if (!map)
			continue;
		if ((r = packet_pin_path(path, sizeof(path), packet_maps[i], err)) < 0)
			return r;
		if (access(path, F_OK) == 0)
			continue;
		if (bpf_obj_pin(bpf_map__fd(map), path))
			return err_set(err, -errno, "cannot pin '%s': %s", path, strerror(errno));
	}
	return 0;
}

static void *map_memory(const struct bpf_map *map, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *v = mmap(NULL, (bytes + page - 1) / page * page, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return v == MAP_FAILED ? NULL : v;
}

static int map_all(struct packet *p, struct err *err)
{
	p->n_buckets = map_entries(bpf_map__fd(p->xdp->maps.pk_table));
	p->n_backends = map_entries(bpf_map__fd(p->xdp->maps.pk_far));
	if (!p->n_buckets || p->n_buckets & (p->n_buckets - 1) || p->n_backends != p->lb->n_backends)
		return err_set(err, -EPROTO,
			       "the table of connections in '%s' does not fit the table of backends: "
			       "stop balancing ('waggle unload') and start again",
			       lb_pin_dir());
	p->table_bytes = p->n_buckets * sizeof(struct pk_bucket);
	p->far_bytes = p->n_backends * sizeof(struct pk_far);
	p->ctl = map_memory(p->xdp->maps.pk_ctl, sizeof(struct pk_ctl));
	p->table = map_memory(p->xdp->maps.pk_table, p->table_bytes);
	p->far = map_memory(p->xdp->maps.pk_far, p->far_bytes);
	p->nats = map_memory(p->xdp->maps.pk_nats, PK_NATS * sizeof(struct lb_addr));
	p->gens = calloc(p->n_backends, sizeof(*p->gens));
	if (!p->ctl || !p->table || !p->far || !p->nats || !p->gens)
		return err_set(err, -ENOMEM, "cannot map the packet hook's tables: %s", strerror(errno));
	return 0;
}

/*
 * Source ports that the kernel does not give to programs of this host: the larger of the two ranges beside its own.
 * Privileged ports are left out.
 */
static void choose_ports(struct pk_ctl *ctl)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	char line[64] = "", *low = line, *high;
	uint64_t lo = 32768, hi = 60999, first = 1024, n;

	if (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		high = low + strcspn(low, " \t");
		if (*high)
			*high++ = '\0';
		high += strspn(high, " \t");
		if (num_parse_u64(low, 1, 65535, &lo) < 0 || num_parse_u64(high, 1, 65535, &hi) < 0) {
			lo = 32768;
			hi = 60999;
		}
	}
	n = lo > 1024 ? lo - 1024 : 0;
	if (65535 - hi > n) {
		first = (hi + PK_NAT_GROUP) / PK_NAT_GROUP * PK_NAT_GROUP;
		n = 65536 - first;
	}
	/* The kernel has taken all of them: then the packet hook shares, far from where it begins. */
	if (n < PK_NAT_GROUP) {
		first = 49152;
		n = 16384;
	}
	ctl->nat_port = (uint16_t)first;
	ctl->nat_groups = (uint16_t)(n / PK_NAT_GROUP);
}

/* jiffies a second, and how many of them make a tick of about a second. */
static void choose_clock(struct pk_ctl *ctl)
{
	struct timespec res;

	ctl->hz = 250;
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &res) == 0 && res.tv_nsec > 0)
		ctl->hz = (uint32_t)(1000000000L / res.tv_nsec);
	ctl->tick_shift = 0;
	while ((1U << (ctl->tick_shift + 1)) <= ctl->hz + ctl->hz / 4)
		ctl->tick_shift++;
}

static int set_ctl(struct packet *p, struct err *err)
{
	struct pk_ctl *ctl = p->ctl;

	if (ctl->abi == PK_ABI_VERSION)
		return 0;
	if (ctl->abi)
		return err_set(err, -EPROTO,
			       "the tables in '%s' are of another version of waggle: "
			       "stop balancing ('waggle unload') and start again",
			       lb_pin_dir());
	if (getrandom(ctl->seed, sizeof(ctl->seed), 0) != sizeof(ctl->seed))
		return err_set(err, -errno, "no random numbers: %s", strerror(errno));
	ctl->bucket_mask = p->n_buckets - 1;
	ctl->max_backends = p->n_backends;
	choose_clock(ctl);
	choose_ports(ctl);
	ctl->abi = PK_ABI_VERSION;
	return 0;
}

/*
 * The arrays of further steps must be held by somebody, or the kernel empties them. The new ones take the pins of the
 * old only when no interface runs the old programs any more.
 */
static int pin_steps(struct packet *p, struct err *err)
{
	const struct {
		const char *name, *next;
		const struct bpf_map *map;
	} steps[] = {
		{ "pk_steps_xdp", "pk_steps_xdp_new", p->xdp->maps.pk_steps_xdp },
		{ "pk_steps_tc", "pk_steps_tc_new", p->tc->maps.pk_steps_tc },
	};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		char path[512], next[512];
		int r;

		if ((r = packet_pin_path(path, sizeof(path), steps[i].name, err)) < 0 ||
		    (r = packet_pin_path(next, sizeof(next), steps[i].next, err)) < 0)
			return r;
		(void)unlink(next);
		if (bpf_obj_pin(bpf_map__fd(steps[i].map), next) || rename(next, path))
			return err_set(err, -errno, "cannot pin '%s': %s", path, strerror(errno));
	}
	return 0;
}

int packet_set(struct packet *p, const struct packet_opts *opts, struct err *err)
{
	int r = packet_guard(p, opts, err);

	if (r < 0)
		return r;
	return packet_attach_all(p, opts, err);
}

int packet_open(struct lb *lb, const struct packet_opts *opts, struct packet **ret, struct err *err)
{
	_cleanup_(packet_closep) struct packet *p = new0(struct packet);
	int r;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->lb = lb;
	if ((r = load(p, opts, err)) < 0 || (r = map_all(p, err)) < 0 || (r = set_ctl(p, err)) < 0 ||
	    (r = pin_maps(p, err)) < 0 || (r = packet_apply(p, err)) < 0)
		return r;
	__atomic_or_fetch(&p->ctl->on, PK_ON, __ATOMIC_RELEASE);
	r = packet_set(p, opts, err);
	if (r < 0)
		return r;
	r = pin_steps(p, err);
	if (r < 0)
		return r;
	packet_capture_unpin();
	*ret = TAKE_PTR(p);
	return 0;
}

size_t packet_attached(const struct packet *p, const struct packet_attach **ret)
{
	*ret = p->attached;
	return p->n_attached;
}

static void unmap(void *v, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (v)
		(void)munmap(v, (bytes + page - 1) / page * page);
}

struct packet *packet_close(struct packet *p)
{
	if (!p)
		return NULL;
	(void)packet_capture_close(p);
	(void)packet_explain_close(p->explain);
	unmap(p->ctl, sizeof(struct pk_ctl));
	unmap(p->table, p->table_bytes);
	unmap(p->far, p->far_bytes);
	unmap(p->nats, PK_NATS * sizeof(struct lb_addr));
	xdp_skel__destroy(p->xdp);
	tc_skel__destroy(p->tc);
	free(p->gens);
	free(p->attached);
	free(p);
	return NULL;
}
