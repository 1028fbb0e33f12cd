/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the packet hook is measured in: a network namespace with a link to a router, a bpffs that nobody else sees, and
 * the hook's tables with a service for each way of forwarding, of 100 backends each, loaded but attached nowhere.
 */
#pragma once

#include "hook/replay.h"
#include "lab/lab.h"

#define PACKET_BED_BACKENDS 100 /* of each of its services */
#define PACKET_BED_CONNS (1 << 20)
#define PACKET_BED_QUOTA 10000

enum packet_bed_service {
	BED_IPIP,
	BED_NAT,
	BED_DSR,
	BED_GUE,
	BED_UDP,   /* ipip */
	BED_V6,	   /* ipip, all of it IPv6 */
	BED_FLOOD, /* ipip; what is flooded */
	BED_QUOTA, /* the same, with PACKET_BED_QUOTA */
	_BED_SERVICE_MAX,
};

struct packet_bed {
	int netns_fd;
	struct lb *lb;
	struct packet *packet;
	struct replay *replay;
	uint32_t services[_BED_SERVICE_MAX]; /* ids */
};
#define PACKET_BED_NONE        \
	{                      \
		.netns_fd = -1 \
	}

/* others: how many services of ten backends there are besides. The caller's thread has the lab's mounts to itself. */
int packet_bed_make(const struct lab *lab, const char *name, uint32_t others, struct packet_bed *ret, struct err *err);
void packet_bed_done(struct packet_bed *bed);

enum packet_bed_way {
	BED_FROM_CLIENT,  /* to the service, ACK */
	BED_SYN,	  /* the same, SYN */
	BED_FROM_BACKEND, /* of nat, from the list that packet_bed_establish() has made: SYN and ACK, or ACK */
	BED_FROM_BACKEND_SYN,
	BED_NOT_OURS, /* to nobody that is known */
};
/* Packets of flows that are told apart by the client's address, from flow first on. flows: a power of two. */
struct replay_packet packet_bed_packet(enum packet_bed_service service, enum packet_bed_way way, uint32_t flows,
				       uint32_t first);

/* Runs n packets in the bed. *ret_ns: what one took; may be NULL. */
int packet_bed_run(struct packet_bed *bed, const struct replay_packet *p, enum rp_prog prog, uint32_t start, uint32_t n,
		   uint32_t *ret_ns, struct err *err);

/* Forgets all connections. */
void packet_bed_reset(struct packet_bed *bed);

/* Makes that many connections of a service, answered and known as established. -EIO: there are fewer. */
int packet_bed_establish(struct packet_bed *bed, enum packet_bed_service service, uint32_t flows, uint32_t first,
			 struct err *err);
