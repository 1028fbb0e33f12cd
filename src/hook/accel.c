// SPDX-License-Identifier: GPL-2.0-or-later
/* Life cycle of the accelerator: open, attach, dispatch, tick, close. */
#include "hook/accel.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "base/log.h"
#include "hook/accel_priv.h"
#include "sys/bpf.h"
#include "sys/proc.h"

/* What may wait at one reader before its writer falls back; TCP's own send buffer comes on top. */
#define ACCEL_LIMIT_BYTES (2U << 20)

#define JOIN_PAUSE_MIN_MS 100
#define JOIN_PAUSE_MAX_MS 5000
#define KEEP_EVERY_MS 2000
#define ODD_PAUSE_MS 20
#define LATE_LOOK_MS 200
#define TRIPS_A_TICK 64
#define LATE_EVERY_MS 1000
#define LATE_MAX_MS 600000 /* above the longest time of ac_is_due() */

/* Wording of a failed load or attach: libbpf's last line is the best cause there is. */
static int accel_fail(struct err *err, int r, const char *what)
{
	if (r == -EPERM)
		return err_set(err, r, "%s: not permitted: run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
			       what);
	return err_set(err, r, "%s: %s (%s)", what, strerror(-r), bpf_sys_last());
}

static int accel_load(struct accel *a, const struct accel_opts *opts, struct err *err)
{
	int r;

	a->skel = accel_skel__open();
	if (!a->skel)
		return accel_fail(err, -errno, "cannot open the BPF programs");
	a->skel->rodata->ac_nr_splice = SYS_splice;
	if (opts->max_sockets && (r = bpf_map__set_max_entries(a->skel->maps.ac_socks, opts->max_sockets)) < 0)
		return accel_fail(err, r, "cannot size the table of sockets");
	/* libbpf 1.1 does not know the section name "sk_skb/verdict". */
	(void)bpf_program__set_expected_attach_type(a->skel->progs.ac_skb, BPF_SK_SKB_VERDICT);
	(void)bpf_program__set_autoload(a->skel->progs.ac_splice, a->probe.fentry);
	(void)bpf_program__set_autoload(a->skel->progs.ac_splice_tp, !a->probe.fentry);
	(void)bpf_program__set_autoload(a->skel->progs.ac_recv_flags, a->probe.recv_flags);
	(void)bpf_program__set_autoload(a->skel->progs.ac_recv_fentry, !a->probe.recv_flags && a->probe.fentry);
	(void)bpf_program__set_autoload(a->skel->progs.ac_fionread, !a->probe.fionread && a->probe.fionread_patch);
	r = accel_skel__load(a->skel);
	if (r < 0)
		return accel_fail(err, r, "cannot load the BPF programs");
	return 0;
}

static int accel_map_ctl(struct accel *a, const struct accel_opts *opts, struct err *err)
{
	int fd = bpf_map__fd(a->skel->maps.ac_ctl);

	a->ctl = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (a->ctl == MAP_FAILED) {
		a->ctl = NULL;
		return err_set(err, -errno, "cannot map ac_ctl: %s", strerror(errno));
	}
	a->ctl->version = AC_ABI_VERSION;
	a->ctl->owner_pid = (uint64_t)getpid();
	a->ctl->owner_start = proc_start_time(getpid());
	a->ctl->limit_bytes = ACCEL_LIMIT_BYTES;
	if (!opts->ports)
		return 0;
	for (uint32_t p = 0; p < AC_PORTS; p++) {
		if (!opts->ports[p])
			continue;
		if (bpf_map_update_elem(bpf_map__fd(a->skel->maps.ac_ports), &p, &opts->ports[p], BPF_ANY))
			return err_set(err, -errno, "cannot set the ports: %s", strerror(errno));
		if (opts->ports[p] & AC_PORT_ONLY)
			a->ctl->select = 1;
		if (opts->ports[p] & AC_PORT_EXCLUDE)
			a->ctl->exclude = 1;
	}
	return 0;
}

static int accel_ring_event(void *data, void *rec, size_t size)
{
	const struct ac_event *e = rec;
	struct accel *a = data;

	if (size < sizeof(*e))
		return 0;
	if (e->type == AC_EVENT_LEARNED) {
		a->learned_changed = a->learned_new = true;
		a->ripe |= e->exe_state == AC_EXE_RIPE;
	} else if (e->type == AC_EVENT_ODD) {
		a->odd_due = true;
		a->odd_due_ms = clock_ms() + ODD_PAUSE_MS;
	}
	if (a->on_event)
		a->on_event(e, a->on_event_data);
	return 0;
}

int accel_attach_walks(struct accel *a, struct err *err)
{
	union bpf_iter_link_info info = { .map.map_fd = (uint32_t)bpf_map__fd(a->skel->maps.ac_sk) };
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));

	a->move = bpf_program__attach_iter(a->skel->progs.ac_move, NULL);
	a->dump = bpf_program__attach_iter(a->skel->progs.ac_dump, NULL);
	if (!a->move || !a->dump)
		return accel_fail(err, -errno, "cannot walk the sockets");
	a->where = bpf_program__attach_iter(a->skel->progs.ac_where, &opts);
	if (!a->where)
		return accel_fail(err, -errno, "cannot walk the socket storage");
	return 0;
}

static int accel_attach_all_walks(struct accel *a, struct err *err)
{
	a->walk_listen = bpf_program__attach_iter(a->skel->progs.ac_walk_listen, NULL);
	if (!a->walk_listen)
		return accel_fail(err, -errno, "cannot walk the listeners");
	a->walk_exes = bpf_program__attach_iter(a->skel->progs.ac_walk_exes, NULL);
	if (!a->walk_exes)
		return accel_fail(err, -errno, "cannot walk the processes");
	return accel_attach_walks(a, err);
}

static int accel_walk_listeners(struct accel *a, struct err *err)
{
	_cleanup_free_ void *data = NULL;
	size_t n;
	int r = bpf_sys_read_iter(bpf_link__fd(a->walk_listen), &data, &n);

	return r < 0 ? accel_fail(err, r, "cannot walk the listeners") : 0;
}

static int accel_open_cgroups(struct accel *a, const struct accel_opts *opts, struct err *err)
{
	size_t room = 0;
	FILE *f;
	int r = cgroup_set_open(opts->cgroups, opts->n_cgroups, &a->cgroups, err);

	if (r < 0)
		return r;
	a->links = calloc(a->cgroups.n, sizeof(*a->links));
	f = open_memstream(&a->cgroups_text, &room);
	if (!f || !a->links) {
		if (f)
			(void)fclose(f);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (!opts->n_cgroups)
		(void)fputc('/', f);
	for (size_t i = 0; i < opts->n_cgroups; i++)
		(void)fprintf(f, "%s%s", i ? ", " : "", opts->cgroups[i] ? opts->cgroups[i] : "/");
	return fclose(f) ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int accel_open(const struct accel_opts *opts, struct accel **ret, struct err *err)
{
	_cleanup_(accel_closep) struct accel *a = new0(struct accel);
	size_t left;
	int r;

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->join_pause_ms = JOIN_PAUSE_MIN_MS;
	r = accel_open_cgroups(a, opts, err);
	if (r < 0)
		return r;
	/* What a killed one left would hold its sockets against us. */
	r = accel_sweep(&left, err);
	if (r < 0)
		return r;
	r = accel_probe(&a->probe, err);
	if (r < 0)
		return r;
	if (opts->state_dir && !(a->state_dir = strdup(opts->state_dir)))
		return err_set(err, -ENOMEM, "out of memory");
	if ((r = accel_load(a, opts, err)) < 0 || (r = accel_map_ctl(a, opts, err)) < 0 ||
	    (r = accel_attach_all_walks(a, err)) < 0)
		return r;
	a->ring = ring_buffer__new(bpf_map__fd(a->skel->maps.ac_events), accel_ring_event, a, NULL);
	if (!a->ring)
		return accel_fail(err, -errno, "cannot open the event ring");
	r = accel_learn_load(a);
	if (r < 0)
		log_warn("cannot read what was learned before: %s, learning anew", strerror(-r));
	for (size_t i = 0; i < opts->n_trust; i++) {
		r = accel_learn_trust(a, opts->trust[i], err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(a);
	return 0;
}

/* Both socket programs are in the map before the first socket is. */
static int accel_attach_map(struct accel *a, struct err *err)
{
	int map_fd = bpf_map__fd(a->skel->maps.ac_socks);

	if (bpf_prog_attach(bpf_program__fd(a->skel->progs.ac_msg), map_fd, BPF_SK_MSG_VERDICT, 0) ||
	    bpf_prog_attach(bpf_program__fd(a->skel->progs.ac_skb), map_fd, BPF_SK_SKB_VERDICT, 0))
		return accel_fail(err, -errno, "cannot attach the socket programs to their map");
	return 0;
}

/* The programs that see how sockets are used: whichever of them this kernel has (accel_load). */
static int accel_attach_watchers(struct accel *a, struct err *err)
{
	struct bpf_program *const progs[ACCEL_WATCHERS] = {
		a->skel->progs.ac_fionread,   a->skel->progs.ac_splice,	     a->skel->progs.ac_splice_tp,
		a->skel->progs.ac_recv_flags, a->skel->progs.ac_recv_fentry,
	};

	for (int i = 0; i < ACCEL_WATCHERS; i++) {
		if (!bpf_program__autoload(progs[i]))
			continue;
		a->watchers[i] = bpf_program__attach(progs[i]);
		if (!a->watchers[i])
			return accel_fail(err, -errno, "cannot attach to the calls that read sockets");
	}
	for (size_t i = 0; i < a->cgroups.n; i++) {
		a->links[i].setsockopt = bpf_program__attach_cgroup(a->skel->progs.ac_setsockopt, a->cgroups.v[i].fd);
		if (!a->links[i].setsockopt)
			return accel_fail(err, -errno, "cannot attach to setsockopt(2) in the cgroup");
	}
	return 0;
}

static int accel_attach_sockops(struct accel *a, size_t i, struct err *err)
{
	int r;

	a->links[i].sockops = bpf_program__attach_cgroup(a->skel->progs.ac_sockops, a->cgroups.v[i].fd);
	if (a->links[i].sockops)
		return 0;
	r = -errno;
	if (r == -EPERM)
		return err_set(err, r,
			       "another program holds the sock_ops hook of the cgroup '%s' or of one above, and shares it "
			       "with nobody: detach it ('bpftool cgroup tree' shows it)",
			       a->cgroups.v[i].path);
	return accel_fail(err, r, "cannot attach to the cgroup");
}

int accel_attach(struct accel *a, struct err *err)
{
	int r = accel_attach_map(a, err);

	if (r < 0)
		return r;
	r = accel_attach_watchers(a, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < a->cgroups.n; i++) {
		r = accel_attach_sockops(a, i, err);
		if (r < 0)
			return r;
	}
	/* After the attach, so that no listener falls between the walk and the hook. */
	r = accel_walk_listeners(a, err);
	if (r < 0)
		return r;
	__atomic_store_n(&a->ctl->on, a->probe.class != ACCEL_REFUSED, __ATOMIC_RELEASE);
	return 0;
}

int accel_event_fd(const struct accel *a)
{
	return ring_buffer__epoll_fd(a->ring);
}

void accel_on_event(struct accel *a, accel_event_fn fn, void *data)
{
	a->on_event = fn;
	a->on_event_data = data;
}

void accel_trace(struct accel *a, uint32_t types)
{
	__atomic_store_n(&a->ctl->trace, types, __ATOMIC_RELEASE);
}

int accel_dispatch(struct accel *a)
{
	int r = ring_buffer__consume(a->ring);

	if (r < 0)
		return r;
	if (a->learned_new)
		(void)accel_learn_note(a);
	if (a->ripe)
		(void)accel_learn_decide(a);
	return 0;
}

/*
 * Connections that began on TCP, because their listener's are short, have lasted, or some went there for their small
 * writes and may have other habits later, at times that ac_is_due() says. A walk goes through the kernel's whole
 * table of connections, so after each such news there are some, ever less often.
 */
static void accel_tick_late(struct accel *a, uint64_t now)
{
	uint64_t stats[_AC_STAT_MAX], seen;

	if (now >= a->late_due_ms && accel_stats(a, stats) >= 0) {
		a->late_due_ms = now + LATE_LOOK_MS;
		seen = stats[AC_STAT_LASTS] + stats[AC_STAT_SMALL];
		if (seen != a->late_seen) {
			a->late_seen = seen;
			a->late_pause_ms = LATE_EVERY_MS;
			a->late_walk_ms = a->late_last_ms + LATE_EVERY_MS;
		}
	}
	if (!a->late_walk_ms || now < a->late_walk_ms || a->join_due_ms)
		return;
	a->join_due_ms = a->late_last_ms = now;
	a->join_pause_ms = LATE_EVERY_MS;
	a->late_walk_ms = a->late_pause_ms <= LATE_MAX_MS ? now + a->late_pause_ms : 0;
	a->late_pause_ms *= 2;
}

/* Another turn of samples, each of which costs less than 0.1 us: of a second's, not a ten-thousandth of a processor. */
static void accel_tick_trips(struct accel *a)
{
	__atomic_store_n(&a->ctl->trips_left, TRIPS_A_TICK, __ATOMIC_RELAXED);
	__atomic_fetch_add(&a->ctl->trip_turn, 1, __ATOMIC_RELAXED);
}

int accel_tick(struct accel *a)
{
	uint64_t now = clock_ms();
	size_t waiting = 0;
	int r = 0;

	if (a->ripe)
		r = accel_learn_decide(a);
	/* Not at once: see accel_leave() about sends on their way. */
	if (a->odd_due && now >= a->odd_due_ms)
		r = accel_move_odd(a);
	accel_tick_trips(a);
	accel_tick_late(a, now);
	if (a->join_due_ms && now >= a->join_due_ms) {
		a->join_due_ms = 0;
		r = accel_move_join(a, &waiting);
		if (waiting) {
			/* Their readers sleep now; try again, ever less often. */
			a->join_due_ms = now + a->join_pause_ms;
			a->join_pause_ms = a->join_pause_ms * 2 < JOIN_PAUSE_MAX_MS ? a->join_pause_ms * 2 :
										      JOIN_PAUSE_MAX_MS;
		}
	}
	if (a->learned_changed && now >= a->keep_due_ms) {
		a->learned_changed = false;
		a->keep_due_ms = now + KEEP_EVERY_MS;
		r = accel_learn_keep(a);
	}
	return r;
}

int accel_stats(struct accel *a, uint64_t ret[_AC_STAT_MAX])
{
	return bpf_sys_sum(bpf_map__fd(a->skel->maps.ac_stats), _AC_STAT_MAX, ret);
}

int accel_trips(struct accel *a, struct ac_trips *ret)
{
	int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct ac_trips *v = calloc(n_cpus > 0 ? (size_t)n_cpus : 1, sizeof(*v));
	struct ac_trips sum = {};
	uint32_t zero = 0;

	if (!v)
		return -ENOMEM;
	if (bpf_map_lookup_elem(bpf_map__fd(a->skel->maps.ac_trips), &zero, v))
		return -errno;
	for (int cpu = 0; cpu < n_cpus; cpu++) {
		sum.sum_ns += v[cpu].sum_ns;
		for (size_t i = 0; i < AC_TRIP_BUCKETS; i++)
			sum.buckets[i] += v[cpu].buckets[i];
	}
	*ret = sum;
	return 0;
}

const char *accel_cgroups(const struct accel *a)
{
	return a->cgroups_text;
}

const struct accel_probe *accel_probed(const struct accel *a)
{
	return &a->probe;
}

struct accel *accel_close(struct accel *a)
{
	if (!a)
		return NULL;
	if (a->learned_changed)
		(void)accel_learn_keep(a);
	if (a->ctl) {
		__atomic_store_n(&a->ctl->on, 0, __ATOMIC_RELEASE);
		(void)munmap(a->ctl, (size_t)sysconf(_SC_PAGESIZE));
	}
	for (size_t i = 0; a->links && i < a->cgroups.n; i++) {
		(void)bpf_link__destroy(a->links[i].sockops);
		(void)bpf_link__destroy(a->links[i].setsockopt);
	}
	for (int i = 0; i < ACCEL_WATCHERS; i++)
		(void)bpf_link__destroy(a->watchers[i]);
	(void)bpf_link__destroy(a->walk_listen);
	(void)bpf_link__destroy(a->walk_exes);
	(void)bpf_link__destroy(a->dump);
	(void)bpf_link__destroy(a->where);
	(void)bpf_link__destroy(a->move);
	ring_buffer__free(a->ring);
	accel_skel__destroy(a->skel);
	cgroup_set_done(&a->cgroups);
	free(a->links);
	free(a->cgroups_text);
	accel_learn_free(a);
	free(a->state_dir);
	free(a);
	return NULL;
}
