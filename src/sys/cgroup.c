// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static bool is_cgroup2(const struct statfs *fs)
{
	return fs->f_type == CGROUP2_SUPER_MAGIC;
}

int cgroup_root(char **ret, struct err *err)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	char *path = NULL;
	struct statfs fs;

	if (!mounts)
		return err_set(err, -errno, "cannot read /proc/self/mounts: %s", strerror(errno));
	while ((m = getmntent(mounts))) {
		/* One that another file system is mounted over is still listed. */
		if (streq(m->mnt_type, "cgroup2") && !statfs(m->mnt_dir, &fs) && is_cgroup2(&fs)) {
			path = strdup(m->mnt_dir);
			break;
		}
	}
	(void)endmntent(mounts);
	if (!path)
		return err_set(
			err, -ENOENT,
			"no cgroup v2 tree is mounted: mount one with 'mount -t cgroup2 none /sys/fs/cgroup/unified'");
	*ret = path;
	return 0;
}

static bool cgroup_is_v2(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && is_cgroup2(&fs);
}

int cgroup_open(const char *dir, int *ret_fd, struct err *err)
{
	_cleanup_free_ char *root = NULL, *below = NULL;
	_cleanup_close_ int fd = -1;
	int r;

	r = cgroup_root(&root, err);
	if (r < 0)
		return r;
	if (asprintf(&below, "%s/%s", root, dir ? dir : "") < 0)
		return err_set(err, -ENOMEM, "out of memory");
	/* A path of the file system wins over one below the root only if it is a cgroup. */
	if (dir) {
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && cgroup_is_v2(fd)) {
			*ret_fd = TAKE_FD(fd);
			return 0;
		}
		closep(&fd);
	}
	fd = open(below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && cgroup_is_v2(fd)) {
		*ret_fd = TAKE_FD(fd);
		return 0;
	}
	if (dir && access(dir, F_OK) == 0)
		return err_set(err, -EINVAL, "'%s' is not a cgroup v2 directory: give one below '%s'", dir, root);
	return err_set(err, -ENOENT, "there is no cgroup '%s': give a directory below '%s'", dir ? dir : "/", root);
}

static void at_done(struct cgroup_at *at)
{
	closep(&at->fd);
	free(at->path);
}

void cgroup_set_done(struct cgroup_set *s)
{
	for (size_t i = 0; i < s->n; i++)
		at_done(&s->v[i]);
	free(s->v);
	*s = (struct cgroup_set){};
}

static int at_open(const char *dir, struct cgroup_at *ret, struct err *err)
{
	char link[64], path[4096];
	struct stat st;
	ssize_t n;
	int r;

	*ret = (struct cgroup_at){ .fd = -1 };
	r = cgroup_open(dir, &ret->fd, err);
	if (r < 0)
		return r;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", ret->fd);
	n = readlink(link, path, sizeof(path) - 1);
	/* The inode number of a cgroup is its id. */
	if (n < 0 || fstat(ret->fd, &st) < 0)
		return err_set(err, -errno, "cannot look at the cgroup '%s': %s", dir ? dir : "/", strerror(errno));
	path[n] = '\0';
	ret->id = st.st_ino;
	ret->path = strdup(path);
	return ret->path ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static bool is_below(const char *path, const char *above)
{
	size_t n = strlen(above);

	return !strncmp(path, above, n) && (path[n] == '/' || path[n] == '\0');
}

static bool is_covered(const struct cgroup_set *s, size_t i)
{
	for (size_t k = 0; k < s->n; k++)
		if (k != i && is_below(s->v[i].path, s->v[k].path) && (k < i || !streq(s->v[i].path, s->v[k].path)))
			return true;
	return false;
}

/* What is dropped ends up behind what is kept; until then it covers what is below it. */
static void drop_covered(struct cgroup_set *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct cgroup_at swap = s->v[kept];

		if (is_covered(s, i))
			continue;
		s->v[kept++] = s->v[i];
		s->v[i] = swap;
	}
	for (size_t i = kept; i < s->n; i++)
		at_done(&s->v[i]);
	s->n = kept;
}

int cgroup_set_open(const char *const *dirs, size_t n, struct cgroup_set *ret, struct err *err)
{
	static const char *const root[] = { NULL };
	struct cgroup_set s = {};
	int r = 0;

	if (!n) {
		dirs = root;
		n = 1;
	}
	s.v = calloc(n, sizeof(*s.v));
	if (!s.v)
		return err_set(err, -ENOMEM, "out of memory");
	while (r >= 0 && s.n < n) {
		r = at_open(dirs[s.n], &s.v[s.n], err);
		s.n++;
	}
	if (r < 0) {
		cgroup_set_done(&s);
		return r;
	}
	drop_covered(&s);
	*ret = s;
	return 0;
}

char *cgroup_path(uint64_t id)
{
	/* A cgroup's id is the handle of its kernfs node: 8 bytes of type FILEID_KERNFS. */
	struct {
		struct file_handle fh;
		uint64_t id;
	} handle = { .fh = { .handle_bytes = sizeof(uint64_t), .handle_type = 0xfe }, .id = id };
	_cleanup_free_ char *root = NULL;
	_cleanup_close_ int root_fd = -1, fd = -1;
	char link[64], path[4096];
	ssize_t n;

	if (cgroup_root(&root, NULL) < 0)
		return strdup("?");
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd >= 0)
		fd = open_by_handle_at(root_fd, &handle.fh, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return strdup("?");
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < (ssize_t)strlen(root))
		return strdup("?");
	path[n] = '\0';
	return strdup(path[strlen(root)] ? path + strlen(root) : "/");
}

bool cgroup_set_covers(const struct cgroup_set *s, uint64_t id)
{
	_cleanup_free_ char *root = NULL, *below = cgroup_path(id), *path = NULL;

	if (!below || streq(below, "?") || cgroup_root(&root, NULL) < 0 ||
	    asprintf(&path, "%s%s", root, streq(below, "/") ? "" : below) < 0)
		return false;
	for (size_t i = 0; i < s->n; i++)
		if (is_below(path, s->v[i].path))
			return true;
	return false;
}
