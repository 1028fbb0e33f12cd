// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdint.h>
#include <time.h>

#include "cmd/cmd.h"
#include "ctl/client.h"

#define DRAIN_EVERY_US 200000
#define DRAIN_WAIT_MAX (7ULL * 24 * 3600)

struct drain_args {
	uint64_t wait_s;
};

static const struct opt drain_opts[] = {
	{ "wait", OPT_U64, "SECONDS", "wait so long for its connections to end", offsetof(struct drain_args, wait_s), 1,
	  DRAIN_WAIT_MAX },
	{ 0 },
};

static int drain_get(json_t *backend, json_int_t *ret_left, const char **ret_address, struct err *err)
{
	if (json_unpack(backend, "{s:I, s:s}", "connections", ret_left, "address", ret_address))
		return err_set(err, -1, "the answer is not what this version of waggle expects");
	return 0;
}

/* The backend of this address among those of the service. */
static json_int_t drain_left(const char *service, const char *address, struct err *err)
{
	_cleanup_free_ char *name = ctl_escape(service), *path = NULL;
	json_t *root = NULL, *list, *backend;
	json_int_t left = -1;
	size_t i;

	if (!name || asprintf(&path, "/v1/services/%s", name) < 0)
		return err_set(err, -1, "out of memory");
	if (ctl_call(path, NULL, &root, err) < 0)
		return -1;
	list = json_object_get(root, "backends");
	json_array_foreach(list, i, backend) {
		const char *text = json_string_value(json_object_get(backend, "address"));

		if (text && streq(text, address))
			left = json_integer_value(json_object_get(backend, "connections"));
	}
	json_decref(root);
	/* Gone from the file meanwhile. */
	return left < 0 ? 0 : left;
}

static const char *plural(json_int_t n)
{
	return n == 1 ? "" : "s";
}

static int drain_wait(const struct drain_args *args, const char *service, const char *address, json_int_t left)
{
	time_t until = time(NULL) + (time_t)args->wait_s;
	struct err err = {};

	while (left > 0 && time(NULL) < until) {
		(void)usleep(DRAIN_EVERY_US);
		left = drain_left(service, address, &err);
	}
	if (left < 0)
		return cmd_fail(EXIT_FAILED, "drain: %s", err.text);
	if (left)
		return cmd_fail(EXIT_FAILED, "drain: %s: %lld connection%s left after %llu s: it goes on draining",
				address, (long long)left, plural(left), (unsigned long long)args->wait_s);
	printf("%s: no connection left\n", address);
	return EXIT_DONE;
}

static int drain_run(const struct drain_args *args, const char *service, const char *backend)
{
	json_t *body = json_object(), *answer = NULL;
	_cleanup_free_ char *path = ctl_backend_path(service, backend, "drain");
	const char *address = NULL;
	struct err err = {};
	json_int_t left = 0;
	int r = path ? ctl_call(path, body, &answer, &err) : err_set(&err, -1, "out of memory");

	json_decref(body);
	if (r >= 0)
		r = drain_get(answer, &left, &address, &err);
	if (r < 0) {
		json_decref(answer);
		return cmd_fail(EXIT_FAILED, "drain: %s", err.text);
	}
	printf("%s: draining: %lld connection%s left\n", address, (long long)left, plural(left));
	(void)fflush(stdout);
	r = args->wait_s ? drain_wait(args, service, address, left) : EXIT_DONE;
	json_decref(answer);
	return r;
}

static int drain_fn(int argc, char **argv)
{
	struct drain_args args = {};
	int first, r = opt_parse(&cmd_drain, argc, argv, &args, &first);

	return r < 0 ? OPT_EXIT(r) : drain_run(&args, argv[first], argv[first + 1]);
}

const struct cmd cmd_drain = {
	.name = "drain",
	.args = "SERVICE BACKEND",
	.help = "give a backend no new connections, and let its own finish",
	.opts = drain_opts,
	.min = 2,
	.max = 2,
	.fn = drain_fn,
};
