/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, ports and networks as people write them. Addresses are 16 bytes, IPv4 as v4-mapped IPv6. */
#pragma once

#include <stdint.h>
#include <sys/socket.h>

#include "abi/lb.h"
#include "base/err.h"

/* "[ffff:...]:65535" and its NUL. */
#define ADDR_TEXT_MAX 56

bool addr_is_v4(const struct lb_addr *a);

/* An address alone: "198.18.0.5", "2001:db8::1", "[2001:db8::1]". -EINVAL and a sentence otherwise. */
int addr_parse(const char *text, struct lb_addr *ret, struct err *err);

/* Splits "HOST:PORT", "[V6]:PORT": the host as it stands (without brackets) and the port, 1 to 65535, host order. */
int addr_split(const char *text, char *ret_host, size_t host_max, uint16_t *ret_port, struct err *err);

/* "198.18.0.0/15", "2001:db8::/32", or an address alone. Bits after the prefix must be 0. Prefix counts of 128. */
int addr_parse_cidr(const char *text, struct lb_addr *ret, uint8_t *ret_prefix, struct err *err);

/* port 0: the address alone, without brackets. */
char *addr_format(const struct lb_addr *a, uint16_t port, char ret[static ADDR_TEXT_MAX]);
char *addr_format_cidr(const struct lb_addr *a, uint8_t prefix, char ret[static ADDR_TEXT_MAX]);

/* To and from the kernel's: an AF_INET sockaddr for a v4-mapped address. */
socklen_t addr_to_sockaddr(const struct lb_addr *a, uint16_t port, struct sockaddr_storage *ret);
int addr_from_sockaddr(const struct sockaddr *sa, struct lb_addr *ret, uint16_t *ret_port);
