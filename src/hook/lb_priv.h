/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the files of the tables' user-space half; of the hooks, only to count anew when one is detached.
 *
 *   lb_open.c    pins: makes or takes over the maps, and maps them into memory
 *   lb_table.c   which ids, plans and parts of the ring are free; read back from the maps at takeover
 *   lb.c         services: applied, removed, and when what they replaced is used again
 *   lb_count.c   what the hooks counted, and their events
 *   lb_arena.c   the free parts of the ring
 */
#pragma once

#include <bpf/libbpf.h>

#include "hook/lb.h"
#include "hook/lb_arena.h"
/* The skeleton wants the types of abi/lb.h before it. */
#include "lb.skel.h"

/* The ids that are free, the next one last. */
struct lb_ids {
	uint32_t *v;
	size_t n;
};

/* What is known of a service, by its id. */
struct lb_known {
	struct lb_vip vip;
	uint32_t *backends; /* ids, sorted by address and port; without those that are gone */
	size_t n_backends;
	uint32_t refs;	/* backends whose record names this service, gone or not */
	bool is_live;	/* in lb_vips */
	bool is_used;	/* not in the list of free ids */
	bool is_graced; /* not live, and every program that saw it has ended */
};

/* What was replaced, and is free after a grace period. */
struct lb_limbo {
	uint32_t plan;	  /* LB_NONE: none */
	uint32_t service; /* that was removed; LB_NONE: it lives */
};

struct lb_gone {
	uint32_t backend;
	bool is_graced;
};

struct lb {
	struct lb_skel *skel;
	struct ring_buffer *events;
	void (*on_event)(const struct lb_event *event, void *data);
	void *on_event_data;
	int grace_outer, grace_inner;

	/* The maps, mapped; the counts include entry 0. */
	struct lb_service *services;
	struct lb_plan *plans;
	struct lb_backend *backends;
	struct lb_load *load;
	struct lb_cursor *cursors;
	uint32_t *ring;
	struct lb_ctl *ctl;
	uint32_t n_services, n_plans, n_backends, n_lines;

	struct lb_known *known; /* n_services */
	struct lb_ids free_services, free_plans, free_backends;
	struct lb_arena arena;
	struct lb_limbo *limbo; /* room for n_plans + n_services */
	size_t n_limbo;
	struct lb_gone *gone; /* room for n_backends */
	size_t n_gone;
	bool in_batch;
};

/* lb_table.c */
int lb_table_init(struct lb *lb, struct err *err);
/* Reads the state of an earlier process; no grace period has passed when it returns. */
int lb_table_take_over(struct lb *lb, struct err *err);
void lb_table_done(struct lb *lb);
static inline uint32_t lb_id_take(struct lb_ids *ids)
{
	return ids->n ? ids->v[--ids->n] : LB_NONE;
}
static inline void lb_id_give(struct lb_ids *ids, uint32_t id)
{
	ids->v[ids->n++] = id;
}
static inline uint32_t lb_lines(uint32_t entries)
{
	return (entries + LB_RING_LINE - 1) / LB_RING_LINE;
}
int lb_compare(const struct lb_addr *a, uint16_t port_be_a, const struct lb_addr *b, uint16_t port_be_b);
void lb_plan_release(struct lb *lb, uint32_t plan);
void lb_service_release(struct lb *lb, uint32_t service);

/* lb.c: waits until every run of a program that began before has ended, and frees what was replaced. */
int lb_grace(struct lb *lb, struct err *err);

/* lb_count.c */
int lb_events_open(struct lb *lb, struct err *err);
