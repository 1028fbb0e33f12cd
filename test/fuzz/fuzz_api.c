// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests to the control socket: paths against every pattern, and bodies. The first byte chooses. What is refused is
 * refused with a sentence that fits into one line of JSON, and changes nothing.
 */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>

#include "base/util.h"
#include "model/ring.h"
#include "model/wire.h"
#include "model/wire_request.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *const patterns[] = {
	"/v1/status",
	"/v1/services",
	"/v1/services/*",
	"/v1/services/*/history",
	"/v1/services/*/backends/*/drain",
	"/v1/services/*/backends/*/weight",
	"*",
	"/*/*",
	"/*/*/*", /* more than there is room for */
};

static void check_path(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		char args[WIRE_ARGS_MAX][WIRE_ARG_MAX] = {}, again[4096] = "";
		const char *p = patterns[i];
		size_t n = 0, arg = 0;

		if (!wire_path_matches(p, path, args))
			continue;
		/* The pattern with its parts put in is the path. */
		for (; *p && n < sizeof(again) - WIRE_ARG_MAX; p++) {
			if (*p != '*') {
				again[n++] = *p;
				continue;
			}
			if (arg == WIRE_ARGS_MAX || !args[arg][0] || strchr(args[arg], '/'))
				abort();
			n += (size_t)sprintf(again + n, "%s", args[arg++]);
		}
		again[n] = '\0';
		if (!streq(again, path))
			abort();
	}
}

static void check_refusal(int r, const struct err *err)
{
	json_t *answer;
	char *line;

	if (r == 0)
		return;
	if (r != -EINVAL || !err->text[0])
		abort();
	answer = wire_error(err->text);
	line = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	if (!line || strchr(line, '\n') || !json_string_length(json_object_get(answer, "error")))
		abort();
	free(line);
	json_decref(answer);
}

static void check_bodies(const char *body, size_t bytes)
{
	uint32_t weight = UINT32_MAX;
	struct err err = {};
	bool now = false;
	int r;

	check_refusal(wire_nothing_parse(body, bytes, &err), &err);
	err = (struct err){};
	r = wire_weight_parse(body, bytes, &weight, &err);
	check_refusal(r, &err);
	if (r == 0 ? weight > RING_WEIGHT_MAX : weight != UINT32_MAX)
		abort();
	err = (struct err){};
	r = wire_unload_parse(body, bytes, &now, &err);
	check_refusal(r, &err);
	if (r < 0 && now)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	_cleanup_free_ char *text = NULL;

	if (!bytes)
		return 0;
	text = fuzz_text(data, bytes);
	if (data[0] % 2)
		check_bodies((const char *)data + 1, bytes - 1);
	else
		check_path(text);
	return 0;
}
