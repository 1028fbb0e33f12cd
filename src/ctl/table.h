/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables for people: columns as wide as their widest cell. Cells never carry control characters to a terminal. */
#pragma once

#include <stdint.h>

#include "base/err.h"
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

/*
 * Text that is made whole before it is shown: whatever the words in it are, none carries a control character to the terminal.
 * After table_line_begin() it is written into .f, and table_line_end() shows it; out NULL: it is forgotten.
 */
struct table_line {
	FILE *f;
	char *text;
	size_t n;
};
int table_line_begin(struct table_line *line, struct err *err);
int table_line_end(struct table_line *line, FILE *out, struct err *err);

/* The next cell of the row, then of the next row. */
void table_cell(struct table *t, const char *fmt, ...) _printf_(2, 3);

/* "512", "1.5K", "23M", "7.1G" */
#define TABLE_BYTES_MAX 16
void table_bytes(uint64_t n, char ret[TABLE_BYTES_MAX]);

/* -ENOMEM: a row was lost, and nothing is printed. */
int table_print(const struct table *t, FILE *out);
