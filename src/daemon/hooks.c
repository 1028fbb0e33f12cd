// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of hooks: which there are, and how the configuration makes, changes and ends them. */
#include <errno.h>

#include "base/log.h"
#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/run.h"

static bool strings_equal(const struct config_strings *a, const struct config_strings *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!streq(a->v[i], b->v[i]))
			return false;
	return true;
}

static bool ports_equal(const struct config_ports *a, const struct config_ports *b)
{
	return a->n == b->n && (!a->n || !memcmp(a->v, b->v, a->n * sizeof(*a->v)));
}

/* The connect hook. */

static bool connect_wanted(const struct config *config)
{
	return config->connect_on;
}

static bool connect_is_on(const struct run *run)
{
	return run->connect;
}

static struct connect_opts connect_opts_of(const struct config *config)
{
	return (struct connect_opts){ .cgroups = (const char *const *)config->connect_cgroups.v,
				      .n_cgroups = config->connect_cgroups.n };
}

static int hook_connect_open(struct run *run, struct err *err)
{
	struct connect_opts opts = connect_opts_of(run->config);

	return connect_open(run->lb, &opts, &run->connect, err);
}

static int hook_connect_configure(struct run *run, const struct config *was, struct err *err)
{
	struct connect_opts opts = connect_opts_of(run->config);

	/* Also if the names are the same: they may be those of other cgroups now, or have been of none. */
	(void)was;
	return connect_set_cgroups(run->connect, &opts, err);
}

static int hook_connect_end(struct run *run, struct err *err)
{
	run->connect = connect_close(run->connect);
	return connect_detach(run->lb, err);
}

static int hook_connect_tick(struct run *run)
{
	return connect_tick(run->connect);
}

static void hook_connect_close(struct run *run)
{
	run->connect = connect_close(run->connect);
}

static void cgroups_status(const struct config_strings *cgroups, json_t *ret)
{
	json_t *list = json_array();

	for (size_t i = 0; i < cgroups->n; i++)
		(void)json_array_append_new(list, json_string(cgroups->v[i]));
	if (!cgroups->n)
		(void)json_array_append_new(list, json_string("/"));
	(void)json_object_set_new(ret, "cgroups", list);
}

static void hook_connect_status(const struct run *run, json_t *ret)
{
	cgroups_status(&run->config->connect_cgroups, ret);
}

/* The accelerator. */

static bool accel_wanted(const struct config *config)
{
	return config->accelerate.on;
}

static bool accel_is_on(const struct run *run)
{
	return run->accel;
}

static void ports_mark(const struct config_ports *ports, uint8_t *map, uint8_t bit)
{
	for (size_t i = 0; i < ports->n; i++)
		for (unsigned int p = ports->v[i].first; p <= ports->v[i].last; p++)
			map[p] |= bit;
}

static void on_accel_event(const struct ac_event *event, void *data)
{
	struct run *run = data;

	control_event(run->control, event);
}

static void on_accel_left(void *data)
{
	struct run *run = data;

	ev_break(run->loop, EVBREAK_ALL);
}

static int hook_accel_open(struct run *run, struct err *err)
{
	const struct config_accelerate *conf = &run->config->accelerate;
	_cleanup_free_ uint8_t *ports = calloc(AC_PORTS, 1);
	_cleanup_(accel_closep) struct accel *a = NULL;
	struct accel_opts opts = {
		.cgroups = (const char *const *)conf->cgroups.v,
		.n_cgroups = conf->cgroups.n,
		.ports = ports,
		.state_dir = daemon_state_dir(),
		.trust = (const char *const *)conf->trust.v,
		.n_trust = conf->trust.n,
		.max_sockets = conf->max_sockets,
	};
	int r;

	if (!ports)
		return err_set(err, -ENOMEM, "out of memory");
	ports_mark(&conf->ports, ports, AC_PORT_ONLY);
	ports_mark(&conf->exclude_ports, ports, AC_PORT_EXCLUDE);
	r = accel_open(&opts, &a, err);
	if (r < 0)
		return r;
	accel_on_event(a, on_accel_event, run);
	r = accel_attach(a, err);
	if (r < 0)
		return r;
	if (accel_probed(a)->class != ACCEL_FULL)
		log_warn("%s", accel_probed(a)->reason);
	hooked_watch(&run->accel_hooked, run->loop, &(struct hook_run){ &hook_accel, a }, on_accel_left, run);
	run->accel = TAKE_PTR(a);
	control_set_accel(run->control, run->accel);
	return 0;
}

static int hook_accel_configure(struct run *run, const struct config *was, struct err *err)
{
	const struct config_accelerate *a = &run->config->accelerate, *b = &was->accelerate;

	if (strings_equal(&a->cgroups, &b->cgroups) && ports_equal(&a->ports, &b->ports) &&
	    ports_equal(&a->exclude_ports, &b->exclude_ports) && strings_equal(&a->trust, &b->trust) &&
	    a->max_sockets == b->max_sockets)
		return 0;
	return err_set(err, 1, "accelerate: what has changed here takes effect when waggle is started again");
}

/* Its sockets could leave only by and by. */
static int hook_accel_end(struct run *run, struct err *err)
{
	return run->accel ? err_set(err, 1, "accelerate: stays on until waggle is started again") : 0;
}

static void hook_accel_close(struct run *run)
{
	hooked_stop(&run->accel_hooked);
	if (run->control)
		control_set_accel(run->control, NULL);
	run->accel = accel_close(run->accel);
}

static void hook_accel_status(const struct run *run, json_t *ret)
{
	cgroups_status(&run->config->accelerate.cgroups, ret);
}

static const struct run_hook hooks[] = {
	/* Before the connect hook: it has to see what the program asked for. */
	{ .name = "packet",
	  .wanted = run_packet_wanted,
	  .is_on = run_packet_is_on,
	  .open = run_packet_open,
	  .configure = run_packet_configure,
	  .end = run_packet_end,
	  .applied = run_packet_applied,
	  .tick = run_packet_tick,
	  .close = run_packet_close,
	  .status = run_packet_status },
	{ .name = "redirect",
	  .wanted = run_redirect_wanted,
	  .is_on = run_redirect_is_on,
	  .open = run_redirect_open,
	  .configure = run_redirect_configure,
	  .end = run_redirect_end,
	  .tick = run_redirect_tick,
	  .close = run_redirect_close,
	  .status = run_redirect_status },
	{ .name = "connect",
	  .wanted = connect_wanted,
	  .is_on = connect_is_on,
	  .open = hook_connect_open,
	  .configure = hook_connect_configure,
	  .end = hook_connect_end,
	  .tick = hook_connect_tick,
	  .close = hook_connect_close,
	  .status = hook_connect_status },
	{ .name = "accelerate",
	  .wanted = accel_wanted,
	  .is_on = accel_is_on,
	  .open = hook_accel_open,
	  .configure = hook_accel_configure,
	  .end = hook_accel_end,
	  .close = hook_accel_close,
	  .status = hook_accel_status },
};

int hooks_open(struct run *run, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		int r = 0;

		if (hooks[i].wanted(run->config))
			r = hooks[i].open(run, err);
		else if (run->taken_over)
			r = hooks[i].end(run, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void hook_configure(struct run *run, const struct run_hook *hook, const struct config *was, json_t *warnings)
{
	bool wanted = hook->wanted(run->config);
	struct err err = {};
	int r = 0;

	if (wanted && !hook->is_on(run))
		r = hook->open(run, &err);
	else if (wanted)
		r = hook->configure(run, was, &err);
	else if (hook->is_on(run))
		r = hook->end(run, &err);
	if (!r)
		return;
	log_warn("%s", err.text);
	(void)json_array_append_new(warnings, json_string(err.text));
}

void hooks_configure(struct run *run, const struct config *was, json_t *warnings)
{
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		hook_configure(run, &hooks[i], was, warnings);
}

void hooks_applied(struct run *run)
{
	struct err err = {};

	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		if (hooks[i].applied && hooks[i].is_on(run) && hooks[i].applied(run, &err) < 0)
			log_err("%s: %s", hooks[i].name, err.text);
}

void hooks_tick(struct run *run)
{
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		int r = hooks[i].tick && hooks[i].is_on(run) ? hooks[i].tick(run) : 0;

		if (r < 0)
			log_debug("%s: tick: %s", hooks[i].name, strerror(-r));
	}
}

void hooks_close(struct run *run)
{
	for (size_t i = ARRAY_SIZE(hooks); i--;)
		hooks[i].close(run);
}

json_t *hooks_status(const struct run *run)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		json_t *o = json_pack("{s:s, s:b}", "name", hooks[i].name, "on", hooks[i].is_on(run));

		if (hooks[i].status && hooks[i].is_on(run))
			hooks[i].status(run, o);
		(void)json_array_append_new(list, o);
	}
	return list;
}
