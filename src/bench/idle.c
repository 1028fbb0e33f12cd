// SPDX-License-Identifier: GPL-2.0-or-later
/* Idle connections, and what they cost the kernel. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "base/util.h"
#include "bench/side.h"

/* Connections to one of the loopback's addresses: fewer than it has ports. */
#define PAIRS_AN_ADDRESS 20000
#define SPARE_FILES 64
/* 100 000 pairs take some seconds, on a busy machine some more. */
#define BASE_MS 60000
#define SETTLE_STEP_MS 100
#define SETTLE_MS 10000

struct idle {
	uint64_t pairs;
};

/* Slab that cannot be reclaimed, and memory of each processor. */
static int kernel_bytes(double *ret)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kb, sum = 0;
	char line[128];
	int found = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "SUnreclaim: %llu kB", &kb) == 1 || sscanf(line, "Percpu: %llu kB", &kb) == 1) {
			sum += kb;
			found++;
		}
	if (found != 2)
		return -EIO;
	*ret = (double)sum * 1024;
	return 0;
}

/* What was closed is freed by and by: waits until that memory does not shrink any more. */
static int settle(double *ret)
{
	struct timespec step = { .tv_nsec = SETTLE_STEP_MS * 1000000L };
	double was, now;
	int r = kernel_bytes(&was), calm = 0;

	for (int waited = 0; r >= 0 && waited < SETTLE_MS && calm < 3; waited += SETTLE_STEP_MS) {
		(void)nanosleep(&step, NULL);
		r = kernel_bytes(&now);
		if (r >= 0) {
			calm = now < was - 65536 ? 0 : calm + 1;
			was = now;
		}
	}
	if (r >= 0)
		*ret = was;
	return r;
}

static int connect_one(int listener, struct sockaddr_in *to, uint64_t i)
{
	_cleanup_close_ int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to->sin_addr.s_addr = htonl((uint32_t)(INADDR_LOOPBACK + i / PAIRS_AN_ADDRESS));
	if (client < 0 || connect(client, (struct sockaddr *)to, sizeof(*to)) < 0 ||
	    accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0)
		return -errno;
	/* Both stay open until the process ends. */
	(void)TAKE_FD(client);
	return 0;
}

static int idle_side(void *data, struct pair_result *ret)
{
	const struct idle *idle = data;
	struct rlimit files = { .rlim_cur = 2 * idle->pairs + SPARE_FILES, .rlim_max = 2 * idle->pairs + SPARE_FILES };
	_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = { .sin_family = AF_INET };
	socklen_t len = sizeof(to);
	double before, after;
	int r;

	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || listener < 0 || bind(listener, (struct sockaddr *)&to, len) < 0 ||
	    listen(listener, 16) < 0 || getsockname(listener, (struct sockaddr *)&to, &len) < 0)
		return -errno;
	r = settle(&before);
	for (uint64_t i = 0; r >= 0 && i < idle->pairs; i++)
		r = connect_one(listener, &to, i);
	if (r >= 0)
		r = settle(&after);
	if (r < 0)
		return r;
	/* No negative number of bytes: other programs may have given up more than these few pairs took. */
	ret->bytes = after > before ? (uint64_t)(after - before) : 0;
	return 0;
}

int pair_idle(const struct pair_end *end, uint64_t pairs, double *ret_bytes, struct err *err)
{
	_cleanup_(side_done) struct side side = SIDE_NONE;
	struct idle idle = { .pairs = pairs };
	struct pair_result result = {};
	double settled;
	int r;

	r = side_start(end, idle_side, &idle, &side);
	if (r >= 0)
		r = side_wait(&side, BASE_MS + (int)(pairs / 2), &result);
	if (r < 0)
		return err_set(err, r, "%" PRIu64 " idle pairs: %s", pairs, strerror(-r));
	*ret_bytes = (double)result.bytes / (double)pairs;
	r = settle(&settled);
	return r < 0 ? err_set(err, r, "cannot read /proc/meminfo") : 0;
}
