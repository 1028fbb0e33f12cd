/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to the control socket: which path they name, and what their bodies ask for. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WIRE_ARGS_MAX 2
#define WIRE_ARG_MAX 256

/* Is this the path? Each * of the pattern stands for one part of it, not empty and without '/', which is kept in args. */
bool wire_path_matches(const char *pattern, const char *path, char args[static WIRE_ARGS_MAX][WIRE_ARG_MAX]);

/* Bodies: 0, or -EINVAL and a sentence. Nothing at all is an empty object. */
int wire_nothing_parse(const char *text, size_t bytes, struct err *err);
int wire_weight_parse(const char *text, size_t bytes, uint32_t *ret, struct err *err);
