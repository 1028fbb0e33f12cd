// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/wire_request.h"

#include <errno.h>

#include <jansson.h>

#include "model/ring.h"

bool wire_path_matches(const char *pattern, const char *path, char args[static WIRE_ARGS_MAX][WIRE_ARG_MAX])
{
	size_t n_args = 0;

	while (*pattern && *path) {
		size_t n;

		if (*pattern != '*') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		n = strcspn(path, "/");
		if (!n || n >= WIRE_ARG_MAX || n_args == WIRE_ARGS_MAX)
			return false;
		memcpy(args[n_args], path, n);
		args[n_args++][n] = '\0';
		pattern++;
		path += n;
	}
	return !*pattern && !*path;
}

static int object_parse(const char *text, size_t bytes, json_t **ret, struct err *err)
{
	json_error_t je;
	json_t *root = bytes ? json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &je) : json_object();

	if (!root)
		return err_set(err, -EINVAL, "the body is not JSON: line %d: %s", je.line, je.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(err, -EINVAL, "the body must be a JSON object");
	}
	*ret = root;
	return 0;
}

int wire_nothing_parse(const char *text, size_t bytes, struct err *err)
{
	json_t *root = NULL;
	int r = object_parse(text, bytes, &root, err);

	if (r < 0)
		return r;
	if (json_object_size(root))
		r = err_set(err, -EINVAL, "the body has a field '%.60s': this request takes none",
			    json_object_iter_key(json_object_iter(root)));
	json_decref(root);
	return r;
}

int wire_weight_parse(const char *text, size_t bytes, uint32_t *ret, struct err *err)
{
	json_t *root = NULL, *weight;
	int r = object_parse(text, bytes, &root, err);

	if (r < 0)
		return r;
	weight = json_object_get(root, "weight");
	if (json_object_size(root) != 1 || !json_is_integer(weight) || json_integer_value(weight) < 0 ||
	    json_integer_value(weight) > RING_WEIGHT_MAX)
		r = err_set(err, -EINVAL, "the body must be {\"weight\": N} with N from 0 to %d", RING_WEIGHT_MAX);
	else
		*ret = (uint32_t)json_integer_value(weight);
	json_decref(root);
	return r;
}
