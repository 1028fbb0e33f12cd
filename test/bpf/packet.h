/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets in, packets out: the programs of the packet hook under BPF_PROG_TEST_RUN. A test says what a packet is, and
 * what is to become of it, by names ("the client", "the service"); every test runs through XDP and TC, in IPv4 and
 * IPv6. Expected packets are built from nothing with all checksums, and compared byte by byte.
 */
#pragma once

/* cmocka wants these four first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "abi/packet.h"
#include "base/util.h"

/* Who is who. Each has an IPv4 and an IPv6 address; hardware addresses are those of the next hop. */
enum who {
	NOBODY,
	CLIENT, /* behind the router */
	CLIENT2,
	STRANGER, /* in none of the lists */
	SERVICE,
	SERVICE2,
	OWN, /* the balancer's own address */
	BACKEND1,
	BACKEND2,
	BACKEND3,
	ROUTER,
	NEIGHBOUR, /* on the link, but with no entry in the neighbour table */
	_WHO_MAX,
};

struct pkt {
	uint8_t b[4096];
	size_t n;
};

/* A packet in words. What is 0 has a usual value: TTL 64, "don't fragment" set, TCP with ACK. */
struct seg {
	enum who src, dst;
	uint16_t sport, dport;
	uint8_t proto;	   /* 0: TCP */
	uint8_t tcp_flags; /* 0: ACK */
	uint16_t payload;  /* bytes, with a pattern */
	uint8_t ttl, tos;
	uint16_t mss;  /* option of a SYN; 0: none */
	bool numbered; /* TCP: the next three are not the usual ones */
	uint32_t seq, ack;
	uint16_t window;
	uint8_t nops;  /* before that option */
	bool may_frag; /* "don't fragment" not set */
	uint16_t id;
	uint8_t ip_opts; /* bytes of IPv4 options, a multiple of 4 */
	uint8_t exts;	 /* number of IPv6 destination options headers */
	bool no_check;	 /* UDP checksum 0 */
	/* The part of the datagram from frag_at on, frag_len bytes; frag_len 0: all of it. */
	uint16_t frag_at, frag_len;
	uint32_t frag_id;
	uint16_t vlan; /* TCI */
	int family;    /* 0: the one of the test; 4, 6 */
	/* ICMP, with proto IPPROTO_ICMP in both families. */
	uint8_t icmp_type, icmp_code; /* in IPv4's or IPv6's own numbers */
	uint32_t icmp_rest;	      /* the four bytes after the checksum */
	const struct pkt *quote;      /* its IP packet */
	uint16_t quote_len;	      /* so many bytes of it */
	enum who l2_src, l2_dst;      /* 0: as follows from the addresses */
};

/* What a packet is wrapped in. */
struct outer {
	enum who src, dst;
	int family;
	bool gue;
	uint8_t tos;
	bool may_frag;
	uint16_t id;
	uint16_t sport; /* GUE */
	uint32_t label; /* IPv6 */
};

enum fx_hook {
	FX_XDP,
	FX_TC,
};

struct fx {
	enum fx_hook hook;
	int family;
	struct bpf_object *obj[2];
	int prog[2], admin;
	uint32_t ifindex;
	uint32_t buckets;
	struct pk_bucket *table; /* mapped */
	struct pk_ctl *ctl;	 /* mapped */
	uint64_t reasons[_PK_REASON_MAX];
};
extern struct fx fx;

#define FX_BACKENDS 64
#define FX_SERVICES 16

/* The namespace with its link, routes and neighbours, and both objects: once a program. */
int fx_open(void **state);
int fx_close(void **state);
/* Empties every table: before each test. */
void fx_reset(void);
/* A socket that is given what TC sends by bpf_clone_redirect(), and what the kernel sends of its own. */
int fx_tap(void);

int fx_map(const char *name);
struct lb_addr fx_addr(enum who who, int family);
uint32_t fx_now(void);

/* A service of SERVICE's address; backends end with NOBODY. Returns the plan, which may be changed with fx_plan(). */
struct lb_plan fx_service(uint32_t id, enum who vip, uint16_t port, uint8_t proto, enum lb_forward forward,
			  enum lb_scheduler scheduler, const enum who *backends, uint16_t backend_port);
void fx_plan(const struct lb_plan *plan);
void fx_backend_flags(uint32_t backend, uint16_t flags);
/* Backends are in the other family. */
void fx_backends_family(int family);
void fx_gate(const struct lb_addr *addr, uint16_t port, uint8_t proto);

/* The records in use. */
size_t fx_conns(void);
/* The only one. */
struct pk_conn *fx_conn(void);
/* Says that a record was not used for so many ticks. */
void fx_age(struct pk_conn *c, uint32_t ticks);
struct pk_admin fx_sweep(void);
uint64_t fx_backend_conns(uint32_t id);
uint64_t fx_backend_closed(uint32_t id);
uint64_t fx_service_conns(uint32_t id);

void pkt_build(struct pkt *ret, const struct seg *seg);
/* Wraps the IP packet in p. */
void pkt_wrap(struct pkt *p, const struct outer *outer);
void pkt_ether(struct pkt *p, enum who src, enum who dst);
size_t pkt_l3(const struct pkt *p);
uint16_t pkt_sum(const void *data, size_t n, uint32_t start);

/* Runs one packet. */
int fx_run(const struct pkt *in, struct pkt *ret_out);
/* The reason that was counted since the last time; fails the test if there was not just one. */
enum pk_reason fx_reason(void);

/* Everything at once; out is sent to the next hop of its destination, unless it says otherwise. */
#define sent(in, out, reason) fx_sent(in, out, NULL, reason, __LINE__)
#define sent_wrapped(in, inner, outer, reason) fx_sent(in, inner, outer, reason, __LINE__)
#define kept(in, reason) fx_kept(in, reason, __LINE__)
void fx_sent(const struct seg *in, const struct seg *out, const struct outer *outer, enum pk_reason reason, int line);
/* Passed as it came, or dropped. */
void fx_kept(const struct seg *in, enum pk_reason reason, int line);
/* The same of bytes. */
void fx_kept_bytes(const struct pkt *in, enum pk_reason reason, int line);

/* Runs each test in all four ways; or in XDP alone. */
struct fx_test {
	const char *name;
	void (*fn)(void);
	bool xdp_only;
	int family; /* 0: both */
};
int fx_main(const char *group, const struct fx_test *tests, size_t n);
