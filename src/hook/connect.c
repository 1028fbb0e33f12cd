// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The programs on their cgroups. Each attachment is a link, pinned under the program's name and the cgroup's id, which
 * the kernel never gives twice. What is attached at any time is what is pinned: nothing is kept in memory.
 *
 * cn_state is attached to a tracepoint, once, and such a link cannot change its program: the new one is attached beside
 * the old one, which does no harm, and takes the place of its pin when everything else is done.
 */
#include "hook/connect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/num.h"
#include "connect.skel.h"
#include "hook/lb_priv.h"
#include "sys/bpf.h"
#include "sys/cgroup.h"

#define CONNECT_PATH_MAX 512

struct connect {
	struct connect_skel *skel;
	struct lb *lb;
};

/*
 * In the order of attaching: what answers and counts before what picks, so that no socket is ever picked for that the
 * others do not know. Detached the other way round.
 */
static const char *const connect_progs[] = {
	"cn_recvmsg4", "cn_recvmsg6", "cn_peer4",    "cn_peer6",    "cn_release",
	"cn_sendmsg4", "cn_sendmsg6", "cn_connect4", "cn_connect6",
};
#define CONNECT_STATE "cn_state"
#define CONNECT_STATE_NEXT "cn_state_next"

static const char *const connect_maps[] = { "cn_notes", "cn_sk", "cn_flows", "cn_took" };

/* One attachment that was made or changed, to be undone if a later one fails. */
struct connect_step {
	int link;
	int was; /* the program before; -1: there was no link */
	char pin[CONNECT_PATH_MAX];
};

struct connect_steps {
	struct connect_step *v;
	size_t n;
	bool is_kept;
};

/* Detached first: after unlink(2) alone the kernel takes its time. */
static int connect_unlink(int link, const char *pin)
{
	if (link >= 0)
		(void)bpf_link_detach(link);
	return unlink(pin) < 0 && errno != ENOENT ? -errno : 0;
}

static void connect_steps_done(struct connect_steps *s)
{
	while (s->n-- > 0) {
		struct connect_step *step = &s->v[s->n];

		if (!s->is_kept && step->was >= 0)
			(void)bpf_link_update(step->link, step->was, NULL);
		else if (!s->is_kept)
			(void)connect_unlink(step->link, step->pin);
		closep(&step->link);
		closep(&step->was);
	}
	free(s->v);
}

static void connect_own_pin(char pin[static CONNECT_PATH_MAX], const char *name)
{
	(void)snprintf(pin, CONNECT_PATH_MAX, "%s/%s", lb_pin_dir(), name);
}

static void connect_pin(char pin[static CONNECT_PATH_MAX], const char *name, uint64_t id)
{
	(void)snprintf(pin, CONNECT_PATH_MAX, "%s/%s-%llu", lb_pin_dir(), name, (unsigned long long)id);
}

/* The program that a link has now. */
static int connect_link_prog(int link)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(link, &info, &len))
		return -1;
	return bpf_prog_get_fd_by_id(info.prog_id);
}

/* Switches a link of an earlier process; false: there is none that is alive. */
static int connect_switch(int prog, struct connect_step *step, struct err *err)
{
	step->link = bpf_obj_get(step->pin);
	if (step->link < 0 && errno == ENOENT)
		return 0;
	if (step->link < 0)
		return err_set(err, -errno, "cannot open the pinned '%s': %s", step->pin, strerror(errno));
	step->was = connect_link_prog(step->link);
	if (step->was < 0)
		return err_set(err, -errno, "cannot tell the program of '%s': %s", step->pin, strerror(errno));
	if (!bpf_link_update(step->link, prog, NULL))
		return 1;
	return err_set(err, -errno, "cannot change the program of '%s': %s", step->pin, strerror(errno));
}

static int connect_attach_one(struct connect *c, const char *name, const struct cgroup_at *g,
			      struct connect_steps *steps, struct err *err)
{
	const struct bpf_program *prog = bpf_object__find_program_by_name(c->skel->obj, name);
	struct connect_step *step = &steps->v[steps->n++];
	int r;

	step->link = step->was = -1;
	connect_pin(step->pin, name, g->id);
	r = connect_switch(bpf_program__fd(prog), step, err);
	if (r != 0)
		return r < 0 ? r : 0;
	step->link = bpf_link_create(bpf_program__fd(prog), g->fd, bpf_program__expected_attach_type(prog), NULL);
	if (step->link < 0)
		return err_set(err, -errno,
			       "cannot attach '%s' to the cgroup '%s': %s: 'bpftool cgroup tree' shows who else is there",
			       name, g->path, strerror(errno));
	if (bpf_obj_pin(step->link, step->pin))
		return err_set(err, -errno, "cannot pin '%s': %s", step->pin, strerror(errno));
	return 0;
}

/* Is this the name of a link's pin, and of which cgroup? */
static bool connect_parse_pin(const char *file, const char *name, uint64_t *ret_id)
{
	size_t n = strlen(name);

	return !strncmp(file, name, n) && file[n] == '-' && !num_parse_u64(file + n + 1, 0, UINT64_MAX, ret_id);
}

static bool connect_groups_have(const struct cgroup_set *g, uint64_t id)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->v[i].id == id)
			return true;
	return false;
}

static int connect_prune_link(const char *name, uint64_t id, struct err *err)
{
	_cleanup_close_ int link = -1;
	char pin[CONNECT_PATH_MAX];
	int r;

	connect_pin(pin, name, id);
	link = bpf_obj_get(pin);
	r = connect_unlink(link, pin);
	return r < 0 ? err_set(err, r, "cannot remove '%s': %s", pin, strerror(-r)) : 0;
}

/* Removes the links of one program to cgroups that are not named. */
static int connect_prune_one(const char *name, const struct cgroup_set *keep, struct err *err)
{
	DIR *d = opendir(lb_pin_dir());
	struct dirent *entry;
	uint64_t id;
	int r = 0;

	if (!d)
		return err_set(err, -errno, "cannot open '%s': %s", lb_pin_dir(), strerror(errno));
	while ((entry = readdir(d)) && r == 0)
		if (connect_parse_pin(entry->d_name, name, &id) && !connect_groups_have(keep, id))
			r = connect_prune_link(name, id, err);
	(void)closedir(d);
	return r;
}

static int connect_prune(const struct cgroup_set *keep, struct err *err)
{
	int r = 0;

	for (size_t i = ARRAY_SIZE(connect_progs); i-- > 0 && r == 0;)
		r = connect_prune_one(connect_progs[i], keep, err);
	return r;
}

int connect_set_cgroups(struct connect *c, const struct connect_opts *opts, struct err *err)
{
	_cleanup_(cgroup_set_done) struct cgroup_set groups = {};
	_cleanup_(connect_steps_done) struct connect_steps steps = {};
	int r;

	r = cgroup_set_open(opts->cgroups, opts->n_cgroups, &groups, err);
	if (r < 0)
		return r;
	steps.v = calloc(groups.n * ARRAY_SIZE(connect_progs), sizeof(*steps.v));
	if (!steps.v)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < ARRAY_SIZE(connect_progs); i++)
		for (size_t k = 0; k < groups.n; k++) {
			r = connect_attach_one(c, connect_progs[i], &groups.v[k], &steps, err);
			if (r < 0)
				return r;
		}
	steps.is_kept = true;
	return connect_prune(&groups, err);
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
