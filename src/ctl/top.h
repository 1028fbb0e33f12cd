/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `waggle top` shows: rows of services, backends or pairs of sockets as the control API tells them, with rates
 * between two looks, sorted and filtered. A row is a JSON object; columns say which of its fields is shown how.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

enum top_view_id {
	TOP_SERVICES,
	TOP_BACKENDS,
	TOP_PAIRS,
	_TOP_VIEW_MAX,
};

enum top_kind {
	TOP_TEXT,
	TOP_NUMBER,
	TOP_BYTES,
	TOP_RATE,      /* a second; null until there was a second look */
	TOP_BYTE_RATE, /* likewise */
};

struct top_col {
	const char *field, *title;
	enum top_kind kind;
	const char *of; /* TOP_RATE, TOP_BYTE_RATE: the field that is counted */
};

struct top_view {
	const char *name;
	const struct top_col *cols;
	size_t n_cols;
};
extern const struct top_view top_views[_TOP_VIEW_MAX];

struct top {
	enum top_view_id view;
	size_t sort; /* column */
	bool reverse;
	char filter[64]; /* rows of which no cell has it are left out; "" shows all */
	json_t *rows;	 /* as they are to be shown */
	json_t *before;	 /* all rows of the last look, by id */
	uint64_t before_ms;
	struct err problem; /* why there is nothing to be seen; "" if there is */
};

void top_done(struct top *t);

/* Another view; its rates begin anew. */
void top_set_view(struct top *t, enum top_view_id view);

/* The next column to sort by, or the one before; text from a to z, numbers from the greatest down. */
void top_sort_step(struct top *t, int step);

/*
 * Looks again. What the daemon does not have (the accelerator is off, there are no services) is a problem and no rows;
 * so is that none runs, -ESRCH.
 */
int top_look(struct top *t, struct err *err);

/* Sorts and filters what there is. */
void top_arrange(struct top *t);

#define TOP_CELL_MAX 128
/* A cell as text that is fit for a terminal. */
void top_cell(const struct top_col *col, const json_t *row, char ret[TOP_CELL_MAX]);

/* The rows as a table, or as {"view", "rows"}. */
int top_print(const struct top *t, FILE *out, struct err *err);
int top_print_json(const struct top *t, FILE *out, struct err *err);

/* top_screen.c: shows it on the terminal until the user has seen enough. */
int top_screen(struct top *t, unsigned int interval_ms, struct err *err);
