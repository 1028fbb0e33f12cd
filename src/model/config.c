// SPDX-License-Identifier: GPL-2.0-or-later
/* Files of a configuration: read, decoded and checked as a whole. What became of values is in the other config_*.c. */
#include "model/config_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>

#define INCLUDED_MAX 10000
#define READ_FIRST 65536

struct config_shown config_shown(const char *text)
{
	struct config_shown ret;
	size_t n = strlen(text);

	if (n < sizeof(ret.text)) {
		memcpy(ret.text, text, n + 1);
		return ret;
	}
	/* Not within a character. */
	n = sizeof(ret.text) - sizeof("...");
	while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	memcpy(ret.text, text, n);
	(void)strcpy(ret.text + n, "...");
	return ret;
}

struct config_pos config_pos(const struct config_decode *d, const struct config_node *node)
{
	return (struct config_pos){ d->file, node ? node->line : 1, node ? node->column : 1 };
}

struct config_place config_place(const struct config_pos *pos)
{
	struct config_place ret;

	(void)snprintf(ret.text, sizeof(ret.text), "%s:%u:%u", pos->file, pos->line, pos->column);
	return ret;
}

/* One finding is one line of text, whatever was in the value that it shows. */
static void clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

static void error_add(struct config_decode *d, const struct config_pos *pos, const char *fmt, va_list ap)
{
	struct config_errors *e = d->errors;
	char *text;

	if (e->n >= CONFIG_ERRORS_MAX) {
		d->n_hidden++;
		return;
	}
	if ((e->n & (e->n - 1)) == 0) {
		struct config_error *v = reallocarray(e->v, e->n ? e->n * 2 : 1, sizeof(*v));

		if (!v) {
			d->no_memory = true;
			return;
		}
		e->v = v;
	}
	if (vasprintf(&text, fmt, ap) < 0) {
		d->no_memory = true;
		return;
	}
	clean(text);
	e->v[e->n++] = (struct config_error){ *pos, text };
}

void config_error_at(struct config_decode *d, const struct config_pos *pos, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_add(d, pos, fmt, ap);
	va_end(ap);
}

void config_error(struct config_decode *d, const struct config_node *at, const char *fmt, ...)
{
	struct config_pos pos = config_pos(d, at);
	va_list ap;

	va_start(ap, fmt);
	error_add(d, &pos, fmt, ap);
	va_end(ap);
}

void config_error_in(struct config_decode *d, const char *file, const struct config_node *node, const char *fmt, ...)
{
	struct config_pos pos = { file, node ? node->line : 1, node ? node->column : 1 };
	va_list ap;

	va_start(ap, fmt);
	error_add(d, &pos, fmt, ap);
	va_end(ap);
}

static int file_index(const struct config_strings *files, const char *file)
{
	size_t i = 0;

	while (i < files->n && files->v[i] != file)
		i++;
	return (int)i;
}

static int error_compare(const void *a, const void *b, void *data)
{
	const struct config_pos *x = &((const struct config_error *)a)->pos,
				*y = &((const struct config_error *)b)->pos;

	if (x->file != y->file)
		return file_index(data, x->file) - file_index(data, y->file);
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return (x->column > y->column) - (x->column < y->column);
}

static void strings_done(struct config_strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct config_strings){};
}

void config_errors_done(struct config_errors *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->v[i].text);
	free(e->v);
	strings_done(&e->files);
	*e = (struct config_errors){};
}

static void service_done(struct config_service *s)
{
	for (size_t i = 0; i < s->n_backends; i++)
		free(s->backends[i].host);
	free(s->backends);
	free(s->name);
	free(s->listen);
	free(s->interface);
	free(s->health.path);
	free(s->health.host);
	free(s->health.body);
}

static void redirect_done(struct config_redirect *r)
{
	free(r->cgroup);
	free(r->proxy_cgroup);
	free(r->ports.v);
	free(r->exclude_ports.v);
	free(r->cidrs.v);
	free(r->exclude_cidrs.v);
	strings_done(&r->exclude_users);
}

static void policy_done(struct config_policy *p)
{
	strings_done(&p->from);
	strings_done(&p->to_identities);
	free(p->to.v);
	free(p->ports.v);
}

static void identity_done(struct config_identity *id)
{
	free(id->name);
	strings_done(&id->cgroups);
	free(id->cidrs.v);
}

struct config *config_free(struct config *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < c->n_services; i++)
		service_done(&c->services[i]);
	for (size_t i = 0; i < c->n_interfaces; i++)
		free(c->interfaces[i].name);
	for (size_t i = 0; i < c->n_redirects; i++)
		redirect_done(&c->redirects[i]);
	for (size_t i = 0; i < c->n_policies; i++)
		policy_done(&c->policies[i]);
	for (size_t i = 0; i < c->n_identities; i++)
		identity_done(&c->identities[i]);
	free(c->services);
	free(c->interfaces);
	free(c->redirects);
	free(c->policies);
	free(c->identities);
	free(c->allow.v);
	free(c->deny.v);
	strings_done(&c->connect_cgroups);
	strings_done(&c->accelerate.cgroups);
	strings_done(&c->accelerate.trust);
	free(c->accelerate.ports.v);
	free(c->accelerate.exclude_ports.v);
	strings_done(&c->files);
	free(c);
	return NULL;
}

const struct config_service *config_find_service(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_services; i++)
		if (streq(c->services[i].name, name))
			return &c->services[i];
	return NULL;
}

/* Whoever may write the file may balance this machine's traffic. */
static int check_mode(const char *path, const struct stat *st, struct err *err)
{
	if (st->st_mode & S_IWOTH)
		return err_set(err, -EPERM, "'%s' can be written by everybody: run chmod o-w on it", path);
	if ((st->st_mode & S_IWGRP) && st->st_gid != 0 && st->st_gid != getegid())
		return err_set(err, -EPERM, "'%s' can be written by its group: run chmod g-w on it", path);
	return 0;
}

static int read_all(int fd, const char *path, char **ret, size_t *ret_n, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0, room = 0;
	ssize_t got;

	do {
		if (n == room) {
			char *more = realloc(text, room = room ? room * 2 : READ_FIRST);

			if (!more)
				return err_set(err, -ENOMEM, "out of memory");
			text = more;
		}
		got = read(fd, text + n, room - n);
		if (got < 0)
			return err_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
		n += (size_t)got;
		if (n > CONFIG_BYTES_MAX)
			return err_set(err, -EFBIG,
				       "'%s' is larger than %u MB: spread it over files of a folder, by include:", path,
				       CONFIG_BYTES_MAX >> 20);
	} while (got > 0);
	*ret = TAKE_PTR(text);
	*ret_n = n;
	return 0;
}

/* An included file must be regular; the one that is named may be a pipe. */
static int read_file(const char *path, bool is_included, char **ret, size_t *ret_n, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | (is_included ? O_NONBLOCK : 0));
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "'%s' is a directory: name a file", path);
	if (is_included && !S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is not a regular file: remove it from the folder", path);
	r = S_ISREG(st.st_mode) ? check_mode(path, &st, err) : 0;
	return r < 0 ? r : read_all(fd, path, ret, ret_n, err);
}

static const char *file_add(struct config_decode *d, const char *path)
{
	struct config_strings *files = &d->c->files;
	char **slot = config_grow(d, (void **)&files->v, &files->n, 1, sizeof(*slot));

	if (!slot)
		return NULL;
	config_strdup(d, path, slot);
	if (!*slot)
		files->n--;
	return *slot;
}

static void decode_text(struct config_decode *d, const char *path, const char *text, size_t n, bool is_included)
{
	const char *file = file_add(d, path);
	struct config_doc *doc;

	if (file && config_doc_parse(d, file, text, n, &doc) == 0)
		config_decode_root(d, doc->root, is_included);
}

static int is_config_name(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 5 && e->d_name[0] != '.' && streq(e->d_name + n - 5, ".yaml");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void decode_included(struct config_decode *d, const char *main_file, const char *path)
{
	_cleanup_free_ char *text = NULL;
	struct err err = {};
	size_t n;

	if (read_file(path, true, &text, &n, &err) < 0) {
		config_error_in(d, main_file, d->include, "%s", err.text);
		d->is_partial = true;
		return;
	}
	decode_text(d, path, text, n, true);
}

static void decode_folder(struct config_decode *d, const char *main_file, const char *dir)
{
	struct dirent **names = NULL;
	struct err err = {};
	struct stat st;
	int n = -1;

	if (stat(dir, &st) == 0 && check_mode(dir, &st, &err) < 0) {
		config_error_in(d, main_file, d->include, "%s", err.text);
		d->is_partial = true;
		return;
	}
	n = scandir(dir, &names, is_config_name, by_name);
	if (n < 0 || n > INCLUDED_MAX) {
		if (n < 0)
			config_error_in(d, main_file, d->include, "cannot read the folder '%s': %s", dir,
					strerror(errno));
		else
			config_error_in(d, main_file, d->include, "more than %d files in '%s': join some of them",
					INCLUDED_MAX, dir);
		d->is_partial = true;
	}
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = NULL;

		if (n <= INCLUDED_MAX && asprintf(&path, "%s/%s", dir, names[i]->d_name) >= 0)
			decode_included(d, main_file, path);
		free(names[i]);
	}
	free(names);
}

/* Relative to the file that includes. */
static void include(struct config_decode *d)
{
	const char *main_file = d->c->files.v[0], *slash = strrchr(main_file, '/');
	const char *text = d->include->text;
	_cleanup_free_ char *dir = NULL;

	if (asprintf(&dir, "%.*s%s", text[0] == '/' || !slash ? 0 : (int)(slash - main_file) + 1, main_file, text) <
	    0) {
		dir = NULL;
		d->no_memory = true;
		return;
	}
	while (dir[1] && dir[strlen(dir) - 1] == '/')
		dir[strlen(dir) - 1] = '\0';
	decode_folder(d, main_file, dir);
}

/* Whatever follows the place of the finding that was one too many. */
static void note_hidden(struct config_decode *d)
{
	struct config_errors *e = d->errors;
	size_t n = d->n_hidden;
	char *text;

	if (!n || asprintf(&text, "%zu findings more are not shown: correct those before first", n + 1) < 0)
		return;
	free(e->v[e->n - 1].text);
	e->v[e->n - 1].text = text;
}

static int finish(struct config_decode *d, struct config **ret, struct config_errors *ret_errors, struct err *err)
{
	struct config_errors *e = d->errors;

	if (!d->no_memory)
		config_check(d);
	config_docs_done(d);
	free(d->services.v);
	free(d->redirects.v);
	free(d->policies.v);
	if (d->no_memory) {
		config_errors_done(e);
		(void)config_free(d->c);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (!e->n) {
		*ret = d->c;
		return 0;
	}
	qsort_r(e->v, e->n, sizeof(*e->v), error_compare, &d->c->files);
	note_hidden(d);
	e->files = d->c->files;
	d->c->files = (struct config_strings){};
	(void)config_free(d->c);
	*ret_errors = *e;
	return err_set(err, -EINVAL, "%zu mistakes in the configuration", ret_errors->n);
}

static int load(const char *path, const char *text, size_t n, bool may_include, struct config **ret,
		struct config_errors *ret_errors, struct err *err)
{
	struct config_errors errors = {};
	struct config_decode d = { .c = new0(struct config), .errors = &errors };

	if (!d.c)
		return err_set(err, -ENOMEM, "out of memory");
	if (n > CONFIG_BYTES_MAX) {
		(void)config_free(d.c);
		return err_set(err, -EFBIG, "'%s' is larger than %u MB", path, CONFIG_BYTES_MAX >> 20);
	}
	decode_text(&d, path, text, n, false);
	if (d.include && may_include)
		include(&d);
	else if (d.include)
		config_error(&d, d.include, "include: needs a file to be relative to: leave it out");
	return finish(&d, ret, ret_errors, err);
}

int config_load(const char *path, struct config **ret, struct config_errors *ret_errors, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	int r = read_file(path, false, &text, &n, err);

	return r < 0 ? r : load(path, text, n, true, ret, ret_errors, err);
}

int config_load_buffer(const char *name, const char *text, size_t n, struct config **ret,
		       struct config_errors *ret_errors, struct err *err)
{
	return load(name, text, n, false, ret, ret_errors, err);
}
