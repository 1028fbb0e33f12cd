/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows made with other people's programs: nginx under wrk, and redis under its own benchmark. */
#pragma once

#include "bench/bench.h"

/* tcp_ways and all_ways: a bit a way, without and with those by AF_UNIX. */
int programs_rows(struct bench_run *run, unsigned int tcp_ways, unsigned int all_ways, struct err *err);
