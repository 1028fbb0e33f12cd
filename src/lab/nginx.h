/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nginx in the lab: one worker, everything it writes in the lab's private directory. */
#pragma once

#include "lab/lab.h"
#include "lab/prog.h"

#define NGINX_STOP_MS 3000

struct nginx_spec {
	const char *name; /* of this instance: NAME.conf, NAME.log and so on */
	const char *host; /* where it runs */
	const char *http; /* what stands in its http { } besides the common part */
};

/* Returns when it listens. Stop it by prog_stop(). */
int nginx_start(const struct lab *lab, const struct nginx_spec *spec, struct prog *ret, struct err *err);
