/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The waggle that is shown: this very binary as 'waggle accel', for the lab's programs alone, with its control
 * socket and its memory of programs in the lab's private directory.
 */
#pragma once

#include "lab/lab.h"
#include "lab/prog.h"

/* Points this process, and all it starts, to the lab's waggle (WAGGLE_RUN_DIR, WAGGLE_STATE_DIR). */
int waggle_point(const struct lab *lab, struct err *err);

/*
 * Returns when it has said "ready". Trusts the programs of the list (paths, ends with NULL; the list may be NULL), and
 * else only what it learns, and what the lab's earlier ones have.
 */
int waggle_start(const struct lab *lab, const char *const *trust, struct prog *ret, struct err *err);

/* Lets it leave the kernel in order; it must end with exit code 0. */
int waggle_stop(const struct lab *lab, struct prog *waggle, struct err *err);
