/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration, as it is written in YAML (waggle.yaml(5)): parsed and checked as a whole, without touching
 * anything. Every string and array belongs to the struct config. Times are milliseconds, ports host byte order.
 */
#pragma once

#include <stdint.h>

#include "abi/lb.h"
#include "base/err.h"

/*
 * Where a value stands, for messages: FILE:LINE:COLUMN, counted from 1. file belongs to the struct config, or to the
 * struct config_errors.
 */
struct config_pos {
	const char *file;
	unsigned int line, column;
};

enum config_check {
	CONFIG_CHECK_NONE,
	CONFIG_CHECK_TCP,
	CONFIG_CHECK_HTTP,
	CONFIG_CHECK_HTTPS,
};

/* health: { tcp: true } or { http: /healthz, ... } or { https: /, ... }; not given: CONFIG_CHECK_NONE. */
struct config_health {
	enum config_check check;
	char *path;			     /* http, https: of the request */
	char *host;			     /* Host header and SNI; NULL: the backend's address */
	uint16_t port;			     /* 0: the backend's */
	unsigned int status_min, status_max; /* 200..399 unless said */
	char *body;			     /* must be contained in the first 64 KiB of the answer; NULL: any */
	bool verify;			     /* https: check the certificate; default false */
	unsigned int interval_ms, timeout_ms, jitter_ms; /* defaults 2 s, 1 s, a tenth of the interval */
	unsigned int rise, fall;			 /* defaults 2, 3 */
};

struct config_backend {
	char *host; /* as written: an address or a name */
	uint16_t port;
	uint32_t weight; /* default 1 */
	bool is_name;	 /* host is to be resolved; addr is not set */
	struct lb_addr addr;
	struct config_pos pos;
};

/* When SYNs are answered with SYN cookies. */
enum config_syn_cookies {
	CONFIG_COOKIES_OFF,
	CONFIG_COOKIES_AUTO, /* under a flood */
	CONFIG_COOKIES_ALWAYS,
};

struct config_service {
	char *name;
	char *listen;	 /* as written */
	char *interface; /* listen named an interface ("eth0:80"): its addresses; addr is not set */
	struct lb_addr addr;
	uint16_t port;
	uint8_t proto;		     /* IPPROTO_TCP, IPPROTO_UDP */
	enum lb_scheduler scheduler; /* default round-robin */
	enum lb_forward forward;     /* default nat */
	uint32_t table_size;	     /* maglev, source: default RING_TABLE_DEFAULT */
	uint32_t seed;		     /* default 0 */
	bool panic;		     /* all down: spread over all instead of refusing */
	unsigned int passive_ms;     /* how long a backend that refused is avoided; 0: not; default 5 s */
	unsigned int slow_start_ms;  /* 0: none */
	unsigned int resolve_ms;     /* how often names are looked up when their TTL does not say; default 30 s */
	uint32_t max_connections;    /* packet hook: 0: no limit */
	uint32_t syn_rate;	     /* packet hook: new connections a second; 0: no limit */
	enum config_syn_cookies syn_cookies;   /* packet hook, nat of TCP; default off */
	unsigned int tcp_idle_ms, udp_idle_ms; /* packet hook; defaults 2 h and 30 s */
	struct config_health health;
	struct config_backend *backends;
	size_t n_backends;
	struct config_pos pos;
};

enum config_packet_hook {
	CONFIG_HOOK_AUTO, /* xdp native where the driver has it, else tc */
	CONFIG_HOOK_XDP,
	CONFIG_HOOK_XDP_GENERIC,
	CONFIG_HOOK_TC,
};

struct config_interface {
	char *name;
	enum config_packet_hook hook;
	struct config_pos pos;
};

struct config_cidr {
	struct lb_addr addr;
	uint8_t prefix; /* of 128 */
};

struct config_port_range {
	uint16_t first, last;
};

/* A list of strings or of values. */
struct config_strings {
	char **v;
	size_t n;
};
struct config_cidrs {
	struct config_cidr *v;
	size_t n;
};
struct config_ports {
	struct config_port_range *v;
	size_t n;
};

struct config_redirect {
	char *cgroup;	     /* whose connections */
	struct lb_addr addr; /* to: the proxy */
	uint16_t port;
	char *proxy_cgroup; /* never redirected; NULL: none */
	bool fail_open;	    /* fail: open | closed (default) */
	bool inbound;	    /* direction: outbound (default) | inbound */
	struct config_ports ports, exclude_ports;
	struct config_cidrs cidrs, exclude_cidrs;
	struct config_strings exclude_users; /* names or numbers */
	struct lb_addr dns_addr;	     /* dns: where UDP 53 goes */
	uint16_t dns_port;		     /* 0: not redirected */
	struct config_pos pos;
};

/* policy: entries, first match wins. */
struct config_policy {
	bool allow;
	bool reset; /* on-change: close (a joined pair is reset) | leave (it goes back to TCP and may end) */
	struct config_strings from; /* cgroups or names of identities; empty: any */
	struct config_cidrs to;	    /* empty: any */
	struct config_strings to_identities;
	struct config_ports ports; /* empty: any */
	struct config_pos pos;
};

/* identities: name -> cgroups and CIDRs. */
struct config_identity {
	char *name;
	struct config_strings cgroups;
	struct config_cidrs cidrs;
	struct config_pos pos;
};

struct config_accelerate {
	bool on;		       /* the section is there */
	struct config_strings cgroups; /* empty: the root */
	struct config_ports ports, exclude_ports;
	struct config_strings trust;
	uint32_t max_sockets; /* 0: the default */
};

struct config {
	struct config_service *services;
	size_t n_services;
	bool connect_on; /* connect: the section is there, or no section says where services are served */
	struct config_strings connect_cgroups; /* empty: the root */
	struct config_interface *interfaces;   /* packet: interfaces */
	size_t n_interfaces;
	struct config_cidrs allow, deny; /* packet: sources */
	uint32_t source_rate;		 /* packet: new connections a second and source; 0: no limit */
	struct config_accelerate accelerate;
	struct config_redirect *redirects;
	size_t n_redirects;
	struct config_identity *identities;
	size_t n_identities;
	struct config_policy *policies;
	size_t n_policies;
	struct lb_addr metrics_addr; /* metrics: listen */
	uint16_t metrics_port;	     /* 0: off */
	bool metrics_allow_remote;   /* the address need not be loopback */
	struct config_strings files; /* every file that was read, the first is the one that was named */
};

/* One finding. Rendered as "FILE:LINE:COLUMN: what, and what would be right". */
struct config_error {
	struct config_pos pos;
	char *text;
};
struct config_errors {
	struct config_error *v;
	size_t n;
	struct config_strings files; /* what pos.file points into: the struct config is gone by then */
};

/*
 * Reads a file and what it includes, and checks all of it. 0: *ret is complete. -EINVAL: *ret_errors has every
 * finding, in the order of the files; *ret is untouched. Other -errno: err has a sentence (cannot read).
 */
int config_load(const char *path, struct config **ret, struct config_errors *ret_errors, struct err *err);

/* The same from memory, for tests and fuzzers; `include:` is refused. */
int config_load_buffer(const char *name, const char *text, size_t n, struct config **ret,
		       struct config_errors *ret_errors, struct err *err);

struct config *config_free(struct config *c);
static inline void config_freep(struct config **c)
{
	(void)config_free(*c);
}
void config_errors_done(struct config_errors *e);

/*
 * The whole configuration in the words of the YAML, with every default filled in; it can be read again, and says the
 * same. The caller owns it; NULL: no memory.
 */
struct json_t *config_to_json(const struct config *c);

const struct config_service *config_find_service(const struct config *c, const char *name);

extern const char *const lb_scheduler_words[_LB_SCHEDULER_MAX];
extern const char *const lb_forward_words[_LB_FORWARD_MAX];
