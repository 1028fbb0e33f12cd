/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections that are made by a SYN cookie: what the tests of them share. */
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "packet.h"

#define ISN 0x01020304U /* of clients, as packets are built */
#define BACKEND_ISN 0xfffffff0U

/* The client's. */
extern const struct seg cookie_syn;

/* A service with these flags, and one backend. */
struct lb_plan cookie_web(uint16_t flags);

/* The sequence number of what comes out for a SYN. */
uint32_t cookie_for(const struct seg *in);

/* The client's ACK to that. */
struct seg cookie_ack(uint32_t cookie);

/* Runs a packet whose result is not looked at. */
void cookie_run(const struct seg *in, enum pk_reason reason);

/* The backend's answer: in XDP it is passed on to TC, which sends two packets. */
void cookie_meet(uint32_t cookie);

/* A connection that both sides know of. Returns the cookie. */
uint32_t cookie_begin(void);
