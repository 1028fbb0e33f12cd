// SPDX-License-Identifier: GPL-2.0-or-later
/* What the commands that read a configuration say of one that is wrong. */
#include "model/config.h"

#include <errno.h>

#include "cmd/cmd.h"

int cmd_config(const char *command, const char *path, struct config **ret)
{
	struct config_errors errors = {};
	struct err err = {};
	int r = config_load(path, ret, &errors, &err);

	if (r >= 0)
		return EXIT_DONE;
	if (r != -EINVAL || !errors.n)
		return cmd_fail(r == -ENOMEM ? EXIT_FAILED : EXIT_USAGE, "%s: %s", command, err.text);
	for (size_t i = 0; i < errors.n; i++)
		(void)fprintf(stderr, "%s:%u:%u: %s\n", errors.v[i].pos.file, errors.v[i].pos.line,
			      errors.v[i].pos.column, errors.v[i].text);
	config_errors_done(&errors);
	return EXIT_USAGE;
}
