/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which packets a capture wants, as people write it: "service web and host 198.18.0.4 and port 80 or 443 and not udp".
 * Conditions are joined by "and", which may be left out; "or" stands between values of one kind. Names of services and
 * interfaces stay names: whether they exist is known where they are looked up.
 */
#pragma once

#include <stdint.h>

#include "abi/capture.h"
#include "base/err.h"

struct capture_filter {
	uint64_t reasons; /* bit by enum pk_reason; without a word of them all but those of packets that are nobody's */
	uint32_t protos;  /* enum pk_capture_proto */
	uint32_t negated; /* bit by enum pk_capture_kind */
	size_t n[_PK_CAPTURE_KINDS];
	char *services[PK_CAPTURE_VALUES], *interfaces[PK_CAPTURE_VALUES];
	struct pk_capture_addr addrs[PK_CAPTURE_VALUES];
	uint16_t ports[PK_CAPTURE_VALUES]; /* host order */
};

/* text NULL or "": everything that is ours. -EINVAL and a sentence. */
int capture_filter_parse(const char *text, struct capture_filter *ret, struct err *err);
void capture_filter_done(struct capture_filter *f);
