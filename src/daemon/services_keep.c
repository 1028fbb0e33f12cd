// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is kept beside the tables, as JSON: {"services": {NAME: {ADDRESS: {drained, weight, file_weight, down}}},
 * "names": {HOST: [ADDRESS...]}}. It lives as long as the tables do, until the next boot: a backend that is down or
 * drained stays so when the next process takes over.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/services_priv.h"

#define KEEP_VERSION 1

static json_t *keep_backend(const struct backend *b)
{
	json_t *o = json_object();

	if (b->drained || b->weight_said)
		(void)json_object_set_new(o, "file_weight", json_integer(b->weight));
	if (b->drained)
		(void)json_object_set_new(o, "drained", json_true());
	if (b->weight_said)
		(void)json_object_set_new(o, "weight", json_integer(b->said_weight));
	if (b->verdict == BACKEND_DOWN)
		(void)json_object_set_new(o, "down", json_true());
	if (json_object_size(o))
		return o;
	json_decref(o);
	return NULL;
}

static json_t *keep_services(const struct services *s)
{
	json_t *all = json_object();

	for (const struct service *sv = s->by_name; sv; sv = sv->hh.next) {
		json_t *service = NULL;

		for (const struct backend *b = sv->backends; b; b = b->hh.next) {
			json_t *o = keep_backend(b);

			if (!o)
				continue;
			service = service ? service : json_object();
			(void)json_object_set_new(service, b->text, o);
		}
		if (service)
			(void)json_object_set_new(all, sv->name, service);
	}
	return all;
}

static json_t *keep_names(const struct services *s)
{
	json_t *all = json_object();

	for (const struct addrs *a = s->names; a; a = a->hh.next) {
		json_t *list = json_array();
		char text[ADDR_TEXT_MAX];

		for (size_t i = 0; i < a->n; i++)
			(void)json_array_append_new(list, json_string(addr_format(&a->v[i], 0, text)));
		(void)json_object_set_new(all, a->key, list);
	}
	return all;
}

/* Beside it and then in its place: whoever reads it finds all of it. */
static int keep_write(const char *path, json_t *root, struct err *err)
{
	_cleanup_free_ char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS), *tmp = NULL;
	_cleanup_close_ int fd = -1;
	size_t n;

	if (!text || asprintf(&tmp, "%s.new", path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	n = strlen(text);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, text, n) != (ssize_t)n || rename(tmp, path) < 0)
		return err_set(err, -EIO, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}

int services_save(const struct services *s, const char *path, struct err *err)
{
	json_t *root = json_pack("{s:i, s:o, s:o}", "version", KEEP_VERSION, "services", keep_services(s), "names",
				 keep_names(s));
	int r = root ? keep_write(path, root, err) : err_set(err, -ENOMEM, "out of memory");

	json_decref(root);
	return r;
}

static int load_name(struct services *s, const char *host, json_t *list)
{
	_cleanup_free_ struct lb_addr *v = calloc(json_array_size(list) + 1, sizeof(*v));
	struct err ignored;
	size_t i, n = 0;
	json_t *item;

	if (!v)
		return -ENOMEM;
	json_array_foreach(list, i, item)
		if (json_is_string(item) && addr_parse(json_string_value(item), &v[n], &ignored) >= 0)
			n++;
	return n ? addrs_set(&s->names, host, v, n) : 0;
}

int services_load(struct services *s, const char *path, bool with_verdicts, struct err *err)
{
	json_t *root, *list;
	json_error_t je;
	const char *host;
	json_int_t version = 0;
	int r = 0;

	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	root = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
	if (!root || json_unpack(root, "{s:I}", "version", &version) || version != KEEP_VERSION) {
		json_decref(root);
		return err_set(err, -EPROTO, "'%s' is not what a waggle of this version has written", path);
	}
	json_object_foreach(json_object_get(root, "names"), host, list) {
		r = load_name(s, host, list);
		if (r < 0)
			break;
	}
	json_decref(s->memory);
	s->memory = root;
	s->with_verdicts = with_verdicts;
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

void services_recall(struct backend *b)
{
	const struct services *s = b->service->all;
	json_t *service = json_object_get(json_object_get(s->memory, "services"), b->service->name);
	json_t *o = json_object_get(service, b->text), *weight = json_object_get(o, "weight");

	if (!o)
		return;
	if (s->with_verdicts && json_is_true(json_object_get(o, "down")))
		b->verdict = BACKEND_DOWN;
	/* The word of an operator was about a line of the file that has changed meanwhile. */
	if (json_integer_value(json_object_get(o, "file_weight")) == b->weight) {
		b->drained = json_is_true(json_object_get(o, "drained"));
		b->weight_said = json_is_integer(weight) && json_integer_value(weight) >= 0;
		b->said_weight = b->weight_said ? (uint32_t)json_integer_value(weight) : 0;
	}
	/* Once: who comes back later is new. */
	(void)json_object_del(service, b->text);
}

int services_remember(struct services *s)
{
	json_t *memory = json_pack("{s:o}", "services", keep_services(s));

	if (!memory)
		return -ENOMEM;
	json_decref(s->memory);
	s->memory = memory;
	s->with_verdicts = true;
	return 0;
}

void services_forget(struct services *s)
{
	json_decref(s->memory);
	s->memory = NULL;
}
