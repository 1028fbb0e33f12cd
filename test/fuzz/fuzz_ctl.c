// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What comes over the control socket, from both sides: a request's body, and replies that the commands show on
 * a terminal. The first byte chooses. No reply may carry a control character to the terminal.
 */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>

#include "base/util.h"
#include "ctl/render.h"
#include "model/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_request(const char *text, size_t bytes)
{
	bool now = false;
	struct err err = {};
	int r = wire_unload_parse(text, bytes, &now, &err);

	if (r != 0 && (r != -EINVAL || now || !err.text[0]))
		abort();
}

static void check_reply(unsigned int kind, const char *text, size_t bytes)
{
	int (*const render[])(json_t *, FILE *, struct err *) = { ctl_render_sockets, ctl_render_programs,
								  ctl_render_event };
	json_t *root = json_loadb(text, bytes, 0, NULL);
	_cleanup_free_ char *out = NULL;
	struct err err = {};
	size_t n = 0;
	FILE *f;
	int r;

	if (!root)
		return;
	f = open_memstream(&out, &n);
	r = render[kind % ARRAY_SIZE(render)](root, f, &err);
	(void)fclose(f);
	json_decref(root);
	if (r > 0 || (r < 0 && !err.text[0]))
		abort();
	/* An event is one line: what stands in its words cannot begin another. */
	for (size_t i = 0; i < n; i++)
		if (((unsigned char)out[i] < ' ' || out[i] == 0x7f) && (out[i] != '\n' || (kind == 2 && i + 1 < n)))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (!bytes)
		return 0;
	if (data[0] % 4 == 3)
		check_request((const char *)data + 1, bytes - 1);
	else
		check_reply(data[0] % 4, (const char *)data + 1, bytes - 1);
	return 0;
}
