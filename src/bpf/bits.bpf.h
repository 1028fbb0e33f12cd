/* SPDX-License-Identifier: GPL-2.0 */
#pragma once

#include "bpf/kernel.bpf.h"

/* How many bits a number has: 0 for 0, 5 for 16. The bucket of a histogram whose limits are powers of two. */
static __always_inline __u32 bits_of(__u32 v)
{
	__u32 n = 0;

	if (v >= 1 << 16) {
		n += 16;
		v >>= 16;
	}
	if (v >= 1 << 8) {
		n += 8;
		v >>= 8;
	}
	if (v >= 1 << 4) {
		n += 4;
		v >>= 4;
	}
	if (v >= 1 << 2) {
		n += 2;
		v >>= 2;
	}
	if (v >= 1 << 1) {
		n += 1;
		v >>= 1;
	}
	return n + v;
}
