// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/cpu.h"

#include <errno.h>
#include <inttypes.h>

#include "lab/lab.h"

int cpu_read(struct cpu_time *ret, struct err *err)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/stat", "re");
	uint64_t user, nice, system, idle, iowait, irq, softirq, steal,
		tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);

	if (!f ||
	    fscanf(f,
		   "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
		   &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal) != 8)
		return err_set(err, -EIO, "cannot read /proc/stat");
	ret->busy_us = (user + nice + system + irq + softirq) * tick_us;
	ret->stolen_us = steal * tick_us;
	ret->total_us = ret->busy_us + ret->stolen_us + (idle + iowait) * tick_us;
	return 0;
}

static int read_usage(const char *cgroup, const char *below, uint64_t *ret_us, struct err *err)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[PATH_MAX + 32];

	(void)snprintf(path, sizeof(path), "%s%s/cpu.stat", cgroup, below);
	f = fopen(path, "re");
	if (!f || fscanf(f, "usage_usec %" SCNu64, ret_us) != 1)
		return err_set(err, -EIO, "cannot read processor time from '%s': %s", path, strerror(errno));
	return 0;
}

int cpu_read_lab(const struct lab *lab, struct cpu_lab *ret, struct err *err)
{
	int r = read_usage(lab->cgroup, "", &ret->all_us, err);

	return r < 0 ? r : read_usage(lab->cgroup, "/waggle", &ret->own_us, err);
}
