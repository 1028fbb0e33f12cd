/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "bench/bench.h"

/* Rows of the packet hook in the lab, with programs; and the end of what they have left running. */
int packet_lab_rows(struct bench_run *run, struct err *err);
void packet_lab_done(struct bench_run *run);
