/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random packets for the packet hook's tests: those of a small world in which everybody meets everybody, with options,
 * extension headers, fragments and errors in them; and those that are cut, damaged, or lie about their length.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GEN_BYTES 4096
#define GEN_CLIENTS 4
#define GEN_PORTS 6    /* of a client */
#define GEN_SERVICES 5 /* of each protocol: one a way of forwarding */
#define GEN_BACKENDS 2 /* of each service */

struct gen_pkt {
	uint8_t b[GEN_BYTES];
	size_t n;
};

/* An address in its own family's bytes. */
struct gen_addr {
	uint8_t b[16];
	uint8_t family; /* 4 or 6 */
};

struct gen_end {
	struct gen_addr addr;
	uint16_t port;
};

/* A connection that there is, for packets that speak of it. */
struct gen_conn {
	uint8_t proto;
	struct gen_end client, vip;
	struct gen_end own, backend; /* of what is sent to the backend; of tunnels and dsr: as the client sent it */
	bool waiting;		     /* made by a SYN cookie, and the backend has not answered yet */
};

/* A SYN cookie that a client was sent, for its ACK. */
struct gen_cookie {
	struct gen_end client, vip;
	uint32_t seq;	 /* of the SYN */
	uint32_t cookie; /* of the SYN-ACK */
};

struct gen {
	int family;
	/* A number below n. */
	uint32_t (*below)(void *data, uint32_t n);
	void *data;
	const struct gen_conn *conns;
	size_t n_conns;
	bool numbers; /* sequence numbers and windows are random too, and many packets are for the service of nat */
	const struct gen_cookie *cookies;
	size_t n_cookies;
	uint32_t frag_id;
};

/* Everybody's address; names as in packet_build.c. */
struct gen_addr gen_client(int family, uint32_t i);
struct gen_addr gen_vip(int family);
struct gen_addr gen_own(int family);
struct gen_addr gen_backend(int family, uint32_t i);
uint16_t gen_client_port(uint32_t i);

/* Ports of services, and where their backends listen: forward is an enum lb_forward. */
uint16_t gen_port(uint32_t forward);
uint16_t gen_backend_port(uint32_t forward);

void gen_packet(struct gen *g, struct gen_pkt *ret);
