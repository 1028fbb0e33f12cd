/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What systemd wants to be told (sd_notify(3)); nothing happens where it has not asked. */
#pragma once

#include <stdint.h>

#include "base/util.h"

/* "READY=1", "STOPPING=1", "STATUS=...", several with newlines between them. */
void notify_state(const char *fmt, ...) _printf_(1, 2);

/* READY after a reload has been announced with this: the moment is in it, as Type=notify-reload wants. */
void notify_reloading(void);

/* How often "WATCHDOG=1" has to come, in milliseconds; 0: nobody waits for it. */
uint64_t notify_watchdog_ms(void);
