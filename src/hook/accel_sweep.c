// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a waggle that was killed has left.
 *
 * Its hooks are gone with its file descriptors, but each joined socket holds the two socket programs, and those
 * hold their maps. We find such an ac_ctl by name, see from the owner's pid and start time and from the absence of
 * his hooks that he is dead, and find the other maps of that instance through the program that uses them all. Then
 * the iterators are loaded once more, over the dead one's maps, and the sockets leave as they do at an orderly end.
 */
#include <errno.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "hook/accel_priv.h"
#include "sys/bpf.h"
#include "sys/proc.h"

#define SWEEP_MAPS_MAX 64
#define SWEEP_TRIES 50
#define SWEEP_PAUSE_US 20000

struct sweep {
	struct err *err;
	size_t owners, left;
};

static bool owner_is_alive(const struct ac_ctl *ctl)
{
	return proc_start_time((pid_t)ctl->owner_pid) == ctl->owner_start && ctl->owner_start;
}

/* Puts the fd of the instance's map of this name, found among ids, into the skeleton's map. */
static int adopt_map(struct bpf_map *map, const uint32_t *ids, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		_cleanup_close_ int fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);

		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) || !streq(info.name, bpf_map__name(map)))
			continue;
		/* Another version's records would be read amiss. */
		if (info.value_size != bpf_map__value_size(map) || info.key_size != bpf_map__key_size(map))
			return -EPROTO;
		return bpf_map__reuse_fd(map, fd);
	}
	return -ENOENT;
}

/* Does the program behind fd use the map with this id? ids gets the ids of all its maps, *ret_n their number. */
static bool prog_uses(int fd, uint32_t map_id, uint32_t ids[SWEEP_MAPS_MAX], uint32_t *ret_n, const char *name)
{
	struct bpf_prog_info info = { .nr_map_ids = SWEEP_MAPS_MAX, .map_ids = (uint64_t)(uintptr_t)ids };
	uint32_t len = sizeof(info);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) || (name && !streq(info.name, name)))
		return false;
	*ret_n = info.nr_map_ids < SWEEP_MAPS_MAX ? info.nr_map_ids : SWEEP_MAPS_MAX;
	for (uint32_t i = 0; i < *ret_n; i++)
		if (ids[i] == map_id)
			return true;
	return false;
}

/* The maps of the socket program that uses the ac_ctl with this id; 0 if no program does. */
static uint32_t maps_of_instance(uint32_t ctl_id, uint32_t ids[SWEEP_MAPS_MAX])
{
	uint32_t id = 0, n;

	while (!bpf_prog_get_next_id(id, &id)) {
		_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);

		if (prog_uses(fd, ctl_id, ids, &n, "ac_msg"))
			return n;
	}
	return 0;
}

/*
 * A hook that is still attached: then the owner lives, though his pid may be one of another pid namespace.
 * Hooks go with their owner's file descriptors.
 */
static bool instance_is_attached(uint32_t ctl_id)
{
	uint32_t id = 0, ids[SWEEP_MAPS_MAX], n;

	while (!bpf_link_get_next_id(id, &id)) {
		_cleanup_close_ int link = bpf_link_get_fd_by_id(id);
		_cleanup_close_ int prog = -1;
		struct bpf_link_info info = {};
		uint32_t len = sizeof(info);

		if (link < 0 || bpf_obj_get_info_by_fd(link, &info, &len))
			continue;
		prog = bpf_prog_get_fd_by_id(info.prog_id);
		if (prog_uses(prog, ctl_id, ids, &n, "ac_sockops"))
			return true;
	}
	return false;
}

static int sweep_open(const uint32_t *ids, uint32_t n, struct accel **ret)
{
	_cleanup_(accel_closep) struct accel *a = new0(struct accel);
	struct bpf_program *prog;
	int r;

	if (!a)
		return -ENOMEM;
	a->skel = accel_skel__open();
	if (!a->skel)
		return -errno;
	bpf_object__for_each_program(prog, a->skel->obj)
		(void)bpf_program__set_autoload(prog, prog == a->skel->progs.ac_move ||
							      prog == a->skel->progs.ac_dump ||
							      prog == a->skel->progs.ac_where);
	if ((r = adopt_map(a->skel->maps.ac_socks, ids, n)) < 0 || (r = adopt_map(a->skel->maps.ac_sk, ids, n)) < 0 ||
	    (r = adopt_map(a->skel->maps.ac_ctl, ids, n)) < 0 || (r = adopt_map(a->skel->maps.ac_peers, ids, n)) < 0)
		return r;
	if ((r = accel_skel__load(a->skel)) < 0 || (r = accel_attach_walks(a, NULL)) < 0)
		return r;
	*ret = TAKE_PTR(a);
	return 0;
}

/*
 * Switches the instance off: from now on its sockets send by TCP. The head of ac_ctl is the same in every
 * version, what follows it need not be.
 */
static int switch_off(int fd, const struct ac_ctl *head, uint32_t value_size)
{
	_cleanup_free_ struct ac_ctl *whole = calloc(1, value_size > sizeof(*head) ? value_size : sizeof(*head));
	uint32_t zero = 0;

	if (!whole)
		return -ENOMEM;
	if (bpf_map_lookup_elem(fd, &zero, whole))
		return -errno;
	whole->on = 0;
	return bpf_map_update_elem(fd, &zero, whole, BPF_EXIST) ? -errno : 0;
}

/* Lets the sockets of a dead owner leave, as far as their readers are awake. */
static int sweep_sockets(uint32_t ctl_id, size_t *ret_left)
{
	_cleanup_(accel_closep) struct accel *a = NULL;
	uint32_t ids[SWEEP_MAPS_MAX], n = maps_of_instance(ctl_id, ids);
	size_t left = 0, asleep;
	int r;

	if (!n)
		return 0; /* nothing joined any more: the kernel is just freeing it */
	r = sweep_open(ids, n, &a);
	for (int i = 0; r >= 0 && i < SWEEP_TRIES; i++) {
		r = accel_leave(a, &left, &asleep);
		if (r < 0 || !left)
			break;
		(void)usleep(SWEEP_PAUSE_US);
	}
	*ret_left = left;
	return r;
}

/* One ac_ctl of the kernel: is its owner dead? */
static int sweep_one(int fd, uint32_t id, void *data)
{
	struct bpf_map_info info = {};
	struct sweep *sweep = data;
	uint32_t zero = 0, len = sizeof(info);
	union {
		struct ac_ctl ctl;
		char room[4096];
	} value;
	size_t left = 0;
	int r;

	if (bpf_obj_get_info_by_fd(fd, &info, &len) || info.value_size > sizeof(value) ||
	    bpf_map_lookup_elem(fd, &zero, &value) || owner_is_alive(&value.ctl))
		return 0;
	if (!value.ctl.version || instance_is_attached(id))
		return 0; /* one that is just starting and has not signed yet, or one of another pid namespace */
	sweep->owners++;
	r = switch_off(fd, &value.ctl, info.value_size);
	if (r < 0)
		return err_set(sweep->err, r, "cannot switch off what is left: %s", strerror(-r));
	r = value.ctl.version == AC_ABI_VERSION ? sweep_sockets(id, &left) : -EPROTO;
	/* Another version's sockets are off, which is all that is safe; they leave as they are closed. */
	if (r < 0 && r != -EPROTO)
		return err_set(sweep->err, r, "cannot take over what is left: %s", strerror(-r));
	sweep->left += left;
	return 0;
}

int accel_sweep(size_t *ret_left, struct err *err)
{
	struct sweep sweep = { .err = err };
	int r = bpf_sys_each_map("ac_ctl", sweep_one, &sweep);

	if (r == -EPERM && err && !err->text[0])
		return err_set(err, r, "not permitted to look for what is left: run as root");
	if (r < 0)
		return r;
	*ret_left = sweep.left;
	return (int)sweep.owners;
}
