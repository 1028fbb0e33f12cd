/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract between user space and every hook that balances: one list of services and backends, in maps that
 * all hooks share (src/bpf/lb_maps.bpf.h), so that a change is seen by all of them at once.
 *
 * A packet or a connect() finds its way in three steps:
 *
 *   lb_vips      (address, port, protocol)   -> id of a service
 *   lb_services  id                          -> index of its plan: the one word that is ever changed in place
 *   lb_plans     index                       -> how to pick, and which part of lb_ring to pick from
 *
 * A plan and its part of the ring never change once they are published. A change of a service is a new ring and a
 * new plan, written first, and then one store into lb_services: every pick sees the old state or the new one. What
 * was replaced is used again only after a grace period in which every program that could have seen it has ended.
 *
 * The ring holds a backend as many times as its weight wants; schedulers differ only in how they choose the index:
 * by a hash (maglev, source), by a counter (round-robin), at random (random), or the less loaded of two at random
 * (least-conn). So weights hold everywhere, and a pick costs the same for ten backends and for ten thousand.
 *
 * Integers are in host byte order unless their type says otherwise. IPv4 addresses are kept as v4-mapped IPv6
 * (::ffff:a.b.c.d) wherever an address is 16 bytes. Every struct is a multiple of eight bytes, its padding named.
 */
#pragma once

#include <linux/types.h>

/*
 * Written into lb_ctl. Pinned maps of a version from the oldest one on are taken over, and are of this one then; others are not.
 * 2: the connect hook has notes of sockets; those of before are known by their storage.
 */
#define LB_ABI_VERSION 2
#define LB_ABI_OLDEST 1

/* Id 0 is nobody, for services, plans and backends alike, so that a zeroed record refers to nothing. */
#define LB_NONE 0

#define LB_RING_LINE 16 /* backends in one value of lb_ring: a cache line */

struct lb_addr {
	__be32 v6[4];
};

/* Key of lb_vips. */
struct lb_vip {
	struct lb_addr addr;
	__be16 port;
	__u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad[5];
};

/* Value of lb_services. The rest of what is known of a service is in its plan. */
struct lb_service {
	__u32 plan;
	__u32 pad;
};

/* The words of YAML, JSON, metrics and the man page. */
#define LB_SCHEDULER_LIST(X)          \
	X(MAGLEV, "maglev")           \
	X(ROUND_ROBIN, "round-robin") \
	X(LEAST_CONN, "least-conn")   \
	X(RANDOM, "random")           \
	X(SOURCE, "source")

enum lb_scheduler {
#define X(id, word) LB_##id,
	LB_SCHEDULER_LIST(X)
#undef X
		_LB_SCHEDULER_MAX,
};

/* How the packet hook forwards; the connect hook has no packet to forward. */
#define LB_FORWARD_LIST(X)                                                                     \
	X(NAT, "nat")	/* full NAT: both addresses rewritten, replies come back to us */      \
	X(DNAT, "dnat") /* the client's address is kept; replies are routed back through us */ \
	X(DSR, "dsr")	/* only the destination MAC is rewritten */                            \
	X(IPIP, "ipip") /* IPIP, IP6IP6, 4in6, 6in4 */                                         \
	X(GUE, "gue")

enum lb_forward {
#define X(id, word) LB_FORWARD_##id,
	LB_FORWARD_LIST(X)
#undef X
		_LB_FORWARD_MAX,
};

enum lb_plan_flag {
	LB_PLAN_CONNECT = 1 << 0,      /* the connect hook serves it */
	LB_PLAN_PACKET = 1 << 1,       /* the packet hook serves it */
	LB_PLAN_PASSIVE = 1 << 2,      /* a backend that refused is avoided until lb_load says otherwise */
	LB_PLAN_COOKIES = 1 << 3,      /* packet hook, nat: every SYN is answered with a SYN cookie */
	LB_PLAN_COOKIES_AUTO = 1 << 4, /* the same, under a flood */
};

/* Value of lb_plans: how a service picks. Immutable once a service points to it. */
struct lb_plan {
	__u32 service;	   /* id of the service it was made for */
	__u32 ring;	   /* first line of lb_ring; entry i is in line ring + i / LB_RING_LINE */
	__u32 n;	   /* entries of the ring; 0: every backend is down, connects are refused */
	__u32 n_backends;  /* different backends in the ring */
	__u32 seed;	   /* of the hash; configuration, so that several balancers agree */
	__u8 scheduler;	   /* enum lb_scheduler */
	__u8 forward;	   /* enum lb_forward */
	__u16 flags;	   /* enum lb_plan_flag */
	__u32 passive_ms;  /* LB_PLAN_PASSIVE: how long a backend that refused is avoided if nobody says otherwise */
	__u32 quota;	   /* packet hook: connections of this service at most; 0: no limit */
	__u32 udp_idle_ms; /* packet hook: a UDP flow ends after this long without a packet */
	__u32 tcp_idle_ms; /* packet hook: an established TCP connection ends likewise */
	__u32 syn_rate;	   /* packet hook: new connections a second; 0: no limit */
	__u32 pad[5];
};

enum lb_backend_flag {
	LB_BACKEND_V4 = 1 << 0,	      /* the address is IPv4 */
	LB_BACKEND_DRAINING = 1 << 1, /* in no ring; its connections go on */
	LB_BACKEND_DOWN = 1 << 2,     /* failed its health check: packets of its connections have nowhere to go */
	LB_BACKEND_GONE = 1 << 4,     /* no longer configured; set by lb_apply() until the id is given back */
};

/*
 * Value of lb_backends, one for each backend of each service: the same address in two services is two backends. Its
 * address, port and service never change; an id is used again only when nothing refers to it any more.
 */
struct lb_backend {
	struct lb_addr addr;
	__be16 port;
	__u16 flags; /* enum lb_backend_flag */
	__u32 service;
	__u32 weight; /* as configured or ramped up, for people; the ring is what counts */
	__u32 gen;    /* rises each time the id is given to another backend */
};

/*
 * Value of lb_load, by backend: what the hooks write. 64 bytes, so that backends do not share a cache line. A hook
 * raises a count of open connections in the same run of its program that picked: only so is a count of 0 final when a
 * grace period has passed since the backend left the ring, and its id free.
 */
struct lb_load {
	__u64 conns;	      /* open now, as the connect hook counts them */
	__u64 picks;	      /* times picked, by the connect hook */
	__u64 failures;	      /* connects that were refused or timed out */
	__u64 avoid_until_ns; /* CLOCK_MONOTONIC; written by the hook at a failure, cleared by user space */
	__u64 packet_conns;   /* of which the packet hook has a record, closed ones too */
	__u64 packet_closed;  /* of these, closed: their records are kept for a while */
	__u64 pad[2];
};

/* Value of lb_cursors, by service: the counter of round-robin. Alone on its cache line. */
struct lb_cursor {
	__u64 next;
	__u64 pad[7];
};

/* Value of lb_traffic, per CPU, by backend: what went each way. */
struct lb_traffic {
	__u64 in_packets; /* from clients */
	__u64 in_bytes;
	__u64 out_packets; /* to clients, as far as they come by us */
	__u64 out_bytes;
};

/*
 * Why a connect, a datagram or a packet of a service did not reach a backend. One list for the enum, the word in
 * JSON and metrics, and the sentence for people.
 */
#define LB_STAT_LIST(X)                                                                       \
	X(PICKED, "picked", "connections and datagrams that were given a backend")            \
	X(AGAIN, "again", "datagrams of a flow that has its backend already")                 \
	X(NO_BACKEND, "no-backend", "refused, for every backend of the service is down")      \
	X(AVOIDED, "avoided", "picks that stepped over a backend that had just refused")      \
	X(REFUSED, "refused", "connects that the backend refused")                            \
	X(TIMED_OUT, "timed-out", "connects that the backend did not answer")                 \
	X(FAMILY, "family", "an IPv4 socket asked for a service that has only IPv6 backends") \
	X(FLOW_FULL, "flow-full", "no room to remember a flow")                               \
	X(EVENT_LOST, "event-lost", "events that found no room in the ring")                  \
	X(NOTES_FULL, "notes-full", "sockets that found no free note, and have storage instead")

enum lb_stat {
#define X(id, word, text) LB_STAT_##id,
	LB_STAT_LIST(X)
#undef X
		_LB_STAT_MAX,
};

/*
 * How long connections of services took to be established, at the client: value of cn_took, per CPU. Bucket i counts
 * those of less than 2^i us, and not less than half of that; the last one all that took longer.
 */
#define LB_TOOK_BUCKETS 28 /* the last one begins at 67 s, and SYNs are given up after about that */

struct lb_took {
	__u64 buckets[LB_TOOK_BUCKETS];
	__u64 sum_us;
	__u64 pad;
};

/* The one value of lb_ctl, mapped into the daemon. */
struct lb_ctl {
	__u32 abi;    /* LB_ABI_VERSION */
	__u32 on;     /* 0: every hook lets everything pass */
	__u32 trace;  /* events that someone wants to see: 1 << enum lb_event_kind */
	__u32 stores; /* there are sockets whose record is in their storage, not in a note */
};

enum lb_event_kind {
	LB_EVENT_PICK = 1, /* only while someone traces */
	LB_EVENT_REFUSED,  /* a connect was refused: the health check looks at once */
	LB_EVENT_TIMED_OUT,
	LB_EVENT_NO_BACKEND,
};

/* A record of lb_events. */
struct lb_event {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u32 kind;  /* enum lb_event_kind */
	__u32 service;
	__u32 backend; /* LB_NONE: none */
	__u32 pid;     /* 0: not known */
	char comm[16];
	struct lb_addr client; /* zero where it has no address yet */
	__be16 client_port;
	__u8 proto;
	__u8 pad[5];
};
