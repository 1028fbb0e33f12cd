#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The benchmark of the packet hook measures every row without an error, and leaves nothing. No speed is asserted. But that
# a flood of SYNs takes no established connection away, is.

load ../lib/net.bash
load ../lib/bench.bash

export WAGGLE_BENCH_LAB=waggle-bench-pk-test-$$ TEST_SECONDS=300

# measured FILTER: of all rows, in jq.
measured() {
	"$WAGGLE" bench packet --quick --json >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		cat "$WORK/bench.err" >&2
		return 1
	}
	jq -e "$1" "$WORK/bench.json" || {
		cat "$WORK/bench.json" "$WORK/bench.err" >&2
		return 1
	}
	nothing_left
}

every_row() {
	measured '[.rows[].group] as $groups
		| (["flow", "full", "flood", "lab"] - $groups) == []
		and all(.rows[]; .skipped == null and all(.ways[]; (.samples | length) == 1))
		and all(.rows[] | select(.group != "flood"); (.ways | keys) == ["base", "waggle"] and all(.ways[]; .median > 0))
		and ([.rows[] | select(.group == "flood") | .ways.waggle.median] | length > 0 and all(. == 0))'
}

@test "bench packet: every row is measured, no flood takes an established connection, and nothing is left" {
	for program in haproxy nginx wrk nft; do
		command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || skip "$program is missing: sudo tools/install-deps"
	done
	inside every_row
}
