// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Configurations: what is refused has findings, each with a place and one line of text, in order; what is accepted says
 * the same when its JSON is read again.
 */
#include <errno.h>
#include <stdint.h>

#include <jansson.h>

#include "base/util.h"
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_errors(const struct config_errors *e)
{
	if (!e->n)
		abort();
	for (size_t i = 0; i < e->n; i++) {
		const struct config_pos *pos = &e->v[i].pos, *before = &e->v[i ? i - 1 : 0].pos;

		if (!streq(pos->file, "fuzz") || !pos->line || !pos->column || !strstr(e->v[i].text, ": "))
			abort();
		if (pos->line < before->line || (pos->line == before->line && pos->column < before->column))
			abort();
		for (const char *p = e->v[i].text; *p; p++)
			if ((unsigned char)*p < ' ')
				abort();
	}
}

static void check_round_trip(const struct config *c)
{
	struct config_errors errors = {};
	struct config *again = NULL;
	json_t *one = config_to_json(c), *two;
	char *text = one ? json_dumps(one, JSON_INDENT(1)) : NULL;

	if (!text || config_load_buffer("fuzz", text, strlen(text), &again, &errors, NULL) != 0)
		abort();
	two = config_to_json(again);
	if (!json_equal(one, two))
		abort();
	json_decref(one);
	json_decref(two);
	free(text);
	config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct config_errors errors = {};
	struct config *c = NULL;
	struct err err = {};
	int r = config_load_buffer("fuzz", (const char *)data, bytes, &c, &errors, &err);

	if (r == 0) {
		if (!c || errors.n)
			abort();
		check_round_trip(c);
	} else {
		if (r != -EINVAL || c || !err.text[0])
			abort();
		check_errors(&errors);
	}
	config_errors_done(&errors);
	config_free(c);
	return 0;
}
