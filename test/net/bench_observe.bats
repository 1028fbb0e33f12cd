#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The benchmark of being watched: every watcher lives to the end and is answered, and nothing is left. No speed is asserted.

load ../lib/net.bash
load ../lib/bench.bash

export WAGGLE_BENCH_LAB=waggle-bench-ob-test-$$

watched() {
	"$WAGGLE" bench observe --rounds 1 --seconds 1 --json >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		cat "$WORK/bench.err" >&2
		return 1
	}
	jq -e '[.rows[].name] == ["http", "connections"]
		and all(.rows[]; .skipped == null and (.ways | keys) == ["polled", "unwatched", "watched"]
		and all(.ways[]; (.samples | length) == 1 and .median > 0)
		and .ways.watched.own_median > 0 and .ways.watched.own_median < 1)
		and .rows[0].joined >= 100' "$WORK/bench.json" || {
		cat "$WORK/bench.json" "$WORK/bench.err" >&2
		return 1
	}
	nothing_left
}

@test "bench observe: unwatched and watched, with every watcher alive, and nothing is left" {
	for program in nginx wrk script; do
		command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || skip "$program is missing: sudo tools/install-deps"
	done
	TEST_SECONDS=240 inside watched
}
