/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the unit tests share: cmocka with the headers it wants before it, and what to do without root. */
#pragma once

/* cmocka wants these four first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

/* Skips the calling test without root; in CI there is root, so its lack is a failure. */
static inline void unit_need_root(void)
{
	if (geteuid() == 0)
		return;
	if (getenv("CI"))
		fail_msg("this test needs root");
	skip();
}
