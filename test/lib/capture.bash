# SPDX-License-Identifier: GPL-2.0-or-later
# waggle capture in the tests: begun and ended, and what is in its file. After packet.bash.
# shellcheck shell=bash

READ=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tools" && pwd)/pcapng_read.py
export READ

# capturing ARG...: in the background, from the moment on that it does. Sets CAPTURE.
capturing() {
	: >"$WORK/capture.err"
	("$WAGGLE" capture "$@") >"$WORK/capture.out" 2>"$WORK/capture.err" &
	CAPTURE=$!
	until_true 30 grep -q 'capturing on' "$WORK/capture.err"
}

# What was captured is in the file: two looks are the same.
is_written() {
	local size

	size=$(stat -c %s "$WORK/x.pcap" 2>/dev/null) || return
	sleep 0.5
	[ "$(stat -c %s "$WORK/x.pcap")" = "$size" ]
}

# Ends it as people do, and shows what it has written as JSON in $WORK/packets.
captured() {
	until_true 20 is_written
	kill -INT "$CAPTURE"
	wait "$CAPTURE"
	grep -qE 'waggle: [0-9]+ packets? captured, 0 lost' "$WORK/capture.err"
	python3 "$READ" "$WORK/x.pcap" >"$WORK/packets"
}

# found JQ: how many packets of the file a filter lets through.
found() {
	jq -s "[.[] | select(has(\"id\")) | select($1)] | length" "$WORK/packets"
}

is() {
	[ "$1" = "$2" ] || { echo "'$1', not '$2'" >&2; return 1; }
}

# Each packet that was sent on is there twice, and the two belong together; others once.
pairs_hold() {
	jq -es '[.[] | select(has("id"))] | group_by(.id) | all(
		if .[0].verdict == "sent" then length == 2 and .[0].direction == "in" and .[1].direction == "out" and
			.[1].at >= .[0].at and .[0].reason == .[1].reason and .[0].backend == .[1].backend
		else length == 1 and .[0].direction == "in" end)' "$WORK/packets" >/dev/null
	# And as many as tcpdump reads.
	is "$(tcpdump -nr "$WORK/x.pcap" 2>/dev/null | wc -l)" "$(found true)"
}
