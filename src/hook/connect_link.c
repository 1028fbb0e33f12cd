// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The programs on their cgroups. Each attachment is a link, pinned under the program's name and the cgroup's id, which
 * the kernel never gives twice. What is attached at any time is what is pinned.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/num.h"
#include "hook/connect_priv.h"
#include "hook/lb_priv.h"

/*
 * In the order of attaching: what answers and counts before what picks, so that no socket is ever picked for that the
 * others do not know. Detached the other way round.
 */
static const char *const connect_progs[] = {
	"cn_recvmsg4", "cn_recvmsg6", "cn_peer4",    "cn_peer6",    "cn_release",
	"cn_sendmsg4", "cn_sendmsg6", "cn_connect4", "cn_connect6",
};
#define CONNECT_KNOW 5 /* the first ones: what answers and counts */

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

typedef int (*connect_link_fn)(const char *name, uint64_t id, void *data, struct err *err);

static int connect_prune_link(const char *name, uint64_t id, void *data, struct err *err)
{
	_cleanup_close_ int link = -1;
	char pin[CONNECT_PATH_MAX];
	int r;

	(void)data;
	connect_pin(pin, name, id);
	link = bpf_obj_get(pin);
	r = connect_unlink(link, pin);
	return r < 0 ? err_set(err, r, "cannot remove '%s': %s", pin, strerror(-r)) : 0;
}

/* Calls fn for the links of one program to cgroups that are not named. */
static int connect_each_other(const char *name, const struct cgroup_set *keep, connect_link_fn fn, void *data,
			      struct err *err)
{
	DIR *d = opendir(lb_pin_dir());
	struct dirent *entry;
	uint64_t id;
	int r = 0;

	if (!d)
		return err_set(err, -errno, "cannot open '%s': %s", lb_pin_dir(), strerror(errno));
	while ((entry = readdir(d)) && r == 0)
		if (connect_parse_pin(entry->d_name, name, &id) && !connect_groups_have(keep, id))
			r = fn(name, id, data, err);
	(void)closedir(d);
	return r;
}

/* Forgets the links of these programs to cgroups that are not named. */
static int connect_prune_progs(const struct cgroup_set *keep, size_t from, size_t to, struct err *err)
{
	int r = 0;

	for (size_t i = to; i-- > from && r == 0;)
		r = connect_each_other(connect_progs[i], keep, connect_prune_link, NULL, err);
	return r;
}

int connect_prune(const struct cgroup_set *keep, struct err *err)
{
	return connect_prune_progs(keep, 0, ARRAY_SIZE(connect_progs), err);
}

struct connect_linger {
	struct connect *c;
	const struct cgroup_set *keep;
	size_t *n;
};

/* One that has nothing to know goes at once: its cgroup is gone with its last socket, or below one that is named. */
static int connect_linger_link(const char *name, uint64_t id, void *data, struct err *err)
{
	const struct connect_linger *l = data;
	_cleanup_close_ int link = -1;
	char pin[CONNECT_PATH_MAX];
	int prog = bpf_program__fd(bpf_object__find_program_by_name(l->c->skel->obj, name));

	if (cgroup_set_covers(l->keep, id))
		return connect_prune_link(name, id, NULL, err);
	connect_pin(pin, name, id);
	link = bpf_obj_get(pin);
	if (link < 0)
		return err_set(err, -errno, "cannot open the pinned '%s': %s", pin, strerror(errno));
	if (bpf_link_update(link, prog, NULL)) {
		if (errno == ENOLINK)
			return connect_prune_link(name, id, NULL, err);
		return err_set(err, -errno, "cannot change the program of '%s': %s", pin, strerror(errno));
	}
	(*l->n)++;
	return 0;
}

int connect_stop_picking(struct connect *c, const struct cgroup_set *keep, size_t *ret_left, struct err *err)
{
	struct connect_linger l = { .c = c, .keep = keep, .n = ret_left };
	int r = connect_prune_progs(keep, CONNECT_KNOW, ARRAY_SIZE(connect_progs), err);

	*ret_left = 0;
	for (size_t i = CONNECT_KNOW; i-- > 0 && r == 0;)
		r = connect_each_other(connect_progs[i], keep, connect_linger_link, &l, err);
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
	return connect_leave(c, &groups, err);
}
