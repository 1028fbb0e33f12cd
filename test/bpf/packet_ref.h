/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the packet hook is to do with a packet, in plain C: a list instead of a hash table, one's complement sums
 * instead of differences, and nothing shared with the programs. It does not choose backends, ports and flow labels: it
 * takes those of the packet that came out, looks whether they are allowed, and holds the program to them from then on.
 */
#pragma once

#include "abi/packet.h"
#include "packet_gen.h"

#define REF_CONNS 2048
#define REF_FRAGS 4096
#define REF_COOKIES 256
/* The kernel believes a cookie for a minute at least. */
#define REF_COOKIE_SECONDS 50

enum ref_verdict {
	REF_SENT,
	REF_PASS,
	REF_DROP,
};

struct ref_conn {
	struct gen_conn c;
	uint32_t forward;
	int backend; /* -1: not known yet, for no packet has come out */
	enum pk_state state;
	bool fresh, answered, fin_client, fin_backend;
	bool label_known, gue_known;
	uint32_t label;
	uint16_t gue_port;
	bool cookie;	 /* made by a SYN cookie */
	bool met;	 /* and its backend has answered */
	uint16_t window; /* the client's, when it answered the cookie */
	uint32_t told;	 /* until then: the cookie */
	uint32_t diff;	 /* from then on: the backend's sequence numbers less those that the client sees */
};

/* A SYN cookie that was sent: how far it is from the SYN's sequence number, but for what tells the MSS. */
struct ref_cookie {
	struct gen_cookie c;
	uint32_t base;
	uint64_t at;
};

enum ref_cookies {
	REF_COOKIES_OFF,
	REF_COOKIES_AUTO, /* the flood is a few SYNs away */
	REF_COOKIES_ALWAYS,
};

struct ref_frag {
	struct gen_addr src, dst;
	uint32_t id;
	uint8_t proto;
	uint16_t sport, dport;
};

struct ref {
	int family;	    /* of the services */
	int tunnels_family; /* of the backends of ipip and gue */
	bool is_xdp;
	uint32_t mtu;
	uint32_t pmtu[GEN_SERVICES][GEN_BACKENDS];
	struct ref_conn conns[REF_CONNS];
	size_t n_conns;
	struct ref_frag frags[REF_FRAGS];
	size_t n_frags; /* ever */
	struct gen_conn known[REF_CONNS];
	enum ref_cookies cookies; /* of the TCP service of nat */
	uint32_t syns;		  /* for it, in this tick */
	uint64_t now;		  /* in seconds; cookies do not hold for ever */
	struct ref_cookie sent[REF_COOKIES];
	size_t n_sent; /* ever */
	struct gen_cookie known_cookies[REF_COOKIES];
	bool has_beside; /* a second packet was to be sent for the last one */
	/* Connections that were made by a cookie, that have met, and packets whose numbers were changed. */
	size_t n_accepted, n_met, n_changed;
	char why[200];
};

/* The connections that gen_packet() may speak of. */
size_t ref_known(struct ref *r, const struct gen_conn **ret);
size_t ref_known_cookies(struct ref *r, const struct gen_cookie **ret);

/* NULL, or what is wrong with what the program did. in is without damage from out's being written. */
const char *ref_check(struct ref *r, const struct gen_pkt *in, enum pk_reason reason, enum ref_verdict verdict,
		      const uint8_t *out, size_t out_n);

/* Whether this is the second packet: the ACK to a backend that has answered a SYN made of a cookie. */
bool ref_is_beside(const uint8_t *b, size_t n);
