// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/bpf.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/log.h"

static char bpf_last[512];

static int bpf_print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[512];
	va_list again;

	va_copy(again, ap);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	/* The cause comes first, in one line; then the verifier's log, and each caller's "failed to load". */
	if (level == LIBBPF_WARN && !strstr(line, "failed to load") && !strstr(line, "LOAD LOG")) {
		(void)snprintf(bpf_last, sizeof(bpf_last), "%s", line);
		bpf_last[strcspn(bpf_last, "\n")] = '\0';
	}
	/* In full, for a verifier's log is many lines in one message. */
	if (level != LIBBPF_DEBUG && log_enabled(LOG_LEVEL_DEBUG))
		(void)vfprintf(stderr, fmt, again);
	va_end(again);
	return 0;
}

void bpf_sys_init(void)
{
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(bpf_print);
}

const char *bpf_sys_last(void)
{
	return bpf_last;
}

uint32_t bpf_sys_map_id(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.id;
}

int bpf_sys_each_map(const char *name, int (*fn)(int fd, uint32_t id, void *data), void *data)
{
	uint32_t id = 0;

	while (!bpf_map_get_next_id(id, &id)) {
		_cleanup_close_ int fd = bpf_map_get_fd_by_id(id);
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);
		int r;

		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
			continue; /* gone meanwhile */
		if (!streq(info.name, name))
			continue;
		r = fn(fd, id, data);
		if (r)
			return r;
	}
	return errno == ENOENT ? 0 : -errno;
}

int bpf_sys_sum(int map_fd, uint32_t n, uint64_t *ret)
{
	int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *v = NULL, *sums = NULL;

	if (n_cpus < 0)
		return n_cpus;
	v = calloc((size_t)n_cpus, sizeof(*v));
	sums = calloc(n, sizeof(*sums));
	if (!v || !sums)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		if (bpf_map_lookup_elem(map_fd, &i, v))
			return -errno;
		for (int c = 0; c < n_cpus; c++)
			sums[i] += v[c];
	}
	memcpy(ret, sums, n * sizeof(*ret));
	return 0;
}

int bpf_sys_read_iter(int link_fd, void **ret_data, size_t *ret_bytes)
{
	_cleanup_close_ int fd = bpf_iter_create(link_fd);
	_cleanup_free_ char *data = NULL;
	size_t have = 0, room = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		if (room - have < 65536) {
			char *more = realloc(data, room + (room ? room : 65536));

			if (!more)
				return -ENOMEM;
			room += room ? room : 65536;
			data = more;
		}
		n = read(fd, data + have, room - have);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	*ret_data = TAKE_PTR(data);
	*ret_bytes = have;
	return 0;
}
