/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract between user space and the packet programs that capture (src/bpf/xdp_capture.bpf.c, tc_capture.bpf.c):
 * what somebody wants to see, and what is told of a packet. Integers are in host byte order unless their type says
 * otherwise.
 */
#pragma once

#include "abi/packet.h"

#define PK_CAPTURES 4	       /* at once */
#define PK_CAPTURE_VALUES 4    /* of a kind, in a filter */
#define PK_CAPTURE_SERVICES 64 /* ids: a service has one for each of its addresses */
#define PK_CAPTURE_SNAP 16384  /* at most so much of a packet */
#define PK_CAPTURE_ROOM 49152  /* both sides, and what the verifier takes for possible: pk_capture.bpf.h */

/* The kinds of conditions that have values; what is wanted of reasons and protocols are bits. */
enum pk_capture_kind {
	PK_CAPTURE_SERVICE,
	PK_CAPTURE_ADDRESS,
	PK_CAPTURE_PORT,
	PK_CAPTURE_INTERFACE,
	_PK_CAPTURE_KINDS,
};

enum pk_capture_proto {
	PK_CAPTURE_TCP = 1 << 0,
	PK_CAPTURE_UDP = 1 << 1,
	PK_CAPTURE_ICMP = 1 << 2, /* of either family */
	PK_CAPTURE_OTHER = 1 << 3,
	PK_CAPTURE_PROTOS = 15,
};

/* (addr & mask) of either end, of the connection's client, service or backend. */
struct pk_capture_addr {
	struct lb_addr addr, mask;
};

/* One capture: all of its conditions hold. A kind without values, and not negated, holds always. */
struct pk_capture_filter {
	__u64 reasons; /* bit by enum pk_reason */
	__u64 lost;    /* written by the programs: packets that there was no room for */
	__u32 on;      /* 0: nobody captures here */
	__u32 snaplen; /* at most PK_CAPTURE_SNAP */
	__u32 protos;  /* enum pk_capture_proto */
	__u32 negated; /* bit by enum pk_capture_kind: none of the values */
	__u32 n[_PK_CAPTURE_KINDS];
	struct pk_capture_addr addrs[PK_CAPTURE_VALUES];
	__u32 services[PK_CAPTURE_SERVICES];
	__u32 ifindexes[PK_CAPTURE_VALUES];
	__be16 ports[PK_CAPTURE_VALUES];
	__u64 pad;
};

/* The one value of pk_cap_ctl. */
struct pk_capture_ctl {
	/* CLOCK_MONOTONIC; put off again and again by whoever reads the ring. A reader that died costs nothing after it. */
	__u64 until_ns;
	struct pk_capture_filter filters[PK_CAPTURES];
};

/* A packet as it came, or as it went. */
struct pk_capture_side {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u32 ifindex;
	__u32 len;   /* of the frame */
	__u32 taken; /* bytes that follow the record; those of in first. 0: there is no such side */
	__u16 vlan;  /* TCI of a tag that is not in the frame but beside it (TC); 0: none */
	__be16 vlan_proto;
};

/* In the ring, before the bytes. Addresses and ports are the packet's, as it came in. */
struct pk_capture_packet {
	struct pk_capture_side in, out;
	struct lb_addr src, dst;
	struct lb_addr client, vip; /* of its connection, if it has one */
	__be16 sport, dport, cport, vport;
	__u32 service; /* LB_NONE: of none that is known */
	__u32 backend; /* LB_NONE: none */
	__u32 reason;  /* enum pk_reason */
	__u32 verdict; /* what the program returned */
	__u32 wanted;  /* bit by number of the capture */
	__u8 proto;
	__u8 tcp_flags;
	__u8 is_xdp;
	__u8 has_conn;
	__u8 asks_neighbour; /* out: the kernel writes the hardware addresses later */
	__u8 pad[7];
};

/* Where a packet is put together, by processor. */
struct pk_capture_room {
	struct pk_capture_packet packet; /* in.taken 0: none is under way */
	__u8 data[PK_CAPTURE_ROOM];
};
