/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of packets for wireshark and tcpdump: pcapng (draft-ietf-opsawg-pcapng), one section, written from the
 * beginning to the end and never read. An interface description for each interface and direction stands before the
 * first packet of it.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct pcapng {
	FILE *f; /* the caller's */
	uint32_t snaplen;
	char **interfaces; /* "NAME\nDESCRIPTION", by their numbers */
	uint32_t n_interfaces;
};

enum pcapng_direction {
	PCAPNG_IN = 1,
	PCAPNG_OUT = 2,
};

enum pcapng_verdict {
	PCAPNG_VERDICT_NONE,
	PCAPNG_VERDICT_TC,
	PCAPNG_VERDICT_XDP,
};

struct pcapng_packet {
	const char *interface, *description; /* an interface is known by both */
	enum pcapng_direction direction;
	uint64_t at_ns; /* since 1970 */
	const uint8_t *data;
	uint32_t taken, length; /* bytes that are there, and that were on the wire */
	uint64_t id;		/* the same for a packet as it came in and as it went out */
	enum pcapng_verdict verdict_of;
	uint64_t verdict;    /* what the program returned */
	const char *comment; /* NULL: none */
};

/* Errors of writing stay with f (ferror); -ENOMEM otherwise. */
int pcapng_begin(struct pcapng *p, FILE *f, uint32_t snaplen);
int pcapng_packet(struct pcapng *p, const struct pcapng_packet *packet);
/* Tells how many packets are missing, if there is an interface to tell it of. */
void pcapng_end(struct pcapng *p, uint64_t at_ns, uint64_t lost);
void pcapng_done(struct pcapng *p);
