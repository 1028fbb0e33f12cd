// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The pins. lb_ctl is pinned last: where it is, the others are complete. What an earlier process that died half way
 * has left without it is taken away, for nothing can have used it.
 */
#include "hook/lb_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <bpf/bpf.h>
#include <linux/magic.h>

#include "sys/bpf.h"

#define LB_PATH_MAX 512

const char *lb_pin_dir(void)
{
	const char *dir = getenv("WAGGLE_BPF_DIR");

	return dir && *dir ? dir : LB_PIN_DIR;
}

static void lb_pin_path(char path[static LB_PATH_MAX], const char *name)
{
	(void)snprintf(path, LB_PATH_MAX, "%s/%s", lb_pin_dir(), name);
}

/* Makes the directory if need be. Returns an fd that holds the lock: one process at a time makes or takes over. */
static int lb_dir_open(int *ret_fd, struct err *err)
{
	const char *dir = lb_pin_dir();
	_cleanup_close_ int fd = -1;
	struct statfs fs;

	if (strlen(dir) > LB_PATH_MAX - 64)
		return err_set(err, -ENAMETOOLONG, "the directory of pins '%s' has too long a name", dir);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s': %s: mount a bpffs with 'mount -t bpf bpf /sys/fs/bpf'",
			       dir, strerror(errno));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", dir, strerror(errno));
	if (fs.f_type != BPF_FS_MAGIC) {
		(void)rmdir(dir); /* ours if it is empty */
		return err_set(err, -EINVAL, "'%s' is not on a bpffs: mount one with 'mount -t bpf bpf /sys/fs/bpf'",
			       dir);
	}
	if (fchmod(fd, 0700) < 0 || flock(fd, LOCK_EX) < 0)
		return err_set(err, -errno, "cannot lock '%s': %s", dir, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int lb_unpin(struct err *err)
{
	const char *dir = lb_pin_dir();
	DIR *d = opendir(dir);
	struct dirent *entry;
	struct statfs fs;
	int r = 0;

	if (!d && errno == ENOENT)
		return 0;
	if (!d)
		return err_set(err, -errno, "cannot open '%s': %s", dir, strerror(errno));
	if (fstatfs(dirfd(d), &fs) < 0 || fs.f_type != BPF_FS_MAGIC) {
		(void)closedir(d);
		return err_set(err, -EINVAL, "'%s' is not on a bpffs: nothing is removed", dir);
	}
	/* A point is in the names of the kernel's own files only. */
	while ((entry = readdir(d)))
		if (!strchr(entry->d_name, '.') && unlinkat(dirfd(d), entry->d_name, 0) < 0 && r == 0)
			r = err_set(err, -errno, "cannot remove '%s/%s': %s", dir, entry->d_name, strerror(errno));
	(void)closedir(d);
	if (r == 0 && rmdir(dir) < 0 && errno != ENOENT)
		r = err_set(err, -errno, "cannot remove '%s': %s", dir, strerror(errno));
	return r;
}

/* Does what is pinned look like what we would make, but for its size? */
static int lb_map_check(const struct bpf_map *map, int fd, struct err *err)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return err_set(err, -errno, "cannot look at the pinned '%s': %s", bpf_map__name(map), strerror(errno));
	if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
	    info.value_size != bpf_map__value_size(map) || info.map_flags != bpf_map__map_flags(map))
		return err_set(err, -EPROTO,
			       "the table '%s' in '%s' is of another version of waggle: remove it with 'waggle unload'",
			       bpf_map__name(map), lb_pin_dir());
	return 0;
}

/* The version is the first word of lb_ctl in every version. */
static int lb_check_abi(int fd, struct err *err)
{
	_cleanup_free_ uint32_t *value = NULL;
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info), zero = 0;

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return err_set(err, -errno, "cannot look at the pinned 'lb_ctl': %s", strerror(errno));
	value = calloc(1, info.value_size + sizeof(*value));
	if (!value)
		return err_set(err, -ENOMEM, "out of memory");
	if (info.type != BPF_MAP_TYPE_ARRAY || bpf_map_lookup_elem(fd, &zero, value))
		return err_set(err, -EPROTO, "the pinned '%s/lb_ctl' is none of ours", lb_pin_dir());
	if (*value < LB_ABI_OLDEST || *value > LB_ABI_VERSION)
		return err_set(err, -EPROTO,
			       "the tables in '%s' are of version %u and not %d: remove them with 'waggle unload'",
			       lb_pin_dir(), *value, LB_ABI_VERSION);
	return 0;
}

static int lb_pin_get(const char *name)
{
	char path[LB_PATH_MAX];
	int fd;

	lb_pin_path(path, name);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

/* 1: the maps are those of an earlier process; 0: there is nothing complete. */
static int lb_reuse(struct lb *lb, struct err *err)
{
	_cleanup_close_ int ctl_fd = lb_pin_get("lb_ctl");
	struct bpf_map *map;
	int r;

	if (ctl_fd == -ENOENT)
		return 0;
	if (ctl_fd < 0)
		return err_set(err, ctl_fd, "cannot open the pinned '%s/lb_ctl': %s", lb_pin_dir(), strerror(-ctl_fd));
	r = lb_check_abi(ctl_fd, err);
	if (r < 0)
		return r;
	bpf_object__for_each_map(map, lb->skel->obj) {
		_cleanup_close_ int fd = lb_pin_get(bpf_map__name(map));

		if (fd < 0)
			return err_set(err, -EPROTO,
				       "the table '%s' in '%s' cannot be opened (%s): start anew with 'waggle unload'",
				       bpf_map__name(map), lb_pin_dir(), strerror(-fd));
		r = lb_map_check(map, fd, err);
		if (r < 0)
			return r;
		if (bpf_map__reuse_fd(map, fd))
			return err_set(err, -errno, "cannot take over '%s': %s", bpf_map__name(map), strerror(errno));
	}
	return 1;
}

static int lb_set_sizes(struct lb *lb, const struct lb_limits *limits, struct err *err)
{
	uint32_t services = limits && limits->services ? limits->services : 4096;
	uint32_t backends = limits && limits->backends ? limits->backends : 16384;
	uint32_t entries = limits && limits->ring_entries ? limits->ring_entries : 4 << 20;

	if (services > 1 << 20 || backends > 1 << 24 || entries > 1 << 30)
		return err_set(err, -E2BIG,
			       "too much room: at most 2^20 services, 2^24 backends, 2^30 entries of rings");
	/* 0 is nobody's id. */
	if (bpf_map__set_max_entries(lb->skel->maps.lb_vips, services) ||
	    bpf_map__set_max_entries(lb->skel->maps.lb_services, services + 1) ||
	    bpf_map__set_max_entries(lb->skel->maps.lb_cursors, services + 1) ||
	    bpf_map__set_max_entries(lb->skel->maps.lb_plans, 2 * services + 1) ||
	    bpf_map__set_max_entries(lb->skel->maps.lb_backends, backends + 1) ||
	    bpf_map__set_max_entries(lb->skel->maps.lb_load, backends + 1) ||
	    bpf_map__set_max_entries(lb->skel->maps.lb_traffic, backends + 1) ||
	    bpf_map__set_max_entries(lb->skel->maps.lb_ring, lb_lines(entries)))
		return err_set(err, -errno, "cannot set the sizes of the tables: %s", strerror(errno));
	return 0;
}

static int lb_pin_all(struct lb *lb, struct err *err)
{
	struct lb_ctl ctl = { .abi = LB_ABI_VERSION, .on = 1 };
	struct bpf_map *map, *ctl_map = lb->skel->maps.lb_ctl;
	char path[LB_PATH_MAX];
	uint32_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(ctl_map), &zero, &ctl, BPF_ANY))
		return err_set(err, -errno, "cannot write 'lb_ctl': %s", strerror(errno));
	bpf_object__for_each_map(map, lb->skel->obj) {
		if (map == ctl_map)
			continue;
		lb_pin_path(path, bpf_map__name(map));
		(void)unlink(path); /* of a process that died before it pinned lb_ctl */
		if (bpf_obj_pin(bpf_map__fd(map), path))
			return err_set(err, -errno, "cannot pin '%s': %s", path, strerror(errno));
	}
	lb_pin_path(path, bpf_map__name(ctl_map));
	if (bpf_obj_pin(bpf_map__fd(ctl_map), path))
		return err_set(err, -errno, "cannot pin '%s': %s", path, strerror(errno));
	return 0;
}

static size_t lb_map_bytes(const struct bpf_map *map)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes = (size_t)bpf_map__max_entries(map) * bpf_map__value_size(map);

	return (bytes + page - 1) / page * page;
}

static int lb_mmap(const struct bpf_map *map, void **ret, struct err *err)
{
	void *p = mmap(NULL, lb_map_bytes(map), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (p == MAP_FAILED)
		return err_set(err, -errno, "cannot map '%s' into memory: %s", bpf_map__name(map), strerror(errno));
	*ret = p;
	return 0;
}

static void lb_munmap(const struct bpf_map *map, void *p)
{
	if (p)
		(void)munmap(p, lb_map_bytes(map));
}

static int lb_mmap_all(struct lb *lb, struct err *err)
{
	int r;

	if ((r = lb_mmap(lb->skel->maps.lb_services, (void **)&lb->services, err)) < 0 ||
	    (r = lb_mmap(lb->skel->maps.lb_plans, (void **)&lb->plans, err)) < 0 ||
	    (r = lb_mmap(lb->skel->maps.lb_backends, (void **)&lb->backends, err)) < 0 ||
	    (r = lb_mmap(lb->skel->maps.lb_load, (void **)&lb->load, err)) < 0 ||
	    (r = lb_mmap(lb->skel->maps.lb_cursors, (void **)&lb->cursors, err)) < 0 ||
	    (r = lb_mmap(lb->skel->maps.lb_ring, (void **)&lb->ring, err)) < 0 ||
	    (r = lb_mmap(lb->skel->maps.lb_ctl, (void **)&lb->ctl, err)) < 0)
		return r;
	lb->n_services = bpf_map__max_entries(lb->skel->maps.lb_services);
	lb->n_plans = bpf_map__max_entries(lb->skel->maps.lb_plans);
	lb->n_backends = bpf_map__max_entries(lb->skel->maps.lb_backends);
	lb->n_lines = bpf_map__max_entries(lb->skel->maps.lb_ring);
	return 0;
}

/*
 * Updating a map of maps makes the kernel wait for every program that runs (synchronize_rcu() in
 * maybe_wait_bpf_programs(), since 5.0). That is the one grace period which user space can ask for on every kernel and
 * number of processors; programs that sleep are not waited for, and no hook of ours is one.
 */
static int lb_grace_open(struct lb *lb, struct err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);

	lb->grace_inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lb_grace", sizeof(uint32_t), sizeof(uint32_t), 1, NULL);
	if (lb->grace_inner < 0)
		return err_set(err, -errno, "cannot make a map: %s", strerror(errno));
	opts.inner_map_fd = (uint32_t)lb->grace_inner;
	lb->grace_outer =
		bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "lb_grace", sizeof(uint32_t), sizeof(uint32_t), 1, &opts);
	if (lb->grace_outer < 0)
		return err_set(err, -errno, "cannot make a map of maps: %s", strerror(errno));
	return 0;
}

/* Before any program of this version runs. What an earlier one knows of sockets stands in their storage. */
static void lb_upgrade(struct lb *lb)
{
	if (lb->ctl->abi < 2)
		__atomic_store_n(&lb->ctl->stores, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&lb->ctl->abi, LB_ABI_VERSION, __ATOMIC_RELEASE);
}

static int lb_load_maps(struct lb *lb, bool taken_over, struct err *err)
{
	int r;

	if (lb_skel__load(lb->skel))
		return err_set(err, -errno, "cannot make the tables: %s: %s", strerror(errno), bpf_sys_last());
	if (!taken_over) {
		r = lb_pin_all(lb, err);
		if (r < 0)
			return r;
	}
	r = lb_mmap_all(lb, err);
	if (r < 0)
		return r;
	r = lb_grace_open(lb, err);
	if (r < 0)
		return r;
	r = lb_table_init(lb, err);
	if (r < 0)
		return r;
	return lb_events_open(lb, err);
}

int lb_open(const struct lb_limits *limits, struct lb **ret, bool *ret_taken_over, struct err *err)
{
	_cleanup_(lb_closep) struct lb *lb = NULL;
	_cleanup_close_ int dir = -1;
	int r, taken_over;

	r = lb_dir_open(&dir, err);
	if (r < 0)
		return r;
	lb = new0(struct lb);
	if (!lb)
		return err_set(err, -ENOMEM, "out of memory");
	lb->grace_inner = lb->grace_outer = -1;
	lb->skel = lb_skel__open();
	if (!lb->skel)
		return err_set(err, -errno, "cannot open the tables' object: %s", bpf_sys_last());
	taken_over = lb_reuse(lb, err);
	if (taken_over < 0)
		return taken_over;
	r = taken_over ? 0 : lb_set_sizes(lb, limits, err);
	if (r < 0)
		return r;
	r = lb_load_maps(lb, taken_over, err);
	if (r < 0)
		return r;
	if (taken_over) {
		r = lb_table_take_over(lb, err);
		if (r < 0)
			return r;
		/* What the earlier process had just replaced may still be seen. */
		r = lb_grace(lb, err);
		if (r < 0)
			return r;
		lb_upgrade(lb);
	}
	*ret = TAKE_PTR(lb);
	*ret_taken_over = taken_over;
	return 0;
}

struct lb *lb_close(struct lb *lb)
{
	if (!lb)
		return NULL;
	lb_table_done(lb);
	ring_buffer__free(lb->events);
	closep(&lb->grace_outer);
	closep(&lb->grace_inner);
	if (lb->skel) {
		lb_munmap(lb->skel->maps.lb_services, lb->services);
		lb_munmap(lb->skel->maps.lb_plans, lb->plans);
		lb_munmap(lb->skel->maps.lb_backends, lb->backends);
		lb_munmap(lb->skel->maps.lb_load, lb->load);
		lb_munmap(lb->skel->maps.lb_cursors, lb->cursors);
		lb_munmap(lb->skel->maps.lb_ring, lb->ring);
		lb_munmap(lb->skel->maps.lb_ctl, lb->ctl);
	}
	lb_skel__destroy(lb->skel);
	free(lb);
	return NULL;
}

int lb_map_fd(const struct lb *lb, const char *name)
{
	const struct bpf_map *map = bpf_object__find_map_by_name(lb->skel->obj, name);

	return map ? bpf_map__fd(map) : -ENOENT;
}

struct lb_ctl *lb_ctl(struct lb *lb)
{
	return lb->ctl;
}
