// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/top.h"

#include <errno.h>

#include "base/clock.h"
#include "ctl/client.h"
#include "ctl/table.h"

static const struct top_col service_cols[] = {
	{ "service", "SERVICE", TOP_TEXT, NULL },
	{ "listen", "LISTEN", TOP_TEXT, NULL },
	{ "state", "STATE", TOP_TEXT, NULL },
	{ "up", "UP", TOP_NUMBER, NULL },
	{ "backends", "BACKENDS", TOP_NUMBER, NULL },
	{ "connections", "CONNS", TOP_NUMBER, NULL },
	{ "picks_per_second", "PICKS/S", TOP_RATE, "picks" },
	{ "failures_per_second", "FAILED/S", TOP_RATE, "failures" },
	{ "picks", "PICKS", TOP_NUMBER, NULL },
	{ "failures", "FAILED", TOP_NUMBER, NULL },
};

static const struct top_col backend_cols[] = {
	{ "service", "SERVICE", TOP_TEXT, NULL },
	{ "backend", "BACKEND", TOP_TEXT, NULL },
	{ "state", "STATE", TOP_TEXT, NULL },
	{ "weight", "WEIGHT", TOP_NUMBER, NULL },
	{ "connections", "CONNS", TOP_NUMBER, NULL },
	{ "picks_per_second", "PICKS/S", TOP_RATE, "picks" },
	{ "in_bytes_per_second", "IN/S", TOP_BYTE_RATE, "in_bytes" },
	{ "out_bytes_per_second", "OUT/S", TOP_BYTE_RATE, "out_bytes" },
	{ "picks", "PICKS", TOP_NUMBER, NULL },
	{ "failures", "FAILED", TOP_NUMBER, NULL },
	{ "check", "CHECK", TOP_TEXT, NULL },
};

static const struct top_col pair_cols[] = {
	{ "client", "CLIENT", TOP_TEXT, NULL },
	{ "server", "SERVER", TOP_TEXT, NULL },
	{ "processes", "PROCESSES", TOP_TEXT, NULL },
	{ "state", "STATE", TOP_TEXT, NULL },
	{ "bytes_per_second", "BYTES/S", TOP_BYTE_RATE, "bytes" },
	{ "joined_bytes", "JOINED", TOP_BYTES, NULL },
	{ "tcp_bytes", "TCP", TOP_BYTES, NULL },
	{ "reason", "WHY", TOP_TEXT, NULL },
};

const struct top_view top_views[_TOP_VIEW_MAX] = {
	[TOP_SERVICES] = { "services", service_cols, ARRAY_SIZE(service_cols) },
	[TOP_BACKENDS] = { "backends", backend_cols, ARRAY_SIZE(backend_cols) },
	[TOP_PAIRS] = { "pairs", pair_cols, ARRAY_SIZE(pair_cols) },
};

void top_done(struct top *t)
{
	json_decref(t->rows);
	json_decref(t->before);
	t->rows = t->before = NULL;
}

void top_set_view(struct top *t, enum top_view_id view)
{
	top_done(t);
	t->view = view;
	t->sort = 0;
	t->reverse = false;
	t->before_ms = 0;
}

void top_sort_step(struct top *t, int step)
{
	size_t n = top_views[t->view].n_cols;

	t->sort = (t->sort + n + (step < 0 ? n - 1 : 1)) % n;
	t->reverse = false;
}

/* Rows from what the API answers. Each has an "id", by which it is known again. */

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

static json_int_t number_of(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static json_t *service_row(const json_t *service)
{
	json_int_t up = 0, failures = 0;
	json_t *backends = json_object_get(service, "backends"), *b;
	size_t i;

	json_array_foreach(backends, i, b) {
		up += json_number_value(json_object_get(b, "effective_weight")) > 0.;
		failures += number_of(b, "failures");
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "id", text_of(service, "name"), "service",
			 text_of(service, "name"), "listen", text_of(service, "listen"), "state",
			 text_of(service, "state"), "up", up, "backends", (json_int_t)json_array_size(backends),
			 "connections", number_of(service, "connections"), "picks", number_of(service, "picks"),
			 "failures", failures);
}

static json_t *check_text(const json_t *check)
{
	const char *error = json_string_value(json_object_get(check, "error"));

	if (!json_is_object(check))
		return json_string("none");
	if (!json_is_string(json_object_get(check, "last")))
		return json_string("not yet");
	return error ? json_string(error) :
		       json_sprintf("%.1f ms", json_number_value(json_object_get(check, "latency_ms")));
}

static json_t *backend_row(const json_t *b)
{
	return json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "id",
			 json_sprintf("%s %s", text_of(b, "service"), text_of(b, "address")), "service",
			 text_of(b, "service"), "backend", text_of(b, "address"), "state", text_of(b, "state"),
			 "weight", number_of(b, "weight"), "connections", number_of(b, "connections"), "picks",
			 number_of(b, "picks"), "failures", number_of(b, "failures"), "in_bytes",
			 number_of(b, "in_bytes"), "out_bytes", number_of(b, "out_bytes"), "check",
			 check_text(json_object_get(b, "check")));
}

static const char *process_of(const json_t *end)
{
	const char *text = text_of(end, "process");

	return *text ? text : "?";
}

static json_t *pair_row(const json_t *pair)
{
	const json_t *c = json_object_get(pair, "client"), *s = json_object_get(pair, "server");
	json_int_t joined = number_of(c, "joined_bytes") + number_of(s, "joined_bytes");
	json_int_t tcp = number_of(c, "tcp_bytes") + number_of(s, "tcp_bytes");
	const json_t *end = c ? c : s;

	return json_pack("{s:o, s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:s}", "id",
			 json_sprintf("%lld", (long long)number_of(end, "cookie")), "client",
			 c ? text_of(c, "local") : text_of(s, "remote"), "server",
			 s ? text_of(s, "local") : text_of(c, "remote"), "processes",
			 json_sprintf("%s > %s", process_of(c), process_of(s)), "state", text_of(pair, "state"),
			 "joined_bytes", joined, "tcp_bytes", tcp, "bytes", joined + tcp, "reason",
			 text_of(pair, "reason"));
}

static const struct {
	const char *path, *list;
	json_t *(*row)(const json_t *o);
} sources[_TOP_VIEW_MAX] = {
	[TOP_SERVICES] = { "/v1/services", "services", service_row },
	[TOP_BACKENDS] = { "/v1/backends", "backends", backend_row },
	[TOP_PAIRS] = { "/v1/sockets", "pairs", pair_row },
};

/* From what was counted at the last look. A count that has fallen begins anew. */
static void row_rates(const struct top *t, json_t *row, uint64_t ms)
{
	const struct top_view *view = &top_views[t->view];
	const json_t *before = json_object_get(t->before, text_of(row, "id"));

	for (size_t i = 0; i < view->n_cols; i++) {
		const struct top_col *col = &view->cols[i];
		json_int_t now, was;

		if (!col->of)
			continue;
		now = number_of(row, col->of);
		was = number_of(before, col->of);
		(void)json_object_set_new(row, col->field,
					  before && ms ?
						  json_real((double)(now < was ? now : now - was) * 1e3 / (double)ms) :
						  json_null());
	}
}

static void rows_take(struct top *t, json_t *list)
{
	uint64_t now = clock_ms(), ms = t->before_ms ? now - t->before_ms : 0;
	json_t *seen = json_object(), *o;
	size_t i;

	json_array_foreach(list, i, o) {
		json_t *row = sources[t->view].row(o);

		if (!row)
			continue;
		row_rates(t, row, ms);
		(void)json_object_set_new(seen, text_of(row, "id"), row);
	}
	json_decref(t->before);
	t->before = seen;
	t->before_ms = now;
}

int top_look(struct top *t, struct err *err)
{
	json_t *root = NULL, *list;
	int r = ctl_call(sources[t->view].path, NULL, &root, err);

	list = json_object_get(root, sources[t->view].list);
	if (r >= 0 && !json_is_array(list))
		r = ctl_mismatch(NULL, err);
	t->problem.text[0] = '\0';
	if (r >= 0) {
		rows_take(t, list);
		top_arrange(t);
	} else {
		top_done(t);
		t->problem = *err;
	}
	json_decref(root);
	return r;
}

void top_cell(const struct top_col *col, const json_t *row, char ret[TOP_CELL_MAX])
{
	const json_t *v = json_object_get(row, col->field);
	double number = json_number_value(v);

	if (col->kind == TOP_TEXT)
		(void)snprintf(ret, TOP_CELL_MAX, "%s", text_of(row, col->field));
	else if (!json_is_number(v))
		(void)snprintf(ret, TOP_CELL_MAX, "-");
	else if (col->kind == TOP_NUMBER)
		(void)snprintf(ret, TOP_CELL_MAX, "%.0f", number);
	else if (col->kind == TOP_RATE)
		(void)snprintf(ret, TOP_CELL_MAX, "%.1f", number);
	else
		table_bytes((uint64_t)number, ret);
	table_filter(ret, strlen(ret));
	/* Columns are counted in bytes. */
	for (char *p = ret; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
}

static bool row_matches(const struct top *t, const json_t *row)
{
	const struct top_view *view = &top_views[t->view];
	char cell[TOP_CELL_MAX];

	for (size_t i = 0; i < view->n_cols; i++) {
		if (view->cols[i].kind != TOP_TEXT)
			continue;
		top_cell(&view->cols[i], row, cell);
		if (strcasestr(cell, t->filter))
			return true;
	}
	return false;
}

/* qsort_r's arguments are in another order elsewhere; this is glibc's. */
static int compare_rows(const void *a, const void *b, void *data)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	const struct top *t = data;
	const struct top_col *col = &top_views[t->view].cols[t->sort];
	double p = json_number_value(json_object_get(x, col->field)),
	       q = json_number_value(json_object_get(y, col->field));
	int r = col->kind == TOP_TEXT ? strcmp(text_of(x, col->field), text_of(y, col->field)) : (p < q) - (p > q);

	if (t->reverse)
		r = -r;
	/* Rows that are equal keep their places from one look to the next. */
	return r ? r : strcmp(text_of(x, "id"), text_of(y, "id"));
}

void top_arrange(struct top *t)
{
	size_t n = json_object_size(t->before), i = 0;
	_cleanup_free_ json_t **v = calloc(n + 1, sizeof(*v));
	json_t *rows = json_array(), *row;
	const char *id;

	if (!v || !rows) {
		json_decref(rows);
		return;
	}
	json_object_foreach(t->before, id, row)
		if (!t->filter[0] || row_matches(t, row))
			v[i++] = row;
	qsort_r(v, i, sizeof(*v), compare_rows, t);
	for (size_t k = 0; k < i; k++)
		(void)json_array_append(rows, v[k]);
	json_decref(t->rows);
	t->rows = rows;
}

int top_print(const struct top *t, FILE *out, struct err *err)
{
	const struct top_view *view = &top_views[t->view];
	_cleanup_free_ struct table_col *cols = calloc(view->n_cols, sizeof(*cols));
	_cleanup_(table_done) struct table table = {};
	char cell[TOP_CELL_MAX];
	json_t *row;
	size_t i;

	if (!cols)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t c = 0; c < view->n_cols; c++)
		cols[c] = (struct table_col){ view->cols[c].title, view->cols[c].kind != TOP_TEXT };
	table_init(&table, cols, view->n_cols);
	json_array_foreach(t->rows, i, row)
		for (size_t c = 0; c < view->n_cols; c++) {
			top_cell(&view->cols[c], row, cell);
			table_cell(&table, "%s", cell);
		}
	return table_print(&table, out) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int top_print_json(const struct top *t, FILE *out, struct err *err)
{
	json_t *o = json_pack("{s:s, s:O}", "view", top_views[t->view].name, "rows", t->rows);
	int r = o && json_dumpf(o, out, JSON_INDENT(2)) >= 0 && fputc('\n', out) != EOF && !fflush(out) ?
			0 :
			err_set(err, -EIO, "cannot write the JSON");

	json_decref(o);
	return r;
}
