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

/* Processor time of all that the lab runs: what is measured, and waggle with all that watches it. Not that of others. */
int cpu_read_lab(const struct lab *lab, uint64_t *ret_us, struct err *err);
