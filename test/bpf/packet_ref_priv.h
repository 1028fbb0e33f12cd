/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the files of the reference: packet_ref.c decides, packet_view.c understands, packet_put.c
 * builds; packet_ref_cookie.c is all of that for SYN cookies.
 */
#pragma once

#include "packet_ref.h"

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

/* Nothing speaks against going on. Otherwise a reason. */
#define GO (-1)

/* A packet as it is understood. Offsets are from the start of the frame. */
struct view {
	const uint8_t *b;
	size_t n, l3, l4;
	int family;
	bool tagged;
	uint8_t proto, ttl, tos, tcp_flags;
	uint32_t len; /* of the IP packet, as it says */
	struct gen_end src, dst;
	int frag; /* 0 none, 1 first, 2 later */
	uint32_t frag_id;
};

/* What is to come out. */
struct want {
	enum pk_reason reason;
	struct gen_pkt p;
	size_t checks[6]; /* where a checksum is, in which 0 and 0xffff are the same */
	size_t n_checks;
	size_t udp_check; /* and where it must not become 0; 0: nowhere */
	bool any;	  /* nothing more is known */
	bool no_way;	  /* it may be kept for want of a route or a neighbour */
};

uint32_t get16(const uint8_t *b);
uint32_t get32(const uint8_t *b);
void put16(uint8_t *b, uint32_t v);
bool addr_is(const struct gen_addr *a, const struct gen_addr *b);
bool end_is(const struct gen_end *a, const struct gen_end *b);
struct gen_addr get_addr(const uint8_t *b, int family);
bool is_mapped(const uint8_t *b);
int view_of(const struct ref *r, const struct gen_pkt *in, struct view *v);
bool length_is_true(const struct view *v);
uint32_t sum_of(const uint8_t *b, size_t n);
void check_follows(uint8_t *field, uint32_t was, uint32_t now);
void note_check(struct want *w, size_t at);
uint32_t sum_v4(const uint8_t *ip);
uint32_t sum_l4(const uint8_t *ip, int family, const uint8_t *l4, size_t n, size_t check);
bool view_quote(const struct view *v, size_t off, int family, struct view *q);
void put_macs(struct want *w, uint8_t to);
uint8_t *copy_untagged(struct want *w, const struct view *v);
void one_hop_less(struct want *w, uint8_t *ip, int family);
void put_ends(struct want *w, const struct view *v, const struct gen_end *src, const struct gen_end *dst, uint32_t mss);
uint32_t tunnel_extra(const struct ref *r, uint32_t forward);
void put_outer(const struct ref *r, struct want *w, const struct view *v, struct ref_conn *c, const uint8_t *out,
	       size_t out_n);
void want_too_big(struct want *w, const struct view *v, uint32_t mtu);
void put_error(struct want *w, const struct view *v, const struct view *q, const struct gen_addr *src,
	       const struct gen_addr *dst, const struct gen_end *q_src, const struct gen_end *q_dst);
void want_ping(struct want *w, const struct view *v);
bool is_tunnel(uint32_t forward);
bool same_bytes(const struct want *w, const uint8_t *out, size_t n, size_t *ret_at);
void seen(struct ref_conn *c, const struct view *v, bool back);
uint8_t hop_to(const struct gen_addr *a);

/* What SYN cookies make of a packet without a connection. */
enum cookie_new {
	COOKIE_NONE,	 /* nothing: it goes on as any other */
	COOKIE_DONE,	 /* want says what */
	COOKIE_ACCEPTED, /* a connection is made for it */
};
enum cookie_new want_cookie_new(struct ref *r, struct want *w, const struct view *v, uint32_t forward,
				enum pk_reason reason, const uint8_t *out, size_t out_n);
/* The answer to a SYN. */
void want_cookie(struct ref *r, struct want *w, const struct view *v, const uint8_t *out, size_t out_n);
/* A packet of a connection that was made by a cookie, as the other side is to see it, but for addresses. GO, or why not. */
int cookie_to_backend(struct ref *r, struct ref_conn *c, const struct view *v, enum pk_reason reason, struct view *ret);
void cookie_to_client(struct ref *r, const struct ref_conn *c, const struct view *v, struct view *ret);
/* From its backend, and not to be passed to the client. False: it is. */
bool want_cookie_back(struct ref *r, struct want *w, const struct view *v, struct ref_conn *c);
/* In an error to its backend, once that is built. */
void cookie_in_error(struct ref *r, struct want *w, const struct view *v, const struct view *q,
		     const struct ref_conn *c);
