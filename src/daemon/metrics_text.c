// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The state of the daemon in the Prometheus text format. Every family is a row of a table; values come from the JSON
 * that the control API answers with. The samples of a family have to stand together, so numbers are gathered first.
 */
#include <errno.h>
#include <math.h>

#include "base/clock.h"
#include "daemon/control.h"
#include "daemon/metrics_priv.h"
#include "daemon/run.h"
#include "daemon/services_json.h"

enum from {
	FROM_FIELD, /* of the backend */
	FROM_CHECK, /* of its last check, if it has checks */
	FROM_STATE, /* 1 if its state is the field, 0 otherwise */
};

/* A number of a backend. Rows of the same name are one family, and stand together. */
struct row {
	const char *name, *type, *help;
	const char *service_name; /* of their sum; NULL: there is none */
	const char *service_help;
	bool sum_always; /* otherwise only in place of what is left out */
	enum from from;
	const char *field, *label;
	double scale;
};

#define LEFT_OUT " over its backends now; falls when one leaves"

static const struct row rows[] = {
#define X(id, word)                                                    \
	{ "waggle_backend_state",                                      \
	  "gauge",                                                     \
	  "1 for the state that the backend is in, 0 for the others.", \
	  "waggle_service_backends",                                   \
	  "Backends of the service by state.",                         \
	  true,                                                        \
	  FROM_STATE,                                                  \
	  word,                                                        \
	  ",state=\"" word "\"",                                       \
	  1. },
	BACKEND_STATE_LIST(X)
#undef X
		{ "waggle_backend_connections", "gauge", "Open connections.", "waggle_service_connections",
		  "Open connections to backends of the service.", true, FROM_FIELD, "connections", "", 1. },
	{ "waggle_backend_effective_weight", "gauge", "Weight that decides now, after slow start.", NULL, NULL, false,
	  FROM_FIELD, "effective_weight", "", 1. },
	{ "waggle_backend_picks_total", "counter", "Times the backend was picked.", "waggle_service_picks_total",
	  "Picks" LEFT_OUT ".", false, FROM_FIELD, "picks", "", 1. },
	{ "waggle_backend_failures_total", "counter", "Connects that the backend refused or did not answer.",
	  "waggle_service_failures_total", "Failures" LEFT_OUT ".", false, FROM_FIELD, "failures", "", 1. },
	{ "waggle_backend_bytes_total", "counter",
	  "Bytes that the packet hook forwarded from (in) and to (out) clients.", "waggle_service_bytes_total",
	  "Bytes" LEFT_OUT ".", false, FROM_FIELD, "in_bytes", ",direction=\"in\"", 1. },
	{ "waggle_backend_bytes_total", "counter", "", "waggle_service_bytes_total", "", false, FROM_FIELD, "out_bytes",
	  ",direction=\"out\"", 1. },
	{ "waggle_backend_packets_total", "counter",
	  "Packets that the packet hook forwarded from (in) and to (out) clients.", "waggle_service_packets_total",
	  "Packets" LEFT_OUT ".", false, FROM_FIELD, "in_packets", ",direction=\"in\"", 1. },
	{ "waggle_backend_packets_total", "counter", "", "waggle_service_packets_total", "", false, FROM_FIELD,
	  "out_packets", ",direction=\"out\"", 1. },
	{ "waggle_backend_check_success", "gauge", "Whether its last health check passed.", NULL, NULL, false,
	  FROM_CHECK, "ok", "", 1. },
	{ "waggle_backend_check_duration_seconds", "gauge", "How long its last health check took.", NULL, NULL, false,
	  FROM_CHECK, "latency_ms", "", 1e-3 },
};
#define ROWS ARRAY_SIZE(rows)

struct sample {
	json_t *service; /* its name */
	json_t *backend; /* NULL: it stands for the whole service */
	double v[ROWS];	 /* NAN: there is none */
};

struct gathered {
	struct sample *services, *backends; /* backends NULL: there are too many */
	size_t n_services, n_backends, all_backends;
	double *up; /* by service */
	size_t states[_SERVICE_STATE_MAX];
};

static void gathered_done(struct gathered *g)
{
	for (size_t i = 0; i < g->n_services; i++)
		json_decref(g->services[i].service);
	for (size_t i = 0; i < g->n_backends; i++) {
		json_decref(g->backends[i].service);
		json_decref(g->backends[i].backend);
	}
	free(g->services);
	free(g->backends);
	free(g->up);
}

static double number_of(const json_t *v)
{
	return json_is_boolean(v) ? json_is_true(v) : json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static double row_value(const struct row *row, const json_t *backend)
{
	const json_t *check = json_object_get(backend, "check");
	const char *state = json_string_value(json_object_get(backend, "state"));

	switch (row->from) {
	case FROM_STATE:
		return state && streq(state, row->field);
	case FROM_CHECK:
		/* One that has not been yet has no result. */
		if (!json_is_string(json_object_get(check, "last")))
			return (double)NAN;
		return number_of(json_object_get(check, row->field)) * row->scale;
	case FROM_FIELD:
		break;
	}
	return number_of(json_object_get(backend, row->field)) * row->scale;
}

static void gather_service(struct gathered *g, json_t *service)
{
	struct sample *sum = &g->services[g->n_services];
	const char *state = json_string_value(json_object_get(service, "state"));
	json_t *backend;
	size_t i;

	sum->service = json_incref(json_object_get(service, "name"));
	g->up[g->n_services++] = state && !streq(state, service_state_words[SERVICE_DOWN]);
	for (size_t s = 0; s < _SERVICE_STATE_MAX; s++)
		g->states[s] += state && streq(state, service_state_words[s]);
	json_array_foreach(json_object_get(service, "backends"), i, backend) {
		struct sample one = { .service = sum->service, .backend = json_object_get(backend, "address") };

		for (size_t r = 0; r < ROWS; r++) {
			one.v[r] = row_value(&rows[r], backend);
			sum->v[r] += one.v[r];
		}
		if (!g->backends)
			continue;
		json_incref(one.service);
		json_incref(one.backend);
		g->backends[g->n_backends++] = one;
	}
}

/* One service after the other, so that never all of them are there as JSON. */
static int gather(const struct run *run, struct gathered *g)
{
	size_t states[_BACKEND_STATE_MAX], n = services_count(run->services, states);

	for (size_t i = 0; i < _BACKEND_STATE_MAX; i++)
		g->all_backends += states[i];
	g->services = calloc(n + 1, sizeof(*g->services));
	g->up = calloc(n + 1, sizeof(*g->up));
	if (g->all_backends <= METRICS_SERIES_MAX)
		g->backends = calloc(g->all_backends + 1, sizeof(*g->backends));
	if (!g->services || !g->up || (g->all_backends <= METRICS_SERIES_MAX && !g->backends))
		return -ENOMEM;
	for (const struct service *sv = services_first(run->services); sv; sv = sv->hh.next) {
		json_t *o = service_json(sv);

		if (!o)
			return -ENOMEM;
		gather_service(g, o);
		json_decref(o);
	}
	return 0;
}

void metrics_family(FILE *f, const char *name, const char *type, const char *help)
{
	(void)fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_single(FILE *f, const char *name, const char *type, const char *help, double v)
{
	metrics_family(f, name, type, help);
	(void)fprintf(f, "%s %.15g\n", name, v);
}

/* The value of a label. */
void metrics_quoted(FILE *f, const char *text)
{
	(void)fputc('"', f);
	for (; text && *text; text++) {
		if (*text == '"' || *text == '\\')
			(void)fputc('\\', f);
		if (*text == '\n')
			(void)fputs("\\n", f);
		else
			(void)fputc(*text, f);
	}
	(void)fputc('"', f);
}

static void sample_line(FILE *f, const char *name, const struct sample *s, const char *label, double v)
{
	if (isnan(v))
		return;
	(void)fprintf(f, "%s{service=", name);
	metrics_quoted(f, json_string_value(s->service));
	if (s->backend) {
		(void)fputs(",backend=", f);
		metrics_quoted(f, json_string_value(s->backend));
	}
	(void)fprintf(f, "%s} %.15g\n", label, v);
}

static void rows_text(FILE *f, const struct sample *samples, size_t n, bool is_sum, bool all)
{
	const char *before = "";

	for (size_t r = 0; r < ROWS; r++) {
		const char *name = is_sum ? rows[r].service_name : rows[r].name;

		if (!name || (is_sum && !all && !rows[r].sum_always))
			continue;
		if (!streq(name, before))
			metrics_family(f, name, rows[r].type, is_sum ? rows[r].service_help : rows[r].help);
		before = name;
		for (size_t i = 0; i < n; i++)
			sample_line(f, name, &samples[i], rows[r].label, samples[i].v[r]);
	}
}

static void services_text(FILE *f, const struct gathered *g)
{
	bool too_many = g->n_services > METRICS_SERIES_MAX;

	metrics_family(f, "waggle_services", "gauge", "Services by state.");
	for (size_t s = 0; s < _SERVICE_STATE_MAX; s++)
		(void)fprintf(f, "waggle_services{state=\"%s\"} %zu\n", service_state_words[s], g->states[s]);
	metrics_single(f, "waggle_metrics_omitted_services", "gauge",
		       "Services that are too many to be told one by one.", too_many ? (double)g->n_services : 0.);
	metrics_single(f, "waggle_metrics_omitted_backends", "gauge",
		       "Backends that are too many to be told one by one.", g->backends ? 0. : (double)g->all_backends);
	if (!g->backends)
		(void)fprintf(f, "# More than %d backends: there are sums by service, and no waggle_backend_ series.\n",
			      METRICS_SERIES_MAX);
	if (too_many) {
		(void)fprintf(f, "# More than %d services: there are no series by service.\n", METRICS_SERIES_MAX);
		return;
	}
	metrics_family(f, "waggle_service_up", "gauge", "Whether the service gives connections to anybody.");
	for (size_t i = 0; i < g->n_services; i++)
		sample_line(f, "waggle_service_up", &g->services[i], "", g->up[i]);
	rows_text(f, g->services, g->n_services, true, !g->backends);
	if (g->backends)
		rows_text(f, g->backends, g->n_backends, false, true);
}

/* Counters of the hooks: the lists of the abi give names and texts. */

struct counter {
	const char *word, *text;
};

static const struct counter ac_counters[] = {
#define X(id, word, text) { word, text },
	AC_STAT_LIST(X)
#undef X
};

static const struct counter lb_counters[] = {
#define X(id, word, text) { word, text },
	LB_STAT_LIST(X)
#undef X
};

void metrics_counter(FILE *f, const char *prefix, const char *word, const char *help, uint64_t v)
{
	char name[128];

	(void)snprintf(name, sizeof(name), "%s_%s_total", prefix, word);
	for (char *p = name; *p; p++)
		if (*p == '-')
			*p = '_';
	metrics_family(f, name, "counter", help);
	(void)fprintf(f, "%s %llu\n", name, (unsigned long long)v);
}

/* As far as the status has the counter. */
static void counters_text(FILE *f, const char *prefix, const struct counter *list, size_t n, const json_t *counters)
{
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_object_get(counters, list[i].word);

		if (json_is_integer(v))
			metrics_counter(f, prefix, list[i].word, list[i].text, (uint64_t)json_integer_value(v));
	}
}

static void labelled_text(FILE *f, const char *name, const char *label, json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
		(void)fprintf(f, "%s{%s=\"%s\"} %.15g\n", name, label, key, number_of(value));
}

static void accel_text(FILE *f, const json_t *status)
{
	static const char *const reasons[] = {
#define X(id, word, text) word,
		AC_WHY_LIST(X)
#undef X
	};
	const json_t *sockets = json_object_get(status, "sockets");
	const json_t *why = json_object_get(sockets, "reasons");

	metrics_family(f, "waggle_accel_sockets", "gauge",
		       "Sockets whose peer is on this machine: joined, or on plain TCP.");
	(void)fprintf(f,
		      "waggle_accel_sockets{state=\"joined\"} %.15g\nwaggle_accel_sockets{state=\"watched\"} %.15g\n",
		      number_of(json_object_get(sockets, "joined")), number_of(json_object_get(sockets, "watched")));
	metrics_family(f, "waggle_accel_not_joined_sockets", "gauge",
		       "Those on plain TCP, by why they are not joined.");
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		(void)fprintf(f, "waggle_accel_not_joined_sockets{reason=\"%s\"} %lld\n", reasons[i],
			      (long long)json_integer_value(json_object_get(why, reasons[i])));
	counters_text(f, "waggle_accel", ac_counters, ARRAY_SIZE(ac_counters), json_object_get(status, "counters"));
}

static void hooks_text(FILE *f, const json_t *hooks)
{
	json_t *hook;
	size_t i;

	metrics_family(f, "waggle_hook_on", "gauge", "Whether the hook is attached.");
	json_array_foreach(hooks, i, hook)
		(void)fprintf(f, "waggle_hook_on{hook=\"%s\"} %d\n", json_string_value(json_object_get(hook, "name")),
			      json_is_true(json_object_get(hook, "on")));
}

/* CLOCK_MONOTONIC milliseconds as seconds since 1970. */
static double unix_seconds(uint64_t mono_ms)
{
	return (double)clock_ns(CLOCK_REALTIME) / 1e9 - ((double)clock_ms() - (double)mono_ms) / 1e3;
}

static void config_text(FILE *f, const struct run *run, const json_t *config)
{
	metrics_family(f, "waggle_config_reloads_total", "counter", "Reloads of the configuration by their result.");
	(void)fprintf(f,
		      "waggle_config_reloads_total{result=\"success\"} %.15g\n"
		      "waggle_config_reloads_total{result=\"failure\"} %.15g\n",
		      number_of(json_object_get(config, "reloads")),
		      number_of(json_object_get(config, "failed_reloads")));
	metrics_single(f, "waggle_config_last_reload_successful", "gauge",
		       "Whether the last reload went well, or there was none.",
		       json_is_null(json_object_get(config, "error")));
	metrics_single(f, "waggle_config_loaded_timestamp_seconds", "gauge",
		       "When the configuration in force was loaded.", unix_seconds(run->loaded_ms));
}

static void status_text(FILE *f, struct run *run, const json_t *status)
{
	const json_t *balancing = json_object_get(status, "balancing");
	double uptime = number_of(json_object_get(status, "uptime_s"));

	metrics_family(f, "waggle_build_info", "gauge", "Always 1; the labels tell what runs.");
	(void)fprintf(f, "waggle_build_info{version=\"%s\"} 1\n",
		      json_string_value(json_object_get(status, "version")));
	metrics_single(f, "waggle_uptime_seconds", "gauge", "How long the daemon has been running.", uptime);
	metrics_family(f, "waggle_backends", "gauge", "Backends of all services by state.");
	labelled_text(f, "waggle_backends", "state", json_object_get(balancing, "states"));
	config_text(f, run, json_object_get(status, "config"));
	hooks_text(f, json_object_get(status, "hooks"));
	counters_text(f, "waggle_lb", lb_counters, ARRAY_SIZE(lb_counters), json_object_get(balancing, "counters"));
	if (run->accel)
		accel_text(f, status);
	metrics_hooks_text(f, run);
}

int metrics_text(struct run *run, char **ret, size_t *ret_n)
{
	_cleanup_(gathered_done) struct gathered g = {};
	_cleanup_free_ char *text = NULL;
	json_t *status = NULL;
	FILE *f;
	int r = gather(run, &g);

	if (r >= 0)
		r = control_status(run->control, &status);
	if (r < 0)
		return r;
	f = open_memstream(&text, ret_n);
	if (!f) {
		json_decref(status);
		return -ENOMEM;
	}
	status_text(f, run, status);
	services_text(f, &g);
	json_decref(status);
	if (fclose(f))
		return -ENOMEM;
	*ret = TAKE_PTR(text);
	return 0;
}
