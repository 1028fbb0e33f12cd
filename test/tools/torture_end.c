// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One end of a torture connection. Both directions run at once; every byte is compared with what it must be
 * before anything else is done with it.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "torture.h"

#define CHUNK_MAX (256U << 10)
#define IOV_PARTS 21
#define PAUSES_MAX 20 /* a direction, so that a connection lasts seconds at most */

struct way {
	struct rng rng;
	uint8_t *buf;
	uint64_t key;
	uint64_t done, total;
	unsigned int pauses;
};

struct end {
	struct torture *t;
	const struct plan *plan;
	const struct side_plan *mine;
	struct record *rec;
	unsigned int me;
	int fd;
	struct way out, in;
	bool in_over; /* the end of stream, or a reset that was planned */
	bool out_over;
	_Atomic bool reset_seen;
};

static bool end_is_closer(const struct end *e)
{
	return e->plan->closer == e->me;
}

/* Who, if anybody, these bytes belong to. */
static void wrong_byte(struct end *e, const uint8_t *buf, size_t n, size_t at)
{
	struct shared *s = e->t->shared;
	uint64_t offset = e->in.done + at;
	char plan[512], origin[256] = "its origin is not known";
	int64_t found = stream_find(buf + at, n - at, e->in.key, TORTURE_MAX_BYTES + CHUNK_MAX);

	if (found >= 0)
		(void)snprintf(origin, sizeof(origin), "it is byte %lld of the same stream: %lld bytes were %s",
			       (long long)found, llabs((long long)found - (long long)offset),
			       (uint64_t)found > offset ? "skipped" : "repeated");
	for (unsigned int i = 0; found < 0 && i < TORTURE_RECORDS; i++)
		for (unsigned int direction = 0; found < 0 && direction < 2; direction++) {
			uint64_t id = s->records[i].id;

			found = stream_find(buf + at, n - at, stream_key(e->t->seed, id, direction), TORTURE_MAX_BYTES);
			if (found >= 0)
				(void)snprintf(origin, sizeof(origin),
					       "it is byte %lld of connection %llx, direction %u", (long long)found,
					       (unsigned long long)id, direction);
		}
	torture_fail(e->t, "wrong byte at offset %llu of %llu (%zu of %zu in this read, %02x): %s; %s",
		     (unsigned long long)offset, (unsigned long long)e->in.total, at, n, buf[at], origin,
		     plan_format(e->plan, plan, sizeof(plan)));
}

static void end_fail(struct end *e, const char *call, int error)
{
	char plan[512];

	torture_fail(e->t, "%s %s: %s, sent %llu of %llu, received %llu of %llu; %s", e->me ? "server" : "client", call,
		     error ? strerror(error) : "early end of stream", (unsigned long long)e->out.done,
		     (unsigned long long)e->out.total, (unsigned long long)e->in.done, (unsigned long long)e->in.total,
		     plan_format(e->plan, plan, sizeof(plan)));
}

/* An error or early end is right only if the other end was to reset. */
static bool end_reset_expected(struct end *e)
{
	if (e->plan->ending != END_RESET || end_is_closer(e))
		return false;
	e->reset_seen = true;
	return true;
}

static void maybe_pause(struct end *e, struct way *way)
{
	if (!e->mine->pause_1in || way->pauses == PAUSES_MAX || rng_below(&way->rng, e->mine->pause_1in))
		return;
	way->pauses++;
	atomic_fetch_add(&e->rec->ticks, 1);
	tool_sleep_us(rng_below(&way->rng, e->mine->pause_us));
}

/* sendmsg with more fragments than one sk_msg holds, a part of the time. */
static ssize_t send_some(struct end *e, size_t n)
{
	struct iovec iov[IOV_PARTS];
	struct msghdr msg = { .msg_iov = iov };
	struct rng *rng = &e->out.rng;
	uint64_t kind = rng_below(rng, 8);
	size_t left = n;

	if (kind == 0 && n >= IOV_PARTS) {
		for (unsigned int i = 0; i < IOV_PARTS; i++) {
			size_t part = i == IOV_PARTS - 1 ? left : 1 + rng_below(rng, left - (IOV_PARTS - 1 - i));

			iov[i] = (struct iovec){ e->out.buf + (n - left), part };
			left -= part;
		}
		msg.msg_iovlen = IOV_PARTS;
		return sendmsg(e->fd, &msg, MSG_NOSIGNAL);
	}
	return send(e->fd, e->out.buf, n, MSG_NOSIGNAL | (kind == 1 && e->out.done + n < e->out.total ? MSG_MORE : 0));
}

/* One send. False: the socket takes no more now, or the direction is over. */
static bool step_out(struct end *e)
{
	uint64_t limit = e->out.total;
	size_t n;
	ssize_t r;

	if (e->plan->ending == END_RESET && end_is_closer(e))
		limit = e->mine->reset_at;
	if (e->out.done >= limit) {
		if (e->plan->ending == END_HALF && !e->out_over && shutdown(e->fd, SHUT_WR) < 0)
			end_fail(e, "shutdown", errno);
		e->out_over = true;
		return false;
	}
	n = rng_log(&e->out.rng, e->mine->send_max);
	n = n < limit - e->out.done ? n : limit - e->out.done;
	stream_fill(e->out.buf, n, e->out.key, e->out.done);
	r = send_some(e, n);
	if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (errno == EAGAIN && e->mine->style == STYLE_BLOCKING)
			end_fail(e, "blocking send", errno);
		return errno == EINTR;
	}
	if (r < 0) {
		if ((errno != EPIPE && errno != ECONNRESET) || !end_reset_expected(e))
			end_fail(e, "send", errno);
		e->out_over = true;
		return false;
	}
	e->out.done += (uint64_t)r;
	e->rec->sent = e->out.done;
	atomic_fetch_add(&e->rec->ticks, 1);
	maybe_pause(e, &e->out);
	/* A blocking send returns short only after a signal; an epoll sender that got a short count is full. */
	return (size_t)r == n || e->mine->style == STYLE_BLOCKING;
}

static ssize_t recv_some(struct end *e, size_t n)
{
	uint64_t kind = rng_below(&e->in.rng, 8);
	ssize_t r, peeked;

	if (kind == 0 && n > 2) {
		struct iovec iov[2] = { { e->in.buf, n / 2 }, { e->in.buf + n / 2, n - n / 2 } };

		return readv(e->fd, iov, 2);
	}
	if (!e->mine->peeks || kind != 1)
		return recv(e->fd, e->in.buf, n, 0);
	peeked = recv(e->fd, e->in.buf, n, MSG_PEEK);
	if (peeked <= 0)
		return peeked;
	if (stream_check(e->in.buf, (size_t)peeked, e->in.key, e->in.done) != (size_t)peeked)
		wrong_byte(e, e->in.buf, (size_t)peeked,
			   stream_check(e->in.buf, (size_t)peeked, e->in.key, e->in.done));
	r = recv(e->fd, e->in.buf, (size_t)peeked, 0);
	if (r != peeked)
		torture_fail(e->t, "MSG_PEEK showed %zd bytes, recv got %zd (%s)", peeked, r,
			     r < 0 ? strerror(errno) : "");
	return r;
}

static void in_ended(struct end *e, int error)
{
	bool complete = e->in.done == e->in.total && !error;

	/* A reset may overtake the end; and END_CLOSE's closer does not wait for one. */
	if (!(complete && e->plan->ending != END_RESET) && !end_reset_expected(e))
		end_fail(e, "recv", error);
	e->in_over = true;
}

/* One receive. False: nothing more to read now, or ever. */
static bool step_in(struct end *e)
{
	size_t n = rng_log(&e->in.rng, e->mine->recv_max);
	size_t good;
	ssize_t r;

	if (e->in_over)
		return false;
	r = recv_some(e, n);
	if (r < 0 && errno == EINTR)
		return true;
	if (r < 0 && errno == EAGAIN) {
		if (e->mine->style == STYLE_BLOCKING && !e->t->allow_eagain)
			end_fail(e, "blocking recv", errno);
		if (e->mine->style == STYLE_BLOCKING)
			atomic_fetch_add(&e->t->shared->eagains, 1);
		return false;
	}
	if (r <= 0) {
		in_ended(e, r < 0 ? errno : 0);
		return false;
	}
	good = stream_check(e->in.buf, (size_t)r, e->in.key, e->in.done);
	if (good != (size_t)r || e->in.done + (uint64_t)r > e->in.total)
		wrong_byte(e, e->in.buf, (size_t)r, good == (size_t)r ? (size_t)(e->in.total - e->in.done) : good);
	e->in.done += (uint64_t)r;
	e->rec->received = e->in.done;
	atomic_fetch_add(&e->rec->ticks, 1);
	atomic_fetch_add(&e->t->shared->bytes, (uint64_t)r);
	if (e->plan->ending == END_CLOSE && end_is_closer(e) && e->in.done == e->in.total)
		e->in_over = true;
	maybe_pause(e, &e->in);
	/* What many servers do: a short read is taken for "drained", and the next edge is waited for. */
	return !(e->mine->style == STYLE_EDGE_SHORT && (size_t)r < n);
}

static bool end_done(struct end *e)
{
	if (e->reset_seen)
		return true;
	if (e->plan->ending == END_RESET && end_is_closer(e))
		return e->out_over;
	return e->in_over && e->out_over;
}

static void *reader(void *data)
{
	struct end *e = data;

	while (!e->in_over)
		(void)step_in(e);
	return NULL;
}

static void run_blocking(struct end *e)
{
	bool resets = e->plan->ending == END_RESET && end_is_closer(e);
	pthread_t thread;

	/* close(2) would wait for a reader that sleeps: who resets does not read. */
	if (!resets && pthread_create(&thread, NULL, reader, e))
		torture_fail(e->t, "cannot make a thread");
	while (!e->out_over)
		(void)step_out(e);
	if (!resets)
		(void)pthread_join(thread, NULL);
}

static void run_level(struct end *e, int ep)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &ev) < 0)
		end_fail(e, "epoll_ctl", errno);
	while (!end_done(e)) {
		uint32_t want = (e->in_over ? 0 : EPOLLIN) | (e->out_over ? 0 : EPOLLOUT);

		if (want != ev.events) {
			ev.events = want;
			if (epoll_ctl(ep, EPOLL_CTL_MOD, e->fd, &ev) < 0)
				end_fail(e, "epoll_ctl", errno);
		}
		if (epoll_wait(ep, &ev, 1, -1) < 1) {
			ev.events = want;
			continue;
		}
		if (ev.events & (EPOLLIN | EPOLLERR | EPOLLHUP))
			(void)step_in(e);
		if (!e->reset_seen && ev.events & (EPOLLOUT | EPOLLERR | EPOLLHUP) && !e->out_over)
			(void)step_out(e);
		ev.events = want;
	}
}

static void run_edge(struct end *e, int ep)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	bool can_in = false, can_out = false, hangup = false;

	if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &ev) < 0)
		end_fail(e, "epoll_ctl", errno);
	while (!end_done(e)) {
		if (epoll_wait(ep, &ev, 1, (can_in && !e->in_over) || (can_out && !e->out_over) ? 0 : -1) == 1) {
			/* After the peer's FIN there is no further edge: short reads no longer mean drained. */
			hangup |= ev.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
			can_in |= ev.events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
			can_out |= ev.events & (EPOLLOUT | EPOLLHUP | EPOLLERR);
		}
		if (can_in)
			can_in = step_in(e) || (hangup && !e->in_over);
		if (can_out && !e->reset_seen)
			can_out = step_out(e);
	}
}

static void end_prepare(struct end *e)
{
	struct linger linger = { .l_onoff = 1 };

	if (e->mine->sndbuf)
		tool_set(e->fd, SOL_SOCKET, SO_SNDBUF, (int)e->mine->sndbuf);
	if (e->mine->rcvbuf)
		tool_set(e->fd, SOL_SOCKET, SO_RCVBUF, (int)e->mine->rcvbuf);
	if (e->mine->nodelay)
		tool_set(e->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (e->plan->ending == END_RESET && end_is_closer(e) &&
	    setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0)
		end_fail(e, "SO_LINGER", errno);
	tool_nonblock(e->fd, e->mine->style != STYLE_BLOCKING);
}

void end_run(struct torture *t, const struct plan *plan, unsigned int me, int fd, struct record *rec)
{
	struct end e = { .t = t, .plan = plan, .mine = &plan->side[me], .rec = rec, .me = me, .fd = fd };
	_cleanup_free_ uint8_t *out = malloc(CHUNK_MAX), *in = malloc(CHUNK_MAX);
	_cleanup_close_ int ep = -1;

	if (!out || !in)
		torture_fail(t, "out of memory");
	e.out = (struct way){ .rng = { mix64(t->seed ^ plan->id) + me },
			      .buf = out,
			      .total = plan->side[me].bytes,
			      .key = stream_key(t->seed, plan->id, me) };
	e.in = (struct way){ .rng = { mix64(t->seed ^ plan->id) + 7 + me },
			     .buf = in,
			     .total = plan->side[!me].bytes,
			     .key = stream_key(t->seed, plan->id, !me) };
	rec->phase = PHASE_TALK;
	end_prepare(&e);
	if (e.mine->style == STYLE_BLOCKING) {
		run_blocking(&e);
	} else {
		ep = epoll_create1(EPOLL_CLOEXEC);
		if (ep < 0)
			end_fail(&e, "epoll_create1", errno);
		if (e.mine->style == STYLE_LEVEL)
			run_level(&e, ep);
		else
			run_edge(&e, ep);
	}
	rec->phase = PHASE_END;
	if (e.reset_seen)
		atomic_fetch_add(&t->shared->resets, 1);
	(void)close(fd);
}
