// SPDX-License-Identifier: GPL-2.0-or-later
/* Makes this machine a backend of dsr, ipip or gue. Needs no daemon. */
#include <errno.h>

#include "cmd/cmd.h"
#include "hook/decap.h"
#include "model/addr.h"

struct backend_args {
	const char *interface;
	struct opt_list addresses;
};

static const struct opt backend_opts[] = {
	{ "interface", OPT_STRING, "NAME", "where packets from the balancer come in",
	  offsetof(struct backend_args, interface), 0, 0 },
	{ "address", OPT_LIST, "ADDR", "address of a service; may be given several times",
	  offsetof(struct backend_args, addresses), 0, 0 },
	{ 0 },
};

static int backend_addresses(const struct backend_args *args, struct lb_addr **ret)
{
	_cleanup_free_ struct lb_addr *v = calloc(args->addresses.n + 1, sizeof(*v));
	struct err err = {};

	if (!v)
		return cmd_fail(EXIT_FAILED, "out of memory");
	for (size_t i = 0; i < args->addresses.n; i++)
		if (addr_parse(args->addresses.v[i], &v[i], &err) < 0)
			return cmd_fail(EXIT_USAGE, "backend: %s", err.text);
	*ret = TAKE_PTR(v);
	return 0;
}

static int backend_run(const char *verb, const struct backend_args *args)
{
	_cleanup_free_ struct lb_addr *addresses = NULL;
	struct decap_opts opts = { .interface = args->interface, .n_addresses = args->addresses.n };
	struct err err = {};
	bool generic;
	int r;

	if (!streq(verb, "setup") && !streq(verb, "remove"))
		return cmd_fail(EXIT_USAGE, "backend: '%s' is not 'setup' or 'remove'", verb);
	if (!args->interface || !args->addresses.n)
		return cmd_fail(EXIT_USAGE, "backend: give --interface and at least one --address");
	r = backend_addresses(args, &addresses);
	if (r)
		return r;
	opts.addresses = addresses;
	if (streq(verb, "remove"))
		return decap_remove(&opts, &err) < 0 ? cmd_fail(EXIT_FAILED, "backend: %s", err.text) : EXIT_DONE;
	if (decap_setup(&opts, &generic, &err) < 0)
		return cmd_fail(EXIT_FAILED, "backend: %s", err.text);
	printf("%s unwraps ipip and gue in %s; %zu address%s on loopback\n", args->interface,
	       generic ? "generic XDP, for its driver has none" : "XDP", args->addresses.n,
	       args->addresses.n == 1 ? "" : "es");
	return EXIT_DONE;
}

static int backend_fn(int argc, char **argv)
{
	struct backend_args args = {};
	int first, r = opt_parse(&cmd_backend, argc, argv, &args, &first);

	r = r < 0 ? OPT_EXIT(r) : backend_run(argv[first], &args);
	opt_list_done(&args.addresses);
	return r;
}

const struct cmd cmd_backend = {
	.name = "backend",
	.args = "setup|remove",
	.help = "make this machine a backend of dsr, ipip or gue",
	.opts = backend_opts,
	.min = 1,
	.max = 1,
	.fn = backend_fn,
};
