// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/log.h"

#include <stdarg.h>

static enum log_level log_max = LOG_LEVEL_INFO;

void log_set_max(enum log_level level)
{
	log_max = level;
}

bool log_enabled(enum log_level level)
{
	return level <= log_max;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	size_t n;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	n = strlen(line);
	while (n && line[n - 1] == '\n')
		line[--n] = '\0';
	/* systemd sets JOURNAL_STREAM for services whose stderr is the journal. */
	if (getenv("JOURNAL_STREAM"))
		(void)fprintf(stderr, "<%d>%s\n", level, line);
	else
		(void)fprintf(stderr, "waggle: %s\n", line);
}
