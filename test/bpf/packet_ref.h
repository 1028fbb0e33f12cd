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
	char why[200];
};

/* The connections that gen_packet() may speak of. */
size_t ref_known(struct ref *r, const struct gen_conn **ret);

/* NULL, or what is wrong with what the program did. in is without damage from out's being written. */
const char *ref_check(struct ref *r, const struct gen_pkt *in, enum pk_reason reason, enum ref_verdict verdict,
		      const uint8_t *out, size_t out_n);
