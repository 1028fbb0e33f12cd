/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables for people: columns as wide as their widest cell. Cells never carry control characters to a terminal. */
#pragma once

#include <stdint.h>

#include "base/util.h"

struct table_col {
	const char *title;
	bool right; /* aligned */
};

struct table {
	const struct table_col *cols;
	size_t n_cols;
	char **cells; /* row by row; NULL: empty */
	size_t n, room;
	bool failed; /* no memory; told by table_print() */
};

void table_init(struct table *t, const struct table_col *cols, size_t n_cols);
void table_done(struct table *t);

/* Control characters become '?'. Cells are filtered already. */
void table_filter(char *text, size_t n);

/* The next cell of the row, then of the next row. */
void table_cell(struct table *t, const char *fmt, ...) _printf_(2, 3);

/* "512", "1.5K", "23M", "7.1G" */
#define TABLE_BYTES_MAX 16
void table_bytes(uint64_t n, char ret[TABLE_BYTES_MAX]);

/* -ENOMEM: a row was lost, and nothing is printed. */
int table_print(const struct table *t, FILE *out);
