// SPDX-License-Identifier: GPL-2.0-or-later
/* Joined pairs that are to go back to TCP because somebody outside says so. They leave by the way of all odd sockets. */
#include <errno.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "hook/accel_priv.h"

/* Of ac_odd's room, so that those which the programs find have some. */
#define EVICT_AT_ONCE 4096

static int cookie_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static bool has_cookie(const uint64_t *cookies, size_t n, uint64_t cookie)
{
	return bsearch(&cookie, cookies, n, sizeof(cookie), cookie_compare);
}

static int evict_some(struct accel *a, const struct ac_sock_dump *socks, size_t n, const uint64_t *cookies,
		      size_t n_cookies)
{
	struct ac_odd odd = { .why = AC_WHY_POLICY, .ms = (uint32_t)clock_ms() };
	size_t marked = 0;

	for (size_t i = 0; i < n; i++) {
		const struct ac_sock *s = &socks[i].sock;

		if (s->state != AC_SOCK_JOINED ||
		    !(has_cookie(cookies, n_cookies, s->cookie) || has_cookie(cookies, n_cookies, s->peer_cookie)))
			continue;
		if (bpf_map_update_elem(bpf_map__fd(a->skel->maps.ac_odd), &s->cookie, &odd, BPF_ANY))
			return -errno;
		if (++marked % EVICT_AT_ONCE)
			continue;
		__atomic_store_n(&a->ctl->odd, 1, __ATOMIC_RELEASE);
		(void)accel_move_odd(a);
	}
	if (!marked)
		return 0;
	__atomic_store_n(&a->ctl->odd, 1, __ATOMIC_RELEASE);
	a->odd_due = true;
	a->odd_due_ms = 0;
	return 0;
}

int accel_evict(struct accel *a, uint64_t *cookies, size_t n)
{
	_cleanup_free_ struct ac_sock_dump *socks = NULL;
	size_t n_socks = 0;
	int r;

	if (!n)
		return 0;
	qsort(cookies, n, sizeof(*cookies), cookie_compare);
	r = accel_sockets(a, &socks, &n_socks);
	return r < 0 ? r : evict_some(a, socks, n_socks, cookies, n);
}
