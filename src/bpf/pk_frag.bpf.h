/* SPDX-License-Identifier: GPL-2.0 */
/* Fragments: only the first has ports, so what it said is remembered for the others of its packet. */
#pragma once

#include "bpf/pk_maps.bpf.h"

static __always_inline void pk_frag_key(const struct pk_pkt *p, struct pk_frag_key *key)
{
	pk_addr_copy(&key->src, &p->src);
	pk_addr_copy(&key->dst, &p->dst);
	key->id = p->frag_id;
	key->proto = p->proto;
}

/* The first fragment of a packet that is ours. */
__noinline int pk_frag_note(struct pk_pkt *p)
{
	struct pk_frag_key key = {};
	struct pk_frag frag = {};

	if (!p)
		return 0;
	pk_frag_key(p, &key);
	frag.sport = p->sport;
	frag.dport = p->dport;
	frag.tick = p->now;
	return (int)bpf_map_update_elem(&pk_frags, &key, &frag, BPF_ANY);
}

/* Fills in the ports of a later fragment. */
__noinline int pk_frag_find(struct pk_pkt *p)
{
	struct pk_frag_key key = {};
	const struct pk_frag *frag;

	if (!p)
		return PK_FRAGMENT;
	pk_frag_key(p, &key);
	frag = bpf_map_lookup_elem(&pk_frags, &key);
	if (!frag || p->now - frag->tick > PK_FRAG_TICKS)
		return PK_FRAGMENT;
	p->sport = frag->sport;
	p->dport = frag->dport;
	return PK_GO;
}
