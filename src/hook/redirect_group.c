// SPDX-License-Identifier: GPL-2.0-or-later
/* The cgroups that a configuration names: found, compared, waited for. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "hook/redirect_priv.h"
#include "sys/cgroup.h"

/* The kernel's id of a cgroup: the handle of its directory. */
static int fd_cgroup_id(int fd, uint64_t *ret)
{
	struct {
		struct file_handle fh;
		uint64_t id;
	} handle = { .fh = { .handle_bytes = sizeof(uint64_t) } };
	int mount;

	if (name_to_handle_at(fd, "", &handle.fh, &mount, AT_EMPTY_PATH) < 0)
		return -errno;
	memcpy(ret, handle.fh.f_handle, sizeof(*ret));
	return 0;
}

/* Without the root's path before it, double slashes, and slashes at the end. */
static char *tidy_path(const char *written, const char *root)
{
	size_t n = strlen(root);
	char *path, *out;

	if (n > 1 && !strncmp(written, root, n) && (written[n] == '/' || !written[n]))
		written += n;
	path = out = calloc(1, strlen(written) + 2);
	if (!path)
		return NULL;
	*out++ = '/';
	for (; *written; written++)
		if (*written != '/' || out[-1] != '/')
			*out++ = *written;
	if (out > path + 1 && out[-1] == '/')
		out--;
	*out = '\0';
	return path;
}

char *rd_group_tidy(const char *written)
{
	_cleanup_free_ char *root = NULL;

	/* Without a tree nothing is below its root as it is mounted. */
	(void)cgroup_root(&root, NULL);
	return tidy_path(written, root ? root : "/");
}

const struct rd_group *rd_groups_get(const struct rd_groups *g, const char *written)
{
	_cleanup_free_ char *path = rd_group_tidy(written);

	for (size_t i = 0; path && i < g->n; i++)
		if (streq(g->v[i].path, path))
			return &g->v[i];
	return NULL;
}

static int group_add(struct rd_groups *g, const char *written, struct err *err)
{
	_cleanup_free_ char *root = NULL, *path = NULL;
	_cleanup_close_ int fd = -1;
	struct rd_group *v;
	uint64_t id = 0;
	int r;

	r = cgroup_root(&root, err);
	if (r < 0)
		return r;
	path = tidy_path(written, root);
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < g->n; i++)
		if (streq(g->v[i].path, path))
			return 0;
	r = cgroup_open(path, &fd, err);
	if (r >= 0)
		r = fd_cgroup_id(fd, &id);
	/* It is waited for; what is there and is no cgroup will never be one. */
	if (r < 0 && r != -ENOENT)
		return r == -EINVAL ? r : err_set(err, r, "cannot open cgroup '%s': %s", path, strerror(-r));
	v = reallocarray(g->v, g->n + 1, sizeof(*v));
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	g->v = v;
	g->missing += !id;
	g->v[g->n++] = (struct rd_group){ TAKE_PTR(path), id };
	return 0;
}

bool rd_is_identity(const struct config *c, const char *name, const struct config_identity **ret)
{
	for (size_t i = 0; i < c->n_identities; i++) {
		if (!streq(c->identities[i].name, name))
			continue;
		*ret = &c->identities[i];
		return true;
	}
	return false;
}

int rd_groups_find(const struct config *c, const char *root, struct rd_groups *ret, struct err *err)
{
	const struct config_identity *id;
	struct rd_groups g = {};
	int r = group_add(&g, root, err);

	for (size_t i = 0; r >= 0 && i < c->n_redirects; i++) {
		if (!c->redirects[i].cgroup)
			continue;
		r = group_add(&g, c->redirects[i].cgroup, err);
		if (r >= 0 && c->redirects[i].proxy_cgroup)
			r = group_add(&g, c->redirects[i].proxy_cgroup, err);
	}
	for (size_t i = 0; r >= 0 && i < c->n_policies; i++)
		for (size_t j = 0; r >= 0 && j < c->policies[i].from.n; j++)
			if (!rd_is_identity(c, c->policies[i].from.v[j], &id))
				r = group_add(&g, c->policies[i].from.v[j], err);
	for (size_t i = 0; r >= 0 && i < c->n_identities; i++)
		for (size_t j = 0; r >= 0 && j < c->identities[i].cgroups.n; j++)
			r = group_add(&g, c->identities[i].cgroups.v[j], err);
	if (r < 0)
		rd_groups_done(&g);
	else
		*ret = g;
	return r;
}

void rd_groups_done(struct rd_groups *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->v[i].path);
	free(g->v);
	*g = (struct rd_groups){};
}

bool rd_group_holds(const struct rd_group *outer, const struct rd_group *inner)
{
	size_t n = strlen(outer->path);

	if (n == 1)
		return true;
	return !strncmp(inner->path, outer->path, n) && (inner->path[n] == '/' || !inner->path[n]);
}

unsigned int rd_group_depth(const struct rd_group *g)
{
	unsigned int n = 0;

	for (const char *p = g->path; *p; p++)
		n += *p == '/' && p[1];
	return n;
}

int rd_group_open(const struct rd_group *g, int *ret_fd, struct err *err)
{
	return cgroup_open(g->path, ret_fd, err);
}

/* Every directory above, up to the root: a cgroup's end is told by the one in which it was, and by no other. */
static int watch_above(const char *root, const char *path, int inotify)
{
	char dir[PATH_MAX];
	char *slash;
	int n = snprintf(dir, sizeof(dir), "%s%s", root, path);

	if (n < 0 || (size_t)n >= sizeof(dir))
		return -ENAMETOOLONG;
	while ((slash = strrchr(dir, '/')) && (size_t)(slash - dir) >= strlen(root)) {
		*slash = '\0';
		if (inotify_add_watch(inotify, *dir ? dir : "/", IN_CREATE | IN_DELETE | IN_ONLYDIR) < 0 &&
		    errno != ENOENT)
			return -errno;
	}
	return 0;
}

int rd_groups_watch(const struct rd_groups *g, int inotify)
{
	_cleanup_free_ char *root = NULL;
	int r = cgroup_root(&root, NULL);

	for (size_t i = 0; r >= 0 && i < g->n; i++)
		if (g->v[i].path[1])
			r = watch_above(root, g->v[i].path, inotify);
	return r;
}
