/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/* Parses the whole of text as a decimal number in [min, max]. -EINVAL: not a number; -ERANGE: outside. */
int num_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
