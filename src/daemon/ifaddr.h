/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses of interfaces that services listen on, kept up to date by rtnetlink: every IPv4 address, and the IPv6
 * addresses that are not of the link alone.
 */
#pragma once

#include <ev.h>

#include "daemon/services.h"

struct ifaddr;

int ifaddr_new(struct ev_loop *loop, struct services *services, struct ifaddr **ret, struct err *err);
struct ifaddr *ifaddr_free(struct ifaddr *f);

/* Which interfaces are wanted may have changed: looks at all of them now. */
int ifaddr_sync(struct ifaddr *f);
