// SPDX-License-Identifier: GPL-2.0-or-later
/* Idle connections, and what they cost the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "base/util.h"
#include "bench/side.h"

/* Of one process: fewer than a port has peers, and what the limit of open files allows. */
#define SIDE_PAIRS 20000
#define SIDES_MAX 1024
#define SPARE_FILES 64
/* 100 000 pairs take some seconds, on a busy machine some more. */
#define BASE_MS 60000
#define END_MS 30000
#define SETTLE_STEP_MS 100
#define SETTLE_MS 10000

struct idle {
	uint64_t pairs;		  /* of one process */
	int ready_from, ready_to; /* a byte from each process that has made its pairs, or failed */
	int life_from, life_to;	  /* nobody writes: its end ends them */
};

static void idle_done(struct idle *idle)
{
	closep(&idle->ready_from);
	closep(&idle->ready_to);
	closep(&idle->life_from);
	closep(&idle->life_to);
}

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

static int connect_one(int listener, const struct sockaddr_in *to)
{
	_cleanup_close_ int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (client < 0 || connect(client, (const struct sockaddr *)to, sizeof(*to)) < 0 ||
	    accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0)
		return -errno;
	/* Both stay open until the process ends. */
	(void)TAKE_FD(client);
	return 0;
}

static int connect_all(uint64_t pairs)
{
	_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(to);
	int r = 0;

	if (listener < 0 || bind(listener, (struct sockaddr *)&to, len) < 0 || listen(listener, 16) < 0 ||
	    getsockname(listener, (struct sockaddr *)&to, &len) < 0)
		return -errno;
	for (uint64_t i = 0; r >= 0 && i < pairs; i++)
		r = connect_one(listener, &to);
	return r;
}

static int idle_side(void *data, struct pair_result *ret)
{
	struct idle *idle = data;
	int r = connect_all(idle->pairs);
	char byte = r < 0;

	closep(&idle->life_to);
	idle->life_to = -1;
	if (write(idle->ready_to, &byte, 1) != 1)
		return -EPIPE;
	while (read(idle->life_from, &byte, 1) < 0 && errno == EINTR)
		;
	return r;
}

static int idle_make(struct idle *idle)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	idle->ready_from = fds[0];
	idle->ready_to = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	idle->life_from = fds[0];
	idle->life_to = fds[1];
	return 0;
}

/* 0 when all pairs of a process are there; what it met it tells at its end. */
static int await_one(const struct idle *idle, int timeout_ms)
{
	struct pollfd pollfd = { .fd = idle->ready_from, .events = POLLIN };
	char failed;
	int n = poll(&pollfd, 1, timeout_ms);

	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	return read(idle->ready_from, &failed, 1) == 1 && !failed ? 0 : -ECANCELED;
}

static uint64_t pairs_of_a_side(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur <= SPARE_FILES + 2)
		return 1;
	if (files.rlim_cur == RLIM_INFINITY || files.rlim_cur >= 2 * SIDE_PAIRS + SPARE_FILES)
		return SIDE_PAIRS;
	return (files.rlim_cur - SPARE_FILES) / 2;
}

struct sides {
	struct side v[SIDES_MAX];
	size_t n;
};

static void sides_done(struct sides *s)
{
	for (size_t i = 0; i < s->n; i++)
		side_done(&s->v[i]);
}

/* One process after another, so that they do not compete for anything. */
static int start_all(const struct pair_end *end, uint64_t pairs, struct idle *idle, struct sides *sides)
{
	uint64_t each = pairs_of_a_side();
	int r = 0;

	while (r >= 0 && pairs) {
		if (sides->n == SIDES_MAX)
			return -EMFILE;
		idle->pairs = pairs < each ? pairs : each;
		pairs -= idle->pairs;
		r = side_start(end, idle_side, idle, &sides->v[sides->n]);
		if (r >= 0) {
			sides->n++;
			r = await_one(idle, BASE_MS);
		}
	}
	return r;
}

/* Returns the first failure. */
static int end_all(struct idle *idle, struct sides *sides)
{
	struct pair_result nothing;
	int first = 0;

	closep(&idle->life_to);
	idle->life_to = -1;
	for (size_t i = 0; i < sides->n; i++) {
		int r = side_wait(&sides->v[i], END_MS, &nothing);

		if (r < 0 && first >= 0)
			first = r;
	}
	return first;
}

int pair_idle(const struct pair_end *end, uint64_t pairs, double *ret_bytes, struct err *err)
{
	_cleanup_(idle_done) struct idle idle = { 0, -1, -1, -1, -1 };
	_cleanup_(sides_done) struct sides sides = { .n = 0 };
	double before = 0, after = 0, settled;
	int r, ended;

	r = idle_make(&idle);
	if (r >= 0)
		r = settle(&before);
	if (r >= 0)
		r = start_all(end, pairs, &idle, &sides);
	if (r >= 0)
		r = settle(&after);
	ended = end_all(&idle, &sides);
	if (ended < 0 && (r >= 0 || r == -ECANCELED))
		r = ended;
	if (r >= 0)
		r = settle(&settled);
	if (r < 0)
		return err_set(err, r, "%" PRIu64 " idle pairs: %s", pairs, strerror(-r));
	/* Not below nothing: of few pairs, other programs may have given up more than these took. */
	*ret_bytes = after > before ? (after - before) / (double)pairs : 0;
	return 0;
}
