#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# iperf3, to and fro.

load ../lib/net.bash
load real.bash

# stream NAME OPTION...: no error, and the reader got nothing that was not sent. When the time is up it stops reading, so
# the last of it may be on its way, on plain TCP too.
stream() {
	if ! timeout 100 iperf3 -c 127.0.0.1 -p 5210 --connect-timeout 20000 -J "${@:2}" >"$WORK/iperf.json"; then
		jq -r .error "$WORK/iperf.json" >&2
		return 1
	fi
	jq -e 'has("error") | not' "$WORK/iperf.json" >/dev/null
	result "$1: $(jq -c '[(.end.streams | length), (.intervals | length > 0),
		(.end | .sum_sent.bytes >= .sum_received.bytes and .sum_received.bytes > 0)]' "$WORK/iperf.json")"
	tail -n 1 "$RESULT" | grep -q 'true,true'
	told "$1, $MODE: $(jq -r '.end | "sent \(.sum_sent.bytes), received \(.sum_received.bytes), retransmits \(.sum_sent.retransmits)"' "$WORK/iperf.json")"
}

iperf3_streams() {
	start iperf3 -s -p 5210 -B 127.0.0.1
	listens 5210
	stream "one stream of 1 GiB" -n 1G
	stream "64 streams" -P 64 -t 3
	stream "64 streams, small writes" -P 64 -n 512M -l 4K
	stream "64 streams, the other way" -P 64 -t 3 -R
	stream "8 streams, both ways" -P 8 -t 3 --bidir
	stream "zero copy" -Z -n 256M
	stream "held to 100 Mbit/s" -P 4 -t 2 -b 100M
}

iperf3_streams_ends() {
	state_is "$(command -v iperf3)" trusted blocking-recv
	joined_or_asleep "$(command -v iperf3)"
}

setup() {
	need iperf3 jq
}

@test "iperf3: 1 and 64 streams, both ways, small writes, zero copy" { TEST_SECONDS=240 inside compare "iperf3" iperf3_streams; }
