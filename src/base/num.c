// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/num.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

int num_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	unsigned long long v;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}
