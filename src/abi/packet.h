/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract between user space and the packet hook (src/bpf/xdp.bpf.c, src/bpf/tc.bpf.c). Services and backends
 * are in abi/lb.h; this is what only packets need: the table of connections, next hops, and what became of packets.
 *
 * Time is counted in ticks of jiffies >> pk_ctl.tick_shift, about a second each, so that the clock needs neither a
 * helper call nor a daemon. Integers are in host byte order unless their type says otherwise.
 */
#pragma once

#include "abi/lb.h"

/* Written into pk_ctl. Pinned maps of another version are not taken over. */
#define PK_ABI_VERSION 3

#define PK_WAYS 8	   /* records of a bucket */
#define PK_GATE_BITS 22	   /* 2^22 bits: 512 KiB */
#define PK_HOPS 1024	   /* next hops towards clients that are remembered */
#define PK_NATS 256	   /* own addresses that packets to backends come from */
#define PK_GUE_PORT 6080   /* IANA's number for GUE */
#define PK_RATE_SCALE 1000 /* tokens are kept in thousandths of a connection */
#define PK_NAT_GROUP 8	   /* source ports are given out in groups that share a line of hints */
#define PK_MTU_MIN 1280	   /* what a path MTU that somebody tells of is not taken below, for IPv6 */
#define PK_MTU_MIN_V4 552  /* the same for IPv4 */
#define PK_PMTU_TICKS 600  /* how long it is believed */
#define PK_FRAG_TICKS 30   /* how long the other fragments of a packet are waited for */
#define PK_HOP_TICKS 8	   /* how long the route to one client is believed, while its next hop is */
#define PK_FLOOD_SYNS 1000 /* new connections within a tick, fewer than half of them completed: a flood */
#define PK_FLOOD_TICKS 10  /* how long it is believed */
#define PK_COOKIE_TICKS \
	256 /* how long after a cookie an ACK may answer one; the kernel believes them for two minutes */
#define PK_FAR_MAP "pk_far" /* sized like lb_backends */
#define PK_TABLE_MAP "pk_table"

/*
 * What became of a packet. KIND is SENT, PASS (left alone, the host sees it as it came) or DROP. One list for the
 * enum, the word in JSON and metrics, and the sentence for people.
 */
#define PK_REASON_LIST(X)                                                                                           \
	X(FORWARDED, SENT, "forwarded", "sent on to a backend")                                                     \
	X(RETURNED, SENT, "returned", "sent back to a client")                                                      \
	X(ICMP_STEERED, SENT, "icmp-steered", "ICMP errors taken to the end of the connection they speak of")       \
	X(PING, SENT, "ping", "pings of a service address, answered")                                               \
	X(TOO_BIG_TOLD, SENT, "too-big-told", "too big for the way, and the sender was told")                       \
	X(COOKIE_SENT, SENT, "cookie-sent", "SYNs answered with a SYN cookie")                                      \
	X(COOKIE_ACCEPTED, SENT, "cookie-accepted", "ACKs with a valid SYN cookie, sent on to a backend as a SYN")  \
	X(NOT_OURS, PASS, "not-ours", "of no service")                                                              \
	X(NOT_IP, PASS, "not-ip", "neither IPv4 nor IPv6")                                                          \
	X(OFF, PASS, "off", "seen while balancing was off")                                                         \
	X(TRUNCATED, PASS, "truncated", "too short to tell whose they are")                                         \
	X(FRAGMENT, PASS, "fragment", "fragments whose first has not been seen, or was not ours")                   \
	X(NO_NEIGHBOUR, PASS, "no-neighbour", "given to the stack, which asks for the next hop's hardware address") \
	X(TO_TC, PASS, "to-tc", "given to the program in TC, which can make two packets of one")                    \
	X(NO_BACKEND, DROP, "no-backend", "every backend of the service is down")                                   \
	X(BACKEND_DOWN, DROP, "backend-down", "of a connection whose backend is down")                              \
	X(NO_CONN, DROP, "no-conn", "of no known connection, in the middle of one")                                 \
	X(COOKIE_REFUSED, DROP, "cookie-refused", "ACKs of no known connection, without a valid SYN cookie")        \
	X(NO_COOKIE, DROP, "no-cookie", "that no SYN cookie fits: with IP options, extension headers, or cut")      \
	X(NO_PORT, DROP, "no-port", "no source port is left for another connection to this backend")                \
	X(NO_SOURCE, DROP, "no-source", "no own address of the right family to reach the backend from")             \
	X(TABLE_FULL, DROP, "table-full", "the table has no room for another connection")                           \
	X(QUOTA, DROP, "quota", "the service has as many connections as it may have")                               \
	X(RATE, DROP, "rate", "more new connections a second than the service may have")                            \
	X(SOURCE_RATE, DROP, "source-rate", "more new connections a second than one source may make")               \
	X(DENIED, DROP, "denied", "from a source that is not allowed")                                              \
	X(TTL, DROP, "ttl", "have come too far (TTL or hop limit)")                                                 \
	X(LENGTH, DROP, "length", "whose length is not what their header says")                                     \
	X(FAMILY, DROP, "family", "for a backend of the other address family, which only tunnels can reach")        \
	X(NO_ROUTE, DROP, "no-route", "the kernel has no route to the next hop")                                    \
	X(FORWARDING_OFF, DROP, "forwarding-off", "forwarding is off on the interface (sysctl net.*.forwarding)")   \
	X(TOO_BIG, DROP, "too-big", "too big for the way, from a sender that cannot be told")                       \
	X(HEADROOM, DROP, "headroom", "no room to change the packet's length")                                      \
	X(STEP, DROP, "step", "that needed a part of the program that was not there")                               \
	X(MALFORMED, DROP, "malformed", "ICMP errors that quote what cannot be")                                    \
	X(COOKIE_UNANSWERED, DROP, "cookie-unanswered",                                                             \
	  "accepted SYN cookies whose backend has not answered for 30 s (one a connection)")

enum pk_reason {
#define X(id, kind, word, text) PK_##id,
	PK_REASON_LIST(X)
#undef X
		_PK_REASON_MAX,
};

enum pk_kind {
	PK_KIND_SENT,
	PK_KIND_PASS,
	PK_KIND_DROP,
};

/* States of a connection, for `waggle conns`. FREE first: a zeroed record is nobody's. */
#define PK_STATE_LIST(X)                                                         \
	X(FREE, "free")                                                          \
	X(NEW, "new") /* one side has spoken; first to go when room is wanted */ \
	X(OPEN, "established")                                                   \
	X(CLOSING, "closing") /* one side has sent its FIN */                    \
	X(CLOSED, "closed")   /* both have, or one has reset it */               \
	X(TAKEN, "taken")     /* being written */

enum pk_state {
#define X(id, word) PK_STATE_##id,
	PK_STATE_LIST(X)
#undef X
		_PK_STATE_MAX,
};

enum pk_conn_flag {
	PK_CONN_ANSWERED = 1 << 0, /* the backend has answered, as far as it is seen here */
	PK_CONN_FIN_CLIENT = 1 << 1,
	PK_CONN_FIN_BACKEND = 1 << 2,
	PK_CONN_FRESH = 1 << 3,	 /* the packet that made it has not been sent on yet */
	PK_CONN_COOKIE = 1 << 4, /* made by a SYN cookie: pk_seqs tells how sequence numbers are to be changed */
};

/* Seconds, or nearly: how long a record is kept without a packet. Established ones: tcp_idle_ms of the plan. */
#define PK_TICKS_NEW 30
#define PK_TICKS_CLOSING 120
#define PK_TICKS_CLOSED 60

/* One connection, both directions. A cache line. */
struct pk_conn {
	struct lb_addr client, vip;
	__be16 cport, vport;
	__be16 nport; /* nat: source port towards the backend */
	__u16 nat;    /* nat: source address towards the backend, index in pk_nats */
	__u8 proto;
	__u8 state;   /* enum pk_state */
	__u8 forward; /* enum lb_forward */
	__u8 flags;   /* enum pk_conn_flag */
	__u32 backend;
	__u32 service;
	__u32 seen;	/* tick of the last packet */
	__u32 gen;	/* rises before and after the record is written anew: odd while it is */
	__u16 hop;	/* next hop to the client, index in pk_hops; 0: not known */
	__u16 hop_tick; /* when that was looked up */
};

enum pk_seq_state {
	PK_SEQ_NONE,
	PK_SEQ_WAITING, /* the backend has been sent the SYN */
	PK_SEQ_MET,	/* it has answered */
};

/*
 * Value of pk_seqs, by number of a record with PK_CONN_COOKIE. Eight bytes, which are read and written at once, so that
 * what the other direction sees is whole.
 */
struct pk_seq {
	__u32 diff;   /* the backend's sequence numbers less those that the client sees; while waiting: the cookie */
	__u16 window; /* of the client, when it answered the cookie */
	__u16 state;  /* enum pk_seq_state */
};

/*
 * Records by a hash of the client's direction, and hints to records by a hash of the backend's. The first cache line
 * tells which way to look at, and which may be given to somebody else.
 */
struct pk_bucket {
	__u32 lock;		/* 0: free */
	__u32 flags;		/* bit i: way i may be evicted; PK_BUCKET_CLOSED and _SPILLED */
	__u16 tag[PK_WAYS];	/* of the record beside it; 0: none */
	__u8 hint_tag[PK_WAYS]; /* of the hint beside it */
	__u32 hint[PK_WAYS];	/* number of a record, and 1; 0: none */
	struct pk_conn conn[PK_WAYS];
};

/* In flags: the record of this way is counted as closed. */
#define PK_BUCKET_CLOSED(way) (1U << (8 + (way)))

/* In flags: records that belong here are in the second bucket of their hash. */
#define PK_BUCKET_SPILLED (1U << 16)

/* A next hop as the kernel's FIB gave it. */
struct pk_hop {
	__u8 dmac[6], smac[6];
	__u32 ifindex; /* where the route leads: a VLAN device perhaps; 0: unused */
	__u32 phys;    /* where XDP sends: the parent of that */
	__u32 tick;    /* when it was looked up */
	__u16 mtu;
	__u16 vlan; /* TCI that XDP writes; 0: untagged */
	__u32 used; /* of pk_hops: 0 free, 1 being written, 2 there */
};

/* What packets to a backend need, by its id. A cache line. */
struct pk_far {
	struct pk_hop hop;
	__u16 nat;	 /* written by user space: own address to send from, index in pk_nats; 0: none */
	__u16 pmtu;	 /* an ICMP error told of it; 0: none */
	__u32 pmtu_tick; /* when */
	__u64 pad[3];
};

/* How many connections of a service there are, and what it may have: by its id. A cache line. */
struct pk_use {
	__u64 conns;
	__u64 tokens;	    /* thousandths of a new connection */
	__u64 stamp;	    /* jiffies of the last refill */
	__u32 tick;	    /* that syns and opened are of */
	__u32 syns;	    /* SYNs for new TCP connections, where SYN cookies may be wanted */
	__u32 opened;	    /* TCP connections that both sides have answered for */
	__u32 flood_until;  /* tick; SYN cookies are in use until then */
	__u32 cookie_until; /* tick; until then ACKs may answer one */
	__u32 pad32;
	__u64 pad[2];
};

/* Key and value of pk_links: what a VLAN device stands for, and which device stands for a tag. */
struct pk_link_key {
	__u32 ifindex;
	__u32 vid; /* 0: ifindex is a VLAN device */
};
struct pk_link {
	__u32 ifindex; /* the parent, or the VLAN device */
	__u32 vid;     /* 0: it is a VLAN device */
};

/* Key and value of pk_frags: the ports of a packet whose other fragments do not have them. */
struct pk_frag_key {
	struct lb_addr src, dst;
	__be32 id;
	__u8 proto;
	__u8 pad[3];
};
struct pk_frag {
	__be16 sport, dport;
	__u32 tick;
};

/* Value of pk_addrs: an address with services, by struct lb_addr. */
struct pk_addr {
	__u32 services;
	__u32 pad;
};

/* Key of pk_acl, for a trie of longest prefixes. Value: enum pk_acl_word. */
struct pk_acl_key {
	__u32 prefix; /* of 128 */
	struct lb_addr addr;
};

enum pk_acl_word {
	PK_ACL_ALLOW = 1,
	PK_ACL_DENY = 2,
};

/* Value of pk_sources, by address: new connections of a source. */
struct pk_source {
	__u64 tokens;
	__u64 stamp;
};

enum pk_on {
	PK_ON = 1 << 0,
	PK_ON_ACL = 1 << 1,	  /* pk_acl has entries */
	PK_ON_ACL_ALLOW = 1 << 2, /* who is not in it is denied */
	PK_ON_SOURCES = 1 << 3,	  /* source_rate */
	PK_ON_NEIGH = 1 << 4,	  /* TC comes behind XDP, and asks for neighbours */
};

/* The one value of pk_ctl. */
struct pk_ctl {
	__u64 seed[2];	    /* of the table's hash: random, and the same as long as the table lives */
	__u32 abi;	    /* PK_ABI_VERSION */
	__u32 on;	    /* enum pk_on */
	__u32 bucket_mask;  /* buckets - 1: a power of two less one */
	__u32 hz;	    /* jiffies a second */
	__u32 tick_shift;   /* jiffies >> tick_shift: a tick */
	__u32 source_rate;  /* new connections a second and source */
	__u16 nat_port;	    /* first source port for nat; a multiple of PK_NAT_GROUP */
	__u16 nat_groups;   /* how many groups of PK_NAT_GROUP follow */
	__u32 max_backends; /* entries of lb_backends */
	__u64 pad;
};

/* Argument of the program pk_admin: puts an endpoint into the gate or asks for the time. */
enum pk_admin_op {
	PK_ADMIN_GATE = 1, /* sets the bit of (addr, port, proto) in pk_gate */
	PK_ADMIN_NOW,	   /* tells tick and jiffies */
	PK_ADMIN_SWEEP,	   /* forgets what has ended in buckets [first, first + n) */
};
struct pk_admin {
	__u32 op;
	__be16 port;
	__u8 proto;
	__u8 pad8;
	struct lb_addr addr;
	__u32 first, n;
	__u32 tick;    /* answer */
	__u32 freed;   /* answer */
	__u64 jiffies; /* answer */
	__u32 live;    /* answer: records in use in these buckets */
	__u32 pad;
};

/* Answer of the program pk_ask (explain.bpf.c): what the tables hold of a packet's flow. */
struct pk_found {
	struct lb_plan plan; /* of the packet hook's service that it is sent to; service LB_NONE: to none */
	__u32 has_conn;
	__u32 index; /* of the record: bucket and way, as one number */
	struct pk_conn conn;
};
