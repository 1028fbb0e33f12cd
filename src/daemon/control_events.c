// SPDX-License-Identifier: GPL-2.0-or-later
/* GET /v1/events: what happens, to everyone who listens (control_stream.c). */
#include <arpa/inet.h>
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "daemon/control_priv.h"
#include "daemon/run.h"
#include "model/wire.h"
#include "model/wire_filter.h"
#include "model/wire_queue.h"

#define LOST_EVERY_S 1.

struct stream {
	struct control_stream s;
	struct stream *next;
	struct wire_filter filter;
	uint64_t rate, second, told; /* events a second, 0: all; which second it is, and what it had */
};

static const char *const lb_event_words[] = {
	[LB_EVENT_PICK] = "picked",
	[LB_EVENT_REFUSED] = "refused",
	[LB_EVENT_TIMED_OUT] = "timed-out",
	[LB_EVENT_NO_BACKEND] = "no-backend",
};

/* Events cost something: the hooks make those that someone listens for. */
static void streams_trace(struct control *c)
{
	const struct run *run = c->host.run;
	const char *sockets[_AC_EVENT_MAX];
	uint32_t ac = 0, lb = 0, rd = 0;

	for (unsigned int i = 0; i < _AC_EVENT_MAX; i++)
		sockets[i] = wire_event_word(i);
	for (const struct stream *s = c->streams; s; s = s->next) {
		ac |= wire_filter_kinds(&s->filter, sockets, ARRAY_SIZE(sockets), false);
		lb |= wire_filter_kinds(&s->filter, lb_event_words, ARRAY_SIZE(lb_event_words), true);
		rd |= wire_filter_kinds(&s->filter, run_redirect_words, RUN_REDIRECT_WORDS, false);
	}
	if (c->host.accel)
		accel_trace(c->host.accel, ac);
	if (run)
		lb_ctl(run->lb)->trace = lb;
	if (run && run->redirect)
		redirect_trace(run->redirect, rd);
}

void control_set_accel(struct control *c, struct accel *accel)
{
	c->host.accel = accel;
	if (accel && c->streams)
		streams_trace(c);
}

/* Most events wake nobody. */
static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct control *c = w->data;
	struct run *run = c->host.run;

	(void)revents;
	if (c->host.accel && accel_dispatch(c->host.accel) < 0)
		log_debug("cannot read events of sockets");
	if (run)
		ev_feed_event(loop, &run->lb_events, EV_READ);
	if (run && run->redirect)
		ev_feed_event(loop, &run->redirect_events, EV_READ);
}

static void on_done(struct control_stream *stream)
{
	struct stream *s = (struct stream *)stream, **p = &stream->c->streams;
	struct control *c = stream->c;

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	wire_filter_done(&s->filter);
	free(s);
	c->n_streams--;
	streams_trace(c);
	if (!c->streams) {
		ev_timer_stop(c->host.loop, &c->lost);
		ev_timer_stop(c->host.loop, &c->look);
	}
}

static uint64_t events_lost(struct control *c)
{
	uint64_t stats[_AC_STAT_MAX] = {}, lb[_LB_STAT_MAX] = {}, rd[_RD_STAT_MAX] = {};
	const struct run *run = c->host.run;

	if ((c->host.accel && accel_stats(c->host.accel, stats) < 0) || (run && lb_stats(run->lb, lb) < 0) ||
	    (run && run->redirect && redirect_stats(run->redirect, rd) < 0))
		return c->lost_seen;
	return stats[AC_STAT_EVENT_LOST] + lb[LB_STAT_EVENT_LOST] + rd[RD_STAT_EVENT_LOST];
}

/* What the kernel could not put into its ring is lost for every listener. What was too much for one is told it now. */
static void on_lost(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct control *c = w->data;
	uint64_t lost = events_lost(c), more = lost > c->lost_seen ? lost - c->lost_seen : 0;

	(void)loop;
	(void)revents;
	for (struct stream *s = c->streams; s; s = s->next) {
		wire_queue_add_lost(&s->s.queue, more);
		if (s->s.queue.lost)
			control_stream_wake(&s->s);
	}
	c->lost_seen += more;
}

static void stream_start(struct control *c, struct stream *s)
{
	s->next = c->streams;
	c->streams = s;
	if (!c->n_streams++) {
		c->lost_seen = events_lost(c);
		ev_timer_again(c->host.loop, &c->lost);
		ev_timer_again(c->host.loop, &c->look);
	}
	streams_trace(c);
}

struct filter_args {
	struct stream *s;
	struct err err;
	int r;
};

static int set_rate(struct stream *s, const char *value, struct err *err)
{
	if (num_parse_u64(value, 0, UINT32_MAX, &s->rate) < 0)
		return err_set(err, -EINVAL, "'rate' is a number of events a second, 0 for all, and not '%.60s'",
			       value);
	return 0;
}

static enum MHD_Result on_argument(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct filter_args *args = cls;

	(void)kind;
	if (streq(key, "rate"))
		args->r = set_rate(args->s, value ? value : "", &args->err);
	else
		args->r = wire_filter_add(&args->s->filter, key, value ? value : "", &args->err);
	return args->r < 0 ? MHD_NO : MHD_YES;
}

enum MHD_Result control_get_events(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	struct filter_args args = {};
	struct stream *s;

	(void)req;
	if (c->n_streams >= CONTROL_STREAMS_MAX)
		return control_error(conn, MHD_HTTP_SERVICE_UNAVAILABLE, "%d clients listen already: end one of them",
				     CONTROL_STREAMS_MAX);
	s = new0(struct stream);
	if (!s)
		return MHD_NO;
	args.s = s;
	(void)MHD_get_connection_values(conn, MHD_GET_ARGUMENT_KIND, on_argument, &args);
	if (args.r < 0) {
		wire_filter_done(&s->filter);
		free(s);
		return control_error(conn, MHD_HTTP_BAD_REQUEST, "%s", args.err.text);
	}
	stream_start(c, s);
	return control_stream_reply(c, conn, &s->s, CONTROL_QUEUE_BYTES, on_done);
}

int64_t control_realtime_offset(void)
{
	int64_t shortest = INT64_MAX, ret = 0;

	/* Between two readings of clocks a process may have to wait: of some, those that were closest together. */
	for (int i = 0; i < 3; i++) {
		int64_t before = (int64_t)clock_ns(CLOCK_MONOTONIC), real = (int64_t)clock_ns(CLOCK_REALTIME);
		int64_t took = (int64_t)clock_ns(CLOCK_MONOTONIC) - before;

		if (took < shortest) {
			shortest = took;
			ret = real - before - took / 2;
		}
	}
	return ret;
}

/* 0: it has no room. */
static size_t event_line(const json_t *event, char *line, size_t max)
{
	size_t n = json_dumpb(event, line, max - 1, CONTROL_JSON);

	if (!n || n >= max)
		return 0;
	line[n++] = '\n';
	return n;
}

/* Of a second, the first events are told, and the others counted. */
static bool stream_has_room(struct control *c, struct stream *s)
{
	uint64_t second = (uint64_t)ev_now(c->host.loop);

	if (!s->rate)
		return true;
	if (second != s->second) {
		s->second = second;
		s->told = 0;
	}
	return s->told < s->rate;
}

bool control_wants(struct control *c, const struct wire_event_view *v)
{
	bool any = false;

	for (struct stream *s = c->streams; s; s = s->next)
		any |= wire_filter_may_want(&s->filter, v) && stream_has_room(c, s);
	if (any)
		return true;
	for (struct stream *s = c->streams; s; s = s->next)
		if (wire_filter_may_want(&s->filter, v))
			wire_queue_add_lost(&s->s.queue, 1);
	return false;
}

static void streams_tell(struct control *c, json_t *event, bool limited)
{
	char line[2048];
	size_t n = 0;
	bool made = false;

	for (struct stream *s = c->streams; s; s = s->next) {
		if (event && !wire_filter_wants(&s->filter, event))
			continue;
		if (limited && !stream_has_room(c, s)) {
			wire_queue_add_lost(&s->s.queue, 1);
			continue;
		}
		s->told += limited;
		/* Not for nobody. */
		if (!made)
			n = event ? event_line(event, line, sizeof(line)) : 0;
		made = true;
		if (n)
			wire_queue_add(&s->s.queue, line, n);
		else
			wire_queue_add_lost(&s->s.queue, 1);
		control_stream_wake(&s->s);
	}
	json_decref(event);
}

void control_event_json(struct control *c, json_t *event)
{
	streams_tell(c, event, false);
}

void control_event_call(struct control *c, json_t *event)
{
	streams_tell(c, event, true);
}

static struct lb_addr addr_of(const struct ac_event *e, const uint32_t words[4])
{
	struct lb_addr addr = {};

	if (e->family == AF_INET6) {
		memcpy(&addr, words, sizeof(addr));
	} else {
		addr.v6[2] = htonl(0xffff);
		addr.v6[3] = words[0];
	}
	return addr;
}

void control_event(struct control *c, const struct ac_event *event)
{
	char comm[AC_COMM_LEN + 1];
	struct wire_event_view v = {
		.event = wire_event_word(event->type),
		.process = comm,
		/* Of what is learned there is a program alone. */
		.addresses = event->type != AC_EVENT_LEARNED,
		.local = addr_of(event, event->local_addr),
		.remote = addr_of(event, event->remote_addr),
		.local_port = event->local_port,
		.remote_port = event->remote_port,
	};

	if (!c->streams)
		return;
	(void)snprintf(comm, sizeof(comm), "%.*s", AC_COMM_LEN, event->comm);
	if (control_wants(c, &v))
		control_event_call(c, wire_event(event, control_realtime_offset()));
}

void control_lb_event(struct control *c, const struct lb_event *event, const struct service *service,
		      const struct backend *backend)
{
	const char *word = event->kind < ARRAY_SIZE(lb_event_words) ? lb_event_words[event->kind] : NULL;
	static const struct lb_addr none;
	char comm[sizeof(event->comm) + 1], client[ADDR_TEXT_MAX];
	bool has_client = memcmp(&event->client, &none, sizeof(none)) != 0;

	if (!c->streams || !word)
		return;
	(void)snprintf(comm, sizeof(comm), "%.*s", (int)sizeof(event->comm), event->comm);
	if (!control_wants(c, &(struct wire_event_view){ .event = word,
							 .service = service ? service->name : NULL,
							 .process = event->pid ? comm : NULL,
							 .pid = event->pid }))
		return;
	control_event_call(c, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "event", word, "time",
					run_time(event->at_ns / 1000000), "service",
					service ? json_string(service->name) : json_null(), "backend",
					backend ? json_string(backend->text) : json_null(), "pid",
					event->pid ? json_integer(event->pid) : json_null(), "process",
					event->pid ? wire_string(comm) : json_null(), "client",
					has_client ? json_string(addr_format(&event->client, ntohs(event->client_port),
									     client)) :
						     json_null(),
					"protocol", event->proto == IPPROTO_UDP ? "udp" : "tcp"));
}

void control_events_init(struct control *c)
{
	ev_init(&c->lost, on_lost);
	c->lost.repeat = LOST_EVERY_S;
	ev_init(&c->look, on_look);
	c->look.repeat = CONTROL_LOOK_S;
	c->lost.data = c->look.data = c;
}

void control_events_end(struct control *c)
{
	for (struct stream *s = c->streams; s; s = s->next)
		control_stream_end(&s->s);
}
