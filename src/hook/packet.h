/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The packet hook: services for clients on other machines and in containers, forwarded in XDP or TC. Programs, links
 * and the table of connections are pinned beside the tables of services (hook/lb.h) and outlive the process; the next
 * one takes them over without losing a packet.
 */
#pragma once

#include "abi/capture.h"
#include "abi/packet.h"
#include "hook/lb.h"
#include "model/config.h"

struct packet;

struct packet_opts {
	const struct config_interface *interfaces;
	size_t n_interfaces;
	const struct config_cidrs *allow, *deny; /* NULL: none */
	uint32_t source_rate;			 /* new connections a second and source; 0: no limit */
	uint32_t max_conns; /* records of the table; 0: 1 Mi. What is pinned already keeps its size */
};

/*
 * Loads the programs on lb's maps and attaches them to the interfaces, or replaces what an earlier process attached
 * (bpf_link_update). On failure what was attached before goes on as it was.
 */
int packet_open(struct lb *lb, const struct packet_opts *opts, struct packet **ret, struct err *err);

/*
 * To be called after services have changed (lb_apply, lb_remove, lb_end): lets packets of new services in, and finds
 * the addresses that backends are reached from.
 */
int packet_apply(struct packet *p, struct err *err);

/* Other interfaces and limits from now on; interfaces that are no longer named are let go last. */
int packet_set(struct packet *p, const struct packet_opts *opts, struct err *err);

/* Forgets connections that have ended; a part of the table each time. To be called every PACKET_TICK_MS. */
#define PACKET_TICK_MS 100
int packet_tick(struct packet *p);

/* How an interface is served, and why so: for `waggle status` and `waggle doctor`. */
struct packet_attach {
	char name[32];
	const char *hook; /* "xdp", "xdp-generic", "tc", "none" */
	char why[256];
};
size_t packet_attached(const struct packet *p, const struct packet_attach **ret);

/*
 * What `hook: auto` would make of the interfaces of this network namespace, as far as can be told without attaching:
 * whether a driver has XDP is tried only then, for some drivers start their queues anew. The caller frees *ret.
 */
int packet_foresee(struct packet_attach **ret, size_t *ret_n, struct err *err);

/* Counts by enum pk_reason. */
int packet_stats(const struct packet *p, uint64_t ret[_PK_REASON_MAX]);

/* fn for each connection until it returns non-zero, which is returned. idle_ms: since its last packet. */
typedef int (*packet_conn_fn)(const struct pk_conn *conn, uint64_t idle_ms, void *data);
int packet_each_conn(const struct packet *p, packet_conn_fn fn, void *data);

/*
 * The same a part at a time, for a large table: from bucket *next on, which begins as 0, is moved, and is 0 again at
 * the end.
 */
int packet_each_conn_part(const struct packet *p, uint32_t *next, packet_conn_fn fn, void *data);

/* How many records the table has room for. */
uint64_t packet_room(const struct packet *p);

/* Who else is in a connection. Ports in host order; source_port 0: the backend sees the client's own address. */
struct packet_ends {
	struct lb_addr backend, source;
	uint16_t backend_port, source_port;
};
void packet_conn_ends(const struct packet *p, const struct pk_conn *conn, struct packet_ends *ret);

/* A flow that somebody asks about. Ports in host order; client and listen of one family. */
struct packet_flow {
	struct lb_addr client, listen;
	uint16_t client_port, port;
	uint8_t proto;	       /* IPPROTO_TCP or IPPROTO_UDP */
	const char *interface; /* that it would come in by; NULL: the one that leads to the client */
};

struct packet_told {
	enum pk_reason reason;		    /* what would become of its next packet */
	const struct packet_attach *attach; /* as that interface is served; p's */
	struct lb_plan plan;		    /* of its service; service LB_NONE: it is sent to none */
	bool has_conn;			    /* conn: the connection that it has or would get */
	bool is_new;			    /* that there is not yet */
	bool has_hop;			    /* hop: where the packet would be sent */
	struct pk_conn conn;
	struct pk_hop hop;
};

/*
 * Runs the programs' core on a packet of the flow, on the tables as they are and without a trace in them: no connection
 * is made, nothing is counted, nothing is sent. -ENODEV: no such interface. The first call loads the program.
 */
int packet_explain(struct packet *p, const struct packet_flow *flow, struct packet_told *ret, struct err *err);

/*
 * Captures: what packets look like as they come in and as they leave, and what becomes of them. While there is one, the
 * interfaces run other programs than else. fn is given each packet that at least one of them wants (k->wanted: bits by
 * id), with the bytes of k->in and then of k->out, until it returns; it is that of the first of them, and may end none.
 * -EBUSY: there are as many as there may be.
 */
typedef void (*packet_capture_fn)(const struct pk_capture_packet *k, const uint8_t *bytes, void *data);
int packet_capture_start(struct packet *p, const struct pk_capture_filter *filter, packet_capture_fn fn, void *data,
			 uint32_t *ret_id, struct err *err);

/* Other conditions from now on. */
void packet_capture_change(struct packet *p, uint32_t id, const struct pk_capture_filter *filter);

/* The last of them brings the usual programs back. */
void packet_capture_stop(struct packet *p, uint32_t id);
size_t packet_captures(const struct packet *p);

/* Packets of this capture that there was no room for since it began. */
uint64_t packet_capture_lost(const struct packet *p, uint32_t id);

/* Readable when there are packets; -1: nobody captures. The fd is p's, and another one after each time nobody did. */
int packet_capture_fd(const struct packet *p);

/* Hands some packets to fn, so that others have their turn too. Returns how many. */
int packet_capture_read(struct packet *p);

/*
 * Before lb_unpin(): takes away what is attached without a link that would end with its pin (TC before Linux 6.6), in
 * this network namespace. Nothing has to be open.
 */
void packet_unload(void);

/* Lets go; what is pinned goes on. */
struct packet *packet_close(struct packet *p);
static inline void packet_closep(struct packet **p)
{
	(void)packet_close(*p);
}

extern const char *const packet_reason_words[_PK_REASON_MAX];
extern const char *const packet_reason_texts[_PK_REASON_MAX];
extern const char *const packet_state_words[_PK_STATE_MAX];
enum pk_kind packet_reason_kind(enum pk_reason reason);
