// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/caps.h"

#include <inttypes.h>
#include <linux/capability.h>

#include "base/util.h"

static uint64_t caps_effective(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	uint64_t caps = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %" SCNx64, &caps) == 1)
			break;
	return caps;
}

void caps_lacking(char *ret, size_t n)
{
	static const struct {
		unsigned int bit;
		const char *name;
	} wanted[] = {
		{ CAP_BPF, "CAP_BPF" },
		{ CAP_PERFMON, "CAP_PERFMON" },
		{ CAP_NET_ADMIN, "CAP_NET_ADMIN" },
		{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN" },
	};
	uint64_t caps = caps_effective();
	size_t at = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (caps >> wanted[i].bit & 1)
			continue;
		(void)snprintf(ret + at, n - at, "%s%s", at ? ", " : "", wanted[i].name);
		at = strlen(ret);
	}
}
