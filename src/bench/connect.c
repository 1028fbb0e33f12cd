// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the connect hook costs: single calls of connect(2) and sendto(2), straight to a server and through the hook,
 * with ten thousand services of ten backends in the tables; and how long it takes to change all of those, while a
 * client connects. The tables and the hook are this process's own, pinned in a bpffs that nobody else sees.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "bench/calls.h"
#include "bench/side.h"
#include "hook/connect.h"

#define SERVICES 10000
#define BACKENDS 10	  /* of each */
#define SERVER 0x7f00004d /* 127.0.0.77 */
#define VIP 0xc6120005	  /* 198.18.0.5 */
#define PORT 8077
#define CALLS_MAX (1 << 18)
#define RELOAD_MS 1000
#define EXTRA_US 1

enum { CONNECT_PLAIN, CONNECT_HOOKED };

static struct {
	struct lb *lb;
	struct connect *hook;
	unsigned int changes; /* how often all services were changed */
} bed;

static struct lb_addr v4(uint32_t addr)
{
	return (struct lb_addr){ .v6 = { 0, 0, htonl(0xffff), htonl(addr) } };
}

static int apply_one(const struct lb_service_spec *spec, struct err *err)
{
	uint32_t id;

	return lb_apply(bed.lb, spec, &id, err);
}

/* Every service gets another ring than it had. */
static int apply_all(struct err *err)
{
	struct lb_backend_spec backends[BACKENDS];
	struct lb_service_spec spec = {
		.vip = { .port = htons(80), .proto = IPPROTO_TCP },
		.plan = { .scheduler = LB_ROUND_ROBIN, .flags = LB_PLAN_CONNECT },
		.backends = backends,
		.n_backends = BACKENDS,
	};
	int r = 0, end;

	bed.changes++;
	lb_begin(bed.lb);
	for (uint32_t i = 0; i < SERVICES && r >= 0; i++) {
		spec.vip.addr = v4(0xc6130000 + i);
		for (uint32_t k = 0; k < BACKENDS; k++)
			backends[k] = (struct lb_backend_spec){
				.addr = v4(0x0a000000 + i * BACKENDS + k),
				.port = 80,
				.weight = k == bed.changes % BACKENDS ? 2 : 1,
			};
		r = apply_one(&spec, err);
	}
	end = lb_end(bed.lb, err);
	return r < 0 ? r : end;
}

/* The one service that is asked, by TCP and UDP, whose backend is the client's own server. */
static int apply_asked(struct err *err)
{
	struct lb_backend_spec backend = { .addr = v4(SERVER), .port = PORT, .weight = 1 };
	struct lb_service_spec spec = {
		.vip = { .addr = v4(VIP), .port = htons(PORT), .proto = IPPROTO_TCP },
		.plan = { .scheduler = LB_ROUND_ROBIN, .flags = LB_PLAN_CONNECT | LB_PLAN_PASSIVE },
		.backends = &backend,
		.n_backends = 1,
	};
	int r = apply_one(&spec, err);

	if (r < 0)
		return r;
	spec.vip.proto = IPPROTO_UDP;
	return apply_one(&spec, err);
}

static int bed_make(const struct lab *lab, struct err *err)
{
	const struct lb_limits limits = { .services = SERVICES + 8, .backends = SERVICES * BACKENDS + 8 };
	char mount_point[128], pins[160];
	bool taken_over;
	int r;

	r = lab_mkdir(lab, "bpf", err);
	if (r < 0)
		return r;
	(void)snprintf(mount_point, sizeof(mount_point), "%s/bpf", lab->dir);
	(void)snprintf(pins, sizeof(pins), "%s/pins", mount_point);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("bpf", mount_point, "bpf", 0, NULL) < 0 || setenv("WAGGLE_BPF_DIR", pins, 1) < 0)
		return err_set(err, -errno, "cannot mount a bpffs on '%s': %s", mount_point, strerror(errno));
	r = lb_open(&limits, &bed.lb, &taken_over, err);
	if (r < 0)
		return r;
	r = apply_all(err);
	return r < 0 ? r : apply_asked(err);
}

static int enter_plain(struct bench_run *run, struct err *err)
{
	if (!bed.lb)
		return bed_make(run->lab, err);
	if (!bed.hook)
		return 0;
	bed.hook = connect_close(bed.hook);
	return connect_detach(bed.lb, err);
}

static int enter_hooked(struct bench_run *run, struct err *err)
{
	const char *cgroups[] = { run->lab->programs };
	const struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	int r = bed.lb ? 0 : bed_make(run->lab, err);

	return r < 0 || bed.hook ? r : connect_open(bed.lb, &opts, &bed.hook, err);
}

void connect_done(struct bench_run *run)
{
	bed.hook = connect_close(bed.hook);
	bed.lb = lb_close(bed.lb);
}

const struct bench_way connect_ways[CONNECT_WAYS] = {
	[CONNECT_PLAIN] = { "plain", "without the hook", false, enter_plain },
	[CONNECT_HOOKED] = { "hooked", "with the hook", false, enter_hooked },
};

/* One row of calls. */
struct call_kind {
	int type;
	bool service; /* with the hook: asked for by the service's address */
	bool send;    /* sendto() on one socket, instead of connect() on new ones */
};

struct client {
	struct call_kind kind;
	struct sockaddr_in server, target;
	double seconds; /* 0: until stop_fd is at its end */
	int stop_fd;
	int listener, sender;
	uint32_t *ns; /* of each call */
	size_t n;
};

static int client_open(struct client *c)
{
	int one = 1;

	c->listener = socket(AF_INET, c->kind.type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	c->sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (c->listener < 0 || c->sender < 0 ||
	    setsockopt(c->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(c->listener, (struct sockaddr *)&c->server, sizeof(c->server)) < 0 ||
	    (c->kind.type == SOCK_STREAM && listen(c->listener, 1024) < 0))
		return -errno;
	c->ns = calloc(CALLS_MAX, sizeof(*c->ns));
	return c->ns ? 0 : -ENOMEM;
}

/* What arrived is taken off the server's hands, beyond the time that is measured. */
static void client_serve(struct client *c)
{
	char buf[16];
	int fd;

	if (c->kind.type == SOCK_DGRAM) {
		while (recv(c->listener, buf, sizeof(buf), 0) >= 0)
			;
		return;
	}
	while ((fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		(void)close(fd);
}

/* A call, timed. */
static int client_call(struct client *c)
{
	const struct sockaddr *target = (const struct sockaddr *)&c->target;
	const struct linger at_once = { .l_onoff = 1 };
	_cleanup_close_ int fd = -1;
	double start, end;
	int r;

	if (!c->kind.send) {
		fd = socket(AF_INET, c->kind.type | SOCK_CLOEXEC, 0);
		/* By a reset, so that thousands do not wait for their end. */
		if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) < 0)
			return -errno;
	}
	start = clock_s();
	if (c->kind.send)
		r = sendto(c->sender, "?", 1, 0, target, sizeof(c->target)) == 1 ? 0 : -errno;
	else
		r = connect(fd, target, sizeof(c->target)) < 0 ? -errno : 0;
	end = clock_s();
	if (r >= 0 && c->n < CALLS_MAX)
		c->ns[c->n++] = (uint32_t)((end - start) * 1e9);
	return r;
}

static bool client_goes_on(const struct client *c, double until)
{
	struct pollfd p = { .fd = c->stop_fd, .events = POLLIN };

	return c->seconds > 0 ? clock_s() < until : poll(&p, 1, 0) == 0;
}

static int by_ns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Reports the median of a call: what interrupts it, be it once in a thousand times, is not the hook's. */
static int client_run(void *data, struct pair_result *ret)
{
	struct client *c = data;
	int r = client_open(c);
	double until = clock_s() + c->seconds;

	/* Once at least: on a busy machine a reload may be over before the client has begun. */
	while (r >= 0 && (!c->n || client_goes_on(c, until))) {
		r = client_call(c);
		client_serve(c);
	}
	if (r < 0)
		return r;
	qsort(c->ns, c->n, sizeof(*c->ns), by_ns);
	*ret = (struct pair_result){ .count = c->n, .seconds = c->ns[c->n / 2] / 1e9 };
	return 0;
}

static struct client client_of(const struct bench_run *run, const struct call_kind *kind, size_t way)
{
	struct client c = { .kind = *kind, .seconds = run->opts->seconds, .stop_fd = -1 };

	c.server = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_port = htons(PORT),
					 .sin_addr.s_addr = htonl(SERVER) };
	c.target = c.server;
	if (kind->service && way == CONNECT_HOOKED)
		c.target.sin_addr.s_addr = htonl(VIP);
	return c;
}

static struct pair_end client_end(const struct bench_run *run)
{
	return (struct pair_end){ lab_netns(run->lab, "client"), run->lab->programs_fd,
				  run->n_cpus ? run->cpus[0] : -1 };
}

static int run_client(const struct bench_run *run, struct client *client, double *ret_us, struct err *err)
{
	struct pair_end end = client_end(run);
	struct side side = SIDE_NONE;
	struct pair_result result;
	int r = side_start(&end, client_run, client, &side);

	if (r >= 0)
		r = side_wait(&side, (int)(run->opts->seconds * 1000) + 20000, &result);
	if (r < 0)
		return err_set(err, r, "a call failed: %s", strerror(-r));
	*ret_us = result.seconds * 1e6;
	return 0;
}

static int sample_call(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		       struct err *err)
{
	struct client client = client_of(run, row->data, way);

	return run_client(run, &client, &ret->value, err);
}

int calls_connect(struct bench_run *run, int type, uint32_t other, double *ret_us, struct err *err)
{
	const struct call_kind kind = { type, false, false };
	struct client client = client_of(run, &kind, CONNECT_PLAIN);

	if (other)
		client.target.sin_addr.s_addr = htonl(other);
	return run_client(run, &client, ret_us, err);
}

/* Milliseconds for a change of all services; not one call of the client may fail meanwhile. */
static int sample_reload(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
			 struct err *err)
{
	struct client client = client_of(run, row->data, way);
	_cleanup_close_ int stop = -1, stopped = -1;
	struct pair_end end = client_end(run);
	struct side side = SIDE_NONE;
	struct pair_result result;
	int fds[2], r, reload;
	double start;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	stopped = fds[0];
	stop = fds[1];
	client.seconds = 0;
	client.stop_fd = stopped;
	r = side_start(&end, client_run, &client, &side);
	if (r < 0)
		return err_set(err, r, "cannot start the client: %s", strerror(-r));
	start = clock_s();
	reload = apply_all(err);
	ret->value = (clock_s() - start) * 1e3;
	/* By a byte: the client has this end of the pipe too, and would never see its end. */
	(void)!write(stop, "", 1);
	r = side_wait(&side, 20000, &result);
	if (reload < 0)
		return reload;
	return r < 0 ? err_set(err, r, "a connect failed while services changed: %s", strerror(-r)) : 0;
}

static const struct call_kind tcp_other = { SOCK_STREAM, false, false };
static const struct call_kind tcp_service = { SOCK_STREAM, true, false };
static const struct call_kind udp_other = { SOCK_DGRAM, false, false };
static const struct call_kind udp_service = { SOCK_DGRAM, true, false };
static const struct call_kind send_other = { SOCK_DGRAM, false, true };
static const struct call_kind send_service = { SOCK_DGRAM, true, true };

#define CALL .unit = "us a call", .less_is_better = true
static const struct bench_group g_tcp = { .word = "connect", .title = "connect(2), TCP", CALL },
				g_udp = { .word = "udp", .title = "connect(2), UDP", CALL },
				g_send = { .word = "sendto", .title = "sendto(2) without connect(2)", CALL },
				g_reload = { .word = "reload",
					     .title = "change of 10000 services of 10 backends",
					     .unit = "ms",
					     .less_is_better = true };

int connect_rows(struct bench_run *run, struct err *err)
{
	static const struct {
		const struct bench_group *group;
		const char *word, *title;
		const struct call_kind *kind;
		enum bench_target target;
	} calls[] = {
		{ &g_tcp, "connect-other", "TCP, an address that is no service", &tcp_other, BENCH_EXTRA_AT_MOST },
		{ &g_tcp, "connect-service", "TCP, a service", &tcp_service, BENCH_EXTRA_AT_MOST },
		{ &g_udp, "udp-other", "UDP, an address that is no service", &udp_other, BENCH_EXTRA_AT_MOST },
		{ &g_udp, "udp-service", "UDP, a service", &udp_service, BENCH_EXTRA_AT_MOST },
		{ &g_send, "sendto-other", "a datagram to an address that is no service", &send_other,
		  BENCH_NO_TARGET },
		{ &g_send, "sendto-service", "a datagram to a service", &send_service, BENCH_NO_TARGET },
	};
	struct bench_row reload = {
		.group = &g_reload,
		.name = "reload",
		.title = g_reload.title,
		.ways = 1U << CONNECT_PLAIN | 1U << CONNECT_HOOKED,
		.target = BENCH_AT_MOST,
		.target_value = RELOAD_MS,
		.sample = sample_reload,
		.data = &tcp_service,
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct bench_row row = {
			.group = calls[i].group,
			.title = calls[i].title,
			.ways = 1U << CONNECT_PLAIN | 1U << CONNECT_HOOKED,
			.target = calls[i].target,
			.target_value = EXTRA_US,
			.sample = sample_call,
			.data = calls[i].kind,
		};
		int r;

		(void)snprintf(row.name, sizeof(row.name), "%s", calls[i].word);
		r = bench_row_add(run, &row, err);
		if (r < 0)
			return r;
	}
	return bench_row_add(run, &reload, err);
}
