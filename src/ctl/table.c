// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/table.h"

#include <errno.h>
#include <stdarg.h>

void table_init(struct table *t, const struct table_col *cols, size_t n_cols)
{
	*t = (struct table){ .cols = cols, .n_cols = n_cols };
}

void table_done(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){};
}

void table_filter(char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '?';
}

static char *cell_format(const char *fmt, va_list ap)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		return NULL;
	table_filter(text, strlen(text));
	return text;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	char *text;
	va_list ap;

	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		char **cells = reallocarray(t->cells, room, sizeof(*cells));

		if (!cells) {
			t->failed = true;
			return;
		}
		t->cells = cells;
		t->room = room;
	}
	va_start(ap, fmt);
	text = cell_format(fmt, ap);
	va_end(ap);
	t->failed |= !text;
	t->cells[t->n++] = text;
}

void table_bytes(uint64_t n, char ret[TABLE_BYTES_MAX])
{
	static const char units[] = " KMGTPE";
	double v = (double)n;
	size_t unit = 0;

	while (v >= 1000 && unit + 2 < sizeof(units)) {
		v /= 1024;
		unit++;
	}
	if (!unit)
		(void)snprintf(ret, TABLE_BYTES_MAX, "%u", (unsigned int)n);
	else
		(void)snprintf(ret, TABLE_BYTES_MAX, v < 9.95 ? "%.1f%c" : "%.0f%c", v, units[unit]);
}

/* The last column is not padded, so that lines carry no blanks at their end. */
static void row_print(const struct table *t, const int *widths, char *const *cells, FILE *out)
{
	size_t last = t->n_cols;

	while (last && !(cells[last - 1] && cells[last - 1][0]))
		last--;
	for (size_t i = 0; i < last; i++) {
		const char *cell = cells[i] ? cells[i] : "";
		const char *gap = i + 1 < last ? "  " : "\n";

		if (t->cols[i].right)
			(void)fprintf(out, "%*s%s", widths[i], cell, gap);
		else
			(void)fprintf(out, "%-*s%s", i + 1 < last ? widths[i] : 0, cell, gap);
	}
}

int table_line_begin(struct table_line *line, struct err *err)
{
	*line = (struct table_line){};
	line->f = open_memstream(&line->text, &line->n);
	return line->f ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int table_line_end(struct table_line *line, FILE *out, struct err *err)
{
	_cleanup_free_ char *text = NULL;

	if (fclose(line->f)) {
		free(line->text);
		return err_set(err, -ENOMEM, "out of memory");
	}
	text = line->text;
	if (!out || !line->n)
		return 0;
	table_filter(text, line->n - 1);
	(void)fputs(text, out);
	return 0;
}

int table_print(const struct table *t, FILE *out)
{
	_cleanup_free_ int *widths = calloc(t->n_cols, sizeof(*widths));
	_cleanup_free_ char **titles = calloc(t->n_cols, sizeof(*titles));

	if (t->failed || !widths || !titles)
		return -ENOMEM;
	for (size_t i = 0; i < t->n_cols; i++) {
		titles[i] = (char *)t->cols[i].title;
		widths[i] = (int)strlen(titles[i]);
	}
	for (size_t i = 0; i < t->n; i++) {
		int width = (int)strlen(t->cells[i]);

		if (widths[i % t->n_cols] < width)
			widths[i % t->n_cols] = width;
	}
	row_print(t, widths, titles, out);
	for (size_t i = 0; i + t->n_cols <= t->n; i += t->n_cols)
		row_print(t, widths, t->cells + i, out);
	return 0;
}
