// SPDX-License-Identifier: GPL-2.0-or-later
/* The model as JSON: the one shape that every client knows (docs/openapi.yaml). */
#include "daemon/services_json.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/clock.h"
#include "daemon/history.h"
#include "daemon/run.h"

/* The latest last. */
static json_t *results_json(const struct backend *b)
{
	char text[BACKEND_RESULTS + 1];

	for (uint32_t i = 0; i < b->n_results; i++)
		text[i] = b->results >> (b->n_results - 1 - i) & 1 ? '1' : '0';
	text[b->n_results] = '\0';
	return json_string(text);
}

static json_t *check_json(const struct backend *b)
{
	const struct check_result *last = &b->last;

	if (b->service->conf->health.check == CONFIG_CHECK_NONE)
		return json_null();
	return json_pack("{s:o, s:b, s:o, s:o, s:o}", "last", run_time(last->at_ms), "ok", last->ok, "error",
			 last->error[0] ? json_string(last->error) : json_null(), "latency_ms",
			 last->at_ms ? json_real((double)last->latency_us / 1e3) : json_null(), "results",
			 results_json(b));
}

json_t *backend_json(const struct backend *b)
{
	struct history_rates rates;
	struct lb_counts n;
	json_t *o;

	backend_counts(b, &n);
	history_backend_rates(b, &rates);
	o = json_pack("{s:s, s:s, s:o, s:I, s:f, s:s, s:o, s:o}", "service", b->service->name, "address", b->text,
		      "name", b->name ? json_string(b->name) : json_null(), "weight", (json_int_t)backend_weight(b),
		      "effective_weight", backend_effective_tenths(b, clock_ms()) / 10., "state",
		      backend_state_words[b->state], "since", run_time(b->since_ms), "check", check_json(b));
	(void)json_object_update_new(o,
				     json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections",
					       (json_int_t)n.conns, "picks", (json_int_t)n.picks, "failures",
					       (json_int_t)n.failures, "in_packets", (json_int_t)n.traffic.in_packets,
					       "in_bytes", (json_int_t)n.traffic.in_bytes, "out_packets",
					       (json_int_t)n.traffic.out_packets, "out_bytes",
					       (json_int_t)n.traffic.out_bytes));
	history_rates_json(&rates, o);
	return o;
}

static json_t *listen_json(const struct service *sv)
{
	json_t *list = json_array();
	char text[ADDR_TEXT_MAX];

	for (const struct frontend *f = sv->frontends; f; f = f->next)
		(void)json_array_append_new(list, json_string(addr_format(&f->vip.addr, ntohs(f->vip.port), text)));
	return list;
}

json_t *service_json(const struct service *sv)
{
	const struct config_service *conf = sv->conf;
	json_int_t connections = 0, picks = 0;
	json_t *backends = json_array(), *service;
	struct history_rates rates;

	for (const struct backend *b = sv->backends; b; b = b->hh.next) {
		json_t *o = backend_json(b);

		connections += json_integer_value(json_object_get(o, "connections"));
		picks += json_integer_value(json_object_get(o, "picks"));
		(void)json_object_del(o, "service");
		(void)json_array_append_new(backends, o);
	}
	service = json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:I}", "name", sv->name, "listen",
			    conf->listen, "addresses", listen_json(sv), "protocol",
			    conf->proto == IPPROTO_UDP ? "udp" : "tcp", "scheduler",
			    lb_scheduler_words[conf->scheduler], "forward", lb_forward_words[conf->forward], "state",
			    service_state_words[service_state(sv)], "error",
			    sv->problem[0] ? json_string(sv->problem) : json_null(), "backends", backends,
			    "connections", connections, "picks", picks);
	history_service_rates(sv, &rates);
	history_rates_json(&rates, service);
	return service;
}
