/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Single calls, timed one by one (connect.c). */
#pragma once

#include "bench/bench.h"

/*
 * The median time, in us, of one connect(2) of this type (SOCK_STREAM, SOCK_DGRAM) to a server of its own at 127.0.0.77, or for
 * SOCK_DGRAM at `other` if that is not 0 (host order); by a process of the lab's programs on the host "client", for
 * opts->seconds.
 */
int calls_connect(struct bench_run *run, int type, uint32_t other, double *ret_us, struct err *err);
