// SPDX-License-Identifier: GPL-2.0-or-later
/* The accelerator as one of the hooks. */
#include "hook/accel.h"

static int attach(void *self, struct err *err)
{
	return accel_attach(self, err);
}

static int event_fd(const void *self)
{
	return accel_event_fd(self);
}

static int dispatch(void *self)
{
	return accel_dispatch(self);
}

static int tick(void *self)
{
	return accel_tick(self);
}

static int leave(void *self, size_t *ret_left, size_t *ret_asleep)
{
	return accel_leave(self, ret_left, ret_asleep);
}

const struct hook hook_accel = {
	.name = "accel",
	.tick_ms = ACCEL_TICK_MS,
	.attach = attach,
	.event_fd = event_fd,
	.dispatch = dispatch,
	.tick = tick,
	.leave = leave,
};
