/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Round trips on joined pairs: from a client's send to its server's next one. TCP's own estimate stands still there, for
 * nothing is acknowledged.
 *
 * To read the clock at each send, and to look at the peer for when it sent, would cost several percent of a short one. So it
 * is a sample. User space counts ac_ctl.trip_turn up ten times a second. In each turn the first send of a client is stamped, as
 * far as ac_ctl.trips_left goes, and its server looks for a stamp at its first few sends. All other sends compare one number of
 * their own with one of ac_ctl.
 *
 * With the stamp goes how often the server had sent by then. So the answer is known for what it is, whenever it comes: the
 * stamp of a request that takes a minute stays until then. What the server sends next is taken for the answer, be it one or not.
 */
#pragma once

#include "bpf/ac_way.bpf.h"
#include "bpf/bits.bpf.h"

/* A server may be in the midst of an earlier answer when a turn begins. */
#define AC_TRIP_LOOKS 4

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ac_trips);
} ac_trips SEC(".maps");

static __always_inline void ac_trip_add(__u64 ns)
{
	__u32 zero = 0, i = ns < AC_TRIP_MAX_NS ? bits_of((__u32)(ns / 1000)) : AC_TRIP_BUCKETS - 1;
	struct ac_trips *trips = bpf_map_lookup_elem(&ac_trips, &zero);

	if (!trips)
		return;
	if (i >= AC_TRIP_BUCKETS)
		i = AC_TRIP_BUCKETS - 1;
	trips->buckets[i]++;
	trips->sum_ns += ns;
}

/* How often a socket has sent, of which the address of the struct ac_sock is known. */
static __always_inline __u32 ac_trip_sends_of(__u64 addr)
{
	struct ac_sock *of = (struct ac_sock *)addr;
	__u64 joined = 0, tcp = 0;

	bpf_probe_read_kernel(&joined, sizeof(joined), &of->joined_sends);
	bpf_probe_read_kernel(&tcp, sizeof(tcp), &of->tcp_sends);
	return joined + tcp;
}

static __always_inline void ac_trip_ask(struct ac_sock *st, struct ac_ctl *ctl)
{
	__u32 sends;

	st->trip_turn = ctl->trip_turn;
	if (!st->peer_st || (__s32)ctl->trips_left <= 0)
		return;
	sends = ac_trip_sends_of(st->peer_st);
	/* What was asked before has not been answered yet. */
	if (st->trip_ns && st->trip_sends == sends)
		return;
	__sync_fetch_and_add(&ctl->trips_left, -1);
	st->trip_sends = sends;
	st->trip_ns = bpf_ktime_get_ns();
}

static __always_inline void ac_trip_answer(struct ac_sock *st, const struct ac_ctl *ctl)
{
	struct ac_sock *peer = (struct ac_sock *)st->peer_st;
	__u64 asked_ns = 0;
	__u32 sends = 0;

	if (peer) {
		bpf_probe_read_kernel(&asked_ns, sizeof(asked_ns), &peer->trip_ns);
		bpf_probe_read_kernel(&sends, sizeof(sends), &peer->trip_sends);
	}
	if (asked_ns && sends == (__u32)(st->joined_sends + st->tcp_sends))
		ac_trip_add(bpf_ktime_get_ns() - asked_ns);
	else if (++st->trip_sends < AC_TRIP_LOOKS)
		return;
	st->trip_sends = 0;
	st->trip_turn = ctl->trip_turn;
}

/* At each send that goes directly, before it is counted. The peer lives: its cookie has just been compared. */
static __always_inline void ac_trip(struct ac_sock *st, struct ac_ctl *ctl)
{
	if (st->trip_turn == (__u8)ctl->trip_turn)
		return;
	if (st->is_server)
		ac_trip_answer(st, ctl);
	else
		ac_trip_ask(st, ctl);
}
