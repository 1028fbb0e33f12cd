// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where the programs are attached: at the entries' cgroups, and at the proxies', and nowhere twice on one way up the
 * tree. A link is pinned under its hook's and its cgroup's name.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "hook/redirect_priv.h"

/* Whose sockets a program has to see. */
enum whose {
	CLIENTS = 1 << 0, /* of redirects */
	PROXIES = 1 << 1,
	ASKERS = 1 << 2,  /* of whom policy is asked */
	FAR = 1 << 3,	  /* with whom clients of other machines connect, of whom it is asked */
	SOURCES = 1 << 4, /* of whose addresses it is asked */
};

static const struct hook_point {
	const char *name; /* of the program, without "rd_" */
	enum bpf_attach_type type;
	enum whose whose;
	bool datagrams;
} redirect_hooks[RD_HOOKS] = {
	/* Those that answer come before those that ask. */
	{ "getsockopt", BPF_CGROUP_GETSOCKOPT, PROXIES, false },
	{ "sockops", BPF_CGROUP_SOCK_OPS, CLIENTS | PROXIES | FAR | SOURCES, false },
	{ "egress", BPF_CGROUP_INET_EGRESS, SOURCES, false },
	{ "getpeer4", BPF_CGROUP_INET4_GETPEERNAME, CLIENTS, false },
	{ "getpeer6", BPF_CGROUP_INET6_GETPEERNAME, CLIENTS, false },
	{ "recvmsg4", BPF_CGROUP_UDP4_RECVMSG, CLIENTS, true },
	{ "recvmsg6", BPF_CGROUP_UDP6_RECVMSG, CLIENTS, true },
	{ "connect4", BPF_CGROUP_INET4_CONNECT, CLIENTS | ASKERS, false },
	{ "connect6", BPF_CGROUP_INET6_CONNECT, CLIENTS | ASKERS, false },
	{ "sendmsg4", BPF_CGROUP_UDP4_SENDMSG, CLIENTS | ASKERS, true },
	{ "sendmsg6", BPF_CGROUP_UDP6_SENDMSG, CLIENTS | ASKERS, true },
	/* Who connects here is to be known by sockops before. */
	{ "ingress", BPF_CGROUP_INET_INGRESS, FAR, false },
};

static int hook_prog_fd(const struct redirect *r, unsigned int hook)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "rd_%s", redirect_hooks[hook].name);
	return bpf_program__fd(bpf_object__find_program_by_name(r->skel->obj, name));
}

static void pin_path(const struct redirect *r, unsigned int hook, uint64_t cgroup, char *path, size_t n)
{
	(void)snprintf(path, n, "%s/rd_%s_%" PRIx64, r->dir, redirect_hooks[hook].name, cgroup);
}

static int link_keep(struct redirect *r, unsigned int hook, uint64_t cgroup, int fd)
{
	struct rd_link *v = reallocarray(r->links, r->n_links + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	r->links = v;
	r->links[r->n_links++] = (struct rd_link){ hook, cgroup, fd };
	return 0;
}

/* 0: the cgroup is gone, and the link with it but for its name. */
static uint64_t link_cgroup(int fd)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.cgroup.cgroup_id;
}

static int take_over_one(struct redirect *r, const char *name, struct err *err)
{
	char path[512];

	for (unsigned int i = 0; i < RD_HOOKS; i++) {
		size_t n = strlen(redirect_hooks[i].name);
		_cleanup_close_ int fd = -1;
		uint64_t cgroup;

		if (strncmp(name, redirect_hooks[i].name, n) || name[n] != '_')
			continue;
		(void)snprintf(path, sizeof(path), "%s/rd_%s", r->dir, name);
		fd = bpf_obj_get(path);
		if (fd < 0)
			return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
		cgroup = link_cgroup(fd);
		if (!cgroup) {
			(void)unlink(path);
			return 0;
		}
		if (bpf_link_update(fd, hook_prog_fd(r, i), NULL))
			return err_set(err, -errno, "cannot replace the program of '%s': %s", path, strerror(errno));
		if (link_keep(r, i, cgroup, fd) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		(void)TAKE_FD(fd);
		return 0;
	}
	return 0;
}

int rd_links_take_over(struct redirect *r, struct err *err)
{
	const struct dirent *d;
	int e = 0;
	DIR *dir;

	if (!r->dir)
		return 0;
	dir = opendir(r->dir);
	if (!dir)
		return err_set(err, -errno, "cannot list '%s': %s", r->dir, strerror(errno));
	while (e >= 0 && (d = readdir(dir)))
		if (!strncmp(d->d_name, "rd_", 3))
			e = take_over_one(r, d->d_name + 3, err);
	(void)closedir(dir);
	return e;
}

static bool link_is_there(const struct redirect *r, unsigned int hook, uint64_t cgroup)
{
	for (size_t i = 0; i < r->n_links; i++)
		if (r->links[i].hook == hook && r->links[i].cgroup == cgroup)
			return link_cgroup(r->links[i].fd) == cgroup;
	return false;
}

static bool names_group(const struct redirect *r, const struct config_strings *names, const struct rd_group *g)
{
	for (size_t i = 0; i < names->n; i++)
		if (rd_groups_get(&r->groups, names->v[i]) == g)
			return true;
	return false;
}

/* Whose connections the policy may decide on: those of its cgroups, or everybody's. */
static bool policy_asks(const struct redirect *r, const struct config_policy *p, const struct rd_group *g)
{
	const struct rd_group *everywhere = rd_groups_get(&r->groups, r->root);
	const struct config_identity *id;

	if (!p->from.n)
		return g == everywhere;
	for (size_t i = 0; i < p->from.n; i++) {
		if (!rd_is_identity(r->config, p->from.v[i], &id))
			continue;
		if (names_group(r, &id->cgroups, g) || (id->cidrs.n && g == everywhere))
			return true;
	}
	return names_group(r, &p->from, g);
}

/* What the sockets of this cgroup are to the entries. */
static unsigned int group_whose(const struct redirect *r, const struct rd_group *g)
{
	const struct rd_group *everywhere = rd_groups_get(&r->groups, r->root);
	const struct config *c = r->config;
	unsigned int whose = 0;

	for (size_t i = 0; i < c->n_policies && !whose; i++)
		whose = policy_asks(r, &c->policies[i], g) ? ASKERS : 0;
	/* Every program of this machine has to say that it is one. */
	if (g == everywhere && r->live[RD_POLICY])
		whose |= (r->live[RD_POLICY]->side.far ? FAR : 0) | (r->live[RD_POLICY]->side.from_nets ? SOURCES : 0);
	for (size_t i = 0; i < c->n_redirects; i++) {
		const struct config_redirect *e = &c->redirects[i];

		if (!e->cgroup)
			continue;
		if (!e->inbound && rd_groups_get(&r->groups, e->cgroup) == g)
			whose |= CLIENTS;
		/* Where nobody says where the proxy is, it may be anywhere. */
		if (e->proxy_cgroup ? rd_groups_get(&r->groups, e->proxy_cgroup) == g : g == everywhere)
			whose |= PROXIES;
	}
	return whose;
}

/* Datagrams that are sent without a connection. */
static bool wants_datagrams(const struct config *c)
{
	for (size_t i = 0; i < c->n_redirects; i++)
		if (c->redirects[i].dns_port && !c->redirects[i].inbound)
			return true;
	return c->n_policies;
}

/* Is this hook to be at this cgroup? Not where one further up sees the same sockets. */
static bool is_wanted(const struct redirect *r, unsigned int hook, const struct rd_group *g)
{
	const struct hook_point *p = &redirect_hooks[hook];

	if (!g->id || !(group_whose(r, g) & p->whose) || (p->datagrams && !wants_datagrams(r->config)))
		return false;
	for (size_t i = 0; i < r->groups.n; i++) {
		const struct rd_group *up = &r->groups.v[i];

		if (up != g && up->id && rd_group_holds(up, g) && (group_whose(r, up) & p->whose))
			return false;
	}
	return true;
}

static int link_make(struct redirect *r, unsigned int hook, const struct rd_group *g, struct err *err)
{
	_cleanup_close_ int cgroup_fd = -1, fd = -1;
	char path[512];
	int e = rd_group_open(g, &cgroup_fd, err);

	if (e < 0)
		return e;
	fd = bpf_link_create(hook_prog_fd(r, hook), cgroup_fd, redirect_hooks[hook].type, NULL);
	if (fd < 0)
		return err_set(err, -errno, "cannot attach %s to cgroup '%s': %s", redirect_hooks[hook].name, g->path,
			       strerror(errno));
	if (r->dir) {
		pin_path(r, hook, g->id, path, sizeof(path));
		(void)unlink(path);
		if (bpf_obj_pin(fd, path))
			return err_set(err, -errno, "cannot pin '%s': %s", path, strerror(errno));
	}
	if (link_keep(r, hook, g->id, fd) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)TAKE_FD(fd);
	return 0;
}

static void link_drop(struct redirect *r, size_t i)
{
	char path[512];

	if (r->dir) {
		pin_path(r, r->links[i].hook, r->links[i].cgroup, path, sizeof(path));
		(void)unlink(path);
	}
	(void)close(r->links[i].fd);
	r->links[i] = r->links[--r->n_links];
}

static bool link_is_wanted(const struct redirect *r, const struct rd_link *l)
{
	for (size_t i = 0; i < r->groups.n; i++)
		if (r->groups.v[i].id == l->cgroup)
			return link_cgroup(l->fd) == l->cgroup && is_wanted(r, l->hook, &r->groups.v[i]);
	return false;
}

int rd_links_apply(struct redirect *r, struct err *err)
{
	int e;

	for (unsigned int hook = 0; hook < RD_HOOKS; hook++) {
		for (size_t i = 0; i < r->groups.n; i++) {
			const struct rd_group *g = &r->groups.v[i];

			if (!is_wanted(r, hook, g) || link_is_there(r, hook, g->id))
				continue;
			e = link_make(r, hook, g, err);
			/* It went away between the look and now: its watch will tell. */
			if (e < 0 && e != -ENOENT && e != -ENODEV)
				return e;
		}
	}
	for (size_t i = r->n_links; i-- > 0;)
		if (!link_is_wanted(r, &r->links[i]))
			link_drop(r, i);
	return 0;
}

void rd_links_done(struct redirect *r)
{
	for (size_t i = 0; i < r->n_links; i++)
		(void)close(r->links[i].fd);
	free(r->links);
	r->links = NULL;
	r->n_links = 0;
}

int redirect_detach(const char *dir, struct err *err)
{
	const struct dirent *d;
	DIR *list = opendir(dir);
	char path[512];
	int r = 0;

	if (!list)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot list '%s': %s", dir, strerror(errno));
	while ((d = readdir(list))) {
		if (strncmp(d->d_name, "rd_", 3))
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, d->d_name);
		if (unlink(path) < 0 && errno != ENOENT)
			r = err_set(err, -errno, "cannot remove '%s': %s", path, strerror(errno));
	}
	(void)closedir(list);
	return r;
}
