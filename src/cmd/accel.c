// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include "cmd/cmd.h"
#include "daemon/daemon.h"
#include "model/ports.h"
#include "sys/caps.h"

struct accel_args {
	const char *cgroup;
	struct opt_list port, exclude_port, trust;
	uint64_t max_sockets;
};

static const struct opt accel_opts[] = {
	{ "cgroup", OPT_STRING, "DIR", "only processes of this cgroup v2 (default: all)",
	  offsetof(struct accel_args, cgroup), 0, 0 },
	{ "port", OPT_LIST, "LIST", "only connections that use one of these ports", offsetof(struct accel_args, port),
	  0, 0 },
	{ "exclude-port", OPT_LIST, "LIST", "no connection that uses one of these ports",
	  offsetof(struct accel_args, exclude_port), 0, 0 },
	{ "trust", OPT_LIST, "FILE", "an executable that need not be watched before it is joined",
	  offsetof(struct accel_args, trust), 0, 0 },
	{ "max-sockets", OPT_U64, "N", "room for this many joined sockets (default 262144)",
	  offsetof(struct accel_args, max_sockets), 2, 1 << 24 },
	{ 0 },
};

static int accel_ports(const struct accel_args *args, uint8_t *map, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < args->port.n; i++)
		r = ports_parse(args->port.v[i], map, AC_PORT_ONLY, err);
	for (size_t i = 0; r >= 0 && i < args->exclude_port.n; i++)
		r = ports_parse(args->exclude_port.v[i], map, AC_PORT_EXCLUDE, err);
	return r;
}

static int accel_run(const struct accel_args *args)
{
	_cleanup_free_ uint8_t *ports = calloc(AC_PORTS, 1);
	const char *const cgroups[] = { args->cgroup };
	struct accel_opts opts = {
		.cgroups = cgroups,
		.n_cgroups = args->cgroup ? 1 : 0,
		.ports = ports,
		.state_dir = daemon_state_dir(),
		.trust = args->trust.v,
		.n_trust = args->trust.n,
		.max_sockets = (uint32_t)args->max_sockets,
	};
	char lacking[CAPS_LACKING_MAX];
	struct err err = {};
	int r;

	if (!ports)
		return cmd_fail(EXIT_FAILED, "out of memory");
	if (accel_ports(args, ports, &err) < 0)
		return cmd_fail(EXIT_USAGE, "accel: %s", err.text);
	/* Before anything is made: half of the way is where something would be left. */
	caps_lacking(lacking, sizeof(lacking));
	if (lacking[0])
		return cmd_fail(EXIT_FAILED, "accel: not permitted (missing: %s): run as root", lacking);
	r = daemon_accel(&opts, &err);
	/* What the caller named and what is not there, or not of its kind, is the caller's to put right. */
	if (r == -ENOENT || r == -EINVAL)
		return cmd_fail(EXIT_USAGE, "accel: %s", err.text);
	return r < 0 ? cmd_fail(EXIT_FAILED, "accel: %s", err.text) : EXIT_DONE;
}

static int accel_fn(int argc, char **argv)
{
	struct accel_args args = {};
	int first, r;

	r = opt_parse(&cmd_accel, argc, argv, &args, &first);
	r = r < 0 ? OPT_EXIT(r) : accel_run(&args);
	opt_list_done(&args.port);
	opt_list_done(&args.exclude_port);
	opt_list_done(&args.trust);
	return r;
}

const struct cmd cmd_accel = {
	.name = "accel",
	.args = "",
	.help = "accelerate local TCP connections until stopped",
	.opts = accel_opts,
	.fn = accel_fn,
};
