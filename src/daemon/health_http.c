// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * HTTP and HTTPS checks: libcurl's multi interface in our loop. libcurl says which sockets to watch and when it wants
 * to be called; each check is a connection of its own, so that accepting is checked too.
 */
#include "daemon/health_priv.h"

#include <errno.h>
#include <sys/socket.h>

#ifndef WAGGLE_VERSION
#define WAGGLE_VERSION "unknown"
#endif

#define IDLE_MAX 64
#define URL_MAX 2048

struct watch {
	ev_io io;
	struct health *health;
};

static const struct config_health *check_conf(const struct check *c)
{
	return &c->backend->service->conf->health;
}

/* A whole answer, or as much of it as was wanted. NULL: it is as it should be. */
static const char *http_judge(const struct check *c, char *text, size_t n)
{
	const struct config_health *conf = check_conf(c);
	long status = 0;

	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < (long)conf->status_min || status > (long)conf->status_max) {
		(void)snprintf(text, n, "status %ld, expected %u to %u", status, conf->status_min, conf->status_max);
		return text;
	}
	if (!conf->body || (c->body && memmem(c->body, c->n_body, conf->body, strlen(conf->body))))
		return NULL;
	(void)snprintf(text, n, "the answer does not contain '%.60s'", conf->body);
	return text;
}

static void http_ended(CURL *easy, CURLcode code)
{
	struct check *c = NULL;
	long error = 0;
	char text[96];

	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &c);
	(void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error);
	if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && c->enough))
		check_end(c, http_judge(c, text, sizeof(text)));
	else if (code == CURLE_COULDNT_CONNECT && error)
		check_end(c, strerror((int)error));
	else
		check_end(c, c->problem[0] ? c->problem : curl_easy_strerror(code));
}

static void http_run(struct health *h, curl_socket_t fd, int what)
{
	const CURLMsg *msg;
	int running, left;

	(void)curl_multi_socket_action(h->multi, fd, what, &running);
	while ((msg = curl_multi_info_read(h->multi, &left)))
		if (msg->msg == CURLMSG_DONE)
			http_ended(msg->easy_handle, msg->data.result);
	health_next(h);
}

static void on_socket_ready(struct ev_loop *loop, ev_io *w, int revents)
{
	struct watch *watch = w->data;

	(void)loop;
	http_run(watch->health, w->fd,
		 (revents & EV_READ ? CURL_CSELECT_IN : 0) | (revents & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_curl_due(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	http_run(w->data, CURL_SOCKET_TIMEOUT, 0);
}

/* What libcurl asks of the loop. */

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
	struct watch *watch = socket_data;
	struct health *h = data;
	int events = (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0);

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (watch)
			ev_io_stop(h->host.loop, &watch->io);
		free(watch);
		return 0;
	}
	if (!watch) {
		watch = new0(struct watch);
		if (!watch)
			return -1;
		watch->health = h;
		ev_init(&watch->io, on_socket_ready);
		watch->io.data = watch;
		(void)curl_multi_assign(h->multi, fd, watch);
	}
	ev_io_stop(h->host.loop, &watch->io);
	ev_io_set(&watch->io, fd, events);
	ev_io_start(h->host.loop, &watch->io);
	return 0;
}

static int on_timer(CURLM *multi, long ms, void *data)
{
	struct health *h = data;

	(void)multi;
	ev_timer_stop(h->host.loop, &h->curl_due);
	if (ms < 0)
		return 0;
	ev_timer_set(&h->curl_due, (double)ms / 1e3, 0.);
	ev_timer_start(h->host.loop, &h->curl_due);
	return 0;
}

static int on_made(void *data, curl_socket_t fd, curlsocktype purpose)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	struct check *c = data;
	struct health *h = c->health;

	(void)purpose;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 || h->host.socket(fd, h->host.data) < 0)
		return CURL_SOCKOPT_ERROR;
	return CURL_SOCKOPT_OK;
}

/* Returning less than n breaks the transfer off. */
static size_t on_body(char *data, size_t size, size_t n, void *cls)
{
	struct check *c = cls;

	n *= size;
	if (check_conf(c)->body && c->n_body < HEALTH_BODY_MAX) {
		size_t room = HEALTH_BODY_MAX - c->n_body, part = n < room ? n : room;

		if (!c->body && !(c->body = malloc(HEALTH_BODY_MAX)))
			return 0;
		memcpy(c->body + c->n_body, data, part);
		c->n_body += part;
		if (part == n)
			return n;
	}
	c->enough = true;
	return 0;
}

/* A check. */

static CURL *easy_take(struct health *h)
{
	CURL *easy;

	if (!h->n_idle)
		return curl_easy_init();
	easy = h->idle[--h->n_idle];
	curl_easy_reset(easy);
	return easy;
}

static void easy_give(struct health *h, CURL *easy)
{
	if (h->n_idle < IDLE_MAX)
		h->idle[h->n_idle++] = easy;
	else
		curl_easy_cleanup(easy);
}

/* The name of the host, if one is given, stands in the URL, for SNI and the certificate; we say where it is. */
static int http_where(struct check *c)
{
	const struct config_health *conf = check_conf(c);
	const struct backend_key *key = &c->backend->key;
	char address[ADDR_TEXT_MAX], text[URL_MAX];
	uint16_t port = conf->port ? conf->port : key->port;
	const char *scheme = conf->check == CONFIG_CHECK_HTTPS ? "https" : "http";

	(void)addr_format(&key->addr, port, address);
	if (conf->host) {
		(void)snprintf(text, sizeof(text), "::%s", address);
		c->connect_to = curl_slist_append(NULL, text);
		(void)snprintf(text, sizeof(text), "Host: %s", conf->host);
		c->headers = curl_slist_append(NULL, text);
		if (!c->connect_to || !c->headers)
			return -ENOMEM;
		(void)curl_easy_setopt(c->easy, CURLOPT_CONNECT_TO, c->connect_to);
		(void)snprintf(text, sizeof(text), "%s://%s:%u%s", scheme, conf->host, port, conf->path);
	} else {
		(void)snprintf(text, sizeof(text), "%s://%s%s", scheme, address, conf->path);
	}
	(void)curl_easy_setopt(c->easy, CURLOPT_URL, text);
	return 0;
}

static int http_how(struct check *c)
{
	const struct config_health *conf = check_conf(c);
	struct curl_slist *headers = curl_slist_append(c->headers, "Connection: close");

	if (!headers)
		return -ENOMEM;
	c->headers = headers;
	(void)curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	(void)curl_easy_setopt(c->easy, CURLOPT_USERAGENT, "waggle/" WAGGLE_VERSION " (health check)");
	(void)curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
	(void)curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->problem);
	(void)curl_easy_setopt(c->easy, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c->easy, CURLOPT_FRESH_CONNECT, 1L);
	(void)curl_easy_setopt(c->easy, CURLOPT_FORBID_REUSE, 1L);
	(void)curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYPEER, conf->verify ? 1L : 0L);
	(void)curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYHOST, conf->verify ? 2L : 0L);
	(void)curl_easy_setopt(c->easy, CURLOPT_SOCKOPTFUNCTION, on_made);
	(void)curl_easy_setopt(c->easy, CURLOPT_SOCKOPTDATA, c);
	(void)curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	return 0;
}

int check_http_start(struct check *c)
{
	struct health *h = c->health;

	c->enough = false;
	c->n_body = 0;
	c->easy = easy_take(h);
	if (!c->easy)
		return -ENOMEM;
	if (http_where(c) < 0 || http_how(c) < 0 || curl_multi_add_handle(h->multi, c->easy) != CURLM_OK)
		return -ENOMEM;
	return 0;
}

void check_http_stop(struct check *c)
{
	struct health *h = c->health;

	(void)curl_multi_remove_handle(h->multi, c->easy);
	easy_give(h, c->easy);
	c->easy = NULL;
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->connect_to);
	c->headers = c->connect_to = NULL;
	free(c->body);
	c->body = NULL;
}

int health_http_init(struct health *h)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	h->idle = calloc(IDLE_MAX, sizeof(*h->idle));
	h->multi = curl_multi_init();
	if (!h->idle || !h->multi) {
		health_http_done(h);
		return -ENOMEM;
	}
	ev_init(&h->curl_due, on_curl_due);
	h->curl_due.data = h;
	(void)curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
	(void)curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	(void)curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	(void)curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	return 0;
}

void health_http_done(struct health *h)
{
	while (h->n_idle)
		curl_easy_cleanup(h->idle[--h->n_idle]);
	free(h->idle);
	if (h->multi)
		(void)curl_multi_cleanup(h->multi);
	if (h->host.loop)
		ev_timer_stop(h->host.loop, &h->curl_due);
	curl_global_cleanup();
}
