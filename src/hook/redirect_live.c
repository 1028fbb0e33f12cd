// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A change of policy and the connections that are open: those that would be denied now are closed, or handed back to
 * TCP by the accelerator, as the entry says that denies them.
 */
#include <errno.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "hook/redirect_priv.h"
#include "sys/bpf.h"
#include "sys/diag.h"
#include "sys/proc.h"

static int denied_close(const struct rd_denied *d)
{
	struct diag_socket s = {
		.cookie = d->cookie,
		.local_port = d->local_port,
		.remote_port = d->remote_port,
		.family = d->family,
	};
	_cleanup_close_ int fd = netns_open(d->netns);
	int was, r;

	if (fd < 0)
		return fd;
	was = netns_enter(fd);
	if (was < 0)
		return was;
	memcpy(s.local_addr, d->local_addr, sizeof(s.local_addr));
	memcpy(s.remote_addr, d->remote_addr, sizeof(s.remote_addr));
	r = diag_destroy(&s);
	netns_return(was);
	return r;
}

static void denied_settle(struct redirect *r, const struct rd_denied *d)
{
	int e;

	if (!(d->flags & RD_RESET)) {
		if (r->on_evict)
			r->on_evict(d->cookie, r->on_evict_data);
		return;
	}
	e = denied_close(d);
	if (!e)
		r->closed++;
	else if (e != -ENOENT)
		log_warn("cannot close a connection that policy denies now: %s (SOCK_DESTROY of sock_diag, "
			 "CONFIG_INET_DIAG_DESTROY)",
			 strerror(-e));
}

static int walk_attach(struct redirect *r)
{
	union bpf_iter_link_info info = { .map.map_fd = (uint32_t)bpf_map__fd(r->skel->maps.rd_sk) };
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));

	r->walk = bpf_program__attach_iter(r->skel->progs.rd_walk, &opts);
	return r->walk ? 0 : -errno;
}

int rd_live_check(struct redirect *r)
{
	_cleanup_free_ struct rd_denied *v = NULL;
	size_t bytes = 0;
	int e = r->walk ? 0 : walk_attach(r);

	if (e >= 0)
		e = bpf_sys_read_iter(bpf_link__fd(r->walk), (void **)&v, &bytes);
	if (e < 0)
		return e;
	for (size_t i = 0; i < bytes / sizeof(*v); i++)
		denied_settle(r, &v[i]);
	return 0;
}
