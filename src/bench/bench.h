/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Benchmarks. Each is an entry of one table (bench.c) and declares its rows; the frame measures them in a lab of
 * its own and keeps every sample.
 *
 * A row is measured in several ways (plain TCP, AF_UNIX, joined), of which the first is what the others are compared
 * with, and the benchmark's subject is the one that is judged. Rows of one group are measured together: for each round, the
 * ways in turn, and within a way the group's rows. So what else the machine does hits all ways alike, and what
 * drifts hits all rounds alike. Odd rounds take the ways backwards.
 *
 * A row that cannot be measured is left out with a sentence, and the others go on.
 */
#pragma once

#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "bench/stats.h"
#include "lab/lab.h"
#include "lab/prog.h"

#define BENCH_WAYS_MAX 10
#define BENCH_ROUNDS_MAX 100
#define BENCH_LIMIT_MAX_S 86400

struct bench_run;
struct bench_row;

struct bench_sample {
	double value;  /* in the group's unit */
	double cpu_us; /* processor time for one unit of work (a trip, a MB, a connection); 0: not known */
	double own;    /* how much of it, 0 to 1, was waggle's and of those that watch it; 0: not known */
};

struct bench_way {
	const char *word, *title;
	bool by_unix; /* AF_UNIX in the place of TCP */
	/* Makes the machine ready for this way; called before each group's turn. */
	int (*enter)(struct bench_run *run, struct err *err);
};

struct bench_group {
	const char *word, *title, *unit;
	bool less_is_better;
	const char *const *needs; /* pairs of program and package, ends with NULL; may be NULL */
	bool two_cpus;		  /* makes no sense on a single one */
	bool sweep;		  /* the rows differ by .bytes alone: plotted as a curve */
	/* What the rows share, made anew for each turn of a way; may be NULL. stop is called after a failed start too. */
	int (*start)(struct bench_run *run, struct err *err);
	void (*stop)(struct bench_run *run);
};

enum bench_target {
	BENCH_NO_TARGET,
	BENCH_RATIO_AT_LEAST, /* how many times as good as the first way */
	BENCH_EXTRA_AT_MOST,  /* the difference to the first way, in the unit */
	BENCH_AT_MOST,	      /* the figure itself, in the unit */
	BENCH_CPU_AT_LEAST, /* how many times less processor time than the first way: judged by the interval of the rounds */
};

struct bench_row {
	const struct bench_group *group;
	char name[40]; /* GROUP, or GROUP-WORD */
	const char *title;
	uint64_t bytes;	   /* of a message; 0: it is not about messages */
	unsigned int ways; /* a bit each */
	enum bench_target target;
	double target_value;
	unsigned int rounds_max; /* 0: as many as the others */
	int (*sample)(struct bench_run *run, const struct bench_row *row, size_t way, struct bench_sample *ret,
		      struct err *err);
	const void *data; /* the benchmark's own */
	/* What others have published of each way, as many times the first way's; 0: nothing. May be NULL. */
	const double *published;

	/* What came of it. */
	struct {
		double *v, *cpu_us, *own; /* in order of the rounds */
		size_t n;
		struct stats stats, cpu_stats, own_stats; /* if n */
	} ways_got[BENCH_WAYS_MAX];
	uint64_t joined; /* pairs and single sockets that waggle joined during the samples of the subject */
	char *skipped;	 /* why there is nothing, or not all */
	bool failed;	 /* that was not for a lack of programs or processors */
};

struct bench {
	const char *name, *help;
	const struct bench_way *ways;
	size_t n_ways;
	size_t subject; /* index of the way that is judged */
	const struct lab_host *hosts;
	size_t n_hosts;
	int (*rows)(struct bench_run *run, struct err *err); /* declares them by bench_row_add() */
	void (*done)(struct bench_run *run);		     /* ends what .enter has left running; may be NULL */
	bool series;					     /* told a line each way, though they are few */
};

struct bench_opts {
	unsigned int rounds;
	uint64_t limit_s; /* no round begins later than this; 0: as many as are wanted */
	double seconds;	  /* of a sample */
	uint64_t pairs;	  /* how many idle ones */
	const char *only; /* only rows whose name contains this; may be NULL */
};

/* What a floor below the commands cannot do by itself. */
struct bench_env {
	void (*progress)(const char *text);
	void (*complain)(const char *text);
	/* Pairs and sockets that the running waggle has joined since it started. */
	int (*joined)(uint64_t *ret, struct err *err);
};

struct bench_run {
	const struct bench *bench;
	const struct bench_opts *opts;
	const struct bench_env *env;
	const struct lab *lab;
	unsigned int rounds; /* made */
	struct bench_row *rows;
	size_t n_rows, rows_room;
	int cpus[2]; /* processors for pinning */
	size_t n_cpus;
	double load_before, load_after; /* the machine's, of a minute */
	double stolen_percent;		/* of its processor time, by a hypervisor, while it was measured */
	struct prog waggle;
	void *group_state; /* of the group that is measured: for its start and stop */
	size_t way;	   /* that is entered, or measured */
};

/* The table; ends with a NULL name. */
extern const struct bench benches[];
const struct bench *bench_find(const char *name);

/* Declares a row: copied, in the order of the calls, groups without gaps. -ENOMEM. */
int bench_row_add(struct bench_run *run, const struct bench_row *row, struct err *err);

/* Declares all rows, then drops those that opts.only does not name. -ENOENT: it names none. */
int bench_declare(struct bench_run *run, struct err *err);

/* Measures the rows in run->lab. A failure of single rows is told in them, and is no failure of the run. */
int bench_measure(struct bench_run *run, struct err *err);

void bench_done(struct bench_run *run);

/* More ways than columns: told and drawn a line each. */
static inline bool bench_is_series(const struct bench *bench)
{
	return bench->n_ways > 4 || bench->series;
}

/* How many times as good as the first way: more is better, whatever the unit is. 0: one of them was not measured. */
double bench_ratio(const struct bench_row *row, size_t way);

/* Smallest and largest of the ratios of single rounds; false: there is none. */
bool bench_ratio_spread(const struct bench_row *row, size_t way, double *ret_min, double *ret_max);

/*
 * Where the ratio of a round lies in the middle: from low to high with that probability, at least 0.95 if there are rounds
 * enough (six), for whatever distribution. false: there is none.
 */
bool bench_ratio_interval(const struct bench_row *row, size_t way, struct stats_interval *ret);

/* How many times less processor time it takes than the first way, by the medians. 0: that is not known. */
double bench_cpu_ratio(const struct bench_row *row, size_t way);

/* The same as bench_ratio_interval(), of processor time. false: that is not known. */
bool bench_cpu_interval(const struct bench_row *row, size_t way, struct stats_interval *ret);

/* What the subject has beyond the first way, in the unit. */
double bench_extra(const struct bench_run *run, const struct bench_row *row);

/* BENCH_OPEN: the rounds are too few or too far apart to tell. */
enum bench_verdict { BENCH_NOT_JUDGED, BENCH_MET, BENCH_MISSED, BENCH_OPEN };
const char *bench_verdict_word(enum bench_verdict verdict);
enum bench_verdict bench_judge(const struct bench_run *run, const struct bench_row *row);

/* The kernel, the processor, and how many of them. ret_cpu holds a line of /proc/cpuinfo, cut at n. */
void bench_cpu_model(char *ret_cpu, size_t n);

/* report.c: all of it as one JSON document, the caller's to release; NULL: no memory. */
json_t *bench_json(const struct bench_run *run);

/* The group's rows are those from first to the one before what is returned. */
size_t bench_group_end(const struct bench_run *run, size_t first);

/* plot.c: NAME-GROUP.svg for each group that was measured, by gnuplot. dir exists. */
int bench_plot(const struct bench_run *run, const char *dir, struct err *err);

/*
 * One group's into the file, which is not made if nothing was measured. inlined: for a page whose style says the colours of text
 * and axes, and that has a heading.
 */
int bench_plot_group(const struct bench_run *run, size_t first, const char *file, bool inlined, struct err *err);

/* html.c: NAME.html with plots, tables, the machine and every sample, which needs no other file. dir exists. */
int bench_report(const struct bench_run *run, const char *dir, struct err *err);

/* accel.c: rows of the accelerator, and the sweep over sizes. */
extern const struct bench_way accel_ways[];
#define ACCEL_WAYS 3
enum { ACCEL_PLAIN, ACCEL_UNIX, ACCEL_JOINED };
int accel_rows(struct bench_run *run, struct err *err);
int accel_sizes_rows(struct bench_run *run, struct err *err);
void accel_done(struct bench_run *run);

/* connect.c: what the connect hook costs. */
extern const struct bench_way connect_ways[];
#define CONNECT_WAYS 2
int connect_rows(struct bench_run *run, struct err *err);
void connect_done(struct bench_run *run);

/* classic.c: every way through the classic scene. */
extern const struct bench_way classic_ways[];
#define CLASSIC_WAYS 9
enum {
	CLASSIC_NGINX,
	CLASSIC_NGINX_JOINED,
	CLASSIC_HAPROXY,
	CLASSIC_NFTABLES,
	CLASSIC_XDP_GENERIC,
	CLASSIC_XDP,
	CLASSIC_TC,
	CLASSIC_CONNECT,
	CLASSIC_CONNECT_JOINED,
};
int classic_rows(struct bench_run *run, struct err *err);
void classic_done(struct bench_run *run);

/* observe.c: what being watched costs. */
extern const struct bench_way observe_ways[];
#define OBSERVE_WAYS 3
enum { OBSERVE_NONE, OBSERVE_POLLED, OBSERVE_ALL };
int observe_rows(struct bench_run *run, struct err *err);
void observe_done(struct bench_run *run);

/* redirect.c: a sidecar, by nftables and by waggle. */
extern const struct bench_way redirect_ways[];
#define REDIRECT_WAYS 2
enum { REDIRECT_NFTABLES, REDIRECT_WAGGLE };
int redirect_rows(struct bench_run *run, struct err *err);
void redirect_done(struct bench_run *run);

/* policy.c: what the size of a policy costs. */
extern const struct bench_way policy_ways[];
#define POLICY_WAYS 2
enum { POLICY_FEW, POLICY_MANY };
int policy_rows(struct bench_run *run, struct err *err);
void policy_done(struct bench_run *run);

/* packet.c: a packet in XDP, beside nothing at all and among many services; and floods. */
extern const struct bench_way packet_ways[];
#define PACKET_WAYS 2
enum { PACKET_BASE, PACKET_WAGGLE };
int packet_rows(struct bench_run *run, struct err *err);
void packet_done(struct bench_run *run);
