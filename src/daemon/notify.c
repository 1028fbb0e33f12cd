// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"

static void notify_send(const char *text)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	_cleanup_close_ int fd = -1;
	size_t n = path ? strlen(path) : 0;

	if (!n || n >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(addr.sun_path, path, n);
	/* An abstract address: its first byte is 0, and its end is the end of the name. */
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&addr,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		log_debug("cannot tell '%s' at '%s'", text, path);
}

void notify_state(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	notify_send(text);
}

void notify_reloading(void)
{
	notify_state("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_ns(CLOCK_MONOTONIC) / 1000);
}

uint64_t notify_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t us, whose;

	if (!usec || num_parse_u64(usec, 1000, UINT64_MAX, &us) < 0)
		return 0;
	if (pid && (num_parse_u64(pid, 1, INT32_MAX, &whose) < 0 || whose != (uint64_t)getpid()))
		return 0;
	return us / 1000;
}
