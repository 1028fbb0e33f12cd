// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Inbound redirects: a program in each network namespace in which a process of the entry's cgroup is, and who listens
 * there for the proxy. Namespaces come and go with processes, which nobody tells of: they are looked for now and then.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "hook/redirect_priv.h"
#include "sys/bpf.h"
#include "sys/proc.h"
/* The skeleton has a type for the program's own data alone. */
#include "inbound.skel.h"

#define LOOK_EVERY_TICKS 10

static bool is_inbound(const struct config_redirect *e)
{
	return e->cgroup && e->inbound;
}

/* Where a cgroup's processes are. */

static int member_add(struct rd_members *m, uint64_t netns, size_t entry)
{
	struct rd_member *v;

	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].netns == netns && m->v[i].entry == entry)
			return 0;
	v = reallocarray(m->v, m->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	m->v = v;
	m->v[m->n++] = (struct rd_member){ netns, entry };
	return 0;
}

static int find_in_procs(int dir, size_t entry, struct rd_members *m)
{
	int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC), r = 0;
	_cleanup_fclose_ FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char path[64];
	struct stat st;
	int pid;

	if (fd >= 0 && !f)
		(void)close(fd);
	while (f && r >= 0 && fscanf(f, "%d", &pid) == 1) {
		(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
		if (!stat(path, &st))
			r = member_add(m, st.st_ino, entry);
	}
	return r;
}

/* A cgroup and those below it. Takes dir. */
static int find_below(int dir, size_t entry, struct rd_members *m)
{
	DIR *list = fdopendir(dir);
	const struct dirent *d;
	int r;

	if (!list) {
		(void)close(dir);
		return -errno;
	}
	r = find_in_procs(dir, entry, m);
	while (r >= 0 && (d = readdir(list))) {
		int sub;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		sub = openat(dir, d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sub >= 0)
			r = find_below(sub, entry, m);
	}
	(void)closedir(list);
	return r;
}

static int find_members(const struct redirect *r, struct rd_members *ret)
{
	struct rd_members m = {};
	int e = 0;

	for (size_t i = 0; e >= 0 && i < r->config->n_redirects; i++) {
		const struct config_redirect *entry = &r->config->redirects[i];
		int fd;

		if (is_inbound(entry) && rd_group_open(rd_groups_get(&r->groups, entry->cgroup), &fd, NULL) >= 0)
			e = find_below(fd, i, &m);
	}
	if (e < 0)
		free(m.v);
	else
		*ret = m;
	return e;
}

/* What the maps are to hold. */

static bool in_ranges(const struct config_ports *p, uint16_t port)
{
	for (size_t i = 0; i < p->n; i++)
		if (port >= p->v[i].first && port <= p->v[i].last)
			return true;
	return false;
}

/* The first entry that takes this port there; NULL: none. */
static const struct config_redirect *port_entry(const struct redirect *r, uint32_t netns, uint16_t port)
{
	for (size_t i = 0; i < r->members.n; i++) {
		const struct config_redirect *e = &r->config->redirects[r->members.v[i].entry];

		if (r->members.v[i].netns == netns && in_ranges(&e->ports, port) && !in_ranges(&e->exclude_ports, port))
			return e;
	}
	return NULL;
}

static int put_ports(const struct redirect *r, uint32_t netns, const struct config_port_range *range)
{
	for (uint32_t port = range->first; port <= range->last; port++) {
		const struct config_redirect *e = port_entry(r, netns, (uint16_t)port);
		struct rd_in_port key = { .netns = netns, .port = port };
		struct rd_in_entry value;

		if (!e)
			continue;
		value = (struct rd_in_entry){ .to = e->addr,
					      .port = htobe16(e->port),
					      .flags = e->fail_open ? RD_FAIL_OPEN : 0 };
		if (bpf_map_update_elem(bpf_map__fd(r->skel->maps.rd_in_ports), &key, &value, BPF_ANY))
			return -errno;
	}
	return 0;
}

/* Under its address, and under those that stand for any. */
static int put_to(const struct redirect *r, uint32_t netns, const struct config_redirect *e)
{
	const struct rd_in_to place = { .addr = e->addr, .netns = netns, .port = htobe16(e->port) };
	struct rd_in_to keys[3] = { place, place, place };

	keys[1].addr = (struct lb_addr){};
	keys[2].addr = (struct lb_addr){ .v6 = { 0, 0, htobe32(0xffff), 0 } };
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (bpf_map_update_elem(bpf_map__fd(r->skel->maps.rd_in_tos), &keys[i], &place, BPF_ANY))
			return -errno;
	return 0;
}

static int put_member(const struct redirect *r, const struct rd_member *m)
{
	const struct config_redirect *e = &r->config->redirects[m->entry];
	uint32_t netns = (uint32_t)m->netns;
	int result = put_to(r, netns, e);

	for (size_t i = 0; result >= 0 && i < e->ports.n; i++)
		result = put_ports(r, netns, &e->ports.v[i]);
	return result;
}

static int put_proxies(const struct redirect *r)
{
	uint32_t some_class = 1;

	for (size_t i = 0; i < r->config->n_redirects; i++) {
		const struct config_redirect *e = &r->config->redirects[i];
		struct rd_group_key key = { .side = RD_PROXY_SIDE, .what = RD_FROM };

		if (!is_inbound(e))
			continue;
		key.cgroup = rd_groups_get(&r->groups, e->proxy_cgroup)->id;
		if (key.cgroup && bpf_map_update_elem(bpf_map__fd(r->skel->maps.rd_groups), &key, &some_class, BPF_ANY))
			return -errno;
	}
	return 0;
}

/* Removes what is no longer wanted. */

static bool wants_port(const struct redirect *r, const void *key)
{
	const struct rd_in_port *p = key;

	return port_entry(r, p->netns, (uint16_t)p->port);
}

static bool wants_to(const struct redirect *r, const void *key)
{
	static const struct lb_addr any, any4 = { .v6 = { 0, 0, 0xffff0000, 0 } };
	const struct rd_in_to *to = key;

	for (size_t i = 0; i < r->members.n; i++) {
		const struct config_redirect *e = &r->config->redirects[r->members.v[i].entry];

		if (r->members.v[i].netns != to->netns || htobe16(e->port) != to->port)
			continue;
		if (!memcmp(&to->addr, &e->addr, sizeof(to->addr)) || !memcmp(&to->addr, &any, sizeof(any)) ||
		    !memcmp(&to->addr, &any4, sizeof(any4)))
			return true;
	}
	return false;
}

static bool wants_group(const struct redirect *r, const void *key)
{
	const struct rd_group_key *g = key;

	if (g->side != RD_PROXY_SIDE)
		return true;
	for (size_t i = 0; i < r->config->n_redirects; i++)
		if (is_inbound(&r->config->redirects[i]) &&
		    rd_groups_get(&r->groups, r->config->redirects[i].proxy_cgroup)->id == g->cgroup)
			return true;
	return false;
}

static void remove_others(const struct redirect *r, int fd, size_t key_bytes,
			  bool (*wants)(const struct redirect *r, const void *key))
{
	uint64_t key[4], next[4];
	bool more = !bpf_map_get_next_key(fd, NULL, next);

	while (more) {
		memcpy(key, next, key_bytes);
		more = !bpf_map_get_next_key(fd, key, next);
		if (!wants(r, key))
			(void)bpf_map_delete_elem(fd, key);
	}
}

/* The programs. */

static int space_load(struct redirect *r, uint32_t netns, int netns_fd, int *ret_link, struct err *err)
{
	struct inbound_skel *skel = inbound_skel__open();
	int e;

	if (!skel)
		return err_set(err, -errno, "cannot open the inbound program");
	skel->rodata->rd_netns = netns;
	e = bpf_map__reuse_fd(skel->maps.rd_in_ports, bpf_map__fd(r->skel->maps.rd_in_ports));
	if (e >= 0)
		e = bpf_map__reuse_fd(skel->maps.rd_in_socks, bpf_map__fd(r->skel->maps.rd_in_socks));
	if (e >= 0)
		e = bpf_map__reuse_fd(skel->maps.rd_own, bpf_map__fd(r->skel->maps.rd_own));
	if (e >= 0)
		e = inbound_skel__load(skel);
	if (e >= 0) {
		*ret_link = bpf_link_create(bpf_program__fd(skel->progs.rd_lookup), netns_fd, BPF_SK_LOOKUP, NULL);
		e = *ret_link < 0 ? -errno : 0;
	}
	inbound_skel__destroy(skel);
	return e < 0 ? err_set(err, e, "cannot attach to network namespace %u: %s (%s)", netns, strerror(-e),
			       bpf_sys_last()) :
		       0;
}

static void space_path(const struct redirect *r, uint32_t netns, char *path, size_t n)
{
	(void)snprintf(path, n, "%s/rd_in_%" PRIu32, r->dir, netns);
}

/* A successor's link is there before that of its predecessor goes. */
static int space_attach(struct redirect *r, uint32_t netns, struct err *err)
{
	_cleanup_close_ int netns_fd = netns_open(netns), link = -1;
	struct rd_space *v;
	char path[512];
	int e;

	/* Its last process is gone meanwhile. */
	if (netns_fd < 0)
		return 0;
	e = space_load(r, netns, netns_fd, &link, err);
	if (e < 0)
		return e;
	if (r->dir) {
		space_path(r, netns, path, sizeof(path));
		(void)unlink(path);
		if (bpf_obj_pin(link, path))
			return err_set(err, -errno, "cannot pin '%s': %s", path, strerror(errno));
	}
	v = reallocarray(r->spaces, r->n_spaces + 1, sizeof(*v));
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	r->spaces = v;
	r->spaces[r->n_spaces++] = (struct rd_space){ netns, TAKE_FD(link) };
	return 0;
}

static bool wants_space(const struct redirect *r, uint32_t netns)
{
	for (size_t i = 0; i < r->members.n; i++)
		if (r->members.v[i].netns == netns)
			return true;
	return false;
}

static bool has_space(const struct redirect *r, uint32_t netns)
{
	for (size_t i = 0; i < r->n_spaces; i++)
		if (r->spaces[i].netns == netns)
			return true;
	return false;
}

static void spaces_remove(struct redirect *r)
{
	const struct dirent *d;
	char path[512];
	DIR *list;

	for (size_t i = r->n_spaces; i-- > 0;) {
		if (wants_space(r, r->spaces[i].netns))
			continue;
		(void)close(r->spaces[i].link);
		r->spaces[i] = r->spaces[--r->n_spaces];
	}
	list = r->dir ? opendir(r->dir) : NULL;
	while (list && (d = readdir(list))) {
		uint32_t netns;
		int end = 0;

		if (sscanf(d->d_name, "rd_in_%" SCNu32 "%n", &netns, &end) != 1 || d->d_name[end] ||
		    wants_space(r, netns))
			continue;
		space_path(r, netns, path, sizeof(path));
		(void)unlink(path);
	}
	if (list)
		(void)closedir(list);
}

/* Listeners that were there before. */
static void space_walk(struct redirect *r, uint32_t netns)
{
	_cleanup_close_ int fd = netns_open(netns);
	_cleanup_free_ void *data = NULL;
	size_t bytes;
	int was;

	if (!r->in_walk)
		r->in_walk = bpf_program__attach_iter(r->skel->progs.rd_in_walk, NULL);
	if (!r->in_walk || fd < 0)
		return;
	was = netns_enter(fd);
	if (was < 0)
		return;
	(void)bpf_sys_read_iter(bpf_link__fd(r->in_walk), &data, &bytes);
	netns_return(was);
}

static void listeners_find(struct redirect *r)
{
	for (size_t i = 0; i < r->members.n; i++) {
		const struct config_redirect *e = &r->config->redirects[r->members.v[i].entry];
		struct rd_in_to key = { .addr = e->addr,
					.netns = (uint32_t)r->members.v[i].netns,
					.port = htobe16(e->port) };
		uint64_t cookie;

		if (bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.rd_in_socks), &key, &cookie))
			space_walk(r, key.netns);
	}
}

int rd_in_check(const struct config *c, struct err *err)
{
	for (size_t i = 0; i < c->n_redirects; i++)
		if (is_inbound(&c->redirects[i]) && !c->redirects[i].proxy_cgroup)
			return err_set(err, -EINVAL,
				       "the inbound redirect of '%s' does not say where its proxy is, whose own connections must not "
				       "come back to it: add proxy-cgroup",
				       c->redirects[i].cgroup);
	return 0;
}

int rd_in_apply(struct redirect *r, struct err *err)
{
	struct rd_members members = {};
	int e = find_members(r, &members);

	if (e < 0)
		return err_set(err, e, "cannot read cgroups: %s", strerror(-e));
	free(r->members.v);
	r->members = members;
	e = put_proxies(r);
	r->ctl->inbound = members.n > 0;
	for (size_t i = 0; e >= 0 && i < members.n; i++)
		e = put_member(r, &members.v[i]);
	if (e < 0)
		return err_set(err, e, "cannot fill the tables of inbound redirects: %s", strerror(-e));
	listeners_find(r);
	for (size_t i = 0; i < members.n; i++) {
		uint32_t netns = (uint32_t)members.v[i].netns;

		e = has_space(r, netns) ? 0 : space_attach(r, netns, err);
		if (e < 0)
			return e;
	}
	remove_others(r, bpf_map__fd(r->skel->maps.rd_in_ports), sizeof(struct rd_in_port), wants_port);
	remove_others(r, bpf_map__fd(r->skel->maps.rd_in_tos), sizeof(struct rd_in_to), wants_to);
	remove_others(r, bpf_map__fd(r->skel->maps.rd_groups), sizeof(struct rd_group_key), wants_group);
	spaces_remove(r);
	return 0;
}

static bool any_inbound(const struct config *c)
{
	for (size_t i = 0; c && i < c->n_redirects; i++)
		if (is_inbound(&c->redirects[i]))
			return true;
	return false;
}

int redirect_tick(struct redirect *r)
{
	struct rd_members now = {};
	struct err err;
	bool same;
	int e;

	if (!any_inbound(r->config) || ++r->ticks % LOOK_EVERY_TICKS)
		return 0;
	e = find_members(r, &now);
	if (e < 0)
		return e;
	same = now.n == r->members.n && (!now.n || !memcmp(now.v, r->members.v, now.n * sizeof(*now.v)));
	free(now.v);
	if (same) {
		listeners_find(r);
		return 0;
	}
	e = rd_in_apply(r, &err);
	if (e < 0)
		log_warn("%s", err.text);
	return e;
}

void rd_in_done(struct redirect *r)
{
	for (size_t i = 0; i < r->n_spaces; i++)
		(void)close(r->spaces[i].link);
	free(r->spaces);
	free(r->members.v);
	(void)bpf_link__destroy(r->in_walk);
}
