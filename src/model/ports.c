// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/ports.h"

#include <errno.h>

#include "abi/accel.h"
#include "base/num.h"

/* One item, "80" or "8000-8100"; it is a string of its own and may be cut up. */
static int ports_parse_item(char *item, uint64_t *ret_first, uint64_t *ret_last)
{
	char *dash = strchr(item, '-');
	uint64_t first, last;
	int r;

	if (dash)
		*dash = '\0';
	r = num_parse_u64(item, 1, AC_PORTS - 1, &first);
	if (r < 0)
		return r;
	last = first;
	if (dash) {
		r = num_parse_u64(dash + 1, first, AC_PORTS - 1, &last);
		if (r < 0)
			return r;
	}
	*ret_first = first;
	*ret_last = last;
	return 0;
}

int ports_parse(const char *list, uint8_t *map, uint8_t bit, struct err *err)
{
	_cleanup_free_ uint8_t *out = malloc(AC_PORTS);
	_cleanup_free_ char *copy = strdup(list);
	char *rest = copy, *item;

	if (!out || !copy)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(out, map, AC_PORTS);
	while ((item = strsep(&rest, ","))) {
		uint64_t first = 0, last = 0;
		_cleanup_free_ char *shown = strdup(item);

		if (ports_parse_item(item, &first, &last) < 0)
			return err_set(
				err, -EINVAL,
				"'%s' in '%s' is not a port: write ports from 1 to 65535 and ranges, as in 80,8000-8100",
				shown ? shown : "", list);
		for (uint64_t p = first; p <= last; p++)
			out[p] |= bit;
	}
	memcpy(map, out, AC_PORTS);
	return 0;
}
