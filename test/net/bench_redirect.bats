#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The benchmark of redirects measures every row both ways, without an error, and leaves nothing. No speed is asserted.

load ../lib/net.bash
load ../lib/bench.bash

export WAGGLE_BENCH_LAB=waggle-bench-rd-test-$$

every_row() {
	"$WAGGLE" bench redirect --rounds 1 --seconds 1 --json >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		cat "$WORK/bench.err" >&2
		return 1
	}
	jq -e '[.rows[].name] == ["connections", "keepalive", "latency-1", "latency-100"]
		and all(.rows[]; .skipped == null and (.ways | keys) == ["nftables", "waggle"]
		and all(.ways[]; (.samples | length) == 1 and .median > 0))' "$WORK/bench.json" || {
		cat "$WORK/bench.json" "$WORK/bench.err" >&2
		return 1
	}
	nothing_left
}

@test "bench redirect: every row is measured by nftables and by waggle, and nothing is left" {
	for program in haproxy nginx wrk nft; do
		command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || skip "$program is missing: sudo tools/install-deps"
	done
	inside every_row
}
