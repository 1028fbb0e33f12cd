/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The table of connections for programs that must not change it: a bucket is copied when it is first looked at, and the
 * copy is what the core sees and writes from then on. User space throws the copies away after each run.
 */
#pragma once

#include "bpf/pk_maps.bpf.h"

/* A flow needs a handful: those of its hash, those of its hint, and those of the records hinted at beside it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct pk_bucket);
} pk_copies SEC(".maps");

static __always_inline struct pk_bucket *pk_bucket_get(const struct pk_ctl *ctl, __u32 bucket)
{
	struct pk_bucket *b, *copy;

	bucket &= ctl->bucket_mask;
	copy = bpf_map_lookup_elem(&pk_copies, &bucket);
	if (copy)
		return copy;
	b = bpf_map_lookup_elem(&pk_table, &bucket);
	if (!b || bpf_map_update_elem(&pk_copies, &bucket, b, BPF_NOEXIST))
		return NULL;
	copy = bpf_map_lookup_elem(&pk_copies, &bucket);
	/* Somebody may have held the lock of the original at that moment: nobody will ever release the copy's. */
	if (copy)
		copy->lock = 0;
	return copy;
}
