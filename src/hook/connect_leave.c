// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cgroups that are left, and connects that failed before they began.
 *
 * In a cgroup that is no longer named, nobody is given a backend any more; but who has one goes on with it, is told of
 * the service, and is to be counted down when he is closed. So the programs that answer and count stay with it until
 * every note that there was has been given back. Which socket is of which cgroup no note says: those of other cgroups,
 * too, are waited for, which does no harm.
 */
#include <errno.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "base/log.h"
#include "hook/connect_priv.h"
#include "hook/lb_priv.h"
#include "sys/bpf.h"

#define SETTLE_EVERY_MS 10000
#define SETTLE_AGE_MS 20000 /* a SYN that gets no answer has been sent again four times by then */

/* The notes, mapped for one look at all of them. */
struct notes {
	const struct cn_bucket *v;
};

static void notes_unmap(struct notes *n)
{
	if (n->v)
		(void)munmap((void *)n->v, CN_BUCKETS * sizeof(*n->v));
}

static int notes_map(const struct connect *c, struct notes *ret)
{
	void *v =
		mmap(NULL, CN_BUCKETS * sizeof(*ret->v), PROT_READ, MAP_SHARED, bpf_map__fd(c->skel->maps.cn_notes), 0);

	if (v == MAP_FAILED)
		return -errno;
	ret->v = v;
	return 0;
}

static uint64_t note_key(const struct notes *n, size_t i)
{
	return __atomic_load_n(&n->v[i / CN_NOTES].key[i % CN_NOTES], __ATOMIC_ACQUIRE);
}

void connect_leaving_done(struct connect_leaving *l)
{
	free(l->cookies);
	cgroup_set_done(&l->keep);
	*l = (struct connect_leaving){};
}

static int leaving_collect(const struct connect *c, struct connect_leaving *l)
{
	_cleanup_(notes_unmap) struct notes notes = {};
	int r = notes_map(c, &notes);

	if (r < 0)
		return r;
	l->cookies = calloc((size_t)CN_BUCKETS * CN_NOTES, sizeof(*l->cookies));
	if (!l->cookies)
		return -ENOMEM;
	for (size_t i = 0; i < (size_t)CN_BUCKETS * CN_NOTES; i++) {
		uint64_t key = note_key(&notes, i);

		if (key)
			l->cookies[l->n++] = key >> CN_NOTE_SHIFT;
	}
	return 0;
}

static bool note_is_there(const struct connect *c, uint64_t cookie)
{
	uint32_t bucket = CN_BUCKET(cookie);
	struct cn_bucket b;

	if (bpf_map_lookup_elem(bpf_map__fd(c->skel->maps.cn_notes), &bucket, &b))
		return true;
	for (size_t i = 0; i < CN_NOTES; i++)
		if (b.key[i] >> CN_NOTE_SHIFT == cookie)
			return true;
	return false;
}

static int leaving_tick(struct connect *c, struct err *err)
{
	struct connect_leaving *l = &c->leaving;
	int r;

	/* Records in the storage of sockets cannot be looked through: those may be of any cgroup, and end at any time. */
	if (!l->is_on || __atomic_load_n(&lb_ctl(c->lb)->stores, __ATOMIC_RELAXED))
		return 0;
	while (l->n && !note_is_there(c, l->cookies[l->n - 1]))
		l->n--;
	if (l->n)
		return 0;
	r = connect_prune(&l->keep, err);
	if (r >= 0)
		connect_leaving_done(l);
	return r;
}

int connect_leave(struct connect *c, struct cgroup_set *keep, struct err *err)
{
	size_t left;
	int r;

	connect_leaving_done(&c->leaving);
	r = connect_stop_picking(c, keep, &left, err);
	if (r < 0 || !left)
		return r;
	/* Until the last program that picks has ended, and written its note. */
	r = lb_grace(c->lb, err);
	if (r < 0)
		return r;
	r = leaving_collect(c, &c->leaving);
	if (r < 0)
		return err_set(err, r, "cannot read which sockets are connected to services: %s", strerror(-r));
	c->leaving.is_on = true;
	c->leaving.keep = *keep;
	*keep = (struct cgroup_set){};
	for (size_t i = 0; i < c->leaving.keep.n; i++) {
		closep(&c->leaving.keep.v[i].fd);
		c->leaving.keep.v[i].fd = -1;
	}
	return leaving_tick(c, err);
}

/* Is there a connect() of TCP whose handshake is not done after this time, and that no walk has looked at? */
static int stuck_has_new(const struct connect *c, uint32_t now_us, uint32_t age_us, bool *ret)
{
	_cleanup_(notes_unmap) struct notes notes = {};
	int r = notes_map(c, &notes);

	*ret = false;
	for (size_t i = 0; r == 0 && !*ret && i < (size_t)CN_BUCKETS * CN_NOTES; i++) {
		uint32_t since;

		if (!(note_key(&notes, i) & CN_NOTE_COUNTED))
			continue;
		since = __atomic_load_n(&notes.v[i / CN_NOTES].of[i % CN_NOTES].since, __ATOMIC_RELAXED);
		*ret = since && (int32_t)(now_us - since) >= (int32_t)age_us &&
		       (!c->has_settled || (int32_t)(since - c->settled_us) >= 0);
	}
	return r;
}

static int stuck_walk(const struct connect *c, uint32_t age_us, uint32_t *ret_settled)
{
	struct cn_settle_args args = { .age_us = age_us };
	_cleanup_free_ void *nothing = NULL;
	struct bpf_link *link;
	uint32_t zero = 0;
	size_t n;
	int r;

	if (bpf_map_update_elem(bpf_map__fd(c->skel->maps.data_settle), &zero, &args, BPF_ANY))
		return -errno;
	link = bpf_program__attach_iter(c->skel->progs.cn_stuck, NULL);
	if (!link)
		return -errno;
	r = bpf_sys_read_iter(bpf_link__fd(link), &nothing, &n);
	bpf_link__destroy(link);
	if (r >= 0 && bpf_map_lookup_elem(bpf_map__fd(c->skel->maps.data_settle), &zero, &args))
		return -errno;
	*ret_settled = args.settled;
	return r;
}

int connect_settle(struct connect *c, uint32_t age_ms, uint32_t *ret_settled)
{
	uint32_t now_us = (uint32_t)(clock_ns(CLOCK_MONOTONIC) / 1000), age_us = age_ms * 1000;
	bool is_due;
	int r = stuck_has_new(c, now_us, age_us, &is_due);

	*ret_settled = 0;
	if (r >= 0 && is_due)
		r = stuck_walk(c, age_us, ret_settled);
	if (r < 0)
		return r;
	/* Whoever was still waiting for an answer will be seen to fail. */
	c->settled_us = now_us - age_us;
	c->has_settled = true;
	return 0;
}

int connect_tick(struct connect *c)
{
	uint64_t now_ms = clock_ms();
	struct err err = {};
	uint32_t settled = 0;
	int r = leaving_tick(c, &err);

	if (r < 0 || now_ms < c->settle_ms)
		return r;
	c->settle_ms = now_ms + SETTLE_EVERY_MS;
	r = connect_settle(c, SETTLE_AGE_MS, &settled);
	if (settled)
		log_debug("connect: %u connects had failed before they began", settled);
	return r;
}
