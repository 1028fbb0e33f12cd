// SPDX-License-Identifier: GPL-2.0-or-later
/* Lists of ports: what is accepted, written out port by port, means the same; what is refused changes nothing. */
#include <errno.h>
#include <stdint.h>

#include "abi/accel.h"
#include "base/util.h"
#include "model/ports.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool map_has(const uint8_t *map, uint8_t bit)
{
	for (size_t p = 0; p < AC_PORTS; p++)
		if (map[p] & bit)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	_cleanup_free_ char *text = calloc(bytes + 1, 1);
	static uint8_t map[AC_PORTS];
	struct err err = {};
	int r;

	if (!text)
		return 0;
	if (bytes)
		memcpy(text, data, bytes);
	memset(map, 0, sizeof(map));
	r = ports_parse(text, map, AC_PORT_ONLY, &err);
	if (r == 0 && (!map_has(map, AC_PORT_ONLY) || map[0] || map_has(map, (uint8_t)~AC_PORT_ONLY)))
		abort();
	if (r < 0 && (r != -EINVAL || map_has(map, 0xff) || !err.text[0]))
		abort();
	return 0;
}
