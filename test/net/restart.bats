#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The accelerator comes and goes while connections live: nothing of them is lost, and nothing of it stays.

load ../lib/net.bash

# Starts and ends the accelerator about every second, four times, while the traffic (pid $1) goes on.
while_traffic() {
	local pid=$1 signal=$2 round

	for ((round = 0; round < 4; round++)); do
		accel_start --trust "$TOOLS/torture"
		sleep 0.5
		kill "-$signal" "$ACCEL"
		wait "$ACCEL" || [ "$signal" = KILL ] || return 1
		kill -0 "$pid"
		sleep 0.3
	done
	kill -TERM "$pid"
	wait "$pid"
}

comes_and_goes() {
	local signal=$1 rps=$2
	shift 2

	[ "$rps" = 0 ] || rps_on lo
	"$TOOLS/torture" --seconds 200 --stall-ms 30000 "$@" &
	while_traffic $! "$signal"
}

leaves_nothing() {
	accel_start --trust "$TOOLS/torture"
	"$TOOLS/torture" --seconds 2 --allow-eagain
	at_least joined 10
	"$TOOLS/kernel_view" objects "$ACCEL" >"$WORK/objects"
	accel_stop
	"$TOOLS/kernel_view" left <"$WORK/objects"
}

# With connections that live on: they must leave the table first.
leaves_nothing_of_live_ones() {
	accel_start --trust "$TOOLS/torture"
	"$TOOLS/torture" --seconds 100 --allow-eagain &
	local traffic=$!
	until_true 20 joined_some
	"$TOOLS/kernel_view" objects "$ACCEL" >"$WORK/objects"
	accel_stop
	kill -TERM "$traffic"
	wait "$traffic"
	"$TOOLS/kernel_view" left <"$WORK/objects"
}

# Readers asleep in recv(2) since long: never joined (sleep), or joined until they began to (turn). Nothing is left in
# the kernel when the accelerator ends, and they get their bytes as ever.
leaves_sleepers() {
	accel_start
	cp "$TOOLS/uses" "$WORK/uses"
	mkfifo "$WORK/lines"
	"$WORK/uses" "$1" <"$WORK/lines" >"$WORK/out" &
	local traffic=$!
	exec 9>"$WORK/lines"
	[ "$1" = sleep ] || until_true 10 counter_is joined_late 2
	echo >&9
	until_true 10 grep -q asleep "$WORK/out"
	[ "$1" = sleep ] || [ "$(counter left)" = 2 ]
	"$TOOLS/kernel_view" objects "$ACCEL" >"$WORK/objects"
	accel_stop
	"$TOOLS/kernel_view" left <"$WORK/objects"
	echo >&9
	until_true 10 asleep_twice
	exec 9>&-
	wait "$traffic"
}

asleep_twice() {
	[ "$(grep -c asleep "$WORK/out")" = 2 ]
}

unload_works() {
	"$WAGGLE" unload
}

cleared_by_unload() {
	accel_start --trust "$TOOLS/torture"
	"$TOOLS/torture" --seconds 100 --no-blocking &
	local traffic=$!
	until_true 20 joined_some
	"$TOOLS/kernel_view" objects "$ACCEL" >"$WORK/objects"
	kill -KILL "$ACCEL"
	wait "$ACCEL" || true
	kill -0 "$traffic"
	# A socket whose queue is never empty meanwhile leaves at the next attempt.
	until_true 40 unload_works
	kill -0 "$traffic"
	"$TOOLS/kernel_view" left <"$WORK/objects"
	"$WAGGLE" unload | grep -q 'nothing to unload'
	kill -TERM "$traffic"
	wait "$traffic"
}

joined_some() {
	(($(counter joined) >= 10))
}

cleared_by_next_start() {
	accel_start --trust "$TOOLS/torture"
	"$TOOLS/torture" --seconds 100 --allow-eagain &
	local traffic=$!
	until_true 20 joined_some
	"$TOOLS/kernel_view" objects "$ACCEL" >"$WORK/objects"
	kill -KILL "$ACCEL"
	wait "$ACCEL" || true
	sleep 0.5
	kill -0 "$traffic"
	accel_start --trust "$TOOLS/torture"
	sleep 1
	accel_stop
	kill -TERM "$traffic"
	wait "$traffic"
	"$TOOLS/kernel_view" left <"$WORK/objects"
}

@test "torture while the accelerator starts and stops" { TEST_SECONDS=240 inside comes_and_goes TERM 0 --no-blocking; }
@test "torture while the accelerator starts and stops, RPS on" { TEST_SECONDS=240 inside comes_and_goes TERM 1 --no-blocking; }
@test "torture while the accelerator starts and stops, some readers asleep" { TEST_SECONDS=240 inside comes_and_goes TERM 1 --allow-eagain; }
@test "torture while the accelerator starts and is killed" { TEST_SECONDS=240 inside comes_and_goes KILL 0 --allow-eagain; }
@test "after SIGTERM nothing is left in the kernel" { inside leaves_nothing; }
@test "after SIGTERM nothing is left, with live connections" { TEST_SECONDS=200 inside leaves_nothing_of_live_ones; }
@test "after SIGTERM nothing is left, with a reader asleep in recv(2)" { inside leaves_sleepers sleep; }
@test "after SIGTERM nothing is left, with a reader that was joined before it slept" { inside leaves_sleepers turn; }
@test "after SIGKILL connections go on, and the next start clears up" { TEST_SECONDS=200 inside cleared_by_next_start; }
@test "after SIGKILL connections go on, and unload clears up" { TEST_SECONDS=200 inside cleared_by_unload; }
