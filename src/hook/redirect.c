// SPDX-License-Identifier: GPL-2.0-or-later
/* Life cycle of the redirect hook and policy: open, apply, dispatch, close. */
#include "hook/redirect.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "hook/redirect_priv.h"
#include "model/addr.h"
#include "sys/bpf.h"

const char *const redirect_stat_words[_RD_STAT_MAX] = {
#define X(id, word, text) [RD_STAT_##id] = word,
	RD_STAT_LIST(X)
#undef X
};

const char *const redirect_stat_texts[_RD_STAT_MAX] = {
#define X(id, word, text) [RD_STAT_##id] = text,
	RD_STAT_LIST(X)
#undef X
};

static int redirect_fail(struct err *err, int r, const char *what)
{
	if (r == -EPERM)
		return err_set(err, r, "%s: not permitted: run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
			       what);
	return err_set(err, r, "%s: %s (%s)", what, strerror(-r), bpf_sys_last());
}

/* The compiler's own maps are of one program, and not pinned. */
static int set_pins(struct redirect *r)
{
	struct bpf_map *map;
	char path[512];
	int e;

	bpf_object__for_each_map(map, r->skel->obj) {
		if (strncmp(bpf_map__name(map), "rd_", 3))
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", r->dir, bpf_map__name(map));
		e = bpf_map__set_pin_path(map, path);
		if (e < 0)
			return e;
	}
	return 0;
}

static int redirect_load(struct redirect *r, struct err *err)
{
	int e;

	r->skel = redirect_skel__open();
	if (!r->skel)
		return redirect_fail(err, -errno, "cannot open the redirect programs");
	e = r->dir ? set_pins(r) : 0;
	if (e >= 0)
		e = redirect_skel__load(r->skel);
	if (e < 0)
		return redirect_fail(err, e, "cannot load the redirect programs");
	r->ctl = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED,
		      bpf_map__fd(r->skel->maps.rd_ctl), 0);
	if (r->ctl == MAP_FAILED) {
		r->ctl = NULL;
		return err_set(err, -errno, "cannot map rd_ctl: %s", strerror(errno));
	}
	if (r->ctl->abi && r->ctl->abi != RD_ABI_VERSION)
		return err_set(err, -EPROTO,
			       "the redirect tables in '%s' are of version %u, and this is %u: remove them with "
			       "'waggle unload'",
			       r->dir, r->ctl->abi, RD_ABI_VERSION);
	return 0;
}

/* A loop would not end by itself; the program has let the connection straight on. */
static void tell_own(const struct redirect *r, const struct rd_event *e)
{
	const struct config_redirect *c;
	char to[ADDR_TEXT_MAX];

	if (!r->config || e->entry >= r->config->n_redirects)
		return;
	c = &r->config->redirects[e->entry];
	log_warn("'%s' (pid %u) shares the cgroup of the proxy at %s, whose own connections must not come back to it: "
		 "connections from that cgroup are not redirected; give the proxy a cgroup of its own and name it in "
		 "proxy-cgroup, or exclude its user",
		 e->comm, e->pid, addr_format(&c->addr, c->port, to));
}

static int on_ring(void *data, void *record, size_t bytes)
{
	struct redirect *r = data;
	struct rd_event e;

	if (bytes < sizeof(e))
		return 0;
	memcpy(&e, record, sizeof(e));
	e.comm[sizeof(e.comm) - 1] = '\0';
	if (e.kind == RD_EVENT_OWN)
		tell_own(r, &e);
	if (r->on_event)
		r->on_event(&e, r->on_event_data);
	return 0;
}

static int epoll_add(int epoll, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int events_open(struct redirect *r, struct err *err)
{
	int e;

	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	r->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (r->epoll < 0 || r->inotify < 0)
		return err_set(err, -errno, "cannot watch for events: %s", strerror(errno));
	r->ring = ring_buffer__new(bpf_map__fd(r->skel->maps.rd_events), on_ring, r, NULL);
	if (!r->ring)
		return err_set(err, -errno, "cannot open the ring of events: %s", strerror(errno));
	e = epoll_add(r->epoll, r->inotify);
	if (e >= 0)
		e = epoll_add(r->epoll, ring_buffer__epoll_fd(r->ring));
	return e < 0 ? err_set(err, e, "cannot watch for events: %s", strerror(-e)) : 0;
}

int redirect_open(const struct redirect_opts *opts, struct redirect **ret, struct err *err)
{
	_cleanup_(redirect_closep) struct redirect *r = new0(struct redirect);
	int e;

	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	r->epoll = r->inotify = -1;
	r->dir = opts->dir ? strdup(opts->dir) : NULL;
	r->root = strdup(opts->cgroup ? opts->cgroup : "/");
	if ((opts->dir && !r->dir) || !r->root)
		return err_set(err, -ENOMEM, "out of memory");
	e = redirect_load(r, err);
	if (e >= 0)
		e = events_open(r, err);
	if (e >= 0)
		e = rd_links_take_over(r, err);
	if (e < 0)
		return e;
	if (!r->ctl->abi) {
		r->ctl->side[RD_REDIRECT] = 2 * RD_REDIRECT;
		r->ctl->side[RD_POLICY] = 2 * RD_POLICY;
		r->ctl->abi = RD_ABI_VERSION;
	}
	r->ctl->trace = 0;
	*ret = TAKE_PTR(r);
	return 0;
}

/* A new inotify has no watches: simpler than to find out which are no longer wanted. */
static int watch_again(struct redirect *r)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), e;

	if (fd < 0)
		return -errno;
	e = rd_groups_watch(&r->groups, fd);
	if (e >= 0)
		e = epoll_add(r->epoll, fd);
	if (e < 0) {
		(void)close(fd);
		return e;
	}
	(void)close(r->inotify);
	r->inotify = fd;
	return 0;
}

static void tell_missing(const struct rd_groups *old, const struct rd_groups *new)
{
	for (size_t i = 0; i < new->n; i++) {
		const struct rd_group *was = rd_groups_get(old, new->v[i].path);

		if (!new->v[i].id && (!was || was->id))
			log_info("cgroup '%s' does not exist: its entries apply as soon as it does", new->v[i].path);
		else if (new->v[i].id && was && !was->id)
			log_info("cgroup '%s' is there now", new->v[i].path);
	}
}

static int apply_once(struct redirect *r, const struct config *c, struct err *err)
{
	_cleanup_(rd_compiled_freep) struct rd_compiled *redirects = NULL, *policies = NULL;
	const struct config *old_config = r->config;
	struct rd_groups groups = {}, old = r->groups;
	int e;

	e = rd_in_check(c, err);
	if (e >= 0)
		e = rd_groups_find(c, r->root, &groups, err);
	if (e >= 0)
		e = rd_compile_redirects(c, &groups, &redirects, err);
	if (e >= 0)
		e = rd_compile_policies(c, &groups, &policies, err);
	if (e >= 0)
		e = rd_table_apply(r, RD_REDIRECT, redirects, err);
	if (e < 0) {
		rd_groups_done(&groups);
		return e;
	}
	(void)TAKE_PTR(redirects);
	r->groups = groups;
	r->config = c;
	e = rd_table_apply(r, RD_POLICY, policies, err);
	if (e >= 0) {
		(void)TAKE_PTR(policies);
		r->ctl->on = 1;
		e = rd_links_apply(r, err);
	}
	if (e >= 0)
		e = rd_in_apply(r, err);
	if (e < 0) {
		/* Nothing of the new configuration may be left: the old one is compiled again, as it was before. */
		r->groups = old;
		r->config = old_config;
		rd_groups_done(&groups);
		if (old_config && old_config != c)
			(void)apply_once(r, old_config, NULL);
		return e;
	}
	e = r->live[RD_POLICY] ? rd_live_check(r) : 0;
	if (e < 0)
		log_warn("cannot look at the connections that are open: %s", strerror(-e));
	e = watch_again(r);
	if (e < 0)
		log_warn("cannot watch for cgroups that come and go: %s", strerror(-e));
	tell_missing(&old, &r->groups);
	rd_groups_done(&old);
	return 0;
}

/* Has any named cgroup come or gone since r->groups was made? */
static int groups_changed(const struct redirect *r, struct err *err)
{
	struct rd_groups now = {};
	int e = rd_groups_find(r->config, r->root, &now, err);
	bool changed;

	if (e < 0)
		return e;
	changed = now.n != r->groups.n;
	for (size_t i = 0; !changed && i < now.n; i++)
		changed = now.v[i].id != r->groups.v[i].id;
	rd_groups_done(&now);
	return changed;
}

/* Cgroups that come and go faster than this are met by the next event. */
#define APPLY_TRIES 3

int redirect_apply(struct redirect *r, const struct config *c, struct err *err)
{
	int e = apply_once(r, c, err);

	/* One may have come between the look at it and its watch. */
	for (int i = 0; e >= 0 && i < APPLY_TRIES; i++) {
		e = groups_changed(r, err);
		if (e <= 0)
			return e;
		e = apply_once(r, c, err);
	}
	return e;
}

const struct config *redirect_config(const struct redirect *r)
{
	return r->config;
}

int redirect_event_fd(const struct redirect *r)
{
	return r->epoll;
}

static bool events_drained(int inotify)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool some = false;

	while (read(inotify, buf, sizeof(buf)) > 0)
		some = true;
	return some;
}

/* Most cgroups that come and go are of no interest; but one may lie above another that is waited for. */
static int groups_look(struct redirect *r, struct err *err)
{
	int e = groups_changed(r, err);

	if (e > 0)
		return redirect_apply(r, r->config, err);
	if (e < 0 || !r->groups.missing)
		return e;
	e = watch_again(r);
	if (e < 0)
		return err_set(err, e, "cannot watch for cgroups that come and go: %s", strerror(-e));
	e = groups_changed(r, err);
	return e > 0 ? redirect_apply(r, r->config, err) : e;
}

int redirect_dispatch(struct redirect *r)
{
	struct err err;
	int n = ring_buffer__consume(r->ring);

	if (events_drained(r->inotify) && r->config && groups_look(r, &err) < 0)
		log_warn("%s", err.text);
	return n < 0 ? n : 0;
}

void redirect_on_event(struct redirect *r, redirect_event_fn fn, void *data)
{
	r->on_event = fn;
	r->on_event_data = data;
}

void redirect_on_evict(struct redirect *r, redirect_evict_fn fn, void *data)
{
	r->on_evict = fn;
	r->on_evict_data = data;
}

void redirect_trace(struct redirect *r, uint32_t kinds)
{
	__atomic_store_n(&r->ctl->trace, kinds, __ATOMIC_RELAXED);
}

int redirect_stats(const struct redirect *r, uint64_t ret[_RD_STAT_MAX])
{
	int e = bpf_sys_sum(bpf_map__fd(r->skel->maps.rd_stats), _RD_STAT_MAX, ret);

	if (e >= 0)
		ret[RD_STAT_CLOSED] += r->closed;
	return e;
}

uint64_t redirect_hits(const struct redirect *r, enum rd_table table, size_t entry)
{
	const struct rd_compiled *c = r->live[table];
	uint64_t hits = 0;

	for (uint32_t i = 0; c && i < c->side.n; i++) {
		uint32_t key = r->ctl->side[table] * RD_ENTRIES + i;

		if (c->origins[i] == entry)
			(void)bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.rd_hits), &key, &hits);
	}
	return hits;
}

size_t redirect_missing(const struct redirect *r)
{
	return r->groups.missing;
}

uint32_t redirect_map_id(const struct redirect *r, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(r->skel->obj, name);

	return fd < 0 ? 0 : bpf_sys_map_id(fd);
}

struct redirect *redirect_close(struct redirect *r)
{
	if (!r)
		return NULL;
	rd_links_done(r);
	rd_in_done(r);
	(void)bpf_link__destroy(r->walk);
	for (int i = 0; i < _RD_TABLE_MAX; i++)
		(void)rd_compiled_free(r->live[i]);
	rd_groups_done(&r->groups);
	ring_buffer__free(r->ring);
	closep(&r->inotify);
	closep(&r->epoll);
	if (r->ctl)
		(void)munmap(r->ctl, (size_t)sysconf(_SC_PAGESIZE));
	redirect_skel__destroy(r->skel);
	free(r->dir);
	free(r->root);
	free(r);
	return NULL;
}
