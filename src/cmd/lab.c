// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdarg.h>

#include "cmd/cmd.h"
#include "ctl/client.h"
#include "sys/cgroup.h"

void cmd_progress(const char *fmt, ...)
{
	bool tty = isatty(STDERR_FILENO);
	va_list ap;

	if (tty)
		(void)fputs("\r\033[K", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (!tty && *fmt)
		(void)fputc('\n', stderr);
	(void)fflush(stderr);
}

void cmd_progress_end(void)
{
	if (isatty(STDERR_FILENO))
		(void)fputs("\r\033[K", stderr);
}

int cmd_joined(uint64_t *ret, struct err *err)
{
	json_t *status = NULL, *counters;
	int r = ctl_call("/v1/status", NULL, &status, err);

	if (r < 0)
		return r;
	counters = json_object_get(status, "counters");
	*ret = (uint64_t)json_integer_value(json_object_get(counters, "joined")) +
	       (uint64_t)json_integer_value(json_object_get(counters, "joined_late"));
	json_decref(status);
	return 0;
}

/* One for another cgroup does not matter. */
int cmd_alone(const char *command)
{
	_cleanup_free_ char *root = NULL;
	json_t *status = NULL;
	const char *cgroup;
	bool whole;

	if (ctl_call("/v1/status", NULL, &status, NULL) < 0)
		return EXIT_DONE;
	cgroup = json_string_value(json_object_get(status, "cgroup"));
	whole = cgroup && (streq(cgroup, "/") || (cgroup_root(&root, NULL) >= 0 && streq(cgroup, root)));
	json_decref(status);
	if (whole)
		return cmd_fail(EXIT_FAILED,
				"%s: waggle runs already, so nothing here would be plain: run 'waggle unload' first",
				command);
	return EXIT_DONE;
}
