#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The classic comparison measures every way through the scene without an error, and leaves nothing. No speed is asserted.

load ../lib/net.bash

export WAGGLE_BENCH_LAB=waggle-bench-cl-test-$$

nothing_left() {
	[ -z "$(ls /run/netns)" ]
	[ ! -e "/run/$WAGGLE_BENCH_LAB" ]
	[ ! -e "/sys/fs/bpf/$WAGGLE_BENCH_LAB" ]
	[ ! -e "$(cgroup_root)/$WAGGLE_BENCH_LAB" ]
}

# One row: wrk has met no error, and where sockets are to be joined they were, or there would be no sample.
every_way() {
	"$WAGGLE" bench classic --row latency --rounds 1 --seconds 1 --json >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		cat "$WORK/bench.err" >&2
		return 1
	}
	jq -e '.ways == ["nginx", "nginx-joined", "haproxy", "nftables", "xdp-generic", "xdp", "tc", "connect", "connect-joined"]
		and (.ways as $ways | all(.rows[]; .skipped == null and (.ways | keys) == ($ways | sort)
		and all(.ways[]; (.samples | length) == 1 and .median > 0 and .cpu_us_median > 0)
		and all(.ratios[]; .interval.low <= .of_medians and .of_medians <= .interval.high)))' "$WORK/bench.json" || {
		cat "$WORK/bench.json" "$WORK/bench.err" >&2
		return 1
	}
	nothing_left
}

@test "bench classic: every way answers, and nothing is left" {
	for program in haproxy nginx wrk nft ethtool; do
		command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || skip "$program is missing: sudo tools/install-deps"
	done
	inside every_way
}
