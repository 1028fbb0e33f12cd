/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rings of events, and when user space is woken for one. What it has to act upon wakes it at once. What someone only wants
 * to see does not: to wake a process costs several times what the event itself does, and while someone watches user space
 * looks by itself (CONTROL_LOOK_S). It is woken when the ring becomes half full, so that what comes faster is not lost.
 */
#pragma once

#include "bpf/kernel.bpf.h"

#define RING_HEAD 8 /* bytes of the kernel before each record */

/* Flags of bpf_ringbuf_submit() for a record of so many bytes. A wake-up for half a ring is made once, not by all that follow. */
static __always_inline __u64 ring_wake(void *ring, __u64 ring_bytes, __u64 record_bytes, bool now)
{
	__u64 beyond;

	if (now)
		return BPF_RB_FORCE_WAKEUP;
	beyond = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) - ring_bytes / 2;
	return beyond < 4 * (record_bytes + RING_HEAD) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}
