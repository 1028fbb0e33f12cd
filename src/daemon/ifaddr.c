// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/ifaddr.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/run.h"

/* Changes come in flocks. */
#define SETTLE_S 0.05

struct ifaddr {
	struct ev_loop *loop;
	struct services *services;
	int fd;
	ev_io io;
	ev_timer settle;
};

struct sync {
	struct ifaddr *f;
	const struct ifaddrs *all;
};

static bool is_of(const struct ifaddrs *a, const char *name)
{
	if (!a->ifa_addr || !streq(a->ifa_name, name))
		return false;
	if (a->ifa_addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a->ifa_addr;

		return !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr);
	}
	return a->ifa_addr->sa_family == AF_INET;
}

static int compare_addrs(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct lb_addr));
}

static int on_interface(const char *name, void *data)
{
	_cleanup_free_ struct lb_addr *v = NULL;
	struct sync *sync = data;
	size_t n = 0, room = 0;

	for (const struct ifaddrs *a = sync->all; a; a = a->ifa_next)
		room += is_of(a, name);
	v = calloc(room + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (const struct ifaddrs *a = sync->all; a; a = a->ifa_next) {
		uint16_t port;

		if (is_of(a, name) && addr_from_sockaddr(a->ifa_addr, &v[n], &port) >= 0)
			n++;
	}
	qsort(v, n, sizeof(*v), compare_addrs);
	return services_set_interface(sync->f->services, name, v, n, clock_ms());
}

int ifaddr_sync(struct ifaddr *f)
{
	struct ifaddrs *all = NULL;
	struct sync sync = { .f = f };
	int r;

	if (getifaddrs(&all) < 0)
		return -errno;
	sync.all = all;
	r = services_each_interface(f->services, on_interface, &sync);
	freeifaddrs(all);
	return r;
}

/* What it says is not read: that something has changed is enough, also when some of it was lost. */
static void on_netlink(struct ev_loop *loop, ev_io *w, int revents)
{
	struct ifaddr *f = w->data;
	char buf[8192];

	(void)revents;
	while (recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT) >= 0 || errno == ENOBUFS)
		;
	if (!ev_is_active(&f->settle)) {
		ev_timer_set(&f->settle, SETTLE_S, 0.);
		ev_timer_start(loop, &f->settle);
	}
}

static void on_settled(struct ev_loop *loop, ev_timer *w, int revents)
{
	int r = ifaddr_sync(w->data);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_warn("cannot read the addresses of interfaces: %s", strerror(-r));
}

int ifaddr_new(struct ev_loop *loop, struct services *services, struct ifaddr **ret, struct err *err)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK,
				    .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
	struct ifaddr *f = new0(struct ifaddr);
	int r;

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	f->loop = loop;
	f->services = services;
	ev_init(&f->io, on_netlink);
	ev_init(&f->settle, on_settled);
	f->io.data = f->settle.data = f;
	f->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (f->fd < 0 || bind(f->fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		r = err_set(err, -errno, "cannot watch the addresses of interfaces: %s", strerror(errno));
		(void)ifaddr_free(f);
		return r;
	}
	ev_io_set(&f->io, f->fd, EV_READ);
	ev_io_start(loop, &f->io);
	*ret = f;
	return 0;
}

struct ifaddr *ifaddr_free(struct ifaddr *f)
{
	if (!f)
		return NULL;
	ev_io_stop(f->loop, &f->io);
	ev_timer_stop(f->loop, &f->settle);
	closep(&f->fd);
	free(f);
	return NULL;
}
