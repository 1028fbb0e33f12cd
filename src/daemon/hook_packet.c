// SPDX-License-Identifier: GPL-2.0-or-later
/* The packet hook as a line of the table of hooks. */
#include <dirent.h>

#include "daemon/control.h"
#include "daemon/run.h"

bool run_packet_wanted(const struct config *config)
{
	return config->n_interfaces;
}

bool run_packet_is_on(const struct run *run)
{
	return run->packet;
}

static struct packet_opts opts_of(const struct config *config)
{
	return (struct packet_opts){
		.interfaces = config->interfaces,
		.n_interfaces = config->n_interfaces,
		.allow = &config->allow,
		.deny = &config->deny,
		.source_rate = config->source_rate,
	};
}

int run_packet_open(struct run *run, struct err *err)
{
	struct packet_opts opts = opts_of(run->config);

	return packet_open(run->lb, &opts, &run->packet, err);
}

int run_packet_configure(struct run *run, const struct config *was, struct err *err)
{
	struct packet_opts opts = opts_of(run->config);

	(void)was;
	return packet_set(run->packet, &opts, err);
}

/* Has a process before us left programs on interfaces? */
static bool is_pinned(void)
{
	DIR *dir = opendir(lb_pin_dir());
	bool found = false;
	struct dirent *e;

	while (dir && !found && (e = readdir(dir)))
		found = !strncmp(e->d_name, "pk_xdp@", 7) || !strncmp(e->d_name, "pk_tc@", 6);
	if (dir)
		(void)closedir(dir);
	return found;
}

int run_packet_end(struct run *run, struct err *err)
{
	struct packet_opts none = {};
	int r = 0;

	/* Taken over with no interface: so every one is let go. */
	if (!run->packet && is_pinned())
		r = packet_open(run->lb, &none, &run->packet, err);
	else if (run->packet)
		r = packet_set(run->packet, &none, err);
	run_packet_close(run);
	return r;
}

int run_packet_applied(struct run *run, struct err *err)
{
	int r = packet_apply(run->packet, err);

	control_captures_changed(run->control);
	return r;
}

int run_packet_tick(struct run *run)
{
	_Static_assert(PACKET_TICK_MS == RUN_TICK_MS, "the daemon's tick is the hook's");
	return packet_tick(run->packet);
}

void run_packet_close(struct run *run)
{
	if (run->control)
		control_captures_end(run->control, "packet-off");
	run->packet = packet_close(run->packet);
}

void run_packet_status(const struct run *run, json_t *ret)
{
	json_t *interfaces = json_array(), *counters = json_object();
	uint64_t stats[_PK_REASON_MAX] = {};
	const struct packet_attach *at;
	size_t n = packet_attached(run->packet, &at);

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(interfaces, json_pack("{s:s, s:s, s:s}", "name", at[i].name, "hook",
								  at[i].hook, "reason", at[i].why));
	if (packet_stats(run->packet, stats) >= 0)
		for (size_t i = 0; i < _PK_REASON_MAX; i++)
			if (packet_reason_words[i])
				(void)json_object_set_new(counters, packet_reason_words[i],
							  json_integer((json_int_t)stats[i]));
	(void)json_object_set_new(ret, "interfaces", interfaces);
	(void)json_object_set_new(ret, "counters", counters);
	(void)json_object_set_new(ret, "captures", json_integer((json_int_t)packet_captures(run->packet)));
}
