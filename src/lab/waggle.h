/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The waggle that is shown: this very binary as 'waggle accel' or 'waggle run', for the lab's programs alone, with its
 * control socket and its memory of programs in the lab's private directory, and what it pins in lab_bpf_dir().
 */
#pragma once

#include "lab/lab.h"
#include "lab/prog.h"

/* Points this process, and all it starts, to the lab's waggle (WAGGLE_RUN_DIR and its like). */
int waggle_point(const struct lab *lab, struct err *err);

/*
 * Returns when it has said "ready". Trusts the programs of the list (paths, ends with NULL; the list may be NULL), and
 * else only what it learns, and what the lab's earlier ones have.
 */
int waggle_start(const struct lab *lab, const char *const *trust, struct prog *ret, struct err *err);

/* Paths of programs, for a list of those to trust. */
#define WAGGLE_TRUST_MAX 8
struct waggle_trust {
	const char *v[WAGGLE_TRUST_MAX + 1]; /* ends with NULL; points into paths */
	char paths[WAGGLE_TRUST_MAX][4096];
};

/* Adds the program if it is installed; -E2BIG. */
int waggle_trust_add(struct waggle_trust *trust, const char *program, struct err *err);

/* Lets it leave the kernel in order; it must end with exit code 0. */
int waggle_stop(const struct lab *lab, struct prog *waggle, struct err *err);

/* 'waggle run' with this configuration (YAML), for what it says; ready when it returns. */
int waggle_run_start(const struct lab *lab, const char *config, struct prog *ret, struct err *err);

/* The same in the network namespace of a host, whose interfaces it then finds. */
int waggle_run_start_on(const struct lab *lab, const char *host, const char *config, struct prog *ret, struct err *err);

/* Takes it out of the kernel by 'waggle unload', with what it balanced; it must end with exit code 0. */
int waggle_run_stop(const struct lab *lab, struct prog *waggle, struct err *err);
