// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a capture is asked for, and what a daemon says of packets. The first byte chooses. A filter that is taken asks for
 * something that can be; a packet that is taken is written as one or two blocks, or shown as one line.
 */
#include <errno.h>

#include "base/util.h"
#include "ctl/capture.h"
#include "model/capture_filter.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_filter(const char *text)
{
	_cleanup_(capture_filter_done) struct capture_filter f = {};
	struct err err = {};

	if (capture_filter_parse(text, &f, &err) < 0) {
		if (!err.text[0] || strchr(err.text, '\n'))
			abort();
		return;
	}
	for (size_t i = 0; i < _PK_CAPTURE_KINDS; i++)
		if (f.n[i] > PK_CAPTURE_VALUES)
			abort();
	for (size_t i = 0; i < f.n[PK_CAPTURE_SERVICE]; i++)
		if (!f.services[i] || !f.services[i][0])
			abort();
	for (size_t i = 0; i < f.n[PK_CAPTURE_PORT]; i++)
		if (!f.ports[i])
			abort();
	if (f.protos & ~(uint32_t)PK_CAPTURE_PROTOS || f.reasons >> _PK_REASON_MAX)
		abort();
}

static void check_event(const char *text, size_t bytes, bool is_file)
{
	json_t *event = json_loadb(text, bytes, 0, NULL);
	_cleanup_free_ char *out = NULL;
	struct ctl_capture c = {};
	struct err err = {};
	size_t n = 0;
	int r;

	c.out = open_memstream(&out, &n);
	if (is_file && pcapng_begin(&c.pcapng, c.out, PK_CAPTURE_SNAP) < 0)
		abort();
	r = ctl_capture_event(&c, event, &err);
	pcapng_done(&c.pcapng);
	(void)fclose(c.out);
	if (r > 0 || (r < 0 && !err.text[0]) || (is_file && n % 4))
		abort();
	for (size_t i = 0; !is_file && i < n; i++)
		if (((unsigned char)out[i] < ' ' || out[i] == 0x7f) && (out[i] != '\n' || i + 1 < n))
			abort();
	json_decref(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	_cleanup_free_ char *text = NULL;

	if (!bytes)
		return 0;
	text = fuzz_text(data, bytes);
	if (data[0] % 3)
		check_event(text, bytes - 1, data[0] % 3 == 1);
	else
		check_filter(text);
	return 0;
}
