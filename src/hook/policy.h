/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which entries of a configuration decide on a connection, and why: the same compiled tables that the redirect hook
 * (hook/redirect.h) gives to the kernel, asked in user space. Nothing is loaded, and no cgroup need exist.
 */
#pragma once

#include <stdint.h>

#include "abi/lb.h"
#include "base/err.h"
#include "model/config.h"

struct policy;

struct policy_question {
	const char *from;      /* cgroup of the one that connects, as in the configuration; NULL: of another machine */
	const char *to_group;  /* cgroup of the one that listens; NULL: not known */
	struct lb_addr source; /* its address; zero: not known */
	struct lb_addr to;
	uint16_t port;
	uint32_t uid;
};

#define POLICY_NONE SIZE_MAX

struct policy_answer {
	bool allowed;
	size_t policy;	 /* index in config->policies of the entry that decided; POLICY_NONE: none matched */
	size_t redirect; /* index in config->redirects of the entry that takes it; POLICY_NONE: it goes straight on */
};

/* config is borrowed until policy_close(). */
int policy_open(const struct config *config, struct policy **ret, struct err *err);
int policy_ask(const struct policy *p, const struct policy_question *q, struct policy_answer *ret);

struct policy *policy_close(struct policy *p);
static inline void policy_closep(struct policy **p)
{
	(void)policy_close(*p);
}
