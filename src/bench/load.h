/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two sides of a load, each called in a process of its own, whose sockets it makes. */
#pragma once

#include "bench/pair.h"

/*
 * Serves until the client's connections have ended. The address goes to addr_fd once it listens (it may be a new
 * port), and life_fd becomes readable, at its end, when the client is gone.
 */
int load_serve(const struct pair_spec *spec, int addr_fd, int life_fd, struct pair_result *ret);

int load_drive(const struct pair_spec *spec, int addr_fd, struct pair_result *ret);
