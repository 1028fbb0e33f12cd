/* SPDX-License-Identifier: GPL-2.0 */
/* Who may make a new connection, and how many. Looked at once a connection, so that established ones cost nothing. */
#pragma once

#include "bpf/pk_conn.bpf.h"

/* Takes one token. Buckets hold a second's worth; racing packets may take a few more. */
static __always_inline bool pk_tokens(const struct pk_ctl *ctl, __u64 *tokens, __u64 *stamp, __u32 rate)
{
	__u64 now = bpf_jiffies64(), full = (__u64)rate * PK_RATE_SCALE, have = *tokens;
	__u64 passed = now - *stamp;

	if (passed) {
		if (passed > ctl->hz)
			passed = ctl->hz;
		have += passed * full / (ctl->hz ? ctl->hz : 1);
		if (have > full)
			have = full;
		*stamp = now;
	}
	if (have < PK_RATE_SCALE) {
		*tokens = have;
		return false;
	}
	*tokens = have - PK_RATE_SCALE;
	return true;
}

static __always_inline bool pk_guard_source(const struct pk_ctl *ctl, const struct pk_pkt *p)
{
	struct pk_source *s = bpf_map_lookup_elem(&pk_sources, &p->src);

	if (!s) {
		struct pk_source fresh = { .tokens = ((__u64)ctl->source_rate - 1) * PK_RATE_SCALE,
					   .stamp = bpf_jiffies64() };

		bpf_map_update_elem(&pk_sources, &p->src, &fresh, BPF_ANY);
		return true;
	}
	return pk_tokens(ctl, &s->tokens, &s->stamp, ctl->source_rate);
}

static __always_inline int pk_guard_acl(const struct pk_ctl *ctl, const struct pk_pkt *p)
{
	struct pk_acl_key key = { .prefix = 128, .addr = p->src };
	const __u32 *word = bpf_map_lookup_elem(&pk_acl, &key);

	if (word)
		return *word == PK_ACL_DENY ? PK_DENIED : PK_GO;
	return ctl->on & PK_ON_ACL_ALLOW ? PK_DENIED : PK_GO;
}

static __always_inline int pk_guard(const struct pk_ctl *ctl, const struct lb_plan *plan, const struct pk_pkt *p)
{
	__u32 service = plan->service;
	struct pk_use *use = bpf_map_lookup_elem(&pk_uses, &service);

	if (ctl->on & PK_ON_ACL && pk_guard_acl(ctl, p) != PK_GO)
		return PK_DENIED;
	if (ctl->on & PK_ON_SOURCES && !pk_guard_source(ctl, p))
		return PK_SOURCE_RATE;
	if (!use)
		return PK_GO;
	if (plan->quota && use->conns >= plan->quota)
		return PK_QUOTA;
	if (plan->syn_rate && !pk_tokens(ctl, &use->tokens, &use->stamp, plan->syn_rate))
		return PK_RATE;
	return PK_GO;
}
