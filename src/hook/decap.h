/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine as a backend of dsr, ipip and gue: it has the service's address itself, does not tell the link so, and
 * unwraps what comes in tunnels (src/bpf/decap.bpf.c). All of it stays when the process ends.
 */
#pragma once

#include "abi/packet.h"
#include "base/err.h"

struct decap_opts {
	const char *interface;		 /* where packets of the balancer come in */
	const struct lb_addr *addresses; /* of services */
	size_t n_addresses;
};

/*
 * Puts the addresses on loopback, keeps ARP quiet about them, and attaches the program in XDP: natively, or, where the
 * driver has none, generically. Doing it again changes what is there. *ret_generic: which it was.
 */
int decap_setup(const struct decap_opts *opts, bool *ret_generic, struct err *err);

/* Takes the program and the addresses away; ARP's settings stay. */
int decap_remove(const struct decap_opts *opts, struct err *err);
