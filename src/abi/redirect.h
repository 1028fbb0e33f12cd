/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract of the redirect hook and of policy: which entry of the configuration decides on a connection, and what
 * the programs keep of it.
 *
 * Entries are matched as bit sets. Every question about a connection (its cgroup, its user, its source, its
 * destination, its port) is answered by one lookup with a class, and a class is the set of entries that do not object.
 * The entries that match are the intersection, and the first of them decides: the lowest bit. So the number of
 * entries, CIDRs, ports and cgroups does not matter for the time of a decision.
 *
 * There are two tables, redirects and policies, each with two sides: one is in use while the other is filled, and
 * one store into rd_ctl.side changes over.
 *
 * Integers are in host byte order unless their type says otherwise; addresses are 16 bytes, IPv4 as v4-mapped IPv6.
 */
#pragma once

#include <linux/types.h>

#include "abi/lb.h"

#define RD_ABI_VERSION 3

#define RD_WORDS 8
#define RD_ENTRIES (RD_WORDS * 64) /* of one table */
#define RD_CLASSES 8192		   /* of one side of a table */
#define RD_DEPTH 32		   /* cgroups above a socket's own that are looked at */
#define RD_CIDRS (1 << 20)	   /* of all sides together */
#define RD_PORT_BLOCK 64	   /* ports in one value of rd_ports */
#define RD_PORT_BLOCKS (65536 / RD_PORT_BLOCK)

enum rd_table {
	RD_REDIRECT,
	RD_POLICY,
	_RD_TABLE_MAX,
};
#define RD_SIDES (_RD_TABLE_MAX * 2)

/* A class: the value of rd_bits, by side * RD_CLASSES + class. Class 0 is empty: nobody. */
struct rd_bits {
	__u64 w[RD_WORDS];
};

/* Key of rd_groups: cgroups that entries name. A socket is of the innermost of them. Value: a class. */
struct rd_group_key {
	__u64 cgroup;
	__u32 side;
	__u32 what; /* enum rd_net_what: a policy's source or destination */
};

enum rd_net_what {
	RD_TO,
	RD_FROM,
	_RD_WHAT_MAX,
};

/* Key of the trie rd_nets. Value: a class. */
struct rd_net_key {
	__u32 prefix_bits; /* RD_NET_FIXED + prefix of addr, of 128 */
	__u32 side_what;   /* side * _RD_WHAT_MAX + what */
	struct lb_addr addr;
};
#define RD_NET_FIXED 32

/* Key of rd_users. Value: a class. */
struct rd_user_key {
	__u32 uid;
	__u32 side;
};

/* Value of rd_ports, by side * RD_PORT_BLOCKS + port / RD_PORT_BLOCK: classes. */
struct rd_port_block {
	__u16 class[RD_PORT_BLOCK];
};

enum rd_entry_flag {
	RD_FAIL_OPEN = 1 << 0,
	RD_INBOUND = 1 << 1,
	RD_USERS = 1 << 2, /* the entry excludes users: the proxy may share its clients' cgroup */
	RD_DENY = 1 << 3,  /* a policy's */
	RD_RESET = 1 << 4,
	RD_TOLD = 1 << 5, /* set by the programs: RD_EVENT_OWN was sent */
};

/* Value of rd_entries, by table-and-side * RD_ENTRIES + bit. */
struct rd_entry {
	struct lb_addr to; /* the proxy */
	struct lb_addr dns;
	__be16 port;
	__be16 dns_port; /* 0: DNS is let alone */
	__u32 flags;	 /* enum rd_entry_flag */
	__u64 id;	 /* its place in the configuration */
};

/* What matches where nothing named matches: classes. */
struct rd_side {
	__u32 on; /* 0: the side has no entries */
	__u32 n;
	__u32 group[_RD_WHAT_MAX];
	__u32 net[_RD_WHAT_MAX];
	__u32 user;
	__u32 dns;	 /* redirect: entries with dns */
	__u32 to_groups; /* policy: whether entries ask for the cgroup of the one that listens */
	__u32 from_nets; /* policy: entries that ask for a source address; 0: none */
	__u32 far;	 /* policy: whether an entry may deny clients of other machines */
	__u32 pad[5];
};

/* The one value of rd_ctl, mapped into the daemon. */
struct rd_ctl {
	__u32 abi;		   /* RD_ABI_VERSION */
	__u32 on;		   /* 0: every program lets everything pass */
	__u32 trace;		   /* events that someone wants to see: 1 << enum rd_event_kind */
	__u32 inbound;		   /* there are inbound redirects */
	__u32 side[_RD_TABLE_MAX]; /* which of the sides of rd_sides is in use: 2 * table, or one more */
	__u32 pad[2];
	struct rd_side sides[RD_SIDES];
};

enum rd_role {
	RD_NOBODY,
	RD_CLIENT, /* its connection was redirected */
	RD_PROXY,  /* a proxy's accepted socket */
	RD_ASKER,  /* a datagram socket whose questions were redirected */
	RD_ASKED,  /* its connection went straight on, while there were policies */
};

enum rd_wait {
	RD_SETTLED,
	RD_UNDECIDED, /* policy asks for a source address, which routing has to give yet */
	RD_BARRED,    /* and then denied: no SYN leaves */
};

/* What is known of a socket: the value of the socket-local storage rd_sk. */
struct rd_sock {
	struct lb_addr asked; /* what the program asked for */
	struct lb_addr to;    /* what it got instead */
	__be16 asked_port;
	__be16 to_port;
	__u8 role;	  /* enum rd_role */
	__u8 wait;	  /* enum rd_wait */
	__u8 far;	  /* accepted from another machine, while there were policies */
	__u8 syn_retries; /* RD_BARRED: as they were */
	__u32 client_seq; /* of a client: first sequence number after the SYN; 0: not sent yet, or not of interest */
	__u32 server_seq; /* and its server's; 0: not established yet */
	__u64 cookie;	  /* of the client */
	__u32 uid;	  /* RD_UNDECIDED: of the one that connects */
	__u16 to_class;	  /* and the class of the one that listens there, */
	__u16 to_side;	  /* in this side */
};

/*
 * Key of rd_pend: the numbers that only both ends of a connection and the path between them know. server_seq of a SYN
 * that carries data (TCP Fast Open) is not known yet, and the ports stand for it.
 */
struct rd_key {
	__u32 client_seq;
	__u32 server_seq;
	__u32 ports; /* 0, or client's << 16 | proxy's */
	__u32 pad;
};

/* Value of rd_pend: a client that its proxy has not accepted yet. */
struct rd_pend {
	struct lb_addr asked;
	__be16 asked_port;
	__u8 poisoned; /* two clients had the same key: nobody gets it */
	__u8 pad[5];
	__u64 cookie;
};

/*
 * Inbound. Which connections go to a proxy is asked in the network namespace where they arrive, by a program of its own
 * for each: a port there leads to an address, and the one that listens on it is in rd_in_socks.
 */

/* Key of rd_in_ports. */
struct rd_in_port {
	__u32 netns; /* inode number */
	__u32 port;
};

/* An address in a namespace: key of rd_in_socks, and of rd_in_tos, where an unspecified address stands for any. */
struct rd_in_to {
	struct lb_addr addr;
	__u32 netns;
	__be16 port;
	__u16 pad;
};

/* Value of rd_in_ports. */
struct rd_in_entry {
	struct lb_addr to;
	__be16 port;
	__u16 pad;
	__u32 flags; /* enum rd_entry_flag */
};

/* Key of rd_own: a connection that a proxy opens, which must not be given back to it. As the one sees it that accepts. */
struct rd_own_key {
	struct lb_addr remote, local;
	__u32 netns;
	__be16 remote_port;
	__u16 local_port;
};

#define RD_PROXY_SIDE RD_SIDES /* side of rd_groups where proxies of inbound redirects are, whatever their class */

/* A record that the iterator rd_walk writes for each live connection that policy denies now. */
struct rd_denied {
	__u64 cookie;
	__u64 entry; /* its place in the configuration */
	__u32 flags; /* of the entry: enum rd_entry_flag */
	__u32 netns;
	__u32 local_addr[4]; /* network order; IPv4 in the first word */
	__u32 remote_addr[4];
	__u16 local_port;
	__u16 remote_port;
	__u16 family;
	__u16 pad;
};

#define RD_STAT_LIST(X)                                                                                    \
	X(REDIRECTED, "redirected", "connections handed to a proxy")                                       \
	X(TAKEN, "taken", "connections of which the proxy was told the destination")                       \
	X(REFUSED, "refused", "connections refused, for the proxy does not listen (fail: closed)")         \
	X(STRAIGHT, "straight", "connections let straight on, for the proxy does not listen (fail: open)") \
	X(OWN, "own", "connections of a proxy itself, in a cgroup that is redirected to it")               \
	X(DUPLICATE, "duplicate", "connections whose destination was lost to equal sequence numbers")      \
	X(FULL, "full", "connections refused, for there was no room to remember them")                     \
	X(DNS, "dns", "datagrams handed to a resolver")                                                    \
	X(INBOUND, "inbound", "connections from outside handed to a proxy")                                \
	X(ALLOWED, "allowed", "connections and datagrams that a policy entry allowed")                     \
	X(DENIED, "denied", "connections and datagrams that a policy entry denied")                        \
	X(CLOSED, "closed", "live connections that a change of policy closed")                             \
	X(EVENT_LOST, "event-lost", "events that found no room in the ring")

enum rd_stat {
#define X(id, word, text) RD_STAT_##id,
	RD_STAT_LIST(X)
#undef X
		_RD_STAT_MAX,
};

enum rd_event_kind {
	RD_EVENT_REDIRECTED = 1, /* only while someone traces, as the next three */
	RD_EVENT_REFUSED,
	RD_EVENT_STRAIGHT,
	RD_EVENT_DENIED,
	RD_EVENT_OWN, /* once an entry */
};

/* A record of rd_events. */
struct rd_event {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u64 entry; /* id of the entry that decided */
	__u64 cgroup;
	__u32 kind; /* enum rd_event_kind */
	__u32 pid;
	__u32 uid;
	__be16 asked_port;
	__u8 proto;
	__u8 pad;
	struct lb_addr asked;
	char comm[16];
	struct lb_addr from; /* of a client of another machine, which has no process here; else zero */
	__be16 from_port;
	__u16 pad2[3];
};

_Static_assert(sizeof(struct rd_group_key) == 16, "key without holes");
_Static_assert(sizeof(struct rd_net_key) == 24, "key without holes");
_Static_assert(sizeof(struct rd_entry) == 48, "value without holes");
_Static_assert(sizeof(struct rd_side) == 64, "value without holes");
_Static_assert(sizeof(struct rd_ctl) == 32 + RD_SIDES * 64, "value without holes");
_Static_assert(sizeof(struct rd_sock) == 64, "value without holes");
_Static_assert(sizeof(struct rd_in_port) == 8, "key without holes");
_Static_assert(sizeof(struct rd_in_to) == 24, "key without holes");
_Static_assert(sizeof(struct rd_in_entry) == 24, "value without holes");
_Static_assert(sizeof(struct rd_own_key) == 40, "key without holes");
_Static_assert(sizeof(struct rd_key) == 16, "key without holes");
_Static_assert(sizeof(struct rd_pend) == 32, "value without holes");
_Static_assert(sizeof(struct rd_denied) == 64, "record without holes");
_Static_assert(sizeof(struct rd_event) == 96, "record without holes");
