/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of TCP ports as people write them: "80,443,8000-8100". */
#pragma once

#include <stdint.h>

#include "base/err.h"

/*
 * Adds `bit` to map[port] for each port of the list; map has AC_PORTS entries. Ports are 1 to 65535, ranges go
 * upward. On failure (-EINVAL, with a sentence in err) the map is untouched.
 */
int ports_parse(const char *list, uint8_t *map, uint8_t bit, struct err *err);
