/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the files of the packet hook's user-space half:
 *
 *   packet.c         open, close: programs, pinned maps, the control record
 *   packet_apply.c   what services and backends need in the packet hook's own maps
 *   packet_attach.c  interfaces: which hook, attached or taken over, and why so
 *   packet_link.c    what interfaces there are, from the kernel
 *   packet_capture.c the programs that capture, in place of the others
 *   packet_explain.c where a flow would go
 *   packet_read.c    counts, connections, and forgetting those that have ended
 */
#pragma once

#include <bpf/libbpf.h>
#include <net/if.h>

#include "hook/packet.h"
#include "hook/lb_priv.h"
/* The skeletons want the types of abi/ before them. */
#include "tc.skel.h"
#include "xdp.skel.h"

#define PACKET_CONNS_DEFAULT (1U << 20)

/* An interface of the machine. */
struct packet_link {
	uint32_t ifindex;
	char name[IF_NAMESIZE];
	char kind[16]; /* "veth", "vlan", "bond", ...; "": hardware, or loopback */
	bool is_loopback;
	uint32_t parent;   /* vlan: the device below */
	uint16_t vlan;	   /* vlan: the tag */
	uint32_t mac_size; /* 6 for Ethernet */
};

struct packet {
	struct lb *lb;
	struct xdp_skel *xdp;
	struct tc_skel *tc;
	struct pk_ctl *ctl;	 /* mapped */
	struct pk_bucket *table; /* mapped */
	struct pk_far *far;	 /* mapped */
	struct lb_addr *nats;	 /* mapped */
	size_t table_bytes, far_bytes;
	uint32_t n_buckets, n_backends;
	uint32_t *gens;	     /* by backend: gen + 1 of what the gate was opened for; 0: nothing */
	uint32_t sweep_next; /* bucket */
	struct packet_attach *attached;
	size_t n_attached;
	struct packet_explain *explain; /* NULL: nobody has asked yet */
	struct packet_capture *capture; /* NULL: nobody captures */
};

/* Every interface; the caller frees. */
int packet_links(struct packet_link **ret, size_t *ret_n, struct err *err);

int packet_attach_all(struct packet *p, const struct packet_opts *opts, struct err *err);

/* Whether the kernel makes and checks SYN cookies for programs. */
bool packet_has_cookies(void);

/* The programs that interfaces are to run now. */
int packet_prog_xdp(const struct packet *p);
int packet_prog_tc(const struct packet *p);

/* Gives these to all that are attached. What has gone meanwhile is left alone. */
int packet_attach_swap(struct packet *p, struct err *err);

struct packet_capture *packet_capture_close(struct packet *p);
void packet_capture_tick(struct packet *p);
/* What the captures of a process that died have left, once no interface runs their programs any more. */
void packet_capture_unpin(void);

/* Runs pk_admin. */
int packet_admin(const struct packet *p, struct pk_admin *a);

/* Allow, deny, limits. */
int packet_guard(struct packet *p, const struct packet_opts *opts, struct err *err);

/* The address that the kernel would send from. No packet is sent. */
int packet_own_address(const struct lb_addr *to, struct lb_addr *ret);

struct packet_explain *packet_explain_close(struct packet_explain *e);

/* A path in the directory of pins. */
int packet_pin_path(char *ret, size_t max, const char *name, struct err *err);
