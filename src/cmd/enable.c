// SPDX-License-Identifier: GPL-2.0-or-later
#include "cmd/cmd.h"
#include "ctl/client.h"

static const struct opt enable_opts[] = { { 0 } };

static int enable_run(const char *service, const char *backend)
{
	json_t *body = json_object(), *answer = NULL;
	_cleanup_free_ char *path = ctl_backend_path(service, backend, "enable");
	const char *address, *state;
	struct err err = {};
	int r = path ? ctl_call(path, body, &answer, &err) : err_set(&err, -1, "out of memory");

	json_decref(body);
	if (r >= 0 && json_unpack(answer, "{s:s, s:s}", "address", &address, "state", &state))
		r = err_set(&err, -1, "the answer is not what this version of waggle expects");
	if (r >= 0)
		printf("%s: %s\n", address, state);
	json_decref(answer);
	return r < 0 ? cmd_fail(EXIT_FAILED, "enable: %s", err.text) : EXIT_DONE;
}

static int enable_fn(int argc, char **argv)
{
	int first, r = opt_parse(&cmd_enable, argc, argv, NULL, &first);

	return r < 0 ? OPT_EXIT(r) : enable_run(argv[first], argv[first + 1]);
}

const struct cmd cmd_enable = {
	.name = "enable",
	.args = "SERVICE BACKEND",
	.help = "give a drained backend connections again",
	.opts = enable_opts,
	.min = 2,
	.max = 2,
	.fn = enable_fn,
};
