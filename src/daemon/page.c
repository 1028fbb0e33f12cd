// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the status page asks for. Long answers are made once for all who ask at about the same time: a response belongs to
 * as many connections as it was given to, and the text is freed with the last of them.
 */
#include "daemon/page.h"

#include <errno.h>

#include "base/clock.h"
#include "daemon/control.h"
#include "daemon/history.h"
#include "daemon/run.h"
#include "daemon/services_json.h"
#include "model/wire.h"

/*
 * However often somebody asks, no more than about a tenth of our time goes into writing a text. A change of a backend is
 * told at once all the same.
 */
#define PAGE_SHARE 10
#define PAGE_JSON (JSON_COMPACT | JSON_REAL_PRECISION(15))
#define PAGE_TYPE_JSON "application/json"

/* Nothing but what comes from here, no script in the text, and not within another page. */
#define PAGE_POLICY                                                                                     \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " \
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

struct kept {
	struct MHD_Response *response; /* NULL: none was made yet */
	uint64_t due_ms, changes;      /* it is told until then, and as long as nothing has changed */
};

struct page {
	struct run *run;
	bool loopback;
	struct kept status, services;
};

static const char *const headers[][2] = {
	{ MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, "nosniff" },
	{ "Content-Security-Policy", PAGE_POLICY },
	{ "Cross-Origin-Resource-Policy", "same-origin" },
	{ "Referrer-Policy", "no-referrer" },
};

static struct MHD_Response *response_new(const char *type, const char *cache, size_t n, void *text,
					 enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(n, text, mode);

	if (!response)
		return NULL;
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, cache);
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		(void)MHD_add_response_header(response, headers[i][0], headers[i][1]);
	return response;
}

/* Takes the response. */
static enum MHD_Result reply(struct MHD_Connection *conn, unsigned int status, struct MHD_Response *response)
{
	enum MHD_Result r = response ? MHD_queue_response(conn, status, response) : MHD_NO;

	if (response)
		MHD_destroy_response(response);
	return r;
}

/* Takes the object. */
static struct MHD_Response *response_json(json_t *o)
{
	char *text = o ? json_dumps(o, PAGE_JSON) : NULL;
	struct MHD_Response *response =
		text ? response_new(PAGE_TYPE_JSON, "no-store", strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;

	json_decref(o);
	if (!response)
		free(text);
	return response;
}

static enum MHD_Result reply_error(struct MHD_Connection *conn, unsigned int status, const char *text)
{
	return reply(conn, status, response_json(wire_error(text)));
}

static struct MHD_Response *make_status(struct page *p)
{
	json_t *status = NULL;

	return control_status(p->run->control, &status) < 0 ? NULL : response_json(status);
}

/* Service by service, so that never all of them are there as JSON. */
static struct MHD_Response *make_services(struct page *p)
{
	struct MHD_Response *response;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	if (!f)
		return NULL;
	(void)fputs("{\"services\":[", f);
	for (const struct service *sv = services_first(p->run->services); sv; sv = sv->hh.next) {
		json_t *o = service_json(sv);

		(void)fputs(sv->hh.prev ? ",\n" : "\n", f);
		(void)json_dumpf(o, f, PAGE_JSON);
		json_decref(o);
	}
	(void)fputs("\n]}\n", f);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	response = response_new(PAGE_TYPE_JSON, "no-store", n, text, MHD_RESPMEM_MUST_FREE);
	if (!response)
		free(text);
	return response;
}

/* The same response again as long as it is good. */
static enum MHD_Result reply_kept(struct page *p, struct MHD_Connection *conn, struct kept *kept,
				  struct MHD_Response *(*make)(struct page *p))
{
	uint64_t begin = clock_ms(), end, changes = history_changes(p->run->history);
	struct MHD_Response *response;

	if (!kept->response || begin >= kept->due_ms || kept->changes != changes) {
		response = make(p);
		if (!response)
			return reply_error(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot read the counters");
		if (kept->response)
			MHD_destroy_response(kept->response);
		end = clock_ms();
		*kept = (struct kept){ response, end + (end - begin) * PAGE_SHARE, changes };
	}
	return MHD_queue_response(conn, MHD_HTTP_OK, kept->response);
}

static enum MHD_Result get_status(struct page *p, struct MHD_Connection *conn)
{
	return reply_kept(p, conn, &p->status, make_status);
}

static enum MHD_Result get_services(struct page *p, struct MHD_Connection *conn)
{
	return reply_kept(p, conn, &p->services, make_services);
}

static enum MHD_Result get_changes(struct page *p, struct MHD_Connection *conn)
{
	return reply(conn, MHD_HTTP_OK, response_json(history_changes_json(p->run->history)));
}

static enum MHD_Result get_events(struct page *p, struct MHD_Connection *conn)
{
	return reply(conn, MHD_HTTP_OK, response_json(history_events_json(p->run->history)));
}

static enum MHD_Result get_history(struct page *p, struct MHD_Connection *conn)
{
	return reply(conn, MHD_HTTP_OK, response_json(history_series_json(p->run->history, NULL)));
}

static const struct {
	const char *path;
	enum MHD_Result (*fn)(struct page *p, struct MHD_Connection *conn);
} routes[] = {
	{ "/v1/status", get_status },	{ "/v1/services", get_services },    { "/v1/changes", get_changes },
	{ "/v1/history", get_history }, { "/v1/events/recent", get_events },
};

/* "/v1/services/NAME/history": NULL if it is no such path, or there is no such service. */
static const struct service *service_of(const struct page *p, const char *url)
{
	static const char before[] = "/v1/services/", after[] = "/history";
	size_t n = strlen(url), n_before = strlen(before), n_after = strlen(after);
	char name[256];

	if (n <= n_before + n_after || n - n_before - n_after >= sizeof(name) || strncmp(url, before, n_before) ||
	    !streq(url + n - n_after, after))
		return NULL;
	(void)snprintf(name, sizeof(name), "%.*s", (int)(n - n_before - n_after), url + n_before);
	return services_find(p->run->services, name);
}

static const struct page_file *file_of(const char *url)
{
	for (size_t i = 0; i < n_page_files; i++)
		if (streq(page_files[i].path, url))
			return &page_files[i];
	return NULL;
}

static enum MHD_Result reply_file(struct MHD_Connection *conn, const struct page_file *file)
{
	const char *known = MHD_lookup_connection_value(conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_IF_NONE_MATCH);
	bool same = known && streq(known, file->etag);
	struct MHD_Response *response = response_new(file->type, "no-cache", same ? 0 : file->n,
						     (void *)(uintptr_t)file->data, MHD_RESPMEM_PERSISTENT);

	if (response)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, file->etag);
	return reply(conn, same ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK, response);
}

/*
 * A page of somebody else may have a name that leads to this address; its script then asks us by that name, and would be
 * allowed to read the answer. Nobody who means this machine calls it otherwise than this.
 */
static bool host_is_local(const char *host)
{
	size_t n;

	if (!host)
		return true;
	if (host[0] == '[')
		return !strncmp(host, "[::1]", 5) && (!host[5] || host[5] == ':');
	n = strcspn(host, ":");
	return (n == 9 && !strncasecmp(host, "localhost", n)) ||
	       (!strncmp(host, "127.", 4) && strspn(host, "0123456789.") == n);
}

enum MHD_Result page_get(struct page *p, struct MHD_Connection *conn, const char *url)
{
	const struct page_file *file = file_of(url);
	const struct service *sv;

	if (p->loopback && !host_is_local(MHD_lookup_connection_value(conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST)))
		return reply_error(conn, MHD_HTTP_MISDIRECTED_REQUEST,
				   "this is for this machine alone: ask for localhost");
	if (file)
		return reply_file(conn, file);
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
		if (streq(routes[i].path, url))
			return routes[i].fn(p, conn);
	sv = service_of(p, url);
	if (sv)
		return reply(conn, MHD_HTTP_OK, response_json(history_series_json(p->run->history, sv)));
	return reply_error(conn, MHD_HTTP_NOT_FOUND,
			   "there is nothing of this name: see /, /metrics, /v1/status and /v1/services");
}

int page_new(struct run *run, bool loopback, struct page **ret, struct err *err)
{
	struct page *p = new0(struct page);

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->run = run;
	p->loopback = loopback;
	*ret = p;
	return 0;
}

struct page *page_free(struct page *p)
{
	if (!p)
		return NULL;
	if (p->status.response)
		MHD_destroy_response(p->status.response);
	if (p->services.response)
		MHD_destroy_response(p->services.response);
	free(p);
	return NULL;
}
