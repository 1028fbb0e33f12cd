// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <sys/vfs.h>

int cgroup_root(char **ret, struct err *err)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	char *path = NULL;

	if (!mounts)
		return err_set(err, -errno, "cannot read /proc/self/mounts: %s", strerror(errno));
	while ((m = getmntent(mounts))) {
		if (streq(m->mnt_type, "cgroup2")) {
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

	return !fstatfs(fd, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC;
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
