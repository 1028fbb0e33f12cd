/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a daemon says of captured packets (GET /v1/capture), line by line: as lines for people, or into a file. */
#pragma once

#include <jansson.h>

#include "ctl/pcapng.h"

struct ctl_capture {
	struct pcapng pcapng; /* f NULL: packets are shown on out */
	FILE *out;	      /* NULL: packets are only counted */
	uint64_t n_packets, n_lost;
	bool has_ended; /* the daemon has told the last of it */
};

/* What the first line says: who is listened to. */
void ctl_capture_tell_start(json_t *event, FILE *out);

/* Takes any line but the first. -EPROTO and a sentence: it is not what the API promises. */
int ctl_capture_event(struct ctl_capture *c, json_t *event, struct err *err);
