// SPDX-License-Identifier: GPL-2.0-or-later
/* Reload: parse all, and change nothing if there is anything wrong; then what differs is applied, and only that. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/control.h"
#include "daemon/history.h"
#include "daemon/notify.h"
#include "daemon/resolve.h"
#include "daemon/ifaddr.h"
#include "daemon/metrics.h"
#include "daemon/run.h"

static void config_errors_cleanup(struct config_errors *e)
{
	config_errors_done(e);
}

static json_t *errors_json(const struct config_errors *errors)
{
	json_t *list = json_array();

	for (size_t i = 0; i < errors->n; i++) {
		const struct config_error *e = &errors->v[i];

		log_err("%s:%u:%u: %s", e->pos.file, e->pos.line, e->pos.column, e->text);
		(void)json_array_append_new(list, json_sprintf("%s:%u:%u: %s", e->pos.file, e->pos.line, e->pos.column,
							       e->text));
	}
	return list;
}

static int reload_refuse(struct run *run, int r, const char *text, json_t *errors, json_t **ret)
{
	run->failed_reloads++;
	(void)snprintf(run->last_error, sizeof(run->last_error), "%s", text);
	log_err("%s", text);
	*ret = json_pack("{s:s, s:o}", "error", text, "errors", errors ? errors : json_array());
	return r;
}

static int reload_read(struct run *run, struct config **ret_config, json_t **ret)
{
	_cleanup_(config_errors_cleanup) struct config_errors errors = {};
	struct err err = {};
	char text[256];
	int r = config_load(run->path, ret_config, &errors, &err);

	if (r >= 0)
		return 0;
	if (r == -EINVAL && errors.n) {
		(void)snprintf(text, sizeof(text), "the configuration has %zu error%s: nothing was changed", errors.n,
			       errors.n == 1 ? "" : "s");
		return reload_refuse(run, r, text, errors_json(&errors), ret);
	}
	(void)snprintf(text, sizeof(text), "%.200s: nothing was changed", err.text);
	return reload_refuse(run, r, text, NULL, ret);
}

/* Names and interfaces first: what they had before holds for services that have them already. */
static int reload_configure(struct run *run, struct services_diff *diff, struct err *err)
{
	int r = services_configure(run->services, run->config, clock_ms(), diff, err);

	if (r >= 0 && ifaddr_sync(run->ifaddr) < 0)
		r = err_set(err, -EIO, "cannot read the addresses of interfaces");
	if (r >= 0 && resolve_sync(run->resolve) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	return r < 0 ? r : services_apply(run->services, err);
}

static json_t *reload_answer(const struct services_diff *diff, int changed, json_t *warnings)
{
	return json_pack("{s:{s:I, s:I, s:i}, s:{s:I, s:I}, s:o}", "services", "added",
			 (json_int_t)diff->services_added, "removed", (json_int_t)diff->services_removed, "changed",
			 changed, "backends", "added", (json_int_t)diff->backends_added, "removed",
			 (json_int_t)diff->backends_removed, "warnings", warnings);
}

/* A hook that could not take the new configuration goes on by the one before, and reads it. */
static void reload_release(struct run *run, struct config *was)
{
	const struct config *used = run->redirect ? redirect_config(run->redirect) : NULL;

	if (run->kept != used)
		run->kept = config_free(run->kept);
	if (was == used)
		run->kept = was;
	else
		(void)config_free(was);
}

static int reload_do(struct run *run, json_t **ret)
{
	struct config *was = run->config, *now = NULL;
	struct services_diff diff = {}, back;
	struct err err = {}, ignored;
	json_t *warnings;
	char text[256];
	int r = reload_read(run, &now, ret), changed;

	if (r < 0)
		return r;
	if (services_remember(run->services) < 0) {
		(void)config_free(now);
		return reload_refuse(run, -ENOMEM, "out of memory: nothing was changed", NULL, ret);
	}
	run->config = now;
	changed = reload_configure(run, &diff, &err);
	if (changed < 0) {
		run->config = was;
		(void)reload_configure(run, &back, &ignored);
		services_forget(run->services);
		hooks_applied(run);
		(void)config_free(now);
		(void)snprintf(text, sizeof(text), "%.200s: everything is as it was", err.text);
		return reload_refuse(run, changed, text, NULL, ret);
	}
	services_forget(run->services);
	warnings = json_array();
	hooks_configure(run, was, warnings);
	metrics_configure(run, warnings);
	hooks_applied(run);
	reload_release(run, was);
	run->reloads++;
	run->loaded_ms = clock_ms();
	run->last_error[0] = '\0';
	log_info("reloaded '%s': services: %zu added, %zu removed, %d changed; backends: %zu added, %zu removed",
		 run->path, diff.services_added, diff.services_removed, changed, diff.backends_added,
		 diff.backends_removed);
	*ret = reload_answer(&diff, changed, warnings);
	return 0;
}

static void reload_tell(struct run *run, bool done)
{
	json_t *event = json_pack("{s:s, s:o, s:s, s:s}", "event", "reload", "time", run_time(clock_ms()), "state",
				  done ? "done" : "refused", "text",
				  done ? "the configuration was read again" : run->last_error);

	history_event(run->history, json_incref(event));
	control_event_json(run->control, event);
}

int run_reload(struct run *run, json_t **ret)
{
	int r;

	notify_reloading();
	r = reload_do(run, ret);
	reload_tell(run, r >= 0);
	notify_state("READY=1\nSTATUS=%s", r < 0 ? run->last_error : "");
	return r;
}

/* For GET /v1/status. */

static json_t *counters_json(const struct run *run)
{
	static const char *const words[_LB_STAT_MAX] = {
#define X(id, word, text) [LB_STAT_##id] = word,
		LB_STAT_LIST(X)
#undef X
	};
	uint64_t stats[_LB_STAT_MAX] = {};
	json_t *o = json_object();

	if (lb_stats(run->lb, stats) < 0)
		return o;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		(void)json_object_set_new(o, words[i], json_integer((json_int_t)stats[i]));
	return o;
}

json_t *run_status(const struct run *run, json_t *status)
{
	size_t states[_BACKEND_STATE_MAX];
	size_t n = services_count(run->services, states), total = 0;
	json_t *backends = json_object(), *balancing;

	for (size_t i = 0; i < _BACKEND_STATE_MAX; i++) {
		total += states[i];
		(void)json_object_set_new(backends, backend_state_words[i], json_integer((json_int_t)states[i]));
	}
	balancing = json_pack("{s:I, s:I, s:o, s:o, s:o}", "services", (json_int_t)n, "backends", (json_int_t)total,
			      "states", backends, "names", resolve_status(run->resolve), "counters",
			      counters_json(run));
	(void)json_object_set_new(balancing, "rates", history_totals_json(run->history));
	(void)json_object_set_new(status, "balancing", balancing);
	(void)json_object_set_new(status, "hooks", hooks_status(run));
	(void)json_object_set_new(status, "config",
				  json_pack("{s:s, s:o, s:I, s:I, s:o}", "path", run->path, "loaded",
					    run_time(run->loaded_ms), "reloads", (json_int_t)run->reloads,
					    "failed_reloads", (json_int_t)run->failed_reloads, "error",
					    run->last_error[0] ? json_string(run->last_error) : json_null()));
	return status;
}
