/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the redirect hook and of policy, and by nobody else. */
#pragma once

#include <bpf/libbpf.h>

#include "hook/redirect.h"
#include "model/classes.h"
/* The skeleton wants the types of abi/redirect.h before it. */
#include "redirect.skel.h"

/* A cgroup that is named: below the root of the v2 tree, "/" for the root itself. */
struct rd_group {
	char *path;
	uint64_t id; /* 0: does not exist */
};

struct rd_groups {
	struct rd_group *v;
	size_t n;
	size_t missing;
};

/* A class for the cgroups, users or prefixes of one side. */
struct rd_group_class {
	uint64_t cgroup;
	uint32_t what; /* enum rd_net_what */
	uint32_t class;
};
struct rd_user_class {
	uint32_t uid;
	uint32_t class;
};

/* One side of a table, ready to be written into the maps, or to be asked. */
struct rd_compiled {
	struct classes classes;
	struct class_nets nets[_RD_WHAT_MAX];
	uint16_t *ports; /* 65536 */
	struct rd_group_class *groups;
	size_t n_groups;
	struct rd_user_class *users;
	size_t n_users;
	struct rd_entry *entries;
	size_t *origins; /* place of each in the struct config */
	struct rd_side side;
};

/* Where programs are attached. */
struct rd_link {
	unsigned int hook; /* of redirect_hooks */
	uint64_t cgroup;
	int fd;
};

/* A process of an inbound redirect's cgroup is in this network namespace. */
struct rd_member {
	uint64_t netns; /* inode number */
	size_t entry;	/* place in the struct config */
};
struct rd_members {
	struct rd_member *v;
	size_t n;
};

/* Where the inbound program is attached. */
struct rd_space {
	uint32_t netns;
	int link;
};

#define RD_HOOKS 12

struct redirect {
	struct redirect_skel *skel;
	struct rd_ctl *ctl; /* mmap of rd_ctl */
	struct ring_buffer *ring;
	int epoll, inotify;
	char *dir;  /* of pins; NULL: none */
	char *root; /* cgroup that stands for everywhere */
	const struct config *config;
	struct rd_groups groups;
	struct rd_compiled *live[_RD_TABLE_MAX]; /* what the side in use holds; NULL: not known, or nothing */
	struct rd_link *links;
	size_t n_links;
	redirect_event_fn on_event;
	void *on_event_data;
	redirect_evict_fn on_evict;
	void *on_evict_data;
	struct bpf_link *walk, *in_walk;
	struct rd_members members;
	struct rd_space *spaces;
	size_t n_spaces;
	unsigned int ticks;
	uint64_t closed;
};

/* redirect_group.c: root, and every cgroup that c names, once each, whether it exists or not. */
int rd_groups_find(const struct config *c, const char *root, struct rd_groups *ret, struct err *err);
void rd_groups_done(struct rd_groups *g);
/* A path as the groups have it, of one as it is written; the caller frees it. NULL: no memory. */
char *rd_group_tidy(const char *written);
/* By what is written in the configuration. NULL: it is not in there. */
const struct rd_group *rd_groups_get(const struct rd_groups *g, const char *written);
bool rd_group_holds(const struct rd_group *outer, const struct rd_group *inner);
unsigned int rd_group_depth(const struct rd_group *g);
/* Waits for cgroups to come and go; changes are readable from fd. */
int rd_groups_watch(const struct rd_groups *g, int inotify);
int rd_group_open(const struct rd_group *g, int *ret_fd, struct err *err);

/* redirect_compile.c, policy_compile.c: *ret NULL: there is nothing to decide. */
int rd_compile_redirects(const struct config *c, const struct rd_groups *g, struct rd_compiled **ret, struct err *err);
int rd_compile_policies(const struct config *c, const struct rd_groups *g, struct rd_compiled **ret, struct err *err);
struct rd_compiled *rd_compiled_new(size_t n_entries);
struct rd_compiled *rd_compiled_free(struct rd_compiled *c);
static inline void rd_compiled_freep(struct rd_compiled **c)
{
	(void)rd_compiled_free(*c);
}
int rd_compile_fail(struct err *err, int r, const char *section);
bool rd_is_identity(const struct config *c, const char *name, const struct config_identity **ret);

/* redirect_table.c: writes a side, changes over to it, and clears the other. */
int rd_table_apply(struct redirect *r, enum rd_table table, struct rd_compiled *c, struct err *err);
/* Removes what a side that is not in use holds. */
int rd_table_clear(struct redirect *r, uint32_t side);

/* redirect_in.c: inbound redirects of r->config. */
int rd_in_check(const struct config *c, struct err *err);
int rd_in_apply(struct redirect *r, struct err *err);
void rd_in_done(struct redirect *r);

/* redirect_live.c: live connections by the policies that are in force now. */
int rd_live_check(struct redirect *r);

/* redirect_link.c */
int rd_links_take_over(struct redirect *r, struct err *err);
int rd_links_apply(struct redirect *r, struct err *err);
void rd_links_done(struct redirect *r);
