/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PostgreSQL in the lab, as Debian packages it: on all addresses of a host, a database of its own that is gone with the lab. */
#pragma once

#include "lab/lab.h"
#include "lab/prog.h"

#define POSTGRES_STOP_MS 10000
#define POSTGRES_USER "postgres" /* of the machine, and of the database */

struct postgres {
	char bin[PATH_MAX]; /* where its programs are, psql too */
};

/* The newest version that is installed; -ENOENT and a sentence that names the package: there is none. */
int postgres_find(struct postgres *ret, struct err *err);

/* Makes a database and serves it; returns when it answers. It trusts everybody in the lab. Stop it by prog_stop(). */
int postgres_start(const struct lab *lab, const char *host, const struct postgres *pg, struct prog *ret,
		   struct err *err);
