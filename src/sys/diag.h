/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/* A TCP socket of the network namespace that the caller is in. Addresses in network order, IPv4 in the first word. */
struct diag_socket {
	uint64_t cookie; /* compared by the kernel: no other socket is met, whatever has become of this one */
	uint32_t local_addr[4];
	uint32_t remote_addr[4];
	uint16_t local_port, remote_port; /* host order */
	uint16_t family;
};

/* Aborts its connection, as `ss -K` does. -ENOENT: there is no such socket any more. */
int diag_destroy(const struct diag_socket *s);

/* The same in another namespace, by its inode number. */
int diag_destroy_in(uint32_t netns, const struct diag_socket *s);
