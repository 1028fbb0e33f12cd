// SPDX-License-Identifier: GPL-2.0-or-later
#include "hook/decap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "decap.skel.h"
#include "hook/lb.h"
#include "model/addr.h"
#include "sys/bpf.h"

static void skel_destroyp(struct decap_skel **s)
{
	decap_skel__destroy(*s);
}

static int pin_path(char *ret, size_t max, const char *interface, struct err *err)
{
	int n = snprintf(ret, max, "%s/pk_decap@%s", lb_pin_dir(), interface);

	if (n < 0 || (size_t)n >= max)
		return err_set(err, -ENAMETOOLONG, "the path of the pins is too long");
	return 0;
}

struct addr_request {
	struct nlmsghdr h;
	struct ifaddrmsg a;
	char attrs[64];
};

static void put_attr(struct addr_request *r, uint16_t type, const void *data, size_t n)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), data, n);
	r->h.nlmsg_len = NLMSG_ALIGN(r->h.nlmsg_len) + (uint32_t)RTA_ALIGN(a->rta_len);
}

/* Sends and waits for the answer. */
static int ask_kernel(const void *request, size_t n)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char rest[256];
	} answer;

	if (fd < 0 || send(fd, request, n, 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		return -errno;
	return answer.h.nlmsg_type == NLMSG_ERROR ? answer.e.error : -EPROTO;
}

/* On loopback, for this host alone. type: RTM_NEWADDR or RTM_DELADDR. */
static int change_address(const struct lb_addr *addr, uint16_t type)
{
	bool v4 = addr_is_v4(addr);
	struct addr_request r = {
		.h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
		       .nlmsg_type = type,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK |
				      (type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0) },
		.a = { .ifa_family = v4 ? AF_INET : AF_INET6,
		       .ifa_prefixlen = v4 ? 32 : 128,
		       .ifa_flags = IFA_F_NODAD,
		       .ifa_index = if_nametoindex("lo") },
	};
	const void *bytes = v4 ? (const void *)&addr->v6[3] : addr;
	size_t n = v4 ? 4 : 16;

	put_attr(&r, IFA_LOCAL, bytes, n);
	put_attr(&r, IFA_ADDRESS, bytes, n);
	return ask_kernel(&r, r.h.nlmsg_len);
}

/* A host with an address on loopback answers for it on every link, unless it is told not to. */
static int quiet_arp(struct err *err)
{
	static const char *const settings[][2] = {
		{ "/proc/sys/net/ipv4/conf/all/arp_ignore", "1" },
		{ "/proc/sys/net/ipv4/conf/all/arp_announce", "2" },
	};

	for (size_t i = 0; i < 2; i++) {
		_cleanup_close_ int fd = open(settings[i][0], O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, settings[i][1], 1) != 1)
			return err_set(err, -errno, "cannot write '%s': %s", settings[i][0], strerror(errno));
	}
	return 0;
}

static int fill_addresses(struct decap_skel *s, const struct decap_opts *opts, struct err *err)
{
	uint32_t one = 1;

	for (size_t i = 0; i < opts->n_addresses; i++) {
		char text[ADDR_TEXT_MAX];
		int r = change_address(&opts->addresses[i], RTM_NEWADDR);

		if (r < 0)
			return err_set(err, r, "cannot put %s on loopback: %s",
				       addr_format(&opts->addresses[i], 0, text), strerror(-r));
		if (bpf_map_update_elem(bpf_map__fd(s->maps.pk_vips), &opts->addresses[i], &one, BPF_ANY))
			return err_set(err, -errno, "cannot note an address: %s", strerror(errno));
	}
	return 0;
}

static int make_link(int prog_fd, uint32_t ifindex, uint32_t flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
	int fd = bpf_link_create(prog_fd, (int)ifindex, BPF_XDP, &opts);

	return fd < 0 ? -errno : fd;
}

static bool driver_has_none(int r)
{
	return r == -EOPNOTSUPP || r == -EINVAL || r == -ERANGE;
}

static int attach(struct decap_skel *s, uint32_t ifindex, const char *path, bool *ret_generic, struct err *err)
{
	int prog_fd = bpf_program__fd(s->progs.pk_decap);
	_cleanup_close_ int fd = bpf_obj_get(path);

	*ret_generic = false;
	if (fd >= 0 && !bpf_link_update(fd, prog_fd, NULL))
		return 0;
	closep(&fd);
	(void)unlink(path);
	fd = make_link(prog_fd, ifindex, XDP_FLAGS_DRV_MODE);
	if (driver_has_none(fd)) {
		*ret_generic = true;
		fd = make_link(prog_fd, ifindex, XDP_FLAGS_SKB_MODE);
	}
	if (fd < 0)
		return err_set(err, fd, "cannot attach in XDP: %s%s", strerror(-fd),
			       fd == -EBUSY ? ": another XDP program is there; detach it first" : "");
	if (bpf_obj_pin(fd, path))
		return err_set(err, -errno,
			       "cannot pin '%s': %s: is a bpffs mounted there? ('mount -t bpf bpf /sys/fs/bpf')", path,
			       strerror(errno));
	return 0;
}

int decap_setup(const struct decap_opts *opts, bool *ret_generic, struct err *err)
{
	_cleanup_(skel_destroyp) struct decap_skel *s = NULL;
	uint32_t ifindex = if_nametoindex(opts->interface);
	char path[512];
	int r;

	if (!ifindex)
		return err_set(err, -ENODEV, "there is no interface '%s'", opts->interface);
	if ((r = pin_path(path, sizeof(path), opts->interface, err)) < 0)
		return r;
	if (mkdir(lb_pin_dir(), 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s': %s", lb_pin_dir(), strerror(errno));
	s = decap_skel__open_and_load();
	if (!s)
		return err_set(err, -errno, "cannot load the program: %s (%s)", strerror(errno), bpf_sys_last());
	/* First quiet, then the addresses: nobody is to hear of them. */
	if ((r = quiet_arp(err)) < 0 || (r = fill_addresses(s, opts, err)) < 0)
		return r;
	return attach(s, ifindex, path, ret_generic, err);
}

int decap_remove(const struct decap_opts *opts, struct err *err)
{
	char path[512];
	int r = pin_path(path, sizeof(path), opts->interface, err);

	if (r < 0)
		return r;
	if (unlink(path) < 0 && errno != ENOENT)
		return err_set(err, -errno, "cannot remove '%s': %s", path, strerror(errno));
	for (size_t i = 0; i < opts->n_addresses; i++) {
		r = change_address(&opts->addresses[i], RTM_DELADDR);
		if (r < 0 && r != -EADDRNOTAVAIL)
			return err_set(err, r, "cannot take an address from loopback: %s", strerror(-r));
	}
	return 0;
}
