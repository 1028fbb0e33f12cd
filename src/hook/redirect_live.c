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

static int denied_close(const struct rd_denied *d)
{
	struct diag_socket s = {
		.cookie = d->cookie,
		.local_port = d->local_port,
		.remote_port = d->remote_port,
		.family = d->family,
	};

	memcpy(s.local_addr, d->local_addr, sizeof(s.local_addr));
	memcpy(s.remote_addr, d->remote_addr, sizeof(s.remote_addr));
	return diag_destroy_in(d->netns, &s);
}

static void denied_reset(struct redirect *r, const struct rd_denied *d)
{
	int e = denied_close(d);

	if (!e)
		r->closed++;
	else if (e != -ENOENT)
		log_warn("cannot close a connection that policy denies now: %s (SOCK_DESTROY of sock_diag, "
			 "CONFIG_INET_DIAG_DESTROY)",
			 strerror(-e));
}

static int settle(struct redirect *r, const struct rd_denied *v, size_t n)
{
	_cleanup_free_ uint64_t *leave = calloc(n + 1, sizeof(*leave));
	size_t n_leave = 0;

	if (!leave)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (v[i].flags & RD_RESET)
			denied_reset(r, &v[i]);
		else
			leave[n_leave++] = v[i].cookie;
	}
	if (n_leave && r->on_evict)
		r->on_evict(leave, n_leave, r->on_evict_data);
	return 0;
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
	return settle(r, v, bytes / sizeof(*v));
}
