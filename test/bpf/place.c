// SPDX-License-Identifier: GPL-2.0-or-later
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/util.h"
#include "sys/cgroup.h"

int place_write(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ? -errno : 0;
}

int place_enter_cgroup(const char *dir)
{
	char path[1100], pid[16];

	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	return place_write(path, pid);
}

int place_find_cgroup(char *ret, size_t n)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/cgroup", "re");
	_cleanup_free_ char *root = NULL;
	char line[512];
	int r = cgroup_root(&root, NULL);

	if (r < 0)
		return r;
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "0::", 3))
			continue;
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(ret, n, "%s%s", root, line + 3);
		return 0;
	}
	return -ENOENT;
}

int place_loopback_up(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}
