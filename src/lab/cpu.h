/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Processor time of the whole machine since it started, of all processors together. */
struct cpu_time {
	uint64_t busy_us;   /* programs, kernel and interrupts; not what a hypervisor took */
	uint64_t stolen_us; /* what a hypervisor took */
	uint64_t total_us;
};

int cpu_read(struct cpu_time *ret, struct err *err);

struct lab;

/* Processor time of what the lab runs since it started. Not that of others. */
struct cpu_lab {
	uint64_t all_us; /* what is measured, waggle, and all that watches it */
	uint64_t own_us; /* without what is measured */
};

int cpu_read_lab(const struct lab *lab, struct cpu_lab *ret, struct err *err);
