// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Loading the programs, on the maps of the process before. Those of cgroups: connect_link.c.
 *
 * cn_state is attached to a tracepoint, once, and such a link cannot change its program: the new one is attached beside
 * the old one, which does no harm, and takes the place of its pin when everything else is done.
 */
#include "hook/connect.h"

#include <errno.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "hook/connect_priv.h"
#include "hook/lb_priv.h"
#include "sys/bpf.h"

#define CONNECT_STATE "cn_state"
#define CONNECT_STATE_NEXT "cn_state_next"

static const char *const connect_maps[] = { "cn_notes", "cn_sk", "cn_flows", "cn_took" };

void connect_own_pin(char pin[static CONNECT_PATH_MAX], const char *name)
{
	(void)snprintf(pin, CONNECT_PATH_MAX, "%s/%s", lb_pin_dir(), name);
}

/* A map of our own: that of the process before, so that its sockets are known. 1: taken over. */
static int connect_map_reuse(struct bpf_map *map, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char pin[CONNECT_PATH_MAX];

	connect_own_pin(pin, bpf_map__name(map));
	fd = bpf_obj_get(pin);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || bpf_map__reuse_fd(map, fd))
		return err_set(err, -errno, "cannot take over '%s': %s", pin, strerror(errno));
	return 1;
}

static int connect_load(struct connect *c, struct err *err)
{
	bool is_pinned[ARRAY_SIZE(connect_maps)] = {};
	struct bpf_map *map;
	int r;

	bpf_object__for_each_map(map, c->skel->obj) {
		int fd = lb_map_fd(c->lb, bpf_map__name(map));

		if (fd >= 0 && bpf_map__reuse_fd(map, fd))
			return err_set(err, -errno, "cannot use '%s': %s", bpf_map__name(map), strerror(errno));
	}
	for (size_t i = 0; i < ARRAY_SIZE(connect_maps); i++) {
		r = connect_map_reuse(bpf_object__find_map_by_name(c->skel->obj, connect_maps[i]), err);
		if (r < 0)
			return r;
		is_pinned[i] = r;
	}
	if (connect_skel__load(c->skel))
		return err_set(err, -errno, "cannot load the programs of the connect hook: %s: %s", strerror(errno),
			       bpf_sys_last());
	for (size_t i = 0; i < ARRAY_SIZE(connect_maps); i++) {
		char pin[CONNECT_PATH_MAX];

		connect_own_pin(pin, connect_maps[i]);
		map = bpf_object__find_map_by_name(c->skel->obj, connect_maps[i]);
		if (!is_pinned[i] && bpf_obj_pin(bpf_map__fd(map), pin))
			return err_set(err, -errno, "cannot pin '%s': %s", pin, strerror(errno));
	}
	return 0;
}

static int connect_attach_state(struct connect *c, struct err *err)
{
	_cleanup_close_ int link = bpf_raw_tracepoint_open(NULL, bpf_program__fd(c->skel->progs.cn_state));
	char pin[CONNECT_PATH_MAX];

	connect_own_pin(pin, CONNECT_STATE_NEXT);
	if (link < 0)
		return err_set(err, -errno, "cannot attach 'cn_state': %s", strerror(errno));
	(void)unlink(pin); /* of a process that died here */
	if (bpf_obj_pin(link, pin))
		return err_set(err, -errno, "cannot pin '%s': %s", pin, strerror(errno));
	return 0;
}

static int connect_keep_state(struct err *err)
{
	char next[CONNECT_PATH_MAX], pin[CONNECT_PATH_MAX];

	connect_own_pin(next, CONNECT_STATE_NEXT);
	connect_own_pin(pin, CONNECT_STATE);
	return rename(next, pin) < 0 ? err_set(err, -errno, "cannot rename '%s': %s", next, strerror(errno)) : 0;
}

static int connect_attach(struct connect *c, const struct connect_opts *opts, struct err *err)
{
	char next[CONNECT_PATH_MAX];
	int r;

	r = connect_attach_state(c, err);
	if (r < 0)
		return r;
	r = connect_set_cgroups(c, opts, err);
	if (r >= 0)
		return connect_keep_state(err);
	connect_own_pin(next, CONNECT_STATE_NEXT);
	(void)unlink(next);
	return r;
}

int connect_open(struct lb *lb, const struct connect_opts *opts, struct connect **ret, struct err *err)
{
	_cleanup_(connect_closep) struct connect *c = new0(struct connect);
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->lb = lb;
	c->skel = connect_skel__open();
	if (!c->skel)
		return err_set(err, -errno, "cannot open the object of the connect hook: %s", bpf_sys_last());
	r = connect_load(c, err);
	if (r < 0)
		return r;
	r = connect_attach(c, opts, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

static int connect_remove_own(const char *name, struct err *err)
{
	char pin[CONNECT_PATH_MAX];

	connect_own_pin(pin, name);
	return unlink(pin) < 0 && errno != ENOENT ?
		       err_set(err, -errno, "cannot remove '%s': %s", pin, strerror(errno)) :
		       0;
}

int connect_detach(struct lb *lb, struct err *err)
{
	static const char *const links[] = { CONNECT_STATE, CONNECT_STATE_NEXT };
	struct cgroup_set none = {};
	int r;

	r = connect_prune(&none, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(links) && r >= 0; i++)
		r = connect_remove_own(links[i], err);
	for (size_t i = 0; i < ARRAY_SIZE(connect_maps) && r >= 0; i++)
		r = connect_remove_own(connect_maps[i], err);
	if (r < 0)
		return r;
	/* Nobody sees those connections end any more. */
	r = lb_grace(lb, err);
	if (r < 0)
		return r;
	for (uint32_t id = 1; id < lb->n_backends; id++)
		__atomic_store_n(&lb->load[id].conns, 0, __ATOMIC_RELAXED);
	lb_collect(lb);
	return 0;
}

struct connect *connect_close(struct connect *c)
{
	if (!c)
		return NULL;
	connect_leaving_done(&c->leaving);
	connect_skel__destroy(c->skel);
	free(c);
	return NULL;
}

int connect_exempt(const struct connect *c, int socket_fd)
{
	uint32_t yes = 1;

	return bpf_map_update_elem(bpf_map__fd(c->skel->maps.cn_direct), &socket_fd, &yes, BPF_ANY) < 0 ? -errno : 0;
}

int connect_took(const struct connect *c, struct lb_took *ret)
{
	int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct lb_took *v = calloc(n_cpus > 0 ? (size_t)n_cpus : 1, sizeof(*v));
	uint32_t zero = 0;

	if (!v)
		return -ENOMEM;
	if (bpf_map_lookup_elem(bpf_map__fd(c->skel->maps.cn_took), &zero, v))
		return -errno;
	*ret = (struct lb_took){};
	for (int i = 0; i < n_cpus; i++) {
		for (size_t b = 0; b < LB_TOOK_BUCKETS; b++)
			ret->buckets[b] += v[i].buckets[b];
		ret->sum_us += v[i].sum_us;
	}
	return 0;
}
