/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the accelerator's user-space half, and by nobody else. */
#pragma once

#include <bpf/libbpf.h>

#include "hook/accel.h"
#include "sys/cgroup.h"
/* The skeleton wants the types of abi/accel.h before it. */
#include "accel.skel.h"

#define ACCEL_WATCHERS 5

/* Where the file of an executable is, seen while a process ran it. */
struct accel_path {
	struct ac_exe_key key;
	char *path;
};

/* What is attached to a cgroup. */
struct accel_links {
	struct bpf_link *sockops, *setsockopt;
};

struct accel {
	struct accel_probe probe;
	struct accel_skel *skel;
	struct bpf_link *walk_listen, *walk_exes, *dump, *where, *move;
	struct bpf_link *watchers[ACCEL_WATCHERS];
	struct ring_buffer *ring;
	struct ac_ctl *ctl; /* mmap of ac_ctl */
	struct cgroup_set cgroups;
	struct accel_links *links; /* as many */
	char *cgroups_text;
	accel_event_fn on_event;
	void *on_event_data;
	char *state_dir;
	uint64_t join_due_ms; /* CLOCK_MONOTONIC; 0: nothing to join */
	uint64_t join_pause_ms;
	bool leaving; /* accel_leave() has switched off and knows where to go */
	uint64_t off_ms;
	bool learned_changed;
	bool learned_new; /* an executable has changed its state: its process may end soon */
	bool ripe;	  /* executables wait for a decision */
	struct accel_path *paths;
	size_t n_paths;
	bool odd_due;
	uint64_t keep_due_ms, odd_due_ms;
	/* AC_STAT_LASTS and AC_STAT_SMALL: when they are looked at next, and what they were; the walk that follows. */
	uint64_t late_due_ms, late_seen, late_walk_ms, late_pause_ms, late_last_ms;
};

/* accel_move.c */
int accel_move_join(struct accel *a, size_t *ret_waiting);
int accel_move_odd(struct accel *a);

/* accel_learn.c */
int accel_learn_decide(struct accel *a);
int accel_learn_note(struct accel *a);
void accel_learn_free(struct accel *a);
int accel_learn_load(struct accel *a);
int accel_learn_keep(struct accel *a);
int accel_learn_trust(struct accel *a, const char *path, struct err *err);

/* accel.c: the iterators that show and move sockets; the one over storages is told which map. */
int accel_attach_walks(struct accel *a, struct err *err);
