// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Interfaces: which hook each gets, and why so. XDP sees a packet first, and sees it cheaply; TC sees packets of 64 KiB
 * where a device has not yet cut them, and can wait for a neighbour. So TC is always there, and XDP before it where a
 * driver of hardware has it.
 *
 * Links are pinned as pk_xdp@NAME and pk_tc@NAME: they hold after the process, and the next one changes the program
 * behind them in one step. Where the kernel has no links for TC (before 6.6), the classifier is replaced by its handle,
 * and a pin of its program, pk_filter@NAME, keeps in mind where there is one: nothing takes it away but packet_unload().
 * A program of somebody else is left alone.
 */
#include "hook/packet_priv.h"

#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>

#include <bpf/bpf.h>

#include "base/log.h"

/* Not in the headers of Linux 6.1. */
#define PACKET_TCX_INGRESS 46

/* Of the classifier, where there are no links. */
#define PACKET_TC_HANDLE 0x77
#define PACKET_TC_PRIORITY 0x7761

#define PIN_XDP "pk_xdp@"
#define PIN_TC "pk_tc@"
#define PIN_FILTER "pk_filter@"
#define PIN_FILTER_NEXT "pk_filter_next@"

static int pin_path(char *ret, size_t max, const char *prefix, const char *name, struct err *err)
{
	char pin[64];

	(void)snprintf(pin, sizeof(pin), "%s%s", prefix, name);
	return packet_pin_path(ret, max, pin, err);
}

/* A pinned link to this interface (not to one that had its name before) gets the program. -ENOENT: there is none. */
static int link_take_over(const char *path, uint32_t ifindex, int prog_fd, bool is_xdp)
{
	_cleanup_close_ int fd = bpf_obj_get(path);
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	if (fd < 0)
		return -ENOENT;
	/* The union's first word is the interface, for XDP and for TCX. */
	if (!bpf_obj_get_info_by_fd(fd, &info, &len) && info.xdp.ifindex == ifindex &&
	    !bpf_link_update(fd, prog_fd, NULL))
		return 0;
	(void)is_xdp;
	(void)unlink(path);
	return -ENOENT;
}

static int link_make(const char *path, uint32_t ifindex, int prog_fd, enum bpf_attach_type type, uint32_t flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
	_cleanup_close_ int fd = bpf_link_create(prog_fd, (int)ifindex, type, flags ? &opts : NULL);

	if (fd < 0)
		return -errno;
	return bpf_obj_pin(fd, path) ? -errno : 0;
}

static int attach_xdp(struct packet *p, const struct packet_link *l, uint32_t flags, struct err *err)
{
	int prog_fd = packet_prog_xdp(p), r;
	char path[512];

	if ((r = pin_path(path, sizeof(path), PIN_XDP, l->name, err)) < 0)
		return r;
	r = link_take_over(path, l->ifindex, prog_fd, true);
	return r == -ENOENT ? link_make(path, l->ifindex, prog_fd, BPF_XDP, flags) : r;
}

/* In place of the pin that an earlier process may have left, whose program ends with it. */
static int pin_filter(const char *name, int prog_fd, struct err *err)
{
	char path[512], next[512];
	int r = pin_path(path, sizeof(path), PIN_FILTER, name, err);

	if (r < 0 || (r = pin_path(next, sizeof(next), PIN_FILTER_NEXT, name, err)) < 0)
		return r;
	(void)unlink(next);
	return bpf_obj_pin(prog_fd, next) || rename(next, path) ? -errno : 0;
}

static int attach_clsact(const struct packet_link *l, int prog_fd, struct err *err)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)l->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = PACKET_TC_HANDLE, .priority = PACKET_TC_PRIORITY, .prog_fd = prog_fd,
		    .flags = BPF_TC_F_REPLACE);
	int r = bpf_tc_hook_create(&hook);

	if (r < 0 && r != -EEXIST)
		return r;
	/* Before there is a filter, so that none is forgotten. */
	r = pin_filter(l->name, prog_fd, err);
	return r < 0 ? r : bpf_tc_attach(&hook, &opts);
}

static int attach_tc(struct packet *p, const struct packet_link *l, struct err *err)
{
	int prog_fd = packet_prog_tc(p), r;
	char path[512];

	if ((r = pin_path(path, sizeof(path), PIN_TC, l->name, err)) < 0)
		return r;
	r = link_take_over(path, l->ifindex, prog_fd, false);
	if (r == -ENOENT)
		r = link_make(path, l->ifindex, prog_fd, (enum bpf_attach_type)PACKET_TCX_INGRESS, 0);
	if (r == -EINVAL || r == -EOPNOTSUPP)
		r = attach_clsact(l, prog_fd, err);
	return r < 0 ? err_set(err, r, "cannot attach to interface '%s' in TC: %s", l->name, strerror(-r)) : 0;
}

/* The program behind a pinned link, while it is attached. -ENOENT: there is no such link. */
static int swap_link(const char *prefix, const char *name, int prog_fd)
{
	_cleanup_close_ int fd = -1;
	char path[512];

	if (pin_path(path, sizeof(path), prefix, name, NULL) < 0)
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -ENOENT;
	/* -ENOLINK: its interface is gone. */
	return bpf_link_update(fd, prog_fd, NULL) && errno != ENOLINK ? -errno : 0;
}

static int swap_tc(const char *name, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex(name), .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, there, .handle = PACKET_TC_HANDLE, .priority = PACKET_TC_PRIORITY);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = PACKET_TC_HANDLE, .priority = PACKET_TC_PRIORITY, .prog_fd = prog_fd,
		    .flags = BPF_TC_F_REPLACE);
	int r = swap_link(PIN_TC, name, prog_fd);

	if (r != -ENOENT || !hook.ifindex)
		return r == -ENOENT ? 0 : r;
	return bpf_tc_query(&hook, &there) < 0 ? 0 : bpf_tc_attach(&hook, &opts);
}

int packet_attach_swap(struct packet *p, struct err *err)
{
	for (size_t i = 0; i < p->n_attached; i++) {
		const char *name = p->attached[i].name;
		int r = swap_tc(name, packet_prog_tc(p));

		if (r >= 0)
			r = swap_link(PIN_XDP, name, packet_prog_xdp(p));
		if (r < 0 && r != -ENOENT)
			return err_set(err, r, "cannot exchange the program of interface '%s': %s", name, strerror(-r));
	}
	return 0;
}

static void detach_xdp(const char *name)
{
	char path[512];

	if (pin_path(path, sizeof(path), PIN_XDP, name, NULL) >= 0)
		(void)unlink(path);
}

static void detach_tc(const char *name)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = PACKET_TC_HANDLE, .priority = PACKET_TC_PRIORITY);
	char path[512];

	if (pin_path(path, sizeof(path), PIN_TC, name, NULL) >= 0)
		(void)unlink(path);
	if (pin_path(path, sizeof(path), PIN_FILTER, name, NULL) < 0 || access(path, F_OK))
		return;
	/* With its interface it has gone by itself. */
	hook.ifindex = (int)if_nametoindex(name);
	if (hook.ifindex)
		(void)bpf_tc_detach(&hook, &opts);
	(void)unlink(path);
}

static const char *forwarding_hint(const char *name)
{
	static const char *const files[] = { "/proc/sys/net/ipv4/conf/%s/forwarding",
					     "/proc/sys/net/ipv6/conf/%s/forwarding" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_fclose_ FILE *f = NULL;
		char path[128];

		(void)snprintf(path, sizeof(path), i ? files[1] : files[0], name);
		f = fopen(path, "re");
		if (f && fgetc(f) == '0')
			return i ? "; IPv6 is not forwarded: set net.ipv6.conf.all.forwarding=1" :
				   "; IPv4 is not forwarded: set net.ipv4.conf.all.forwarding=1";
	}
	return "";
}

static void say(struct packet_attach *a, const struct packet_link *l, const char *hook, const char *why)
{
	(void)snprintf(a->name, sizeof(a->name), "%s", l->name);
	a->hook = hook;
	(void)snprintf(a->why, sizeof(a->why), "%s%s", why, forwarding_hint(l->name));
	log_info("%s: %s: %s", a->name, a->hook, a->why);
}

/* Why XDP is not for this kind of device, if its owner leaves the choice to us; NULL: it is. */
static const char *why_not_xdp(const struct packet_link *l)
{
	if (l->is_loopback)
		return "loopback has no driver for XDP";
	if (streq(l->kind, "vlan"))
		return "a VLAN device has no driver for XDP: name its parent to have it there";
	/* In all its members' drivers, since Linux 5.15 (9e2ee5c7e7c3): what it sends goes by the member that the bond chooses. */
	if (streq(l->kind, "bond"))
		return NULL;
	if (streq(l->kind, "veth") || streq(l->kind, "bridge") || streq(l->kind, "tun") || streq(l->kind, "netkit"))
		return "TC, for what local programs send here comes in packets of 64 KiB that XDP would have to have cut";
	if (l->kind[0])
		return "TC, for this is not hardware";
	return NULL;
}

/* XDP before TC. Falls back to TC alone unless XDP was asked for. */
static int attach_both(struct packet *p, const struct packet_link *l, enum config_packet_hook want,
		       struct packet_attach *a, struct err *err)
{
	bool generic = want == CONFIG_HOOK_XDP_GENERIC, asked = want != CONFIG_HOOK_AUTO;
	int r = attach_xdp(p, l, generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, err);
	char why[160];

	if (r >= 0) {
		say(a, l, generic ? "xdp-generic" : "xdp",
		    generic ? "as configured; slower than TC, for the kernel has to copy packets" :
		    asked   ? "as configured" :
			      "the driver has XDP");
		return 0;
	}
	if (asked)
		return err_set(err, r, "cannot attach to interface '%s' in XDP: %s%s", l->name, strerror(-r),
			       r == -EBUSY	? ": another XDP program is there; detach it, or choose 'tc'" :
			       r == -EOPNOTSUPP ? ": its driver has none; choose 'tc' or 'auto'" :
						  "");
	(void)snprintf(why, sizeof(why), "TC, for %s (%s)",
		       r == -EBUSY ? "another XDP program is there, which is left alone" :
				     "the driver has no XDP of its own",
		       strerror(-r));
	say(a, l, "tc", why);
	return 0;
}

static int attach_one(struct packet *p, const struct packet_link *l, enum config_packet_hook want,
		      struct packet_attach *a, struct err *err)
{
	const char *not = want == CONFIG_HOOK_AUTO ? why_not_xdp(l) : NULL;
	int r;

	if (l->mac_size != 6)
		return err_set(err, -EINVAL, "interface '%s' is not Ethernet: choose one that is", l->name);
	/* TC first: XDP hands it what needs the stack. */
	r = attach_tc(p, l, err);
	if (r < 0)
		return r;
	if (want == CONFIG_HOOK_TC || not ) {
		detach_xdp(l->name);
		say(a, l, "tc", want == CONFIG_HOOK_TC ? "as configured" : not );
		return 0;
	}
	return attach_both(p, l, want, a, err);
}

static void foresee_one(const struct packet_link *l, struct packet_attach *a)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, xdp);
	const char *not = why_not_xdp(l);

	(void)snprintf(a->name, sizeof(a->name), "%s", l->name);
	if (l->mac_size != 6) {
		a->hook = "none";
		(void)snprintf(a->why, sizeof(a->why), "not Ethernet");
		return;
	}
	a->hook = "tc";
	if (not )
		(void)snprintf(a->why, sizeof(a->why), "%s", not );
	else if (bpf_xdp_query((int)l->ifindex, 0, &xdp) == 0 && xdp.prog_id)
		(void)snprintf(a->why, sizeof(a->why),
			       "an XDP program is there (id %u): if it is another's, it is left alone", xdp.prog_id);
	else
		(void)snprintf(a->why, sizeof(a->why),
			       "and before it xdp, if the driver has it, which is tried when waggle attaches");
}

int packet_foresee(struct packet_attach **ret, size_t *ret_n, struct err *err)
{
	_cleanup_free_ struct packet_link *links = NULL;
	struct packet_attach *attach;
	size_t n_links, n = 0;
	int r = packet_links(&links, &n_links, err);

	if (r < 0)
		return r;
	attach = calloc(n_links + 1, sizeof(*attach));
	if (!attach)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n_links; i++)
		if (!links[i].is_loopback)
			foresee_one(&links[i], &attach[n++]);
	*ret = attach;
	*ret_n = n;
	return 0;
}

static const struct packet_link *find_link(const struct packet_link *links, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(links[i].name, name))
			return &links[i];
	return NULL;
}

static bool is_wanted(const struct packet_opts *opts, const char *name)
{
	for (size_t i = 0; i < opts->n_interfaces; i++)
		if (streq(opts->interfaces[i].name, name))
			return true;
	return false;
}

static const char *interface_of(const char *pin, const char *prefix)
{
	return strncmp(pin, prefix, strlen(prefix)) ? NULL : pin + strlen(prefix);
}

/* Interfaces that are not named any more; NULL: all that have no more than a filter, which no pin holds. */
static void let_go(const struct packet_opts *opts)
{
	DIR *dir = opendir(lb_pin_dir());
	const struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir))) {
		const char *xdp = interface_of(e->d_name, PIN_XDP), *tc = interface_of(e->d_name, PIN_TC);
		const char *filter = interface_of(e->d_name, PIN_FILTER);

		if (opts && xdp && !is_wanted(opts, xdp))
			detach_xdp(xdp);
		if (opts && tc && !is_wanted(opts, tc))
			detach_tc(tc);
		if (filter && !(opts && is_wanted(opts, filter)))
			detach_tc(filter);
	}
	(void)closedir(dir);
}

void packet_unload(void)
{
	let_go(NULL);
}

int packet_attach_all(struct packet *p, const struct packet_opts *opts, struct err *err)
{
	_cleanup_free_ struct packet_attach *attached = calloc(opts->n_interfaces + 1, sizeof(*attached));
	_cleanup_free_ struct packet_link *links = NULL;
	size_t n;
	int r;

	if (!attached)
		return err_set(err, -ENOMEM, "out of memory");
	r = packet_links(&links, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < opts->n_interfaces; i++) {
		const struct config_interface *want = &opts->interfaces[i];
		const struct packet_link *l = find_link(links, n, want->name);

		if (!l)
			return err_set(err, -ENODEV, "there is no interface '%s'", want->name);
		r = attach_one(p, l, want->hook, &attached[i], err);
		if (r < 0)
			return r;
	}
	let_go(opts);
	free(p->attached);
	p->attached = TAKE_PTR(attached);
	p->n_attached = opts->n_interfaces;
	return 0;
}
