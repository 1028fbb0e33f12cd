#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The demo shows what it promises, and takes its lab away, however it ends.

load ../lib/net.bash

# The demo in the background; its pid is DEMO.
demo_start() {
	"$WAGGLE" demo --rounds 1 --seconds 1 "$@" >"$WORK/demo.out" 2>"$WORK/demo.err" &
	DEMO=$!
}

# Waits until the demo says that it is at this step.
demo_reached() {
	local tries=1500

	until grep -q "$1" "$WORK/demo.err"; do
		if ((tries-- == 0)) || ! kill -0 "$DEMO" 2>/dev/null; then
			echo "the demo does not get to '$1': $(cat "$WORK/demo.err")" >&2
			return 1
		fi
		sleep 0.02
	done
}

# Neither namespaces, nor files, nor the cgroup that held every process: it cannot be removed with one in it.
nothing_left() {
	[ -z "$(ls /run/netns)" ]
	[ ! -e /run/waggle-demo ]
	[ ! -e /sys/fs/bpf/waggle-demo ]
	[ ! -e "$(cgroup_root)/waggle-demo" ]
}

whole_demo() {
	demo_start --json
	wait "$DEMO" || { cat "$WORK/demo.err" >&2; return 1; }
	jq -e '[.rows[] | select(.requests_per_second > 0 and .p50_us > 0 and .p99_us >= .p50_us
		and .cpu_us_per_request > 0 and .errors == 0) | "\(.way) \(.joined)"] == ([
			"balancer", "balancer-keepalive", "balancer-1m", "haproxy", "nftables", "straight", "service"] | map("\(.) false", "\(.) true"))' \
		"$WORK/demo.out" || { cat "$WORK/demo.out" >&2; return 1; }
	jq -e '.captures[] | select(.joined | not) | .syn == 2 and .fin == 2 and .payload_bytes >= 1048576' "$WORK/demo.out"
	jq -e '.captures[] | select(.joined) | .syn == 2 and .fin == 2 and .rst == 0 and .payload_bytes == 0' "$WORK/demo.out"
	nothing_left
}

export no_psql="^waggle: demo: psql is left out: PostgreSQL is not installed: 'tools/install-deps demo' installs the package postgresql\$"

# Programs as they are: answered rightly each way, by the proxy where there is one.
redirect_demo() {
	local psql='[]'

	demo_start --json redirect
	wait "$DEMO" || { cat "$WORK/demo.err" >&2; return 1; }
	if compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
		psql='["psql straight 198.18.0.2 false", "psql nftables 198.18.0.2 true", "psql waggle 198.18.0.2 true"]'
	else
		grep -q "$no_psql" "$WORK/demo.err"
	fi
	jq -e --argjson psql "$psql" '([.programs[] | "\(.program) \(.way) \(.answer) \(.proxied)"] | sort) == ([
			"curl straight the bee dances false", "curl nftables the bee dances true", "curl waggle the bee dances true",
			"redis-cli straight PONG false", "redis-cli nftables PONG true", "redis-cli waggle PONG true"] + $psql | sort)
		and [.rows[].load] == ["keepalive", "connections", "latency", "redis"]
		and all(.rows[]; .straight > 0 and .nftables > 0 and .waggle > 0)' "$WORK/demo.out" || {
		cat "$WORK/demo.out" >&2
		return 1
	}
	nothing_left
}

# Without PostgreSQL it says what is left out, and goes on.
redirect_demo_without() {
	[ ! -d /usr/lib/postgresql ] || mount -t tmpfs tmpfs /usr/lib/postgresql
	demo_start redirect
	demo_reached "$no_psql"
	demo_reached 'curl and redis-cli, straight'
	kill -TERM "$DEMO"
	wait "$DEMO" || true
	nothing_left
}

no_such_demo() {
	local code=0

	"$WAGGLE" demo honey 2>"$WORK/demo.err" || code=$?
	((code == 2))
	grep -q "there is no demo 'honey'" "$WORK/demo.err"
	nothing_left
}

stopped() {
	local signal=$1 step=$2 code=0

	demo_start
	demo_reached "$step"
	sleep 0.3
	kill "-$signal" "$DEMO"
	wait "$DEMO" || code=$?
	((code == 1))
	tail -n 1 "$WORK/demo.err" | grep -q '^waggle: demo: stopped by signal'
	nothing_left
}

killed() {
	demo_start
	demo_reached ', joined'
	kill -KILL "$DEMO"
	wait "$DEMO" || true
	[ -e /run/waggle-demo ]
	# The next one clears up first, and is stopped itself.
	stopped TERM 'three nginx'
}

one_at_a_time() {
	local second=0

	demo_start
	demo_reached ', joined'
	"$WAGGLE" demo 2>"$WORK/second.err" || second=$?
	((second == 1))
	grep -q 'another run is alive' "$WORK/second.err"
	# The first is not disturbed.
	kill -0 "$DEMO"
	kill -TERM "$DEMO"
	wait "$DEMO" || true
	nothing_left
}

# Attached to the root for a moment, to no port that anybody uses.
beside_another() {
	"$WAGGLE" accel --port 9 >"$WORK/accel.out" &
	ACCEL=$!
	for _ in $(seq 500); do
		grep -qx ready "$WORK/accel.out" && break
		sleep 0.02
	done
	! "$WAGGLE" demo 2>"$WORK/demo.err"
	grep -q "run 'waggle unload' first" "$WORK/demo.err"
	kill -TERM "$ACCEL"
	wait "$ACCEL"
	nothing_left
}

broken_nginx() {
	mkdir "$WORK/bin"
	printf '#!/bin/sh\necho "out of honey" >&2\nexit 3\n' >"$WORK/bin/nginx"
	chmod +x "$WORK/bin/nginx"
	! PATH=$WORK/bin:$PATH "$WAGGLE" demo 2>"$WORK/demo.err"
	tail -n 1 "$WORK/demo.err" | grep -q 'out of honey'
	nothing_left
}

@test "the demo: every row, and the capture of a joined connection without payload" {
	inside whole_demo
}

@test "the demo of redirects: every program is answered, by the proxy where it should be" {
	TEST_SECONDS=240 inside redirect_demo
}

@test "the demo of redirects without PostgreSQL" {
	inside redirect_demo_without
}

@test "no demo of that name" {
	inside no_such_demo
}

@test "the demo, stopped while it learns" {
	inside stopped INT 'waggle watches'
}

@test "the demo, stopped in a plain row" {
	inside stopped TERM ', plain'
}

@test "the demo, stopped in a joined row" {
	inside stopped HUP ', joined'
}

@test "the demo, killed: the next one clears up" {
	inside killed
}

@test "one demo at a time" {
	inside one_at_a_time
}

@test "no demo beside a waggle for the whole machine" {
	inside beside_another
}

@test "the demo with an nginx that does not start" {
	inside broken_nginx
}
