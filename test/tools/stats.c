// SPDX-License-Identifier: GPL-2.0-or-later
#include "stats.h"

#include <dirent.h>
#include <errno.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* The value of a field of fdinfo, or -1. */
static long field(pid_t pid, const char *fd, const char *name)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[512], line[256];
	size_t n = strlen(name);

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)pid, fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, n) && line[n] == ':')
			return strtol(line + n + 1, NULL, 10);
	return -1;
}

void objects_each(pid_t pid, void (*fn)(const char *kind, unsigned int id, void *data), void *data)
{
	static const char *const kinds[] = { "link", "prog", "map" };
	struct dirent *entry;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
	dir = opendir(path);
	if (!dir)
		tool_die("there is no process %d", (int)pid);
	while ((entry = readdir(dir))) {
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			char name[16];
			long id;

			(void)snprintf(name, sizeof(name), "%s_id", kinds[i]);
			id = entry->d_name[0] == '.' ? -1 : field(pid, entry->d_name, name);
			if (id <= 0)
				continue;
			fn(kinds[i], (unsigned int)id, data);
			break; /* a link's fdinfo names its program too */
		}
	}
	(void)closedir(dir);
}

struct map_wanted {
	const char *name;
	int fd;
};

static void find_map(const char *kind, unsigned int id, void *data)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	struct map_wanted *want = data;
	int fd;

	if (!streq(kind, "map") || want->fd >= 0)
		return;
	fd = bpf_map_get_fd_by_id(id);
	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && streq(info.name, want->name))
		want->fd = fd;
	else if (fd >= 0)
		(void)close(fd);
}

int map_open(pid_t pid, const char *name)
{
	struct map_wanted want = { name, -1 };

	objects_each(pid, find_map, &want);
	return want.fd;
}

int stats_open(pid_t pid)
{
	return map_open(pid, "ac_stats");
}

uint64_t stats_read(int fd, enum ac_stat stat)
{
	int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *v = calloc((size_t)(n_cpus < 1 ? 1 : n_cpus), sizeof(*v));
	uint32_t key = stat;
	uint64_t sum = 0;

	if (!v || n_cpus < 1 || bpf_map_lookup_elem(fd, &key, v))
		tool_die("cannot read the counters: %s", strerror(errno));
	for (int c = 0; c < n_cpus; c++)
		sum += v[c];
	return sum;
}
