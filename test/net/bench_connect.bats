#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The benchmark of the connect hook measures every row, with no failing call, and leaves nothing. No speed is asserted.

load ../lib/net.bash
load ../lib/bench.bash

export WAGGLE_BENCH_LAB=waggle-bench-cn-test-$$

every_row() {
	"$WAGGLE" bench connect --rounds 2 --seconds 0.02 --json >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		cat "$WORK/bench.err" >&2
		return 1
	}
	jq -e '[.rows[].name] == ["connect-other", "connect-service", "udp-other", "udp-service", "sendto-other",
		"sendto-service", "reload"] and all(.rows[]; .skipped == null and (.ways | keys) == ["hooked", "plain"]
		and all(.ways[]; (.samples | length) == 2 and .median > 0))
		and (.rows[-1] | .target.at_most == 1000 and .met == (.ways.hooked.median <= 1000))' "$WORK/bench.json" || {
		cat "$WORK/bench.json" "$WORK/bench.err" >&2
		return 1
	}
	nothing_left
}

@test "bench connect: every row is measured with the hook and without, and nothing is left" {
	inside every_row
}
