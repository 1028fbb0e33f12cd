// SPDX-License-Identifier: GPL-2.0-or-later
/* What only one hook has, in the Prometheus text format: times of connects and of round trips, packets, redirects and policy. */
#include "daemon/metrics_priv.h"

#include "daemon/run.h"

/*
 * Bucket i counts what took less than 2^i us. Those below `first` make one: what is faster than that is so on every machine, and
 * nobody wants to know by how much.
 */
static void times_text(FILE *f, const char *name, const char *help, const __u64 *buckets, unsigned int n_buckets,
		       unsigned int first, double sum)
{
	uint64_t n = 0;

	metrics_family(f, name, "histogram", help);
	for (unsigned int i = 0; i < n_buckets - 1; i++) {
		n += buckets[i];
		if (i >= first)
			(void)fprintf(f, "%s_bucket{le=\"%.9g\"} %llu\n", name, (double)(1U << i) / 1e6,
				      (unsigned long long)n);
	}
	n += buckets[n_buckets - 1];
	(void)fprintf(f, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.15g\n%s_count %llu\n", name, (unsigned long long)n,
		      name, sum, name, (unsigned long long)n);
}

#define CONNECT_FIRST 3 /* 8 us */
#define TRIP_FIRST 0	/* 1 us */

static void connect_text(FILE *f, struct run *run)
{
	struct lb_took took;

	if (connect_took(run->connect, &took) < 0)
		return;
	times_text(f, "waggle_connect_duration_seconds", "From connect() to a service to the end of the TCP handshake.",
		   took.buckets, LB_TOOK_BUCKETS, CONNECT_FIRST, (double)took.sum_us / 1e6);
}

static void trips_text(FILE *f, struct run *run)
{
	struct ac_trips trips;

	if (accel_trips(run->accel, &trips) < 0)
		return;
	times_text(f, "waggle_accel_round_trip_seconds",
		   "On joined pairs, from a client's send to its server's next one: a sample, of 640 a second at most.",
		   trips.buckets, AC_TRIP_BUCKETS, TRIP_FIRST, (double)trips.sum_ns / 1e9);
}

static void packet_text(FILE *f, struct run *run)
{
	static const char *const kinds[] = {
		[PK_KIND_SENT] = "sent",
		[PK_KIND_PASS] = "passed",
		[PK_KIND_DROP] = "dropped",
	};
	uint64_t stats[_PK_REASON_MAX] = {};
	const struct packet_attach *at;
	size_t n = packet_attached(run->packet, &at);

	metrics_family(f, "waggle_packet_interface_info", "gauge",
		       "Always 1; the labels tell how the packet hook serves the interface.");
	for (size_t i = 0; i < n && n <= METRICS_ENTRIES_MAX; i++) {
		(void)fputs("waggle_packet_interface_info{interface=", f);
		metrics_quoted(f, at[i].name);
		(void)fputs(",hook=", f);
		metrics_quoted(f, at[i].hook);
		(void)fputs("} 1\n", f);
	}
	metrics_single(f, "waggle_packet_connections_max", "gauge",
		       "Connections that the packet hook's table has room for.", (double)packet_room(run->packet));
	if (packet_stats(run->packet, stats) < 0)
		return;
	metrics_family(f, "waggle_packet_packets_total", "counter",
		       "Packets by what became of them: sent on, passed to the stack as they came, or dropped; and why.");
	for (size_t i = 0; i < _PK_REASON_MAX; i++)
		if (packet_reason_words[i])
			(void)fprintf(f, "waggle_packet_packets_total{result=\"%s\",reason=\"%s\"} %llu\n",
				      kinds[packet_reason_kind(i)], packet_reason_words[i],
				      (unsigned long long)stats[i]);
}

static bool is_policy(enum rd_stat stat)
{
	return stat == RD_STAT_ALLOWED || stat == RD_STAT_DENIED || stat == RD_STAT_CLOSED;
}

static void entries_text(FILE *f, const struct run *run)
{
	const struct config *c = redirect_config(run->redirect);

	metrics_family(f, "waggle_redirect_entry_connections_total", "counter",
		       "Connections that an entry of the redirects decided on.");
	for (size_t i = 0; i < c->n_redirects && c->n_redirects <= METRICS_ENTRIES_MAX; i++) {
		(void)fprintf(f, "waggle_redirect_entry_connections_total{entry=\"%zu\",cgroup=", i);
		metrics_quoted(f, c->redirects[i].cgroup);
		(void)fprintf(f, "} %llu\n", (unsigned long long)redirect_hits(run->redirect, RD_REDIRECT, i));
	}
	metrics_family(f, "waggle_policy_entry_decisions_total", "counter", "Decisions of an entry of the policy.");
	for (size_t i = 0; i < c->n_policies && c->n_policies <= METRICS_ENTRIES_MAX; i++)
		(void)fprintf(f, "waggle_policy_entry_decisions_total{entry=\"%zu\",action=\"%s\"} %llu\n", i,
			      c->policies[i].allow ? "allow" : "deny",
			      (unsigned long long)redirect_hits(run->redirect, RD_POLICY, i));
}

static void redirect_text(FILE *f, const struct run *run)
{
	uint64_t stats[_RD_STAT_MAX] = {};

	metrics_single(f, "waggle_redirect_missing_cgroups", "gauge",
		       "Cgroups that redirects or policy name, and that do not exist.",
		       (double)redirect_missing(run->redirect));
	entries_text(f, run);
	if (redirect_stats(run->redirect, stats) < 0)
		return;
	for (size_t i = 0; i < _RD_STAT_MAX; i++)
		metrics_counter(f, is_policy(i) ? "waggle_policy" : "waggle_redirect", redirect_stat_words[i],
				redirect_stat_texts[i], stats[i]);
}

void metrics_hooks_text(FILE *f, struct run *run)
{
	if (run->connect)
		connect_text(f, run);
	if (run->accel)
		trips_text(f, run);
	if (run->packet)
		packet_text(f, run);
	if (run->redirect)
		redirect_text(f, run);
}
