#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The benchmark of policies: ten CIDRs and a hundred thousand come into force in turn, and nothing is left. No speed is asserted.

load ../lib/net.bash
load ../lib/bench.bash

export WAGGLE_BENCH_LAB=waggle-bench-po-test-$$

# A hundred thousand CIDRs a dozen times take minutes under the sanitizers: without, as a benchmark is run.
both_sizes() {
	"${TOOLS%/test/tools}/waggle" bench policy --rounds 1 --seconds 0.05 --json >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		cat "$WORK/bench.err" >&2
		return 1
	}
	jq -e '[.rows[].name] == ["tcp", "udp", "udp-other", "reload"]
		and all(.rows[]; .skipped == null and (.ways | keys) == ["10", "100000"]
		and all(.ways[]; (.samples | length) == 1 and .median > 0))' "$WORK/bench.json" || {
		cat "$WORK/bench.json" "$WORK/bench.err" >&2
		return 1
	}
	nothing_left
}

@test "bench policy: 10 CIDRs and 100000, and nothing is left" { TEST_SECONDS=240 inside both_sizes; }
