// SPDX-License-Identifier: GPL-2.0-or-later
/* Redirects and policies as a line of the table of hooks, and what they tell to people. */
#include <errno.h>
#include <netinet/in.h>

#include "base/log.h"
#include "daemon/control.h"
#include "daemon/run.h"
#include "model/addr.h"
#include "model/wire.h"
#include "sys/cgroup.h"

const char *const run_redirect_words[RUN_REDIRECT_WORDS] = {
	[RD_EVENT_REDIRECTED] = "redirected",
	[RD_EVENT_REFUSED] = "proxy-down",
	[RD_EVENT_STRAIGHT] = "straight",
	[RD_EVENT_DENIED] = "denied",
};

bool run_redirect_wanted(const struct config *config)
{
	return config->n_redirects || config->n_policies;
}

bool run_redirect_is_on(const struct run *run)
{
	return run->redirect;
}

/* Of another machine: there is no process, and the cgroup is that of the one that it wants. */
static bool is_far(const struct rd_event *e)
{
	return e->from_port;
}

static json_t *client_json(const struct rd_event *e)
{
	char text[ADDR_TEXT_MAX];

	return is_far(e) ? json_string(addr_format(&e->from, ntohs(e->from_port), text)) : json_null();
}

static json_t *of_process(const struct rd_event *e, json_t *value)
{
	if (!is_far(e))
		return value;
	json_decref(value);
	return json_null();
}

static void on_event(const struct rd_event *e, void *data)
{
	const char *word = e->kind < RUN_REDIRECT_WORDS ? run_redirect_words[e->kind] : NULL;
	_cleanup_free_ char *cgroup = NULL;
	char text[ADDR_TEXT_MAX];
	struct run *run = data;

	if (!word ||
	    !control_wants(run->control, &(struct wire_event_view){
						 .event = word, .process = is_far(e) ? NULL : e->comm, .pid = e->pid }))
		return;
	cgroup = cgroup_path(e->cgroup);
	if (!cgroup)
		return;
	control_event_call(run->control,
			   json_pack("{s:s, s:o, s:I, s:s, s:o, s:o, s:o, s:o, s:s, s:s}", "event", word, "time",
				     run_time(e->at_ns / 1000000), "entry", (json_int_t)e->entry, "cgroup", cgroup,
				     "process", of_process(e, wire_string(e->comm)), "pid",
				     of_process(e, json_integer((json_int_t)e->pid)), "uid",
				     of_process(e, json_integer((json_int_t)e->uid)), "client", client_json(e), "to",
				     addr_format(&e->asked, ntohs(e->asked_port), text), "protocol",
				     e->proto == IPPROTO_UDP ? "udp" : "tcp"));
}

/* The accelerator may be opened after this, or not at all. */
static void on_evict(uint64_t *cookies, size_t n, void *data)
{
	struct run *run = data;
	int r = run->accel ? accel_evict(run->accel, cookies, n) : 0;

	if (r < 0)
		log_warn("cannot take connections that policy denies back to TCP: %s", strerror(-r));
}

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
	struct run *run = w->data;
	int r = redirect_dispatch(run->redirect);

	(void)loop;
	(void)revents;
	if (r < 0)
		log_warn("cannot read events: %s", strerror(-r));
}

int run_redirect_open(struct run *run, struct err *err)
{
	struct redirect_opts opts = { .dir = lb_pin_dir() };
	_cleanup_(redirect_closep) struct redirect *redirect = NULL;
	int r = redirect_open(&opts, &redirect, err);

	if (r < 0)
		return r;
	redirect_on_event(redirect, on_event, run);
	redirect_on_evict(redirect, on_evict, run);
	r = redirect_apply(redirect, run->config, err);
	if (r < 0)
		return r;
	run->redirect = TAKE_PTR(redirect);
	ev_io_init(&run->redirect_events, on_readable, redirect_event_fd(run->redirect), EV_READ);
	run->redirect_events.data = run;
	ev_io_start(run->loop, &run->redirect_events);
	/* The kernel runs programs of one cgroup in the order in which they came. */
	if (run->connect)
		return err_set(err, 1,
			       "redirect, policy: a service's connections from a cgroup that 'connect' names too are seen "
			       "as those of its backends until waggle is stopped, unloaded and started again");
	return 0;
}

int run_redirect_configure(struct run *run, const struct config *was, struct err *err)
{
	(void)was;
	return redirect_apply(run->redirect, run->config, err);
}

int run_redirect_tick(struct run *run)
{
	_Static_assert(REDIRECT_TICK_MS == RUN_TICK_MS, "the daemon's tick is the hook's");
	return redirect_tick(run->redirect);
}

void run_redirect_close(struct run *run)
{
	if (run->redirect)
		ev_io_stop(run->loop, &run->redirect_events);
	run->redirect = redirect_close(run->redirect);
}

int run_redirect_end(struct run *run, struct err *err)
{
	run_redirect_close(run);
	return redirect_detach(lb_pin_dir(), err);
}

static json_t *counters_json(const struct redirect *redirect)
{
	uint64_t stats[_RD_STAT_MAX] = {};
	json_t *o = json_object();

	if (redirect_stats(redirect, stats) < 0)
		return o;
	for (size_t i = 0; i < _RD_STAT_MAX; i++)
		(void)json_object_set_new(o, redirect_stat_words[i], json_integer((json_int_t)stats[i]));
	return o;
}

void run_redirect_status(const struct run *run, json_t *ret)
{
	const struct config *c = redirect_config(run->redirect);
	json_t *redirects = json_array(), *policies = json_array();
	char to[ADDR_TEXT_MAX];

	for (size_t i = 0; i < c->n_redirects; i++) {
		const struct config_redirect *e = &c->redirects[i];

		(void)json_array_append_new(redirects,
					    json_pack("{s:s, s:s, s:s, s:I}", "cgroup", e->cgroup, "to",
						      addr_format(&e->addr, e->port, to), "fail",
						      e->fail_open ? "open" : "closed", "connections",
						      (json_int_t)redirect_hits(run->redirect, RD_REDIRECT, i)));
	}
	for (size_t i = 0; i < c->n_policies; i++)
		(void)json_array_append_new(policies,
					    json_pack("{s:s, s:I}", "action", c->policies[i].allow ? "allow" : "deny",
						      "decisions",
						      (json_int_t)redirect_hits(run->redirect, RD_POLICY, i)));
	(void)json_object_set_new(ret, "redirects", redirects);
	(void)json_object_set_new(ret, "policies", policies);
	(void)json_object_set_new(ret, "missing_cgroups", json_integer((json_int_t)redirect_missing(run->redirect)));
	(void)json_object_set_new(ret, "counters", counters_json(run->redirect));
}
