// SPDX-License-Identifier: GPL-2.0-or-later
/* What interfaces there are, by rtnetlink: name, kind, and for VLAN devices what they stand for. */
#include "hook/packet_priv.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#define LINK_BUFFER 65536

struct links {
	struct packet_link *v;
	size_t n;
};

static bool attr_ok(const struct rtattr *a, int left)
{
	return left >= (int)sizeof(*a) && a->rta_len >= sizeof(*a) && (int)a->rta_len <= left;
}

static uint32_t attr_u32(const struct rtattr *a)
{
	uint32_t v = 0;

	if (RTA_PAYLOAD(a) >= sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}

static void attr_text(const struct rtattr *a, char *ret, size_t max)
{
	size_t n = RTA_PAYLOAD(a) < max - 1 ? RTA_PAYLOAD(a) : max - 1;

	memcpy(ret, RTA_DATA(a), n);
	ret[n] = '\0';
}

static void read_vlan(const struct rtattr *data, struct packet_link *l)
{
	const struct rtattr *a = RTA_DATA(data);
	int left = (int)RTA_PAYLOAD(data);

	for (; attr_ok(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_VLAN_ID && RTA_PAYLOAD(a) >= sizeof(l->vlan))
			memcpy(&l->vlan, RTA_DATA(a), sizeof(l->vlan));
}

static void read_info(const struct rtattr *info, struct packet_link *l)
{
	const struct rtattr *a = RTA_DATA(info), *data = NULL;
	int left = (int)RTA_PAYLOAD(info);

	for (; attr_ok(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_INFO_KIND)
			attr_text(a, l->kind, sizeof(l->kind));
		else if (a->rta_type == IFLA_INFO_DATA)
			data = a;
	}
	if (data && streq(l->kind, "vlan"))
		read_vlan(data, l);
}

static int read_link(const struct nlmsghdr *h, struct links *links)
{
	const struct ifinfomsg *info = NLMSG_DATA(h);
	const struct rtattr *a = IFLA_RTA(info);
	int left = (int)IFLA_PAYLOAD(h);
	struct packet_link *v = reallocarray(links->v, links->n + 1, sizeof(*v)), *l;

	if (!v)
		return -ENOMEM;
	links->v = v;
	l = &v[links->n++];
	*l = (struct packet_link){ .ifindex = (uint32_t)info->ifi_index,
				   .is_loopback = info->ifi_type == ARPHRD_LOOPBACK };
	for (; attr_ok(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_IFNAME)
			attr_text(a, l->name, sizeof(l->name));
		else if (a->rta_type == IFLA_LINK)
			l->parent = attr_u32(a);
		else if (a->rta_type == IFLA_ADDRESS)
			l->mac_size = (uint32_t)RTA_PAYLOAD(a);
		else if (a->rta_type == IFLA_LINKINFO)
			read_info(a, l);
	}
	return 0;
}

/* Messages until the last. 1: done. */
static int read_some(const char *buffer, size_t n, struct links *links)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)buffer;
	int r;

	for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR)
			return -EIO;
		if (h->nlmsg_type == RTM_NEWLINK && (r = read_link(h, links)) < 0)
			return r;
	}
	return 0;
}

int packet_links(struct packet_link **ret, size_t *ret_n, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr h;
		struct ifinfomsg info;
	} ask = {
		.h = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP }
	};
	_cleanup_free_ char *buffer = malloc(LINK_BUFFER);
	struct links links = {};
	int r = 0;

	if (fd < 0 || !buffer || send(fd, &ask, sizeof(ask), 0) < 0)
		return err_set(err, -errno, "cannot ask the kernel for its interfaces: %s", strerror(errno));
	while (!r) {
		ssize_t n = recv(fd, buffer, LINK_BUFFER, 0);

		if (n < 0 && errno == EINTR)
			continue;
		r = n < 0 ? -errno : read_some(buffer, (size_t)n, &links);
	}
	if (r < 0) {
		free(links.v);
		return err_set(err, r, "cannot read the kernel's list of interfaces: %s", strerror(-r));
	}
	*ret = links.v;
	*ret_n = links.n;
	return 0;
}
