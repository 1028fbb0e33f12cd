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

struct cap {
	unsigned int bit;
	const char *name;
};

static void caps_check(const struct cap *wanted, size_t n_wanted, char *ret, size_t n)
{
	uint64_t caps = caps_effective();
	size_t at = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < n_wanted; i++) {
		if (caps >> wanted[i].bit & 1)
			continue;
		(void)snprintf(ret + at, n - at, "%s%s", at ? ", " : "", wanted[i].name);
		at = strlen(ret);
	}
}

static const struct cap caps_wanted[] = {
	{ CAP_BPF, "CAP_BPF" },
	{ CAP_PERFMON, "CAP_PERFMON" },
	{ CAP_NET_ADMIN, "CAP_NET_ADMIN" },
	{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN" },
};

void caps_lacking(char *ret, size_t n)
{
	caps_check(caps_wanted, ARRAY_SIZE(caps_wanted), ret, n);
}

/* The last one is for the accelerator, which walks maps and namespaces of others. */
void caps_lacking_to_balance(char *ret, size_t n)
{
	caps_check(caps_wanted, ARRAY_SIZE(caps_wanted) - 1, ret, n);
}
