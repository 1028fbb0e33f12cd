// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The demo: the lab's classic scene, each way through it in turn, plain and joined, in one table, with a service of
 * waggle's own beside the balancers; and what a capture sees of a joined connection. Whatever happens, the lab is taken down by lab_run()'s parent process.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/utsname.h>
#include <time.h>

#include <jansson.h>

#include "bench/http.h"
#include "bench/stats.h"
#include "cmd/cmd.h"
#include "lab/capture.h"
#include "lab/lab.h"
#include "lab/scene.h"
#include "lab/waggle.h"

/* wrk's own default, so that the load leaves no processor idle and the table compares what a request costs. */
#define DEMO_THREADS 2
#define DEMO_NAME "waggle-demo"
#define DEMO_ROUNDS 3
#define DEMO_ROUNDS_MAX 100
#define DEMO_SECONDS 2
#define DEMO_CONNECTIONS 100
#define DEMO_LEARN_TRIES 20
#define DEMO_SETTLE_MS 200
#define DEMO_ANSWERS (SCENE_1M / SCENE_16K)

struct demo_args {
	uint64_t rounds, seconds;
	bool json;
};

/* What waggle does meanwhile. */
enum mode {
	MODE_OFF,     /* there is none */
	MODE_BALANCE, /* the connect hook serves the service, nothing is joined */
	MODE_JOIN,    /* the same, and sockets are joined */
};

static const struct way {
	const char *word, *title, *url;
	bool small;	 /* answers of a few bytes: comparable with the first row */
	bool may_splice; /* not joined where the kernel cannot tell in time that a program splices */
	enum mode plain; /* in the plain row; in the joined row it is MODE_JOIN */
} ways[] = {
	{ "balancer", "nginx balancer, a connection a request", SCENE_EACH "/", .small = true },
	{ "balancer-keepalive", "nginx balancer with keepalive", SCENE_KEPT "/", .small = true },
	{ "balancer-1m", "the same, bodies of 1 MiB", SCENE_KEPT "/1m", .small = false },
	{ "haproxy", "haproxy, mode tcp", SCENE_HAPROXY "/", .small = true, .may_splice = true },
	{ "nftables", "nftables, DNAT and masquerade", SCENE_NAT "/", .small = true },
	{ "straight", "straight to the backend", SCENE_STRAIGHT "/", .small = true },
	{ "service", "waggle, service " SCENE_SERVICE, SCENE_SERVED "/", .small = true, .plain = MODE_BALANCE },
};
#define WAYS ARRAY_SIZE(ways)
enum { WAY_KEEPALIVE = 1, WAY_STRAIGHT = 5, WAY_SERVICE = 6 };

/* What one run of wrk shows, and, as medians of the rounds, what a row says. */
enum figure { RATE, P50_US, P99_US, CPU_PERCENT, CPU_US, _FIGURE_MAX };

struct row {
	double v[_FIGURE_MAX][DEMO_ROUNDS_MAX];
	double median[_FIGURE_MAX];
	uint64_t errors;
};

struct demo {
	const struct demo_args *args;
	const struct lab *lab;
	struct scene scene;
	struct prog waggle;
	enum mode mode;
	struct row rows[WAYS][2]; /* plain, joined */
	struct capture_counts captures[2];
};

static const char *mode_word(size_t joined)
{
	return joined ? "joined" : "plain";
}

static void sleep_ms(long ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&t, NULL);
}

/* Connections from before would stay what they are, so the balancers start anew. */
static int demo_switch(struct demo *d, enum mode mode, struct err *err)
{
	const struct scene_waggle how = { .balance = true, .join = mode == MODE_JOIN };
	int r = 0;

	if (mode == d->mode)
		return 0;
	r = prog_stop(&d->scene.balancer, NGINX_STOP_MS);
	if (r >= 0)
		r = prog_stop(&d->scene.haproxy, HAPROXY_STOP_MS);
	if (r >= 0 && d->mode != MODE_OFF)
		r = waggle_run_stop(d->lab, &d->waggle, err);
	if (r < 0)
		return r;
	d->mode = MODE_OFF;
	if (mode != MODE_OFF)
		r = scene_waggle(d->lab, &how, &d->waggle, err);
	if (r < 0)
		return r;
	d->mode = mode;
	r = scene_balancer(d->lab, &d->scene, err);
	return r < 0 ? r : scene_haproxy(d->lab, &d->scene, err);
}

static int demo_load(struct demo *d, const struct way *way, unsigned int connections, unsigned int seconds,
		     struct http_result *ret, struct err *err)
{
	const struct wrk_spec spec = {
		.host = "client",
		.url = way->url,
		.connections = connections,
		.threads = DEMO_THREADS,
		.seconds = seconds,
	};

	return http_load(d->lab, &spec, ret, err);
}

/* waggle sees each program read on plain TCP until it knows it; the next connections are joined. */
static int demo_learn(struct demo *d, struct err *err)
{
	struct http_result result;
	int r;

	r = demo_switch(d, MODE_JOIN, err);
	for (int i = 0; r >= 0 && i < DEMO_LEARN_TRIES; i++) {
		uint64_t before, after;

		cmd_progress("waggle watches nginx and wrk read (%d s)", i + 1);
		r = cmd_joined(&before, err);
		if (r >= 0)
			r = demo_load(d, &ways[WAY_KEEPALIVE], 10, 1, &result, err);
		if (r >= 0)
			r = cmd_joined(&after, err);
		/* More than wrk's own: those to the backends too. */
		if (r >= 0 && after > before + 10)
			return 0;
	}
	return r < 0 ? r :
		       err_set(err, -ETIMEDOUT, "waggle has joined nothing within %d s: see 'waggle doctor'",
			       DEMO_LEARN_TRIES);
}

static int demo_measure(struct demo *d, size_t w, size_t joined, size_t round, struct err *err)
{
	struct row *row = &d->rows[w][joined];
	uint64_t joined_before = 0, joined_after = DEMO_CONNECTIONS;
	struct http_result result;
	int r;

	cmd_progress("round %zu of %" PRIu64 ": %s, %s", round + 1, d->args->rounds, ways[w].title, mode_word(joined));
	r = demo_switch(d, joined ? MODE_JOIN : ways[w].plain, err);
	if (r >= 0 && joined)
		r = cmd_joined(&joined_before, err);
	if (r >= 0)
		r = demo_load(d, &ways[w], DEMO_CONNECTIONS, (unsigned int)d->args->seconds, &result, err);
	if (r >= 0 && joined)
		r = cmd_joined(&joined_after, err);
	if (r < 0)
		return r;
	if (!result.wrk.requests)
		return err_set(err, -EIO, "%s, %s: not one request was answered", ways[w].title, mode_word(joined));
	if (!ways[w].may_splice && joined_after - joined_before < DEMO_CONNECTIONS)
		return err_set(err, -EIO, "%s: only %" PRIu64 " of wrk's %d connections were joined", ways[w].title,
			       joined_after - joined_before, DEMO_CONNECTIONS);
	row->v[RATE][round] = result.rate;
	row->v[P50_US][round] = result.wrk.p50_us;
	row->v[P99_US][round] = result.wrk.p99_us;
	row->v[CPU_PERCENT][round] = result.cpu_busy_percent;
	row->v[CPU_US][round] = result.cpu_us;
	row->errors += wrk_errors(&result.wrk);
	if (wrk_errors(&result.wrk)) {
		cmd_progress_end();
		(void)cmd_fail(0,
			       "demo: %s, %s: errors of wrk: %" PRIu64 " connect, %" PRIu64 " read, %" PRIu64
			       " write, %" PRIu64 " timeout, %" PRIu64 " not 2xx or 3xx",
			       ways[w].title, mode_word(joined), result.wrk.connect_errors, result.wrk.read_errors,
			       result.wrk.write_errors, result.wrk.timeouts, result.wrk.bad_status);
	}
	return 0;
}

/* Plain and joined right after each other, in turning order, so that what else the machine does hits both. */
static int demo_rounds(struct demo *d, struct err *err)
{
	for (size_t round = 0; round < d->args->rounds; round++) {
		for (size_t w = 0; w < WAYS; w++) {
			size_t first = d->mode == MODE_JOIN ? 1 : 0;
			int r = demo_measure(d, w, first, round, err);

			if (r >= 0)
				r = demo_measure(d, w, !first, round, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/*
 * One connection that fetches 1 MiB straight from http1, seen on http1's interface. In 64 answers, because of one of
 * 1 MiB a part may go by TCP: what the reader has not caught up with does, so that its writer has to wait.
 */
static int demo_capture(struct demo *d, size_t joined, struct err *err)
{
	const struct wrk_spec load = {
		.host = "client",
		.url = SCENE_STRAIGHT "/16k",
		.connections = 1,
		.threads = 1,
		.seconds = 1,
		.answers = DEMO_ANSWERS,
	};
	struct capture_counts *counts = &d->captures[joined];
	struct capture capture = { .fd = -1 };
	struct wrk_result result;
	int r;

	cmd_progress("capture of one connection, %s", mode_word(joined));
	r = demo_switch(d, joined ? MODE_JOIN : MODE_OFF, err);
	if (r >= 0)
		r = capture_start(d->lab, "http1", 80, SCENE_CLIENT, &capture, err);
	if (r < 0)
		return r;
	r = wrk_run(d->lab, &load, &result, err);
	/* The FINs of both sides, and their acknowledgements. */
	sleep_ms(DEMO_SETTLE_MS);
	if (r < 0) {
		(void)capture_stop(&capture, counts, NULL);
		return r;
	}
	r = capture_stop(&capture, counts, err);
	if (r < 0)
		return r;
	if (result.requests != DEMO_ANSWERS || wrk_errors(&result) || counts->lost)
		return err_set(err, -EIO,
			       "the capture of one connection (%s) went wrong: %" PRIu64 " answers, %" PRIu64
			       " errors, %" PRIu64 " packets lost",
			       mode_word(joined), result.requests, wrk_errors(&result), counts->lost);
	return 0;
}

static int demo_medians(struct demo *d)
{
	struct stats stats;
	int r = 0;

	for (size_t w = 0; w < WAYS; w++)
		for (size_t joined = 0; joined < 2; joined++)
			for (size_t f = 0; r >= 0 && f < _FIGURE_MAX; f++) {
				r = stats_of(d->rows[w][joined].v[f], d->args->rounds, &stats);
				d->rows[w][joined].median[f] = stats.median;
			}
	return r;
}

static double to_first(const struct demo *d, size_t w, size_t joined)
{
	return d->rows[w][joined].median[RATE] / d->rows[0][0].median[RATE];
}

static double to_plain(const struct demo *d, size_t w)
{
	return d->rows[w][1].median[RATE] / d->rows[w][0].median[RATE];
}

/* The service, joined, compared with another way on plain TCP. */
static double service_to(const struct demo *d, size_t w)
{
	return d->rows[WAY_SERVICE][1].median[RATE] / d->rows[w][0].median[RATE];
}

static void print_row(const struct demo *d, size_t w, size_t joined)
{
	const double *m = d->rows[w][joined].median;
	char first[16] = "-", plain[16] = "";

	if (ways[w].small)
		(void)snprintf(first, sizeof(first), "%.2f", to_first(d, w, joined));
	if (joined)
		(void)snprintf(plain, sizeof(plain), "%.2f", to_plain(d, w));
	printf("%-40s %-6s %11.0f %8.2f %8.2f %6.0f %9.1f %9s %9s\n", joined ? "" : ways[w].title, mode_word(joined),
	       m[RATE], m[P50_US] / 1e3, m[P99_US] / 1e3, m[CPU_PERCENT], m[CPU_US], first, plain);
}

static void print_table(const struct demo *d, const struct utsname *kernel)
{
	printf("Linux %s, %ld processors; wrk with %d connections and two threads, one nginx worker each;\n"
	       "medians of %" PRIu64 " rounds of %" PRIu64 " s, plain and joined in turn\n\n",
	       kernel->release, sysconf(_SC_NPROCESSORS_ONLN), DEMO_CONNECTIONS, d->args->rounds, d->args->seconds);
	printf("%-40s %-6s %11s %8s %8s %6s %9s %9s %9s\n", "", "", "requests", "p50", "p99", "CPU", "CPU us",
	       "to first", "to its");
	printf("%-40s %-6s %11s %8s %8s %6s %9s %9s %9s\n", "", "", "a second", "ms", "ms", "busy %", "a request",
	       "row", "plain row");
	for (size_t w = 0; w < WAYS; w++) {
		print_row(d, w, 0);
		print_row(d, w, 1);
	}
	printf("\nThe service of waggle, joined, has %.1f times the requests of the nginx balancer with keepalive and %.1f\n"
	       "times those straight to a backend, both by plain TCP. CPU is that of the whole machine.\n\n"
	       "A capture on http1's interface, of one connection that fetches 1 MiB in %d answers:\n",
	       service_to(d, WAY_KEEPALIVE), service_to(d, WAY_STRAIGHT), DEMO_ANSWERS);
	for (size_t joined = 0; joined < 2; joined++) {
		const struct capture_counts *c = &d->captures[joined];

		printf("%-6s %5" PRIu64 " packets, %" PRIu64 " SYN, %" PRIu64 " FIN, %" PRIu64 " RST, %8" PRIu64
		       " bytes of payload\n",
		       mode_word(joined), c->packets, c->syn, c->fin, c->rst, c->payload_bytes);
	}
}

static json_t *json_rows(const struct demo *d)
{
	json_t *rows = json_array();

	for (size_t w = 0; w < WAYS; w++) {
		for (size_t joined = 0; joined < 2; joined++) {
			const double *m = d->rows[w][joined].median;

			(void)json_array_append_new(rows,
						    json_pack("{s:s, s:b, s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:I}",
							      "way", ways[w].word, "joined", (int)joined,
							      "requests_per_second", m[RATE], "p50_us", m[P50_US],
							      "p99_us", m[P99_US], "cpu_busy_percent", m[CPU_PERCENT],
							      "cpu_us_per_request", m[CPU_US], "to_first_row",
							      ways[w].small ? json_real(to_first(d, w, joined)) :
									      json_null(),
							      "to_plain_row",
							      joined ? json_real(to_plain(d, w)) : json_null(),
							      "errors", (json_int_t)d->rows[w][joined].errors));
		}
	}
	return rows;
}

static json_t *json_captures(const struct demo *d)
{
	json_t *captures = json_array();

	for (size_t joined = 0; joined < 2; joined++) {
		const struct capture_counts *c = &d->captures[joined];

		(void)json_array_append_new(captures,
					    json_pack("{s:b, s:I, s:I, s:I, s:I, s:I}", "joined", (int)joined,
						      "packets", (json_int_t)c->packets, "syn", (json_int_t)c->syn,
						      "fin", (json_int_t)c->fin, "rst", (json_int_t)c->rst,
						      "payload_bytes", (json_int_t)c->payload_bytes));
	}
	return captures;
}

static int print_json(const struct demo *d, const struct utsname *kernel)
{
	json_t *root = json_pack("{s:s, s:I, s:I, s:I, s:i, s:o, s:f, s:f, s:o}", "kernel", kernel->release,
				 "processors", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "rounds",
				 (json_int_t)d->args->rounds, "seconds", (json_int_t)d->args->seconds, "connections",
				 DEMO_CONNECTIONS, "rows", json_rows(d), "service_to_keepalive",
				 service_to(d, WAY_KEEPALIVE), "service_to_straight", service_to(d, WAY_STRAIGHT),
				 "captures", json_captures(d));
	int r = root ? json_dumpf(root, stdout, JSON_INDENT(2)) : -1;

	json_decref(root);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "demo: cannot write the result");
	(void)putchar('\n');
	return EXIT_DONE;
}

static int demo_steps(struct demo *d, struct err *err)
{
	int r;

	cmd_progress("three nginx in their namespaces");
	r = waggle_point(d->lab, err);
	if (r >= 0)
		r = scene_nat(d->lab, true, err);
	if (r >= 0)
		r = scene_start(d->lab, &d->scene, err);
	if (r >= 0)
		r = scene_balancer(d->lab, &d->scene, err);
	if (r >= 0)
		r = scene_haproxy(d->lab, &d->scene, err);
	if (r >= 0)
		r = demo_learn(d, err);
	if (r >= 0)
		r = demo_rounds(d, err);
	for (size_t i = 0; r >= 0 && i < 2; i++)
		r = demo_capture(d, i, err);
	if (r >= 0)
		r = demo_switch(d, MODE_OFF, err);
	scene_stop(&d->scene);
	return r;
}

/* What makes the demo a failure although it ran: it promises all of this. */
static int demo_judge(const struct demo *d)
{
	const struct capture_counts *c = &d->captures[1];

	for (size_t w = 0; w < WAYS; w++)
		for (size_t joined = 0; joined < 2; joined++)
			if (d->rows[w][joined].errors)
				return cmd_fail(EXIT_FAILED, "demo: wrk met errors, see above");
	if (d->captures[0].payload_bytes < SCENE_1M)
		return cmd_fail(EXIT_FAILED, "demo: the capture missed bytes of the plain connection");
	if (c->payload_bytes || c->syn != 2 || c->fin != 2 || c->rst)
		return cmd_fail(EXIT_FAILED, "demo: a joined connection should show 2 SYN, 2 FIN and nothing else");
	return EXIT_DONE;
}

/* In the child of lab_run(). */
static int demo_in_lab(struct lab *lab, void *data)
{
	struct utsname kernel;
	struct err err = {};
	struct demo *d = data;
	int r;

	d->lab = lab;
	r = demo_steps(d, &err);
	cmd_progress_end();
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "demo: %s", err.text);
	if (demo_medians(d) < 0)
		return cmd_fail(EXIT_FAILED, "demo: out of memory");
	(void)uname(&kernel);
	if (d->args->json && print_json(d, &kernel) != EXIT_DONE)
		return EXIT_FAILED;
	if (!d->args->json)
		print_table(d, &kernel);
	return demo_judge(d);
}

static int demo_needs(bool redirect)
{
	static const struct {
		const char *program, *package;
		bool redirect; /* only for the demo of redirects */
	} needs[] = {
		{ "haproxy", "haproxy", false },
		{ "ip", "iproute2", false },
		{ "nft", "nftables", false },
		{ "nginx", "nginx", false },
		{ "sysctl", "procps", false },
		{ "wrk", "wrk", false },
		{ "curl", "curl", true },
		{ "redis-server", "redis-server", true },
		{ "redis-cli", "redis-tools", true },
		{ "redis-benchmark", "redis-tools", true },
	};
	char path[4096];

	if (geteuid() != 0)
		return cmd_fail(EXIT_FAILED, "demo: needs root, for namespaces and BPF: run 'sudo waggle demo'");
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
		if ((redirect || !needs[i].redirect) && prog_find(needs[i].program, path, sizeof(path)) < 0)
			return cmd_fail(EXIT_FAILED, "demo: '%s' is missing: run 'apt-get install %s'",
					needs[i].program, needs[i].package);
	return EXIT_DONE;
}

static const struct opt demo_opts[] = {
	{ "rounds", OPT_U64, "N", "how often each way is measured (default 3)", offsetof(struct demo_args, rounds), 1,
	  DEMO_ROUNDS_MAX },
	{ "seconds", OPT_U64, "N", "how long, each time (default 2)", offsetof(struct demo_args, seconds), 1, 600 },
	{ "json", OPT_FLAG, NULL, "print the result as JSON", offsetof(struct demo_args, json), 0, 0 },
	{ 0 },
};

static int demo_fn(int argc, char **argv)
{
	struct demo_args args = { .rounds = DEMO_ROUNDS, .seconds = DEMO_SECONDS };
	_cleanup_free_ struct demo *d = new0(struct demo);
	struct err err = {};
	bool redirect;
	int first, r;

	r = opt_parse(&cmd_demo, argc, argv, &args, &first);
	if (r < 0)
		return OPT_EXIT(r);
	if (!d)
		return cmd_fail(EXIT_FAILED, "out of memory");
	redirect = first < argc;
	if (redirect && !streq(argv[first], "redirect"))
		return cmd_fail(EXIT_USAGE, "demo: there is no demo '%s': 'redirect', or none for that of balancing",
				argv[first]);
	r = demo_needs(redirect);
	if (r == EXIT_DONE)
		r = cmd_alone("demo");
	if (r != EXIT_DONE)
		return r;
	if (redirect)
		return demo_redirect(DEMO_NAME, args.rounds, args.seconds, args.json);
	*d = (struct demo){ .args = &args, .waggle.out = -1 };
	r = lab_run(DEMO_NAME, scene_hosts, ARRAY_SIZE(scene_hosts), demo_in_lab, d, &err);
	if (r >= 0)
		return r;
	cmd_progress_end();
	return cmd_fail(EXIT_FAILED, "demo: %s", err.text);
}

const struct cmd cmd_demo = {
	.name = "demo",
	.args = "[redirect]",
	.help = "show what balancing and joining do, in a lab of network namespaces with nginx and wrk",
	.opts = demo_opts,
	.max = 1,
	.fn = demo_fn,
};
