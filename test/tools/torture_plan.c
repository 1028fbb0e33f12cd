// SPDX-License-Identifier: GPL-2.0-or-later
/* What a torture connection does, drawn from (seed, id); and the records by which the watchdog sees it. */
#include "torture.h"

static void side_make(struct rng *rng, struct side_plan *ret)
{
	*ret = (struct side_plan){
		.style = (enum style)rng_below(rng, _STYLE_MAX),
		.bytes = (uint32_t)rng_log(rng, TORTURE_MAX_BYTES),
		.send_max = (uint32_t)rng_log(rng, 256U << 10),
		.recv_max = (uint32_t)rng_log(rng, 256U << 10),
		.nodelay = rng_below(rng, 2),
		.hello_by_bytes = !rng_below(rng, 4),
		.peeks = !rng_below(rng, 4),
	};
	/* A million one-byte calls take long and show nothing that some thousand do not. */
	if (ret->bytes / ret->send_max > 2000)
		ret->send_max = ret->bytes / 2000;
	if (!rng_below(rng, 4)) {
		ret->pause_1in = 1 + (uint32_t)rng_below(rng, 64);
		ret->pause_us = rng_below(rng, 8) ? 2000 : 100000;
	}
	if (!rng_below(rng, 4))
		ret->sndbuf = 4096 + (uint32_t)rng_log(rng, 256U << 10);
	/* Less than a loopback segment is silly-window country, where plain TCP itself stands still for seconds. */
	if (!rng_below(rng, 4))
		ret->rcvbuf = (128U << 10) + (uint32_t)rng_log(rng, 512U << 10);
}

void plan_make(const struct torture *t, uint64_t id, struct plan *ret)
{
	struct rng rng = { mix64(t->seed * 3 + 1) ^ mix64(id) };

	memset(ret, 0, sizeof(*ret));
	ret->id = id;
	ret->ending = (enum ending)rng_below(&rng, t->no_reset ? END_RESET : _END_MAX);
	ret->closer = (unsigned int)rng_below(&rng, 2);
	for (unsigned int i = 0; i < 2; i++) {
		side_make(&rng, &ret->side[i]);
		if (t->no_blocking && ret->side[i].style == STYLE_BLOCKING)
			ret->side[i].style = STYLE_LEVEL;
		/* Whoever reads little a call gets little, or one slow reader takes the whole run. */
		if (i && ret->side[0].bytes / ret->side[1].recv_max > 4000)
			ret->side[1].recv_max = ret->side[0].bytes / 4000 + 1;
	}
	if (ret->side[1].bytes / ret->side[0].recv_max > 4000)
		ret->side[0].recv_max = ret->side[1].bytes / 4000 + 1;
	if (ret->ending == END_RESET)
		ret->side[ret->closer].reset_at = (uint32_t)rng_below(&rng, ret->side[ret->closer].bytes);
}

const char *plan_format(const struct plan *plan, char *buf, size_t n)
{
	static const char *const styles[] = { "blocking", "level", "edge", "edge-short" };
	static const char *const endings[] = { "half-close", "close", "reset" };
	int at = snprintf(buf, n, "connection %llx: %s by %s", (unsigned long long)plan->id, endings[plan->ending],
			  plan->closer ? "server" : "client");

	for (unsigned int i = 0; i < 2 && at > 0 && (size_t)at < n; i++) {
		const struct side_plan *s = &plan->side[i];

		at += snprintf(buf + at, n - (size_t)at,
			       "; %s %s bytes=%u reset_at=%u send<=%u recv<=%u pause=1/%u,%uus sndbuf=%u rcvbuf=%u%s%s%s",
			       i ? "server" : "client", styles[s->style], s->bytes, s->reset_at, s->send_max,
			       s->recv_max, s->pause_1in, s->pause_us, s->sndbuf, s->rcvbuf,
			       s->nodelay ? " nodelay" : "", s->hello_by_bytes ? " hello-by-bytes" : "",
			       s->peeks ? " peeks" : "");
	}
	return buf;
}

struct record *record_get(struct torture *t, uint64_t id, int fd, bool is_server)
{
	for (unsigned int i = 0; i < TORTURE_RECORDS; i++) {
		struct record *rec = &t->shared->records[i];
		uint32_t none = PHASE_FREE;

		if (!atomic_compare_exchange_strong(&rec->phase, &none, is_server ? PHASE_HELLO : PHASE_CONNECT))
			continue;
		rec->id = id;
		rec->fd = fd;
		rec->is_server = is_server;
		rec->sent = rec->received = 0;
		rec->pid = (uint32_t)getpid();
		atomic_fetch_add(&rec->ticks, 1);
		return rec;
	}
	torture_fail(t, "more than %u ends at once", TORTURE_RECORDS);
}

void record_put(struct record *rec)
{
	rec->phase = PHASE_FREE;
}
