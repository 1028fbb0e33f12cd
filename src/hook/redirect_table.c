// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writing one side of a table while the programs read the other, and changing over by one store. What the programs do
 * not use any more is removed after a grace period in which every one of them that could see it has ended.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>

#include <bpf/bpf.h>

#include "hook/redirect_priv.h"

/* A map's worth of records in one call; memory for both is the caller's. */
static int put_batch(int fd, const void *keys, const void *values, size_t n)
{
	__u32 count = (__u32)n;

	if (!n)
		return 0;
	return bpf_map_update_batch(fd, keys, values, &count, NULL) ? -errno : 0;
}

/* Records of an array from one index on. */
static int put_array(int fd, uint32_t first, const void *values, size_t n)
{
	_cleanup_free_ uint32_t *keys = calloc(n + 1, sizeof(*keys));

	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		keys[i] = first + (uint32_t)i;
	return put_batch(fd, keys, values, n);
}

static int put_ports(int fd, uint32_t side, const uint16_t *ports)
{
	/* A block of rd_ports is that part of the list, as it stands. */
	_Static_assert(sizeof(struct rd_port_block) == RD_PORT_BLOCK * sizeof(*ports), "");
	return put_array(fd, side * RD_PORT_BLOCKS, ports, RD_PORT_BLOCKS);
}

static int put_nets(int fd, uint32_t side, enum rd_net_what what, const struct class_nets *nets)
{
	_cleanup_free_ struct rd_net_key *keys = calloc(nets->n + 1, sizeof(*keys));
	_cleanup_free_ uint32_t *values = calloc(nets->n + 1, sizeof(*values));

	if (!keys || !values)
		return -ENOMEM;
	for (size_t i = 0; i < nets->n; i++) {
		keys[i] = (struct rd_net_key){
			.prefix_bits = RD_NET_FIXED + nets->v[i].prefix,
			.side_what = side * _RD_WHAT_MAX + what,
			.addr = nets->v[i].addr,
		};
		values[i] = nets->v[i].class;
	}
	return put_batch(fd, keys, values, nets->n);
}

static int put_groups(int fd, uint32_t side, const struct rd_compiled *c)
{
	for (size_t i = 0; i < c->n_groups; i++) {
		struct rd_group_key key = { .cgroup = c->groups[i].cgroup, .side = side, .what = c->groups[i].what };

		if (bpf_map_update_elem(fd, &key, &c->groups[i].class, BPF_ANY))
			return -errno;
	}
	return 0;
}

static int put_users(int fd, uint32_t side, const struct rd_compiled *c)
{
	for (size_t i = 0; i < c->n_users; i++) {
		struct rd_user_key key = { .uid = c->users[i].uid, .side = side };

		if (bpf_map_update_elem(fd, &key, &c->users[i].class, BPF_ANY))
			return -errno;
	}
	return 0;
}

static int put_side(struct redirect *r, uint32_t side, struct rd_compiled *c)
{
	_cleanup_free_ uint64_t *zeros = calloc(RD_ENTRIES, sizeof(*zeros));
	int e;

	if (!zeros)
		return -ENOMEM;
	for (int i = 0; i < _RD_WHAT_MAX; i++)
		c->side.net[i] = c->nets[i].otherwise;
	e = put_array(bpf_map__fd(r->skel->maps.rd_bits), side * RD_CLASSES, c->classes.bits, c->classes.n);
	if (e >= 0)
		e = put_ports(bpf_map__fd(r->skel->maps.rd_ports), side, c->ports);
	for (int i = 0; e >= 0 && i < _RD_WHAT_MAX; i++)
		e = put_nets(bpf_map__fd(r->skel->maps.rd_nets), side, (enum rd_net_what)i, &c->nets[i]);
	if (e >= 0)
		e = put_groups(bpf_map__fd(r->skel->maps.rd_groups), side, c);
	if (e >= 0)
		e = put_users(bpf_map__fd(r->skel->maps.rd_users), side, c);
	if (e >= 0)
		e = put_array(bpf_map__fd(r->skel->maps.rd_entries), side * RD_ENTRIES, c->entries, c->side.n);
	if (e >= 0)
		e = put_array(bpf_map__fd(r->skel->maps.rd_hits), side * RD_ENTRIES, zeros, RD_ENTRIES);
	return e;
}

/* Removes each key of a map that ours() knows. */
static int remove_keys(int fd, size_t key_bytes, bool (*ours)(const void *key, uint32_t side), uint32_t side)
{
	uint8_t key[64], next[64];
	bool more = !bpf_map_get_next_key(fd, NULL, next);

	while (more) {
		memcpy(key, next, key_bytes);
		more = !bpf_map_get_next_key(fd, key, next);
		if (ours(key, side) && bpf_map_delete_elem(fd, key) && errno != ENOENT)
			return -errno;
	}
	return 0;
}

static bool net_is_of(const void *key, uint32_t side)
{
	return ((const struct rd_net_key *)key)->side_what / _RD_WHAT_MAX == side;
}

static bool group_is_of(const void *key, uint32_t side)
{
	return ((const struct rd_group_key *)key)->side == side;
}

static bool user_is_of(const void *key, uint32_t side)
{
	return ((const struct rd_user_key *)key)->side == side;
}

int rd_table_clear(struct redirect *r, uint32_t side)
{
	int e;

	r->ctl->sides[side].on = 0;
	e = remove_keys(bpf_map__fd(r->skel->maps.rd_nets), sizeof(struct rd_net_key), net_is_of, side);
	if (e >= 0)
		e = remove_keys(bpf_map__fd(r->skel->maps.rd_groups), sizeof(struct rd_group_key), group_is_of, side);
	if (e >= 0)
		e = remove_keys(bpf_map__fd(r->skel->maps.rd_users), sizeof(struct rd_user_key), user_is_of, side);
	return e;
}

/* synchronize_rcu(). Where the kernel refuses it (nohz_full) a program has ended long before this. */
static void grace_period(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0)
		(void)usleep(100000);
}

int rd_table_apply(struct redirect *r, enum rd_table table, struct rd_compiled *c, struct err *err)
{
	uint32_t was = r->ctl->side[table], side = was == 2U * table ? was + 1 : 2U * table;
	int e = 0;

	if (c)
		e = put_side(r, side, c);
	if (e < 0) {
		(void)rd_table_clear(r, side);
		return err_set(err, e, "cannot fill the tables of '%s': %s",
			       table == RD_REDIRECT ? "redirect" : "policy",
			       e == -ENOSPC ?
				       "there is room for a million CIDRs, twice what is configured at a change" :
				       strerror(-e));
	}
	r->ctl->sides[side] = c ? c->side : (struct rd_side){};
	__atomic_store_n(&r->ctl->side[table], side, __ATOMIC_RELEASE);
	grace_period();
	/* What stays behind is in the way of nobody but the next fill, which overwrites it. */
	(void)rd_table_clear(r, was);
	(void)rd_compiled_free(r->live[table]);
	r->live[table] = c;
	return 0;
}
