/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this process is allowed to do. */
#pragma once

#include <stddef.h>

/*
 * The names of the capabilities that loading and attaching our programs takes and the caller lacks, separated by
 * ", ", into ret, cut at n; "" if none is lacking.
 */
#define CAPS_LACKING_MAX 64
void caps_lacking(char *ret, size_t n);

/* The same for balancing without the accelerator. */
void caps_lacking_to_balance(char *ret, size_t n);
