// SPDX-License-Identifier: GPL-2.0-or-later
/* Where the control socket is, who may open it, and whether someone living already listens there. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/control_priv.h"
#include "model/wire.h"

#define CONTROL_BACKLOG 64
#define CONTROL_GROUP "waggle"

static int socket_dir_open(const char *dir, struct err *err)
{
	_cleanup_close_ int fd = -1;
	bool made = mkdir(dir, 0755) == 0;

	if (!made && errno != EEXIST)
		return err_set(err, -errno == -ENOENT ? -EIO : -errno, "cannot make the directory '%s': %s", dir,
			       strerror(errno));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -EIO, "cannot open the directory '%s': %s", dir, strerror(errno));
	/* Whatever the umask is: clients of the group have to get through. */
	if (made && fchmod(fd, 0755) < 0)
		return err_set(err, -EIO, "cannot open up the directory '%s': %s", dir, strerror(errno));
	return TAKE_FD(fd);
}

/* Refuses if a living process listens; removes what a dead one left. */
static int socket_take_over(const struct sockaddr_un *addr, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred peer = {};
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	/* EAGAIN: its queue is full, so it lives. */
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 && errno != EAGAIN) {
		if (errno == ENOENT)
			return 0;
		if (errno != ECONNREFUSED)
			return err_set(err, -EIO, "cannot tell whether a waggle listens at '%s': %s", addr->sun_path,
				       strerror(errno));
		if (unlink(addr->sun_path) < 0)
			return err_set(err, -EIO, "cannot remove the stale socket '%s': %s", addr->sun_path,
				       strerror(errno));
		return 0;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
		return err_set(err, -EALREADY, "a waggle is already running: stop it with 'waggle unload'");
	return err_set(err, -EALREADY, "a waggle is already running (pid %d): stop it with 'waggle unload'", peer.pid);
}

static int socket_listen(const struct sockaddr_un *addr, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct group *group = getgrnam(CONTROL_GROUP);
	mode_t was;
	int r;

	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	/* Never open for more than is meant, not even for a moment. */
	was = umask(0177);
	r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));
	(void)umask(was);
	if (r < 0)
		return err_set(err, -EIO, "cannot make the socket '%s': %s", addr->sun_path, strerror(errno));
	if ((group && (chown(addr->sun_path, (uid_t)-1, group->gr_gid) < 0 || chmod(addr->sun_path, 0660) < 0)) ||
	    listen(fd, CONTROL_BACKLOG) < 0) {
		r = err_set(err, -EIO, "cannot open the socket '%s': %s", addr->sun_path, strerror(errno));
		(void)unlink(addr->sun_path);
		return r;
	}
	return TAKE_FD(fd);
}

int control_socket_open(const char *dir, char **ret_path, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int dir_fd = -1;
	int r;

	if (asprintf(&path, "%s/%s", dir, WIRE_SOCKET) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "the path '%s' is too long for a socket: set WAGGLE_RUN_DIR to a shorter one", path);
	(void)strcpy(addr.sun_path, path);
	dir_fd = socket_dir_open(dir, err);
	if (dir_fd < 0)
		return dir_fd;
	/* Two that start at once look one after the other. The lock goes with the fd. */
	if (flock(dir_fd, LOCK_EX) < 0)
		return err_set(err, -EIO, "cannot lock the directory '%s': %s", dir, strerror(errno));
	r = socket_take_over(&addr, err);
	if (r >= 0)
		r = socket_listen(&addr, err);
	if (r < 0)
		return r;
	*ret_path = TAKE_PTR(path);
	return r;
}
