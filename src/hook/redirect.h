/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The redirect hook and policy: connections of a cgroup go to a local proxy, which is told where they wanted to go; and
 * who may connect to whom. One set of programs does both, for policy is asked about the destination that the program
 * named, before anything is rewritten. Programs, maps and links are pinned, outlive the process, and the next one takes
 * them over. Single-threaded.
 *
 * Within one cgroup the kernel runs programs in the order in which they were attached, and those of a cgroup below
 * before it: this hook wants to see what the program asked for, so it is opened before the connect hook.
 */
#pragma once

#include <stdint.h>

#include "abi/redirect.h"
#include "base/err.h"
#include "model/config.h"

struct redirect;

struct redirect_opts {
	const char *dir;    /* of pins; NULL: nothing is pinned, and all ends with the process */
	const char *cgroup; /* what "everywhere" is; NULL: the root of the cgroup v2 tree */
};

/*
 * Loads the programs on the maps that are pinned, or makes them; pinned links are switched to the new programs, each in
 * one step, and entries go on deciding.
 */
int redirect_open(const struct redirect_opts *opts, struct redirect **ret, struct err *err);

/*
 * From here on c decides: its redirects, identities and policies; for every connection either the old or the new ones.
 * c stays the caller's and must live until the next call that does not fail, or redirect_close(). Cgroups that do not exist are waited for.
 * On failure everything is as it was before.
 */
int redirect_apply(struct redirect *r, const struct config *c, struct err *err);

/* What decides now: the c of the last redirect_apply() that did not fail; NULL: none yet. */
const struct config *redirect_config(const struct redirect *r);

/* Readable when redirect_dispatch() has something to do: cgroups that came or went, and what the programs tell. */
int redirect_event_fd(const struct redirect *r);
int redirect_dispatch(struct redirect *r);

/* To be called every REDIRECT_TICK_MS: namespaces of inbound redirects come and go with processes. */
#define REDIRECT_TICK_MS 100
int redirect_tick(struct redirect *r);

/* Every event, while someone traces; event->entry is an index of the struct config's redirects or policies. */
typedef void (*redirect_event_fn)(const struct rd_event *event, void *data);
void redirect_on_event(struct redirect *r, redirect_event_fn fn, void *data);
void redirect_trace(struct redirect *r, uint32_t kinds);

/*
 * Live connections that a change of policy denies, by entries with on-change: leave; by the cookies of their clients, in
 * an array of the callee's to change. What is joined of them is to go back to TCP.
 */
typedef void (*redirect_evict_fn)(uint64_t *cookies, size_t n, void *data);
void redirect_on_evict(struct redirect *r, redirect_evict_fn fn, void *data);

int redirect_stats(const struct redirect *r, uint64_t ret[_RD_STAT_MAX]);

/* How often an entry decided, by its place in the struct config; 0: never, or it is not in force. */
uint64_t redirect_hits(const struct redirect *r, enum rd_table table, size_t entry);

/* Cgroups that are named and do not exist. */
size_t redirect_missing(const struct redirect *r);

/* Nothing is redirected or denied any more: removes what is pinned in dir. Close every struct redirect first. */
int redirect_detach(const char *dir, struct err *err);

/* The kernel's id of one of the maps ("rd_pend"), for tests and for people; 0: there is none such. */
uint32_t redirect_map_id(const struct redirect *r, const char *name);

/* Lets go; what is pinned goes on. */
struct redirect *redirect_close(struct redirect *r);
static inline void redirect_closep(struct redirect **r)
{
	(void)redirect_close(*r);
}

extern const char *const redirect_stat_words[_RD_STAT_MAX];
extern const char *const redirect_stat_texts[_RD_STAT_MAX];
