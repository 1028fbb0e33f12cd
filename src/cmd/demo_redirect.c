// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The demo of redirects: programs as they are (curl, redis-cli, psql, redis-benchmark, wrk) and a transparent haproxy that none of them
 * knows of. Straight, without the proxy; through it by nftables' REDIRECT; and by waggle, which joins both hops. In one table, with
 * what each program was answered and how many of its connections the proxy took.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/utsname.h>

#include <jansson.h>

#include "bench/http.h"
#include "bench/stats.h"
#include "cmd/cmd.h"
#include "lab/postgres.h"
#include "lab/redis.h"
#include "lab/scene.h"
#include "lab/sidecar.h"
#include "lab/waggle.h"

#define ROUNDS_MAX 100
#define CONNECTIONS 100
#define REDIS_CLIENTS 50
#define REDIS_RATE 40000 /* it is assumed to answer, to make a number of requests out of a time */
#define PROGRAM_MS 10000
#define ANSWER_MAX 64

enum way { STRAIGHT, NFTABLES, WAGGLE, _WAYS };

static const struct {
	const char *word, *title;
} ways[_WAYS] = {
	[STRAIGHT] = { "straight", "straight" },
	[NFTABLES] = { "nftables", "proxy, nftables" },
	[WAGGLE] = { "waggle", "proxy, waggle" },
};

static const struct program {
	const char *word, *says;
	const char *const *argv;
} programs[] = {
	{ "curl", "the bee dances", (const char *const[]){ "curl", "-sS", "http://" SCENE_HTTP1 ":80/", NULL } },
	{ "redis-cli", "PONG", (const char *const[]){ "redis-cli", "-h", SCENE_HTTP1, "PING", NULL } },
	/* The last, for it is left out where it is not installed. */
	{ "psql", SCENE_HTTP1,
	  (const char *const[]){ "psql", "-XAtq", "-h", SCENE_HTTP1, "-U", POSTGRES_USER, "-d", "postgres", "-c",
				 "select host(inet_server_addr())", NULL } },
};
#define PROGRAMS ARRAY_SIZE(programs)
#define PSQL (PROGRAMS - 1)

static const struct load {
	const char *word, *title, *unit, *url; /* no url: redis-benchmark */
	unsigned int connections;
	bool latency; /* less is better */
} loads[] = {
	{ "keepalive", "wrk, 100 connections kept", "requests/s", SCENE_STRAIGHT "/", CONNECTIONS, false },
	{ "connections", "wrk, a connection each", "requests/s", "http://" SCENE_HTTP1 ":81/", CONNECTIONS, false },
	{ "latency", "wrk, one connection, p50", "us", SCENE_STRAIGHT "/", 1, true },
	{ "redis", "redis-benchmark GET -c 50", "requests/s", NULL, REDIS_CLIENTS, false },
};
#define LOADS ARRAY_SIZE(loads)

struct demo {
	uint64_t rounds, seconds;
	bool json;
	const struct lab *lab;
	struct sidecar sidecar;
	struct prog redis, postgres, waggle;
	struct postgres pg;
	size_t n_programs; /* that are installed */
	enum way way;	   /* that is made now */
	struct {
		char answer[ANSWER_MAX];
		uint64_t taken; /* connections of it, by the proxy */
	} answers[PROGRAMS][_WAYS];
	double v[LOADS][_WAYS][ROUNDS_MAX], median[LOADS][_WAYS];
};

static int enter(struct demo *d, enum way way, struct err *err)
{
	int r = 0;

	if (d->way == way)
		return 0;
	if (d->way == NFTABLES)
		r = sidecar_nat(d->lab, false, err);
	if (d->way == WAGGLE)
		r = waggle_run_stop(d->lab, &d->waggle, err);
	d->way = STRAIGHT;
	if (r >= 0 && way == NFTABLES)
		r = sidecar_nat(d->lab, true, err);
	if (r >= 0 && way == WAGGLE)
		r = sidecar_waggle(d->lab, &d->waggle, err);
	if (r >= 0)
		d->way = way;
	return r;
}

static int ask(struct demo *d, size_t p, struct err *err)
{
	char log[PATH_MAX], psql[PATH_MAX + 8], name[32], *answer = d->answers[p][d->way].answer;
	struct prog_spec spec = {
		.argv = programs[p].argv,
		.file = p == PSQL ? psql : NULL,
		.netns_fd = lab_netns(d->lab, "client"),
		.cgroup_fd = d->lab->programs_fd,
		.log = log,
	};
	uint64_t before, after;
	int r = sidecar_taken(d->lab, &before, err);

	(void)snprintf(psql, sizeof(psql), "%s/psql", d->pg.bin);
	(void)snprintf(name, sizeof(name), "%s-%s.out", programs[p].word, ways[d->way].word);
	(void)snprintf(log, sizeof(log), "%s/%s", d->lab->dir, name);
	if (r >= 0)
		r = prog_run(&spec, PROGRAM_MS, err);
	lab_last_line(d->lab, name, answer, ANSWER_MAX);
	if (r == -EIO)
		return err_set(err, r, "%s, %s: failed: it says: %s", programs[p].word, ways[d->way].title, answer);
	if (r >= 0)
		r = sidecar_taken(d->lab, &after, err);
	if (r < 0)
		return r;
	d->answers[p][d->way].taken = after - before;
	return 0;
}

static int ask_all(struct demo *d, struct err *err)
{
	int r = 0;

	for (enum way way = 0; r >= 0 && way < _WAYS; way++) {
		cmd_progress("%s, %s", d->n_programs < PROGRAMS ? "curl and redis-cli" : "curl, redis-cli and psql",
			     ways[way].title);
		r = enter(d, way, err);
		for (size_t p = 0; r >= 0 && p < d->n_programs; p++)
			r = ask(d, p, err);
	}
	return r;
}

static int sample(struct demo *d, size_t l, double *ret, struct err *err)
{
	const struct load *load = &loads[l];
	const struct redis_load redis = {
		.host = "client",
		.at = SCENE_HTTP1,
		.clients = load->connections,
		.pipeline = 1,
		.requests = d->seconds * REDIS_RATE,
	};
	struct http_result result;
	int r;

	if (!load->url)
		return redis_get(d->lab, &redis, ret, err);
	r = http_ask(d->lab, load->url, load->connections, (double)d->seconds, &result, err);
	if (r >= 0)
		*ret = load->latency ? result.wrk.p50_us : result.rate;
	return r;
}

/* The ways in turn, back and forth, and all loads of a way together. */
static int measure(struct demo *d, struct err *err)
{
	for (size_t round = 0; round < d->rounds; round++)
		for (size_t i = 0; i < _WAYS; i++) {
			enum way way = (enum way)(round % 2 ? i : _WAYS - 1 - i);
			int r = enter(d, way, err);

			for (size_t l = 0; r >= 0 && l < LOADS; l++) {
				cmd_progress("round %zu of %" PRIu64 ": %s, %s", round + 1, d->rounds, loads[l].title,
					     ways[way].title);
				r = sample(d, l, &d->v[l][way][round], err);
			}
			if (r < 0)
				return r;
		}
	return 0;
}

/* Whoever has no PostgreSQL sees the rest. */
static int start_postgres(struct demo *d, struct err *err)
{
	struct err why = {};

	d->n_programs = PROGRAMS;
	if (postgres_find(&d->pg, &why) >= 0) {
		cmd_progress("a database of PostgreSQL beside them");
		return postgres_start(d->lab, "http1", &d->pg, &d->postgres, err);
	}
	d->n_programs = PSQL;
	cmd_progress_end();
	(void)fprintf(stderr, "waggle: demo: psql is left out: %s\n", why.text);
	return 0;
}

static int steps(struct demo *d, struct err *err)
{
	struct stats stats;
	int r;

	cmd_progress("nginx and redis on one host, a transparent haproxy on the other");
	r = waggle_point(d->lab, err);
	if (r >= 0)
		r = sidecar_start(d->lab, &d->sidecar, err);
	if (r >= 0)
		r = redis_start(d->lab, "http1", &d->redis, err);
	if (r >= 0)
		r = start_postgres(d, err);
	if (r >= 0)
		r = ask_all(d, err);
	/* It has no part in what is measured. */
	(void)prog_stop(&d->postgres, POSTGRES_STOP_MS);
	if (r >= 0)
		r = measure(d, err);
	if (r >= 0)
		r = enter(d, STRAIGHT, err);
	(void)prog_stop(&d->redis, REDIS_STOP_MS);
	sidecar_stop(&d->sidecar);
	for (size_t l = 0; r >= 0 && l < LOADS; l++)
		for (size_t way = 0; r >= 0 && way < _WAYS; way++) {
			r = stats_of(d->v[l][way], d->rounds, &stats);
			d->median[l][way] = stats.median;
		}
	return r;
}

/* How many times as good waggle is as nftables. */
static double ratio(const struct demo *d, size_t l)
{
	double was = d->median[l][NFTABLES], is = d->median[l][WAGGLE];

	return loads[l].latency ? was / is : is / was;
}

static void print_table(const struct demo *d, const struct utsname *kernel)
{
	printf("Linux %s, %ld processors; medians of %" PRIu64 " rounds of %" PRIu64 " s, the ways in turn.\n"
	       "The same haproxy in both, which asks SO_ORIGINAL_DST; by waggle both hops are joined.\n\n",
	       kernel->release, sysconf(_SC_NPROCESSORS_ONLN), d->rounds, d->seconds);
	printf("%-28s %-11s %16s %16s %16s %8s\n", "", "", ways[0].title, ways[1].title, ways[2].title, "waggle");
	printf("%-28s %-11s %16s %16s %16s %8s\n", "", "", "", "(before)", "(after)", "to nft");
	for (size_t p = 0; p < d->n_programs; p++) {
		printf("%-28s %-11s", programs[p].word, "answer");
		for (size_t way = 0; way < _WAYS; way++)
			printf(" %16s", d->answers[p][way].answer);
		printf("\n%-28s %-11s", "", "proxied");
		for (size_t way = 0; way < _WAYS; way++)
			printf(" %16s", d->answers[p][way].taken ? "yes" : "no");
		(void)putchar('\n');
	}
	for (size_t l = 0; l < LOADS; l++) {
		printf("%-28s %-11s", loads[l].title, loads[l].unit);
		for (size_t way = 0; way < _WAYS; way++)
			printf(" %16.0f", d->median[l][way]);
		printf(" %8.2f\n", ratio(d, l));
	}
}

static int print_json(const struct demo *d, const struct utsname *kernel)
{
	json_t *answers = json_array(), *rows = json_array(), *root;
	int r;

	for (size_t p = 0; p < d->n_programs; p++)
		for (size_t way = 0; way < _WAYS; way++)
			(void)json_array_append_new(answers, json_pack("{s:s, s:s, s:s, s:b}", "program",
								       programs[p].word, "way", ways[way].word,
								       "answer", d->answers[p][way].answer, "proxied",
								       (int)(d->answers[p][way].taken > 0)));
	for (size_t l = 0; l < LOADS; l++) {
		json_t *row = json_pack("{s:s, s:s, s:b, s:f}", "load", loads[l].word, "unit", loads[l].unit,
					"less_is_better", (int)loads[l].latency, "waggle_to_nftables", ratio(d, l));

		for (size_t way = 0; way < _WAYS; way++)
			(void)json_object_set_new(row, ways[way].word, json_real(d->median[l][way]));
		(void)json_array_append_new(rows, row);
	}
	root = json_pack("{s:s, s:I, s:I, s:I, s:o, s:o}", "kernel", kernel->release, "processors",
			 (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "rounds", (json_int_t)d->rounds, "seconds",
			 (json_int_t)d->seconds, "programs", answers, "rows", rows);
	r = root ? json_dumpf(root, stdout, JSON_INDENT(2)) : -1;
	json_decref(root);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "demo: cannot write the result");
	(void)putchar('\n');
	return EXIT_DONE;
}

/* What makes the demo a failure although it ran: every answer is right, and the proxy had its part in all but the first way. */
static int judge(const struct demo *d)
{
	for (size_t p = 0; p < d->n_programs; p++)
		for (size_t way = 0; way < _WAYS; way++) {
			if (!streq(d->answers[p][way].answer, programs[p].says))
				return cmd_fail(EXIT_FAILED, "demo: %s, %s: was answered '%s'", programs[p].word,
						ways[way].title, d->answers[p][way].answer);
			if ((way == STRAIGHT) != !d->answers[p][way].taken)
				return cmd_fail(EXIT_FAILED, "demo: %s, %s: %" PRIu64 " connections went by the proxy",
						programs[p].word, ways[way].title, d->answers[p][way].taken);
		}
	return EXIT_DONE;
}

/* In the child of lab_run(). */
static int in_lab(struct lab *lab, void *data)
{
	struct demo *d = data;
	struct utsname kernel;
	struct err err = {};
	int r;

	d->lab = lab;
	r = steps(d, &err);
	cmd_progress_end();
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "demo: %s", err.text[0] ? err.text : strerror(-r));
	(void)uname(&kernel);
	if (d->json && print_json(d, &kernel) != EXIT_DONE)
		return EXIT_FAILED;
	if (!d->json)
		print_table(d, &kernel);
	return judge(d);
}

int demo_redirect(const char *lab_name, uint64_t rounds, uint64_t seconds, bool json)
{
	_cleanup_free_ struct demo *d = new0(struct demo);
	struct err err = {};
	int r;

	if (!d || rounds > ROUNDS_MAX)
		return cmd_fail(EXIT_FAILED, "demo: out of memory");
	*d = (struct demo){
		.rounds = rounds, .seconds = seconds, .json = json, .waggle.out = -1, .redis.out = -1, .postgres.out = -1
	};
	d->sidecar = (struct sidecar){ .server.out = -1, .proxy.out = -1 };
	r = lab_run(lab_name, scene_hosts, ARRAY_SIZE(scene_hosts), in_lab, d, &err);
	if (r >= 0)
		return r;
	cmd_progress_end();
	return cmd_fail(EXIT_FAILED, "demo: %s", err.text);
}
