// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/health_priv.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"

/* The first checks of many backends begin one after the other in this distance. */
#define FIRST_EVERY_S 0.001

static const struct config_health *check_conf(const struct check *c)
{
	return &c->backend->service->conf->health;
}

static void check_plan(struct check *c, double seconds)
{
	struct ev_loop *loop = c->health->host.loop;

	ev_timer_stop(loop, &c->due);
	ev_timer_set(&c->due, seconds, 0.);
	ev_timer_start(loop, &c->due);
}

/* So that checks of many backends, and of many machines, do not come in step. */
static double check_jitter(const struct check *c)
{
	double width = check_conf(c)->jitter_ms / 1e3;

	return ((double)random() / (double)RAND_MAX - 0.5) * 2. * width;
}

static void check_plan_next(struct check *c)
{
	double seconds = services_check_delay(c->backend) / 1e3;
	double jitter = check_jitter(c) * seconds * 1e3 / check_conf(c)->interval_ms;

	if (c->again)
		seconds = jitter = 0.;
	c->again = false;
	check_plan(c, seconds + jitter > 0. ? seconds + jitter : 0.);
}

/* Whose turn it is not, for too many run. */

static void wait_remove(struct check *c)
{
	struct health *h = c->health;

	if (!c->waiting)
		return;
	*(c->prev ? &c->prev->next : &h->first) = c->next;
	*(c->next ? &c->next->prev : &h->last) = c->prev;
	c->next = c->prev = NULL;
	c->waiting = false;
}

static void wait_append(struct check *c)
{
	struct health *h = c->health;

	c->prev = h->last;
	*(h->last ? &h->last->next : &h->first) = c;
	h->last = c;
	c->waiting = true;
}

/* A TCP connect: that it is accepted is all that is asked, and it ends with a reset, which leaves nothing behind. */

static void tcp_stop(struct check *c)
{
	ev_io_stop(c->health->host.loop, &c->io);
	closep(&c->fd);
	c->fd = -1;
}

static void on_connected(struct ev_loop *loop, ev_io *w, int revents)
{
	struct check *c = w->data;
	int error = 0;
	socklen_t len = sizeof(error);

	(void)loop;
	(void)revents;
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	check_end(c, error ? strerror(error) : NULL);
}

static int check_tcp_start(struct check *c)
{
	const struct config_health *conf = check_conf(c);
	const struct backend_key *key = &c->backend->key;
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	struct health *h = c->health;
	struct sockaddr_storage addr;
	socklen_t len = addr_to_sockaddr(&key->addr, conf->port ? conf->port : key->port, &addr);

	c->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return -errno;
	if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		return -errno;
	if (h->host.socket(c->fd, h->host.data) < 0)
		return -EPERM;
	if (connect(c->fd, (const struct sockaddr *)&addr, len) < 0 && errno != EINPROGRESS)
		return -errno;
	ev_io_set(&c->io, c->fd, EV_WRITE);
	ev_io_start(h->host.loop, &c->io);
	return 0;
}

/* Any kind of check. */

static void check_stop(struct check *c)
{
	if (!c->running)
		return;
	c->running = false;
	c->health->n_running--;
	if (c->easy)
		check_http_stop(c);
	else
		tcp_stop(c);
}

static void check_start(struct check *c);

void health_next(struct health *h)
{
	while (h->first && h->n_running < HEALTH_RUNNING_MAX) {
		struct check *c = h->first;

		wait_remove(c);
		check_start(c);
	}
}

void check_end(struct check *c, const char *error)
{
	struct health *h = c->health;
	double took = clock_s() - c->begin;
	struct check_result result = {
		.ok = !error,
		.at_ms = (uint64_t)(clock_s() * 1e3),
		.latency_us = (uint32_t)(took * 1e6),
	};

	(void)snprintf(result.error, sizeof(result.error), "%s", error ? error : "");
	check_stop(c);
	h->host.report(c->backend, &result, h->host.data);
	check_plan_next(c);
}

static void check_start(struct check *c)
{
	struct health *h = c->health;
	bool is_tcp = check_conf(c)->check == CONFIG_CHECK_TCP;
	int r;

	c->running = true;
	h->n_running++;
	c->begin = clock_s();
	c->problem[0] = '\0';
	check_plan(c, check_conf(c)->timeout_ms / 1e3);
	r = is_tcp ? check_tcp_start(c) : check_http_start(c);
	if (r < 0)
		check_end(c, c->problem[0] ? c->problem : strerror(-r));
}

static void on_due(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct check *c = w->data;

	(void)loop;
	(void)revents;
	if (c->running)
		check_end(c, "no answer in time");
	else if (c->health->n_running < HEALTH_RUNNING_MAX)
		check_start(c);
	else
		wait_append(c);
	health_next(c->health);
}

/* Soon, but not all at once. */
static void check_plan_first(struct check *c)
{
	struct health *h = c->health;
	double interval = check_conf(c)->interval_ms / 1e3;
	double seconds = (double)h->n_added++ * FIRST_EVERY_S;

	while (seconds > interval)
		seconds -= interval;
	check_plan(c, seconds);
}

void health_add(struct health *h, struct backend *b)
{
	struct check *c;

	if (b->service->conf->health.check == CONFIG_CHECK_NONE || b->check)
		return;
	c = new0(struct check);
	if (!c)
		return;
	c->health = h;
	c->backend = b;
	c->fd = -1;
	ev_init(&c->due, on_due);
	ev_init(&c->io, on_connected);
	c->due.data = c->io.data = c;
	b->check = c;
	if (h->started)
		check_plan_first(c);
	else
		wait_append(c);
}

void health_remove(struct health *h, struct backend *b)
{
	struct check *c = b->check;

	if (!c)
		return;
	check_stop(c);
	wait_remove(c);
	ev_timer_stop(h->host.loop, &c->due);
	free(c);
	b->check = NULL;
}

void health_change(struct health *h, struct backend *b)
{
	health_remove(h, b);
	health_add(h, b);
}

void health_now(struct health *h, struct backend *b)
{
	struct check *c = b->check;

	(void)h;
	if (!c || c->waiting)
		return;
	if (c->running)
		c->again = true;
	else
		check_plan(c, 0.);
}

void health_start(struct health *h)
{
	h->started = true;
	while (h->first) {
		struct check *c = h->first;

		wait_remove(c);
		check_plan_first(c);
	}
}

int health_new(const struct health_host *host, struct health **ret, struct err *err)
{
	struct health *h = new0(struct health);

	if (!h)
		return err_set(err, -ENOMEM, "out of memory");
	h->host = *host;
	if (health_http_init(h) < 0) {
		free(h);
		return err_set(err, -ENOMEM, "cannot set up libcurl");
	}
	*ret = h;
	return 0;
}

struct health *health_free(struct health *h)
{
	if (!h)
		return NULL;
	health_http_done(h);
	free(h);
	return NULL;
}
