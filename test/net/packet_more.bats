#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The packet hook when things change: links that are too small, balancers that end or are killed, backends that fail.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

# Verifying the programs takes its time where others are at work, and some tests start them five times.
export TEST_SECONDS=240

# A link of 1400 bytes before the backends: clients hear of it, and large UDP comes through in fragments.
small_link() {
	local forward b

	network
	backends
	for b in b1 b2; do
		ip -n lb link set "l-$b" mtu 1400
		ip -n "$b" link set eth0 mtu 1400
	done
	# shellcheck disable=SC2046 # a list
	balancer tc $(for forward in nat ipip gue; do service $forward "$1"; done)
	for forward in nat ipip gue; do
		echo "$forward" >&2
		large_bodies $forward "$1"
	done
	# More than fits: told, cut by the client, and sent on in pieces.
	udp_echo nat "$1" 4000
	udp_echo ipip "$1" 4000
	balancer_look >&2
	[ "$(count too-big-told)" -ge 1 ]
	balancer_stop
}

# While downloads run, the balancer is ended, killed and started again: its tables and programs stay.
restarts() {
	local i pids=() pid

	network
	backends
	# shellcheck disable=SC2046 # a list
	balancer "$1" $(for forward in nat gue; do service $forward 4; done)
	for i in 1 2 3; do
		get --limit-rate 600k "http://$(vip 4):$(port nat 80)/body" >"$WORK/got.$i" &
		pids+=($!)
		get --limit-rate 600k "http://$(vip 4):$(port gue 80)/body" >"$WORK/gue.$i" &
		pids+=($!)
	done
	for i in 1 2; do
		balancer_stop
		get "http://$(vip 4):$(port nat 80)/"
		# shellcheck disable=SC2046 # a list
		balancer "$1" $(for forward in nat gue; do service $forward 4; done)
		grep -qx 'ready again' "$WORK/balancer.out"
		kill -KILL "$BALANCER"
		wait "$BALANCER" || true
		get "http://$(vip 4):$(port gue 80)/"
		# shellcheck disable=SC2046 # a list
		balancer "$1" $(for forward in nat gue; do service $forward 4; done)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	for i in 1 2 3; do
		cmp "$WORK/got.$i" "$WORK/body"
		cmp "$WORK/gue.$i" "$WORK/body"
	done
	balancer_stop
}

# A backend fails: its connections wait, new ones go to the other.
backend_fails() {
	local i

	network
	backends
	balancer tc -- tcp nat maglev "$(vip 4):80" "$(backend 4 1):8080" "!$(backend 4 2):8080"
	for i in $(seq 20); do
		get "http://$(vip 4)/"
		echo
	done | sort -u >"$WORK/answers"
	[ "$(tr '\n' ' ' <"$WORK/answers")" = "b1 b2 " ]
	kill -USR2 "$BALANCER"
	until_true 10 grep -qx failed "$WORK/balancer.out"
	for i in $(seq 20); do
		[ "$(get "http://$(vip 4)/")" = b1 ]
	done
	balancer_stop
}

@test "a smaller link behind, IPv4" { inside small_link 4; }
@test "a smaller link behind, IPv6" { inside small_link 6; }
@test "downloads go on while the balancer ends, is killed, and starts again, TC" { inside restarts tc; }
@test "downloads go on while the balancer ends, is killed, and starts again, XDP" { inside restarts xdp; }
@test "a backend fails" { inside backend_fails; }
