/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a capture on a host's interface sees of TCP: the same packets that tcpdump would show, counted. */
#pragma once

#include <stdint.h>

#include "lab/lab.h"

struct capture {
	int fd;
	uint16_t port;
	uint32_t peer; /* network order */
};

struct capture_counts {
	uint64_t packets;
	uint64_t syn, fin, rst; /* packets with that flag, of both directions */
	uint64_t payload_bytes; /* of TCP, of both directions */
	uint64_t lost;		/* packets the kernel had no room for: the counts are too low */
};

/*
 * Begins on eth0 of a host: the TCP connections that a peer makes to a port from now on. What is left over of earlier
 * connections (a late FIN, a reset) is not counted, nor is what others do meanwhile.
 */
int capture_start(const struct lab *lab, const char *host, uint16_t port, const char *peer, struct capture *ret,
		  struct err *err);

/* Counts what came since, and ends. A second call does nothing. */
int capture_stop(struct capture *capture, struct capture_counts *ret, struct err *err);
