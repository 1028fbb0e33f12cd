// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Counts are sampled into rings whose common position is the number of ticks: the window of each backend, and for each
 * service, and for all together, a series of what happened between two samples. Services are known by name, for they come
 * and go with reloads; what no longer exists is forgotten at the next tick.
 */
#include "daemon/history.h"

#include <errno.h>

#include "base/clock.h"
#include "daemon/run.h"

#define SLOTS (HISTORY_WINDOW + 1)

const char *const history_words[_HISTORY_COUNT_MAX] = {
#define X(id, field, word) [HISTORY_##id] = word,
	HISTORY_COUNT_LIST(X)
#undef X
};

struct counts {
	uint64_t v[_HISTORY_COUNT_MAX];
};

/* Of a backend. */
struct past {
	struct history *all;
	struct counts at[SLOTS];
	uint64_t since; /* tick of the first sample */
	uint64_t conns;
};

/* What happened in the time before a sample; a second's worth. */
struct point {
	float v[_HISTORY_COUNT_MAX + 2]; /* rates, and two more */
};
#define POINT_CONNS _HISTORY_COUNT_MAX /* open at the sample */
#define POINT_JOINED (POINT_CONNS + 1) /* sockets a second */

struct series {
	UT_hash_handle hh;
	uint64_t since, seen; /* ticks */
	struct point at[HISTORY_SERIES];
	char name[]; /* of the service */
};

struct history {
	struct run *run;
	uint64_t ticks;	       /* samples taken; the last one is in slot ticks - 1 */
	uint64_t at_ms[SLOTS]; /* when */
	uint64_t joined[SLOTS];
	struct series *services, *total;
	json_t *events[HISTORY_EVENTS];
	uint64_t n_events; /* ever */
};

int history_new(struct run *run, struct history **ret, struct err *err)
{
	struct history *h = new0(struct history);

	if (h)
		h->total = new0(struct series);
	if (!h || !h->total) {
		free(h);
		return err_set(err, -ENOMEM, "out of memory");
	}
	h->run = run;
	*ret = h;
	return 0;
}

struct history *history_free(struct history *h)
{
	struct series *s, *tmp;

	if (!h)
		return NULL;
	HASH_ITER(hh, h->services, s, tmp)
	{
		HASH_DEL(h->services, s);
		free(s);
	}
	for (size_t i = 0; i < HISTORY_EVENTS; i++)
		json_decref(h->events[i]);
	free(h->total);
	free(h);
	return NULL;
}

/* Without memory there are no rates of it, and nothing else is amiss. */
void history_add(struct history *h, struct backend *b)
{
	b->past = new0(struct past);
	if (!b->past)
		return;
	b->past->all = h;
	b->past->since = h->ticks;
}

void history_remove(struct history *h, struct backend *b)
{
	(void)h;
	free(b->past);
	b->past = NULL;
}

/* What a count has grown by. One that has fallen has lost an address of the service. */
static double grown(uint64_t now, uint64_t was)
{
	return now > was ? (double)(now - was) : 0.;
}

/* Only the packet hook counts bytes, and only those cost a system call each. */
static void counts_of(const struct run *run, const struct backend *b, struct lb_counts *ret)
{
	*ret = (struct lb_counts){};
	if (run->packet) {
		backend_counts(b, ret);
		return;
	}
	for (size_t i = 0; i < b->n_ids; i++) {
		struct lb_counts one;

		if (services_backend_of(run->services, b->ids[i]) != b || lb_backend_load(run->lb, b->ids[i], &one) < 0)
			continue;
		ret->conns += one.conns;
		ret->picks += one.picks;
		ret->failures += one.failures;
	}
}

static void past_take(struct past *p, const struct backend *b)
{
	struct lb_counts n;

	counts_of(p->all->run, b, &n);
	p->conns = n.conns;
	p->at[p->all->ticks % SLOTS] = (struct counts){ {
		[HISTORY_PICKS] = n.picks,
		[HISTORY_FAILURES] = n.failures,
		[HISTORY_IN] = n.traffic.in_bytes,
		[HISTORY_OUT] = n.traffic.out_bytes,
	} };
}

/* Adds what the backend did since the sample before. */
static void point_add(struct point *point, const struct past *p, double seconds)
{
	const struct history *h = p->all;

	point->v[POINT_CONNS] += (float)p->conns;
	if (p->since == h->ticks)
		return;
	for (size_t i = 0; i < _HISTORY_COUNT_MAX; i++)
		point->v[i] +=
			(float)(grown(p->at[h->ticks % SLOTS].v[i], p->at[(h->ticks - 1) % SLOTS].v[i]) / seconds);
}

static struct series *series_of(struct history *h, const char *name)
{
	struct series *s = NULL;

	HASH_FIND_STR(h->services, name, s);
	if (s)
		return s;
	s = calloc(1, sizeof(*s) + strlen(name) + 1);
	if (!s)
		return NULL;
	s->since = h->ticks;
	(void)strcpy(s->name, name);
	HASH_ADD_STR(h->services, name, s);
	return s;
}

static void service_take(struct history *h, const struct service *sv, double seconds, struct point *total)
{
	struct series *s = series_of(h, sv->name);
	struct point point = {};

	for (const struct backend *b = sv->backends; b; b = b->hh.next) {
		if (!b->past)
			continue;
		past_take(b->past, b);
		if (seconds > 0.)
			point_add(&point, b->past, seconds);
	}
	for (size_t i = 0; i < POINT_JOINED; i++)
		total->v[i] += point.v[i];
	if (!s)
		return;
	s->seen = h->ticks;
	s->at[h->ticks % HISTORY_SERIES] = point;
}

static void series_sweep(struct history *h)
{
	struct series *s, *tmp;

	HASH_ITER(hh, h->services, s, tmp)
	{
		if (s->seen == h->ticks)
			continue;
		HASH_DEL(h->services, s);
		free(s);
	}
}

static uint64_t joined_now(const struct history *h)
{
	uint64_t stats[_AC_STAT_MAX];

	return h->run->accel && accel_stats(h->run->accel, stats) >= 0 ?
		       stats[AC_STAT_JOINED] * 2 + stats[AC_STAT_JOINED_LATE] :
		       0;
}

void history_tick(struct history *h)
{
	uint64_t now = clock_ms(), was = h->at_ms[(h->ticks + SLOTS - 1) % SLOTS];
	double seconds = h->ticks ? (double)(now - was) / 1e3 : 0.;
	struct point *total = &h->total->at[h->ticks % HISTORY_SERIES];

	/* Twice at once, after the process was stopped: nothing could be divided by. */
	if (h->ticks && now == was)
		return;
	h->at_ms[h->ticks % SLOTS] = now;
	h->joined[h->ticks % SLOTS] = joined_now(h);
	*total = (struct point){};
	for (const struct service *sv = services_first(h->run->services); sv; sv = sv->hh.next)
		service_take(h, sv, seconds, total);
	if (seconds > 0.)
		total->v[POINT_JOINED] =
			(float)(grown(h->joined[h->ticks % SLOTS], h->joined[(h->ticks - 1) % SLOTS]) / seconds);
	series_sweep(h);
	h->ticks++;
}

void history_event(struct history *h, json_t *event)
{
	json_t **slot = &h->events[h->n_events % HISTORY_EVENTS];

	if (!event)
		return;
	json_decref(*slot);
	*slot = event;
	h->n_events++;
}

uint64_t history_changes(const struct history *h)
{
	return h->n_events;
}

/* The first and the last sample of the window that there are of what began at tick since. False: not two. */
static bool window_of(const struct history *h, uint64_t since, uint64_t *ret_first, uint64_t *ret_last)
{
	if (!h->ticks || h->ticks - 1 <= since)
		return false;
	*ret_last = h->ticks - 1;
	*ret_first = *ret_last - since > HISTORY_WINDOW ? *ret_last - HISTORY_WINDOW : since;
	return true;
}

static double window_seconds(const struct history *h, uint64_t first, uint64_t last)
{
	return (double)(h->at_ms[last % SLOTS] - h->at_ms[first % SLOTS]) / 1e3;
}

void history_backend_rates(const struct backend *b, struct history_rates *ret)
{
	const struct past *p = b->past;
	uint64_t first, last;

	*ret = (struct history_rates){};
	if (!p || !window_of(p->all, p->since, &first, &last))
		return;
	for (size_t i = 0; i < _HISTORY_COUNT_MAX; i++)
		ret->v[i] = grown(p->at[last % SLOTS].v[i], p->at[first % SLOTS].v[i]) /
			    window_seconds(p->all, first, last);
}

void history_service_rates(const struct service *sv, struct history_rates *ret)
{
	*ret = (struct history_rates){};
	for (const struct backend *b = sv->backends; b; b = b->hh.next) {
		struct history_rates one;

		history_backend_rates(b, &one);
		for (size_t i = 0; i < _HISTORY_COUNT_MAX; i++)
			ret->v[i] += one.v[i];
	}
}

/* To a hundredth: what is more exact than that is noise of the clock. */
static json_t *rate_json(double v)
{
	return json_real((double)(int64_t)(v * 100. + .5) / 100.);
}

void history_rates_json(const struct history_rates *rates, json_t *o)
{
	for (size_t i = 0; i < _HISTORY_COUNT_MAX; i++)
		(void)json_object_set_new(o, history_words[i], rate_json(rates->v[i]));
}

json_t *history_totals_json(const struct history *h)
{
	struct history_rates total = {};
	uint64_t first, last;
	double joined = 0.;
	json_t *o = json_object();

	for (const struct service *sv = services_first(h->run->services); sv; sv = sv->hh.next) {
		struct history_rates one;

		history_service_rates(sv, &one);
		for (size_t i = 0; i < _HISTORY_COUNT_MAX; i++)
			total.v[i] += one.v[i];
	}
	if (window_of(h, 0, &first, &last))
		joined = grown(h->joined[last % SLOTS], h->joined[first % SLOTS]) / window_seconds(h, first, last);
	history_rates_json(&total, o);
	(void)json_object_set_new(o, "joined_per_second", rate_json(joined));
	return o;
}

static json_t *points_json(const struct history *h, const struct series *s, size_t which)
{
	json_t *list = json_array();
	/* Of the very first sample nothing is known but what is open. */
	uint64_t i = s && s->since ? s->since : 1;

	if (h->ticks > i + HISTORY_SERIES)
		i = h->ticks - HISTORY_SERIES;
	for (; s && i < h->ticks; i++)
		(void)json_array_append_new(list, rate_json((double)s->at[i % HISTORY_SERIES].v[which]));
	return list;
}

json_t *history_series_json(const struct history *h, const struct service *service)
{
	struct series *s = h->total;
	json_t *o;

	if (service)
		HASH_FIND_STR(h->services, service->name, s);
	o = json_pack("{s:o, s:o, s:i}", "service", service ? json_string(service->name) : json_null(), "end",
		      run_time(h->ticks ? h->at_ms[(h->ticks - 1) % SLOTS] : clock_ms()), "interval_s", 1);
	for (size_t i = 0; i < _HISTORY_COUNT_MAX; i++)
		(void)json_object_set_new(o, history_words[i], points_json(h, s, i));
	(void)json_object_set_new(o, "connections", points_json(h, s, POINT_CONNS));
	if (!service)
		(void)json_object_set_new(o, "joined_per_second", points_json(h, s, POINT_JOINED));
	return o;
}

json_t *history_changes_json(const struct history *h)
{
	return json_pack("{s:I}", "changes", (json_int_t)h->n_events);
}

json_t *history_events_json(const struct history *h)
{
	uint64_t first = h->n_events > HISTORY_EVENTS ? h->n_events - HISTORY_EVENTS : 0;
	json_t *list = json_array();

	for (uint64_t i = first; i < h->n_events; i++)
		(void)json_array_append(list, h->events[i % HISTORY_EVENTS]);
	return json_pack("{s:I, s:o}", "changes", (json_int_t)h->n_events, "events", list);
}
