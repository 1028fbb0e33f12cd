// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/resolve.h"

#include <ares.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/run.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define ASK_TIMEOUT_MS 2000
#define ASK_TRIES 2
#define AGAIN_MS 1000 /* after a failure, at first; and the shortest TTL that is believed */

struct watch {
	struct watch *next;
	struct resolve *resolve;
	ev_io io;
};

struct lookup {
	UT_hash_handle hh;
	struct resolve *resolve; /* NULL: nobody wants it any more, and it is freed when its answer comes */
	char *host;
	unsigned int interval_ms, again_ms;
	ev_timer due;
	bool busy, settled;
	struct lb_addr *addrs;
	size_t n;
	uint64_t failures;
	char error[96];
	unsigned int seen;
};

struct resolve {
	struct ev_loop *loop;
	struct services *services;
	ares_channel channel;
	bool has_channel;
	struct stat conf; /* of /etc/resolv.conf, as it was when the channel was made */
	struct watch *watches;
	ev_timer timeout;
	struct lookup *lookups;
	size_t n_busy;
	unsigned int round;
};

/* c-ares in the loop. */

static void resolve_rearm(struct resolve *r)
{
	struct timeval tv;

	ev_timer_stop(r->loop, &r->timeout);
	if (!r->has_channel || !ares_timeout(r->channel, NULL, &tv))
		return;
	ev_timer_set(&r->timeout, (double)tv.tv_sec + (double)tv.tv_usec / 1e6, 0.);
	ev_timer_start(r->loop, &r->timeout);
}

static void on_socket(struct ev_loop *loop, ev_io *w, int revents)
{
	struct watch *watch = w->data;
	struct resolve *r = watch->resolve;

	(void)loop;
	ares_process_fd(r->channel, revents & EV_READ ? w->fd : ARES_SOCKET_BAD,
			revents & EV_WRITE ? w->fd : ARES_SOCKET_BAD);
	resolve_rearm(r);
}

static void on_timeout(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct resolve *r = w->data;

	(void)loop;
	(void)revents;
	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	resolve_rearm(r);
}

static void watch_free(struct resolve *r, struct watch **p)
{
	struct watch *watch = *p;

	*p = watch->next;
	ev_io_stop(r->loop, &watch->io);
	free(watch);
}

static void on_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct resolve *r = data;
	struct watch **p = &r->watches;

	while (*p && (*p)->io.fd != fd)
		p = &(*p)->next;
	if (!readable && !writable) {
		if (*p)
			watch_free(r, p);
		return;
	}
	if (!*p) {
		*p = new0(struct watch);
		if (!*p)
			return; /* it will time out */
		(*p)->resolve = r;
		ev_init(&(*p)->io, on_socket);
		(*p)->io.data = *p;
	}
	ev_io_stop(r->loop, &(*p)->io);
	ev_io_set(&(*p)->io, fd, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
	ev_io_start(r->loop, &(*p)->io);
}

static bool conf_equal(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int channel_make(struct resolve *r)
{
	struct ares_options options = {
		.sock_state_cb = on_state,
		.sock_state_cb_data = r,
		.timeout = ASK_TIMEOUT_MS,
		.tries = ASK_TRIES,
	};

	if (ares_init_options(&r->channel, &options, ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES) !=
	    ARES_SUCCESS)
		return -EIO;
	r->has_channel = true;
	return 0;
}

/* The file is read when a channel is made: when it is another one now, so must the channel be. */
static int channel_refresh(struct resolve *r)
{
	struct stat now = {};

	(void)stat(RESOLV_CONF, &now);
	if (r->has_channel && (r->n_busy || conf_equal(&now, &r->conf)))
		return 0;
	if (r->has_channel)
		ares_destroy(r->channel);
	r->has_channel = false;
	r->conf = now;
	return channel_make(r);
}

/* A look-up. */

static void lookup_free(struct lookup *l)
{
	free(l->host);
	free(l->addrs);
	free(l);
}

static void lookup_plan(struct lookup *l, unsigned int ms)
{
	ev_timer_stop(l->resolve->loop, &l->due);
	ev_timer_set(&l->due, ms / 1e3, 0.);
	ev_timer_start(l->resolve->loop, &l->due);
}

static void lookup_failed(struct lookup *l, const char *why)
{
	l->failures++;
	if (!streq(l->error, why))
		log_warn("cannot look up '%s': %s%s", l->host, why, l->n ? ": its last addresses are kept" : "");
	(void)snprintf(l->error, sizeof(l->error), "%s", why);
	lookup_plan(l, l->again_ms);
	l->again_ms = l->again_ms * 2 < l->interval_ms ? l->again_ms * 2 : l->interval_ms;
}

static int compare_addrs(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct lb_addr));
}

/* Servers rotate their answers: sorted, so that the same set is the same list. */
static size_t answer_read(const struct ares_addrinfo *info, struct lb_addr *v, unsigned int *ret_ttl_ms)
{
	size_t n = 0;
	int ttl = -1;

	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next) {
		uint16_t port;

		if (addr_from_sockaddr(node->ai_addr, &v[n], &port) < 0)
			continue;
		n++;
		if (ttl < 0 || node->ai_ttl < ttl)
			ttl = node->ai_ttl;
	}
	qsort(v, n, sizeof(*v), compare_addrs);
	*ret_ttl_ms = ttl <= 0 ? 0 : ttl > 86400 ? 86400000 : (unsigned int)ttl * 1000;
	return n;
}

static void lookup_answered(struct lookup *l, const struct ares_addrinfo *info)
{
	_cleanup_free_ struct lb_addr *v = NULL;
	unsigned int ttl_ms;
	size_t n = 0;

	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next)
		n++;
	v = calloc(n + 1, sizeof(*v));
	n = v ? answer_read(info, v, &ttl_ms) : 0;
	if (!n || services_set_name(l->resolve->services, l->host, v, n, clock_ms()) < 0) {
		lookup_failed(l, v ? "no address" : "out of memory");
		return;
	}
	free(l->addrs);
	l->addrs = TAKE_PTR(v);
	l->n = n;
	l->error[0] = '\0';
	l->again_ms = AGAIN_MS;
	ttl_ms = ttl_ms < l->interval_ms ? ttl_ms : l->interval_ms;
	lookup_plan(l, ttl_ms > AGAIN_MS ? ttl_ms : AGAIN_MS);
}

static void on_answer(void *data, int status, int timeouts, struct ares_addrinfo *info)
{
	struct lookup *l = data;
	struct resolve *r = l->resolve;

	(void)timeouts;
	l->busy = false;
	if (!r) {
		lookup_free(l);
	} else {
		r->n_busy--;
		l->settled = true;
		if (status == ARES_SUCCESS)
			lookup_answered(l, info);
		else if (status != ARES_EDESTRUCTION)
			lookup_failed(l, ares_strerror(status));
	}
	if (info)
		ares_freeaddrinfo(info);
}

static void on_due(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_flags = ARES_AI_NOSORT };
	struct lookup *l = w->data;
	struct resolve *r = l->resolve;

	(void)loop;
	(void)revents;
	if (channel_refresh(r) < 0) {
		l->settled = true;
		lookup_failed(l, "cannot read " RESOLV_CONF);
		return;
	}
	l->busy = true;
	r->n_busy++;
	ares_getaddrinfo(r->channel, l->host, NULL, &hints, on_answer, l);
	resolve_rearm(r);
}

static int on_name(const char *host, unsigned int interval_ms, bool known, void *data)
{
	struct resolve *r = data;
	struct lookup *l = NULL;

	HASH_FIND_STR(r->lookups, host, l);
	if (!l) {
		l = new0(struct lookup);
		if (!l || !(l->host = strdup(host))) {
			free(l);
			return -ENOMEM;
		}
		l->resolve = r;
		l->again_ms = AGAIN_MS;
		/* An answer that was kept will do for the start. */
		l->settled = known;
		ev_init(&l->due, on_due);
		l->due.data = l;
		HASH_ADD_KEYPTR(hh, r->lookups, l->host, strlen(l->host), l);
		lookup_plan(l, 0);
	}
	l->interval_ms = interval_ms > AGAIN_MS ? interval_ms : AGAIN_MS;
	l->seen = r->round;
	return 0;
}

static void lookup_drop(struct resolve *r, struct lookup *l)
{
	HASH_DEL(r->lookups, l);
	ev_timer_stop(r->loop, &l->due);
	if (!l->busy) {
		lookup_free(l);
		return;
	}
	l->resolve = NULL;
	r->n_busy--;
}

int resolve_sync(struct resolve *r)
{
	struct lookup *l, *tmp;
	int ret;

	r->round++;
	ret = services_each_name(r->services, on_name, r);
	if (ret < 0)
		return ret;
	HASH_ITER(hh, r->lookups, l, tmp)
	if (l->seen != r->round)
		lookup_drop(r, l);
	return 0;
}

bool resolve_settled(const struct resolve *r)
{
	for (const struct lookup *l = r->lookups; l; l = l->hh.next)
		if (!l->settled)
			return false;
	return true;
}

json_t *resolve_status(const struct resolve *r)
{
	json_t *list = json_array();

	for (const struct lookup *l = r->lookups; l; l = l->hh.next) {
		json_t *addrs = json_array();
		char text[ADDR_TEXT_MAX];

		for (size_t i = 0; i < l->n; i++)
			(void)json_array_append_new(addrs, json_string(addr_format(&l->addrs[i], 0, text)));
		(void)json_array_append_new(list, json_pack("{s:s, s:o, s:I, s:o}", "name", l->host, "addresses", addrs,
							    "failures", (json_int_t)l->failures, "error",
							    l->error[0] ? json_string(l->error) : json_null()));
	}
	return list;
}

int resolve_new(struct ev_loop *loop, struct services *services, struct resolve **ret, struct err *err)
{
	struct resolve *r;

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return err_set(err, -ENOMEM, "cannot set up c-ares");
	r = new0(struct resolve);
	if (!r) {
		ares_library_cleanup();
		return err_set(err, -ENOMEM, "out of memory");
	}
	r->loop = loop;
	r->services = services;
	ev_init(&r->timeout, on_timeout);
	r->timeout.data = r;
	*ret = r;
	return 0;
}

struct resolve *resolve_free(struct resolve *r)
{
	struct lookup *l, *tmp;

	if (!r)
		return NULL;
	HASH_ITER(hh, r->lookups, l, tmp)
	lookup_drop(r, l);
	if (r->has_channel)
		ares_destroy(r->channel);
	while (r->watches)
		watch_free(r, &r->watches);
	ev_timer_stop(r->loop, &r->timeout);
	free(r);
	ares_library_cleanup();
	return NULL;
}
