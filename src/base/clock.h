/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clocks, read in one way. What BPF's bpf_ktime_get_ns tells is CLOCK_MONOTONIC. */
#pragma once

#include <stdint.h>
#include <time.h>

/* Nanoseconds of any clock. */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* CLOCK_MONOTONIC, in milliseconds. */
static inline uint64_t clock_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

/* CLOCK_MONOTONIC, in seconds. */
static inline double clock_s(void)
{
	return (double)clock_ns(CLOCK_MONOTONIC) / 1e9;
}
