#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# A reader that stops reading stops its writer, on plain TCP and joined alike.

load ../lib/net.bash

plain() {
	"$TOOLS/slow_reader" "$@"
}

through_the_join() {
	accel_start --trust "$TOOLS/slow_reader"
	"$TOOLS/slow_reader" "$@"
	[ "$(counter joined)" = 1 ]
	at_least fallback 1
	accel_stop
}

@test "plain, blocking" { inside plain --mode blocking; }
@test "plain, epoll" { inside plain --mode level; }
@test "joined, blocking" { inside through_the_join --mode blocking; }
@test "joined, epoll level-triggered" { inside through_the_join --mode level; }
@test "joined, epoll edge-triggered" { inside through_the_join --mode edge; }
@test "joined, sends of 1 MiB, blocking" { inside through_the_join --mode blocking --chunk 1048576; }
@test "joined, sends of 1 MiB, edge-triggered" { inside through_the_join --mode edge --chunk 1048576; }
@test "joined, small sends" { inside through_the_join --mode level --chunk 700 --bytes 24000000; }
