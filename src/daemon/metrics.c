// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/metrics.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/http_nest.h"
#include "daemon/page.h"
#include "daemon/run.h"
#include "model/addr.h"

#define METRICS_CONNECTIONS_MAX 32 /* a browser holds up to six */
#define METRICS_TIMEOUT_S 10
#define METRICS_MEMORY_BYTES (32U << 10) /* a connection's */
#define METRICS_BACKLOG 16
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/*
 * Writing all of it takes its time where there is much: however often somebody asks, no more than about a tenth of ours
 * goes into that, and in between the same text is told again.
 */
#define METRICS_SHARE 10

struct metrics {
	struct run *run;
	struct lb_addr addr;
	uint16_t port;
	struct http_nest nest;
	struct page *page;
	char *text;
	size_t n;
	uint64_t due_ms; /* text is told until then */
};

static enum MHD_Result reply(struct MHD_Connection *conn, unsigned int status, const char *type, const char *text,
			     size_t n)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(n, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result r;

	if (!response)
		return MHD_NO;
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	r = MHD_queue_response(conn, status, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result reply_line(struct MHD_Connection *conn, unsigned int status, const char *line)
{
	return reply(conn, status, "text/plain; charset=utf-8", line, strlen(line));
}

static int metrics_renew(struct metrics *m)
{
	uint64_t begin = clock_ms(), end;
	char *text = NULL;
	size_t n = 0;
	int r;

	if (m->text && begin < m->due_ms)
		return 0;
	r = metrics_text(m->run, &text, &n);
	if (r < 0)
		return r;
	free(m->text);
	m->text = text;
	m->n = n;
	end = clock_ms();
	m->due_ms = end + (end - begin) * METRICS_SHARE;
	return 0;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
				  const char *version, const char *data, size_t *n, void **req_cls)
{
	static char seen;
	struct metrics *m = cls;

	(void)version;
	(void)data;
	/* Refused before its body has come, for whoever only reads has none. */
	if (!streq(method, "GET") && !streq(method, "HEAD"))
		return *req_cls ? MHD_NO :
				  reply_line(conn, MHD_HTTP_METHOD_NOT_ALLOWED, "this can only be read: use GET\n");
	if (!*req_cls) {
		*req_cls = &seen;
		return MHD_YES;
	}
	if (*n)
		return MHD_NO;
	if (!streq(url, "/metrics"))
		return page_get(m->page, conn, url);
	if (metrics_renew(m) < 0)
		return reply_line(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot read the counters\n");
	return reply(conn, MHD_HTTP_OK, METRICS_TYPE, m->text, m->n);
}

static void on_log(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *fmt, va_list ap)
{
	char line[512];

	(void)cls;
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	log_debug("metrics: %s", line);
}

static int metrics_listen(const struct lb_addr *addr, uint16_t port, struct err *err)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(addr, port, &sa);
	_cleanup_close_ int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char text[ADDR_TEXT_MAX];
	int one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (const struct sockaddr *)&sa, len) < 0 || listen(fd, METRICS_BACKLOG) < 0)
		return err_set(err, -errno, "metrics: cannot listen on %s: %s", addr_format(addr, port, text),
			       strerror(errno));
	return TAKE_FD(fd);
}

static bool is_loopback(const struct lb_addr *a)
{
	static const uint8_t v6[sizeof(*a)] = { [sizeof(*a) - 1] = 1 };

	return addr_is_v4(a) ? ((const uint8_t *)a)[12] == 127 : memcmp(a, v6, sizeof(v6)) == 0;
}

static void metrics_closep(struct metrics **m)
{
	(void)metrics_close(*m);
}

int metrics_open(struct run *run, struct metrics **ret, struct err *err)
{
	const struct config *config = run->config;
	_cleanup_(metrics_closep) struct metrics *m = NULL;
	_cleanup_close_ int fd = -1;
	struct MHD_Daemon *mhd;
	int r;

	*ret = NULL;
	if (!config->metrics_port)
		return 0;
	m = new0(struct metrics);
	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->run = run;
	m->addr = config->metrics_addr;
	m->port = config->metrics_port;
	r = page_new(run, is_loopback(&m->addr), &m->page, err);
	if (r < 0)
		return r;
	fd = metrics_listen(&config->metrics_addr, config->metrics_port, err);
	if (fd < 0)
		return fd;
	mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, m,
			       MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
			       MHD_OPTION_CONNECTION_LIMIT, (unsigned int)METRICS_CONNECTIONS_MAX,
			       MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)METRICS_TIMEOUT_S,
			       MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)METRICS_MEMORY_BYTES, MHD_OPTION_END);
	if (!mhd)
		return err_set(err, -EIO, "metrics: cannot serve them");
	(void)TAKE_FD(fd);
	r = http_nest_start(&m->nest, run->loop, mhd, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

void metrics_configure(struct run *run, json_t *warnings)
{
	const struct config *config = run->config;
	struct metrics *is = run->metrics, *m = NULL;
	struct err err = {};

	if (is ? is->port == config->metrics_port && !memcmp(&is->addr, &config->metrics_addr, sizeof(is->addr)) :
		 !config->metrics_port)
		return;
	/* The addresses may overlap, as any and loopback do. */
	if (is && is->port == config->metrics_port)
		is = run->metrics = metrics_close(is);
	if (metrics_open(run, &m, &err) < 0) {
		log_warn("%s", err.text);
		(void)json_array_append_new(warnings, json_string(err.text));
		return;
	}
	(void)metrics_close(is);
	run->metrics = m;
}

struct metrics *metrics_close(struct metrics *m)
{
	if (!m)
		return NULL;
	if (m->nest.mhd)
		http_nest_stop(&m->nest);
	m->page = page_free(m->page);
	free(m->text);
	free(m);
	return NULL;
}
