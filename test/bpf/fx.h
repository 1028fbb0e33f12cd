/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The accelerator's object, loaded without its user-space half: programs attached to a cgroup of the test's own,
 * in a network namespace of its own, so that the maps show what the programs do and nothing else does.
 */
#pragma once

/* cmocka wants these four first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "abi/accel.h"
#include "base/util.h"

struct fx {
	struct bpf_object *obj;
	struct bpf_link *sockops;
	struct bpf_link *watchers[4];
	int socks, sk, pend, peers, listen, exes, ports, ctl, odd; /* map fds, of obj */
	struct ac_exe_key exe;					   /* of this program */
};
extern struct fx fx;

/* Moves the process into its own cgroup and namespace, once a program; back with fx_home(). */
int fx_away(void **state);
int fx_home(void **state);

/* Per test: loads and attaches, with this program trusted. */
int fx_load(void **state);
int fx_unload(void **state);
void fx_load_with(uint32_t max_sockets);
/* Attaches what sees how sockets are used, until the object is unloaded. */
void fx_attach_watchers(void);
void fx_trust(enum ac_exe_state exe_state);
void fx_ctl(uint32_t on, uint32_t select);

/* Opens the object, with the programs that this kernel need not know left out. */
struct bpf_object *fx_object(void);

uint64_t fx_stat(enum ac_stat stat);
size_t fx_count(int map_fd);
uint64_t fx_cookie(int fd);
bool fx_in_map(int fd);
/* The storage of this socket; false: it has none. */
bool fx_sock(int fd, struct ac_sock *ret);
bool fx_is_joined(int fd);
/* The only handshake in flight; fails the test if there is not just one. */
struct ac_key fx_the_pend(struct ac_pend *ret);
/* Handshakes in flight: how many; one by its numbers (false: there is none); put one in, or in the other's stead; forget one. */
size_t fx_pend_count(void);
/* The whole table of them. */
void fx_pends(struct ac_pends ret[AC_PEND_PLACES]);
bool fx_pend_get(const struct ac_key *key, struct ac_pend *ret);
void fx_pend_put(const struct ac_key *key, const struct ac_pend *pend);
void fx_pend_drop(const struct ac_key *key);

void fx_sysctl(const char *path, const char *value);

/*
 * Returns an fd; until it is closed, packets of IPv4 whose TCP flags under mask are want get lost on their way to the
 * cgroup's sockets (BPF_CGROUP_INET_INGRESS) or from them (BPF_CGROUP_INET_EGRESS).
 */
int fx_lose(enum bpf_attach_type way, uint8_t mask, uint8_t want);
#define FX_SYN 0x02
#define FX_ACK 0x10

/* Sockets; all have a receive timeout, so that no test can hang. */
int fx_tcp(int family, int protocol);
int fx_listen(int family, int protocol, struct sockaddr_storage *ret_addr, socklen_t *ret_len);
int fx_connect(int fd, const struct sockaddr_storage *addr, socklen_t len);
void fx_pair(int family, int *ret_client, int *ret_server);
int fx_accept(int listener);
/* Waits for any of the events, and fails the test after five seconds. */
void fx_wait(int fd, short events);
/* Sends patterned bytes both ways, in pieces of several sizes, and compares. */
void fx_exchange(int a, int b);
