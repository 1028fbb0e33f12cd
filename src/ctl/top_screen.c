// SPDX-License-Identifier: GPL-2.0-or-later
/* `waggle top` on a terminal: draws what ctl/top.c has found out, and obeys keys. */
#include <errno.h>
#include <ncurses.h>

#include "base/clock.h"
#include "ctl/client.h"
#include "ctl/top.h"

#define HEAD_LINES 2 /* what is seen, and the titles */
#define FOOT_LINES 1
#define KEY_CTRL_C 3
#define KEY_ESC 27

enum prompt {
	PROMPT_NONE,
	PROMPT_FILTER,
	PROMPT_DRAIN, /* asks whether to do it */
};

struct screen {
	struct top *top;
	unsigned int interval_ms;
	char chosen[256]; /* id of the row */
	size_t at, first; /* of the rows: the chosen one, and the first that is shown */
	enum prompt prompt;
	struct err note; /* what came of the last key */
	bool end;
};

static size_t screen_room(void)
{
	return LINES > HEAD_LINES + FOOT_LINES ? (size_t)(LINES - HEAD_LINES - FOOT_LINES) : 1;
}

static json_t *screen_row(const struct screen *s)
{
	return json_array_get(s->top->rows, s->at);
}

static void screen_choose(struct screen *s, size_t at)
{
	size_t n = json_array_size(s->top->rows);
	const char *id;

	s->at = at < n ? at : n ? n - 1 : 0;
	id = json_string_value(json_object_get(screen_row(s), "id"));
	(void)snprintf(s->chosen, sizeof(s->chosen), "%s", id ? id : "");
	if (s->at < s->first)
		s->first = s->at;
	if (s->at >= s->first + screen_room())
		s->first = s->at + 1 - screen_room();
}

/* The row stays chosen wherever it has gone. */
static void screen_follow(struct screen *s)
{
	json_t *row;
	size_t i;

	json_array_foreach(s->top->rows, i, row) {
		const char *id = json_string_value(json_object_get(row, "id"));

		if (id && streq(id, s->chosen)) {
			screen_choose(s, i);
			return;
		}
	}
	screen_choose(s, s->at);
}

static void screen_widths(const struct top *t, int *widths)
{
	const struct top_view *view = &top_views[t->view];
	char cell[TOP_CELL_MAX];
	json_t *row;
	size_t i;

	for (size_t c = 0; c < view->n_cols; c++)
		widths[c] = (int)strlen(view->cols[c].title);
	json_array_foreach(t->rows, i, row)
		for (size_t c = 0; c < view->n_cols; c++) {
			int n;

			top_cell(&view->cols[c], row, cell);
			n = (int)strlen(cell);
			widths[c] = widths[c] < n ? n : widths[c];
		}
}

/* row NULL: the titles. */
static void draw_row(const struct top *t, const int *widths, const json_t *row, int y, attr_t attr)
{
	const struct top_view *view = &top_views[t->view];
	char cell[TOP_CELL_MAX];

	(void)move(y, 0);
	(void)clrtoeol();
	(void)attrset(attr);
	for (size_t c = 0; c < view->n_cols; c++) {
		const struct top_col *col = &view->cols[c];
		int left = COLS - getcurx(stdscr);

		if (left <= 0 || getcury(stdscr) != y)
			break;
		if (row)
			top_cell(col, row, cell);
		else
			(void)snprintf(cell, sizeof(cell), "%s", col->title);
		if (!row && c == t->sort)
			(void)attron(A_UNDERLINE);
		(void)printw(col->kind == TOP_TEXT ? "%-*.*s" : "%*.*s", widths[c] < left ? widths[c] : left, left,
			     cell);
		(void)attrset(attr);
		if (c + 1 < view->n_cols && COLS - getcurx(stdscr) > 2 && getcury(stdscr) == y)
			(void)addstr("  ");
	}
	(void)attrset(A_NORMAL);
}

static void draw_foot(const struct screen *s)
{
	const json_t *row = screen_row(s);

	(void)move(LINES - 1, 0);
	(void)clrtoeol();
	if (s->prompt == PROMPT_FILTER)
		(void)printw("filter: %.*s", COLS - 10, s->top->filter);
	else if (s->prompt == PROMPT_DRAIN)
		(void)printw("drain %s of %s? (y/n)", json_string_value(json_object_get(row, "backend")),
			     json_string_value(json_object_get(row, "service")));
	else if (s->note.text[0])
		(void)printw("%.*s", COLS - 1, s->note.text);
	else
		(void)addnstr("1 services 2 backends 3 pairs | < > sort, r reverse | / filter | d drain, e enable | q quit",
			      COLS - 1);
}

static void draw(const struct screen *s)
{
	const struct top *t = s->top;
	const struct top_view *view = &top_views[t->view];
	int widths[16];
	size_t n = json_array_size(t->rows);

	(void)erase();
	(void)mvprintw(0, 0, "waggle top: %zu %s by %s%s%s%s", n, view->name, view->cols[t->sort].field,
		       t->reverse ? ", reversed" : "", t->filter[0] ? ", with " : "", t->filter);
	screen_widths(t, widths);
	draw_row(t, widths, NULL, 1, A_REVERSE);
	if (t->problem.text[0])
		(void)mvaddnstr(HEAD_LINES, 0, t->problem.text, COLS - 1);
	for (size_t i = 0; i < screen_room() && s->first + i < n; i++)
		draw_row(t, widths, json_array_get(t->rows, s->first + i), HEAD_LINES + (int)i,
			 s->first + i == s->at ? A_STANDOUT : A_NORMAL);
	draw_foot(s);
	(void)refresh();
}

static void screen_look(struct screen *s)
{
	struct err err = {};

	/* A failure is on the screen. */
	(void)top_look(s->top, &err);
	screen_follow(s);
}

static void screen_verb(struct screen *s, const char *verb)
{
	const char *service = json_string_value(json_object_get(screen_row(s), "service"));
	const char *backend = json_string_value(json_object_get(screen_row(s), "backend"));
	_cleanup_free_ char *path = service && backend ? ctl_backend_path(service, backend, verb) : NULL;
	json_t *body = json_object(), *answer = NULL;
	struct err err = {};

	if (path && ctl_call(path, body, &answer, &err) >= 0)
		(void)snprintf(s->note.text, sizeof(s->note.text), "%s: %s", backend,
			       json_string_value(json_object_get(answer, "state")));
	else
		(void)snprintf(s->note.text, sizeof(s->note.text), "%s", path ? err.text : "out of memory");
	json_decref(answer);
	json_decref(body);
	screen_look(s);
}

static void key_filter(struct screen *s, int key)
{
	char *filter = s->top->filter;
	size_t n = strlen(filter);

	if (key == '\n' || key == KEY_ENTER) {
		s->prompt = PROMPT_NONE;
	} else if (key == KEY_ESC || key == KEY_CTRL_C) {
		s->prompt = PROMPT_NONE;
		filter[0] = '\0';
	} else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && n) {
		filter[n - 1] = '\0';
	} else if (key >= ' ' && key < 127 && n + 1 < sizeof(s->top->filter)) {
		filter[n] = (char)key;
		filter[n + 1] = '\0';
	}
	top_arrange(s->top);
	screen_follow(s);
}

static void key_view(struct screen *s, enum top_view_id view)
{
	top_set_view(s->top, view);
	s->at = s->first = 0;
	s->chosen[0] = '\0';
	screen_look(s);
}

/* What is only for backends. */
static void key_backend(struct screen *s, int key)
{
	if (s->top->view != TOP_BACKENDS || !screen_row(s))
		(void)snprintf(s->note.text, sizeof(s->note.text), "choose a backend first: key 2");
	else if (key == 'd')
		s->prompt = PROMPT_DRAIN;
	else
		screen_verb(s, "enable");
}

static void key_sort(struct screen *s, int key)
{
	if (key == 'r')
		s->top->reverse = !s->top->reverse;
	else
		top_sort_step(s->top, key == '<' || key == KEY_LEFT ? -1 : 1);
	top_arrange(s->top);
	screen_follow(s);
}

static void key_move(struct screen *s, int key)
{
	size_t room = screen_room(), n = json_array_size(s->top->rows);

	switch (key) {
	case KEY_UP:
	case 'k':
		screen_choose(s, s->at ? s->at - 1 : 0);
		break;
	case KEY_DOWN:
	case 'j':
		screen_choose(s, s->at + 1);
		break;
	case KEY_PPAGE:
		screen_choose(s, s->at > room ? s->at - room : 0);
		break;
	case KEY_NPAGE:
		screen_choose(s, s->at + room);
		break;
	case KEY_HOME:
		screen_choose(s, 0);
		break;
	case KEY_END:
		screen_choose(s, n);
		break;
	default: /* also KEY_RESIZE */
		screen_choose(s, s->at);
	}
}

static void screen_key(struct screen *s, int key)
{
	bool yes = key == 'y' || key == 'Y';

	s->note.text[0] = '\0';
	if (s->prompt == PROMPT_FILTER) {
		key_filter(s, key);
		return;
	}
	if (s->prompt == PROMPT_DRAIN && key != KEY_RESIZE) {
		s->prompt = PROMPT_NONE;
		if (yes)
			screen_verb(s, "drain");
		return;
	}
	if (key == 'q' || key == KEY_CTRL_C)
		s->end = true;
	else if (key >= '1' && key < '1' + _TOP_VIEW_MAX)
		key_view(s, (enum top_view_id)(key - '1'));
	else if (key == '\t')
		key_view(s, (s->top->view + 1) % _TOP_VIEW_MAX);
	else if (key == '/')
		s->prompt = PROMPT_FILTER;
	else if (key == 'd' || key == 'e')
		key_backend(s, key);
	else if (key == '<' || key == '>' || key == 'r' || key == KEY_LEFT || key == KEY_RIGHT)
		key_sort(s, key);
	else
		key_move(s, key);
}

/* Where a look takes long, as that at pairs does among very many connections, there are fewer: this asks and the daemon answers. */
#define LOOK_SHARE 50
#define LOOK_PAUSE_MAX_MS 5000

static uint64_t screen_pause(const struct screen *s, uint64_t took_ms)
{
	uint64_t pause = took_ms * LOOK_SHARE < LOOK_PAUSE_MAX_MS ? took_ms * LOOK_SHARE : LOOK_PAUSE_MAX_MS;

	return pause > s->interval_ms ? pause : s->interval_ms;
}

static void screen_run(struct screen *s)
{
	uint64_t due = 0, began;

	while (!s->end) {
		uint64_t now = clock_ms();
		int key;

		/* A question is about the row that is chosen: it does not move meanwhile. */
		if (now >= due && s->prompt != PROMPT_DRAIN) {
			began = now;
			screen_look(s);
			now = clock_ms();
			due = now + screen_pause(s, now - began);
		}
		draw(s);
		timeout(due > now ? (int)(due - now) : (int)s->interval_ms);
		key = getch();
		if (key != ERR)
			screen_key(s, key);
		else if (feof(stdin))
			s->end = true;
	}
}

int top_screen(struct top *t, unsigned int interval_ms, struct err *err)
{
	struct screen s = { .top = t, .interval_ms = interval_ms };
	const char *name = getenv("TERM");
	SCREEN *term;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return err_set(err, -ENOTTY, "this is not a terminal: use --once");
	term = newterm(NULL, stdout, stdin);
	if (!term)
		return err_set(err, -ENOTTY, "the terminal '%s' is not known: set TERM, or use --once",
			       name ? name : "");
	/* Not cbreak(): Ctrl-C is a key, so that the terminal is left as it was. */
	(void)raw();
	(void)noecho();
	(void)keypad(stdscr, TRUE);
	(void)set_escdelay(50);
	(void)curs_set(0);
	screen_run(&s);
	(void)endwin();
	delscreen(term);
	return 0;
}
