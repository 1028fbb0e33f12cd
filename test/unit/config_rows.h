/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A table of configurations and of the findings that each must give, all of them, in order, at their places. */
#pragma once

#include <errno.h>

#include "model/config.h"
#include "unit.h"

#define CONFIG_ROW_MAX 12

struct config_row {
	const char *yaml;
	const char *findings[CONFIG_ROW_MAX]; /* how each begins: "LINE:COLUMN: what"; none: it is accepted */
};

static void config_row_fail(const struct config_row *row, const struct config_errors *e, const char *why)
{
	print_error("%s\nof:\n%s\nfindings:\n", why, row->yaml);
	for (size_t i = 0; i < e->n; i++)
		print_error("%s:%u:%u: %s\n", e->v[i].pos.file, e->v[i].pos.line, e->v[i].pos.column, e->v[i].text);
	fail();
}

static void config_row_check(const struct config_row *row)
{
	struct config_errors e = {};
	struct config *c = NULL;
	struct err err = {};
	size_t n = 0;
	int r = config_load_buffer("t", row->yaml, strlen(row->yaml), &c, &e, &err);

	while (n < CONFIG_ROW_MAX && row->findings[n])
		n++;
	if (r != (n ? -EINVAL : 0) || !c != (n != 0))
		config_row_fail(row, &e, n ? "was accepted" : "was refused");
	if (e.n != n)
		config_row_fail(row, &e, "not as many findings as expected");
	for (size_t i = 0; i < n; i++) {
		char line[1024];

		(void)snprintf(line, sizeof(line), "%u:%u: %s", e.v[i].pos.line, e.v[i].pos.column, e.v[i].text);
		if (strncmp(line, row->findings[i], strlen(row->findings[i])) != 0)
			config_row_fail(row, &e, row->findings[i]);
		assert_string_equal(e.v[i].pos.file, "t");
		/* What, and what would be right. */
		if (!strstr(e.v[i].text, ": "))
			config_row_fail(row, &e, "a finding without a remedy");
	}
	config_errors_done(&e);
	(void)config_free(c);
}

#define config_rows_check(rows)                                                         \
	do {                                                                            \
		for (size_t row_i = 0; row_i < sizeof(rows) / sizeof(*(rows)); row_i++) \
			config_row_check(&(rows)[row_i]);                               \
	} while (0)

/* A service that is right, and room for one more key in line 5, column 3. */
#define SERVICE "services:\n- name: a\n  listen: 198.18.0.5:80\n  backends: [ 198.18.0.2:80 ]\n  "
