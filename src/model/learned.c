// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/learned.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <sys/stat.h>

#include "model/wire.h"

#define LEARNED_VERSION 1
#define LEARNED_BYTES_MAX (16U << 20)
#define LEARNED_PATH_MAX 4096

static const char *const state_words[_AC_EXE_MAX] = {
	[AC_EXE_LEARNING] = "learning",	   [AC_EXE_RIPE] = "ripe",   [AC_EXE_TRUSTED] = "trusted",
	[AC_EXE_SPLICES] = "splices",	   [AC_EXE_UNFIT] = "unfit", [AC_EXE_ABLE] = "may-splice",
	[AC_EXE_SLEEPS] = "blocking-recv",
};

const char *learned_state_word(uint32_t state)
{
	return state < _AC_EXE_MAX ? state_words[state] : NULL;
}

static int state_parse(const char *word, uint32_t *ret)
{
	for (uint32_t i = 0; i < _AC_EXE_MAX; i++) {
		if (streq(word, state_words[i])) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -EINVAL;
}

static int path_from_hex(const char *hex, char ret[LEARNED_PATH_MAX])
{
	size_t n = 0;

	for (; *hex; hex += 2) {
		int high = hex_digit(hex[0]), low = high < 0 ? high : hex_digit(hex[1]);

		if (low < 0 || !(high || low) || n + 1 == LEARNED_PATH_MAX)
			return -EINVAL;
		ret[n++] = (char)(high << 4 | low);
	}
	ret[n] = '\0';
	return 0;
}

static int learned_parse_one(json_t *o, struct learned *ret)
{
	json_int_t ino, dev, size, mtime;
	const char *path = NULL, *hex = NULL, *name, *state;
	char bytes[LEARNED_PATH_MAX];

	if (json_unpack(o, "{s?s, s?s, s:I, s:I, s:I, s:I, s:s, s:s}", "path", &path, "path_hex", &hex, "inode", &ino,
			"device", &dev, "size", &size, "mtime", &mtime, "name", &name, "state", &state))
		return -EINVAL;
	if (!path == !hex || (hex && path_from_hex(hex, bytes) < 0))
		return -EINVAL;
	if (hex)
		path = bytes;
	if (strlen(name) >= sizeof(ret->comm) || path[0] != '/' || ino <= 0 || dev < 0 || dev > UINT32_MAX ||
	    size < 0 || mtime < 0 || state_parse(state, &ret->state) < 0)
		return -EINVAL;
	ret->path = strdup(path);
	if (!ret->path)
		return -ENOMEM;
	ret->ino = (uint64_t)ino;
	ret->dev = (uint32_t)dev;
	ret->size = (uint64_t)size;
	ret->mtime = (uint64_t)mtime;
	(void)strcpy(ret->comm, name);
	return 0;
}

static int learned_from_json(json_t *root, struct learned **ret, size_t *ret_n, struct err *err)
{
	json_t *list = json_object_get(root, "executables");
	struct learned *v;
	size_t n;

	if (json_integer_value(json_object_get(root, "version")) != LEARNED_VERSION || !json_is_array(list))
		return err_set(err, -EINVAL, "not a list of learned executables of version %d", LEARNED_VERSION);
	n = json_array_size(list);
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		int r = learned_parse_one(json_array_get(list, i), &v[i]);

		if (r < 0) {
			learned_free(v, n);
			return err_set(err, r, "executable %zu of the list is not valid", i + 1);
		}
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

int learned_parse(const char *text, size_t bytes, struct learned **ret, size_t *ret_n, struct err *err)
{
	json_error_t je;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &je);
	int r;

	if (!root)
		return err_set(err, -EINVAL, "line %d: %s", je.line, je.text);
	r = learned_from_json(root, ret, ret_n, err);
	json_decref(root);
	return r;
}

int learned_read(const char *path, struct learned **ret, size_t *ret_n, struct err *err)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	_cleanup_free_ char *text = NULL;
	struct stat st;
	size_t n;

	if (!f || fstat(fileno(f), &st) < 0)
		return err_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
	if (st.st_size > LEARNED_BYTES_MAX)
		return err_set(err, -EFBIG, "'%s' is too large: remove it, it is made anew", path);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	n = fread(text, 1, (size_t)st.st_size, f);
	return learned_parse(text, n, ret, ret_n, err);
}

/* JSON knows UTF-8 only, file systems any byte: a path that JSON cannot hold is written in hexadecimal. */
static int set_path(json_t *o, const char *path)
{
	_cleanup_free_ char *hex = NULL;
	json_t *text = json_string(path);
	size_t n = strlen(path);

	if (text)
		return json_object_set_new(o, "path", text);
	hex = malloc(n * 2 + 1);
	if (!hex)
		return -ENOMEM;
	for (size_t i = 0; i <= n; i++)
		(void)snprintf(hex + i * 2, i < n ? 3 : 1, "%02x", (unsigned char)path[i]);
	return json_object_set_new(o, "path_hex", json_string(hex));
}

static json_t *learned_one_to_json(const struct learned *l)
{
	json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:o, s:s}", "inode", (json_int_t)l->ino, "device",
			      (json_int_t)l->dev, "size", (json_int_t)l->size, "mtime", (json_int_t)l->mtime, "name",
			      wire_string(l->comm), "state", state_words[l->state]);

	if (o && set_path(o, l->path)) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

/* All of it or NULL: an entry that is lost would be a program that is learned anew, or one that is not feared. */
static json_t *learned_to_json(const struct learned *v, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < n; i++) {
		if (json_array_append_new(list, learned_one_to_json(&v[i]))) {
			json_decref(list);
			list = NULL;
		}
	}
	return list ? json_pack("{s:i, s:o}", "version", LEARNED_VERSION, "executables", list) : NULL;
}

int learned_write(const char *path, const struct learned *v, size_t n)
{
	_cleanup_free_ char *tmp = NULL, *dir = strdup(path);
	_cleanup_close_ int fd = -1;
	json_t *root;
	int r = 0;

	if (!dir || asprintf(&tmp, "%s.new", path) < 0)
		return -ENOMEM;
	if (mkdir(dirname(dir), 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	root = learned_to_json(v, n);
	if (!root || json_dumpfd(root, fd, JSON_INDENT(1)) < 0)
		r = -EIO;
	json_decref(root);
	if (r == 0 && (fsync(fd) < 0 || rename(tmp, path) < 0))
		r = -errno;
	if (r < 0)
		(void)unlink(tmp);
	return r;
}

void learned_free(struct learned *v, size_t n)
{
	for (size_t i = 0; v && i < n; i++)
		free(v[i].path);
	free(v);
}
