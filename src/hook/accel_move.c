// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Moving live sockets in and out of the map.
 *
 * Only the TCP iterator runs a program under each socket's lock, and the lock is what makes it safe to look at
 * the queues and act on what was seen. It shows the sockets of the caller's network namespace, so each walk
 * goes through the namespaces in which sockets of ours were seen (ac_spaces).
 */
#include <errno.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "base/log.h"
#include "hook/accel_priv.h"
#include "sys/bpf.h"
#include "sys/diag.h"
#include "sys/proc.h"

#define IMPATIENT_MS 1000

static int destroy_in(uint32_t netns, const struct ac_sock_dump *d)
{
	struct diag_socket s = {
		.cookie = d->sock.cookie,
		.local_port = d->local_port,
		.remote_port = d->remote_port,
		.family = d->family,
	};

	memcpy(s.local_addr, d->local_addr, sizeof(s.local_addr));
	memcpy(s.remote_addr, d->remote_addr, sizeof(s.remote_addr));
	return diag_destroy_in(netns, &s);
}

/* Where the programs cannot reset a connection they never count it, and so nobody counts beside us. */
static void count_reset(struct accel *a)
{
	int n_cpus = libbpf_num_possible_cpus(), fd = bpf_map__fd(a->skel->maps.ac_stats);
	_cleanup_free_ uint64_t *v = n_cpus > 0 ? calloc((size_t)n_cpus, sizeof(*v)) : NULL;
	uint32_t i = AC_STAT_RESET;

	if (!v || bpf_map_lookup_elem(fd, &i, v))
		return;
	v[0]++;
	(void)bpf_map_update_elem(fd, &i, v, BPF_EXIST);
}

/*
 * Kernels before 6.5 have no bpf_sock_destroy(): there ac_move leaves us a socket whose reader splices while joined
 * bytes are queued, which splice(2) cannot reach. True: it is reset.
 */
static bool reset_left(struct accel *a, uint32_t netns, uint64_t cookie)
{
	static bool warned;
	_cleanup_free_ struct ac_sock_dump *socks = NULL;
	size_t n = 0;
	int r = accel_sockets(a, &socks, &n);

	for (size_t i = 0; r >= 0 && i < n; i++) {
		if (socks[i].sock.cookie != cookie)
			continue;
		r = destroy_in(netns, &socks[i]);
		if (r < 0)
			break;
		count_reset(a);
		(void)bpf_map_delete_elem(bpf_map__fd(a->skel->maps.ac_odd), &cookie);
		return true;
	}
	/* It may be closed by now; if it is not, the next tick tries again. */
	if (r < 0 && !warned) {
		warned = true;
		log_warn("cannot reset a connection whose reader splices while joined bytes wait: %s (SOCK_DESTROY of sock_diag, "
			 "CONFIG_INET_DIAG_DESTROY): the reader waits until its peer closes",
			 strerror(-r));
	}
	return false;
}

/* Reads an iterator in a network namespace; the caller frees what it wrote. */
static int read_in(uint32_t netns, const struct bpf_link *link, void **ret, size_t *ret_bytes)
{
	_cleanup_close_ int fd = netns_open(netns);
	int was, r;

	if (fd < 0)
		return fd;
	was = netns_enter(fd);
	if (was < 0)
		return was;
	r = bpf_sys_read_iter(bpf_link__fd(link), ret, ret_bytes);
	netns_return(was);
	return r;
}

/* Calls fn for each namespace where sockets of ours were seen; forgets those that are gone. */
static void each_space(struct accel *a, int (*fn)(struct accel *a, uint32_t netns, void *data), void *data)
{
	int spaces = bpf_map__fd(a->skel->maps.ac_spaces), r;
	uint32_t space, next;
	bool more = !bpf_map_get_next_key(spaces, NULL, &next);

	while (more) {
		space = next;
		more = !bpf_map_get_next_key(spaces, &space, &next);
		r = fn(a, space, data);
		if (r == -ENOENT)
			(void)bpf_map_delete_elem(spaces, &space);
		else if (r < 0)
			log_debug("cannot walk network namespace %u: %s", space, strerror(-r));
	}
}

struct sock_list {
	struct ac_sock_dump *v;
	size_t n;
	int r;
};

static int sockets_of(struct accel *a, uint32_t netns, void *data)
{
	_cleanup_free_ struct ac_sock_dump *recs = NULL;
	struct sock_list *list = data;
	struct ac_sock_dump *v;
	size_t bytes = 0;
	int r = read_in(netns, a->dump, (void **)&recs, &bytes);

	if (r < 0 || bytes < sizeof(*recs))
		return r;
	if (!list->v) {
		list->v = TAKE_PTR(recs);
		list->n = bytes / sizeof(*recs);
		return 0;
	}
	v = reallocarray(list->v, list->n + bytes / sizeof(*v), sizeof(*v));
	if (!v)
		return list->r = -ENOMEM;
	memcpy(v + list->n, recs, bytes);
	list->v = v;
	list->n += bytes / sizeof(*v);
	return 0;
}

int accel_sockets(struct accel *a, struct ac_sock_dump **ret, size_t *ret_n)
{
	struct sock_list list = {};

	each_space(a, sockets_of, &list);
	if (list.r < 0) {
		free(list.v);
		return list.r;
	}
	*ret = list.v;
	*ret_n = list.n;
	return 0;
}

struct walked {
	bool odd;
	size_t left, asleep;
};

/* One walk in one namespace; counts the sockets that could not be settled. */
static int move_walk(struct accel *a, uint32_t netns, void *data)
{
	_cleanup_free_ struct ac_move_left *recs = NULL;
	struct walked *w = data;
	size_t bytes = 0;
	int r = read_in(netns, a->move, (void **)&recs, &bytes);

	for (size_t i = 0; r >= 0 && i < bytes / sizeof(*recs); i++) {
		if (w->odd && recs[i].why == AC_WHY_SPLICES && reset_left(a, netns, recs[i].cookie))
			continue;
		w->left++;
		w->asleep += recs[i].why == AC_WHY_SLEEPER;
	}
	return r < 0 ? r : 0;
}

/* Gone namespaces are forgotten; there are no sockets of ours in them. */
static int move_everywhere(struct accel *a, struct ac_move_args args, size_t *ret_left, size_t *ret_asleep)
{
	struct walked w = { .odd = args.mode == AC_MOVE_ODD };
	uint32_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(a->skel->maps.data_move), &zero, &args, BPF_ANY))
		return -errno;
	each_space(a, move_walk, &w);
	if (ret_left)
		*ret_left = w.left;
	if (ret_asleep)
		*ret_asleep = w.asleep;
	return 0;
}

/* Removes the entries of ac_ready: those of this walk, or all. */
static void ready_clear(int fd, bool all)
{
	uint64_t key, next;
	uint32_t value;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (all || (!bpf_map_lookup_elem(fd, &key, &value) && value == AC_READY))
			(void)bpf_map_delete_elem(fd, &key);
	}
}

int accel_move_join(struct accel *a, size_t *ret_waiting)
{
	int r;

	r = move_everywhere(a, (struct ac_move_args){ .mode = AC_MOVE_JOIN }, NULL, NULL);
	if (r >= 0)
		r = move_everywhere(a, (struct ac_move_args){ .mode = AC_MOVE_JOIN, .commit = 1 }, ret_waiting, NULL);
	ready_clear(bpf_map__fd(a->skel->maps.ac_ready), r < 0 || !*ret_waiting);
	return r;
}

int accel_move_odd(struct accel *a)
{
	size_t left = 0;
	int r = move_everywhere(a, (struct ac_move_args){ .mode = AC_MOVE_ODD }, &left, NULL);

	/* The rest read their queues empty first; the next tick tries again. */
	a->odd_due = r < 0 || left;
	return r;
}

/*
 * Every namespace that has a socket of ours, from the sockets themselves: before leaving none may be missing, and
 * what a dead owner noted in ac_spaces went with him. Counts the sockets.
 */
static int spaces_fill(struct accel *a, size_t *ret_joined)
{
	_cleanup_free_ uint32_t *spaces = NULL;
	uint32_t one = 1, last = 0;
	size_t bytes = 0;
	int r = bpf_sys_read_iter(bpf_link__fd(a->where), (void **)&spaces, &bytes);

	for (size_t i = 0; r >= 0 && i < bytes / sizeof(*spaces); i++) {
		if (spaces[i] != last &&
		    bpf_map_update_elem(bpf_map__fd(a->skel->maps.ac_spaces), &spaces[i], &one, BPF_ANY))
			r = -errno;
		last = spaces[i];
	}
	*ret_joined = bytes / sizeof(*spaces);
	return r;
}

/*
 * The first call only switches off and looks around. A send that was sent the short way just before may still be
 * on its way to the peer's lock, and would be lost if the peer left under it: ac_move sees it as a call of the
 * peer, or as one that waits for the lock.
 */
int accel_leave(struct accel *a, size_t *ret_left, size_t *ret_asleep)
{
	struct ac_move_args args = { .mode = AC_MOVE_LEAVE };
	size_t left = 0, asleep = 0;
	int r;

	if (a->ctl)
		__atomic_store_n(&a->ctl->on, 0, __ATOMIC_SEQ_CST);
	if (a->leaving) {
		args.impatient = clock_ms() - a->off_ms > IMPATIENT_MS;
		r = move_everywhere(a, args, &left, &asleep);
		/* The kernel's walk may pass over a socket when its table changes under it. */
		if (r >= 0 && !left)
			r = spaces_fill(a, &left);
	} else {
		a->off_ms = clock_ms();
		r = spaces_fill(a, &left);
		a->leaving = r >= 0;
	}
	if (r < 0)
		return r;
	*ret_left = left;
	*ret_asleep = asleep;
	return 0;
}
