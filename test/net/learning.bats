#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Joining is earned: a program is watched on plain TCP first, and what was learned is kept.

load ../lib/net.bash

# A program that nobody has seen: the same traffic from a file of its own.
unknown_program() {
	UNKNOWN=/run/work/unknown-$1${2:+-$2}
	cp "$TOOLS/$1" "$UNKNOWN"
}

earned_and_kept() {
	# On a disk: what was learned counts only while the file is the one that was learned.
	unknown_program shorts
	accel_start
	"$UNKNOWN" --connections 5
	[ "$(counter local)" = 5 ]
	[ "$(counter joined)" = 0 ]
	"$UNKNOWN" --connections 300 --think-us 100
	until_true 5 program_is "$UNKNOWN" trusted
	"$UNKNOWN" --connections 100
	at_least joined 100
	accel_stop
	is_kept "$UNKNOWN" trusted
	accel_start
	"$UNKNOWN" --connections 5
	[ "$(counter joined)" = 5 ]
	accel_stop
	# Another file at the same path has earned nothing.
	rm "$UNKNOWN"
	cp "$TOOLS/torture" "$UNKNOWN"
	accel_start
	"$UNKNOWN" --seconds 1 --connections 1 >/dev/null || true
	[ "$(counter joined_late)" = 0 ] || at_least local 1
	accel_stop
}

# What the running accelerator says of the program that this file is (of its inode: it may have ended).
program_is() {
	"$WAGGLE" sockets --programs --json |
		jq -e --argjson inode "$(stat -c %i "$1")" --arg state "$2" \
			'.executables[] | select(.inode == $inode and .state == $state)'
}

is_kept() {
	jq -e --arg path "$1" --arg state "$2" '.executables[] | select(.path == $path and .state == $state)' \
		/var/lib/waggle/learned.json
}

# What a joined socket cannot honour is seen on plain TCP, and what uses it is never joined.
unfit() {
	local how

	accel_start
	for how in waitall lowat; do
		unknown_program uses "$how"
		"$UNKNOWN" "$how"
		until_true 5 program_is "$UNKNOWN" unfit
		# However often it reads as others do now.
		"$UNKNOWN" plainly
		"$UNKNOWN" plainly
		program_is "$UNKNOWN" unfit
	done
	[ "$(counter local)" = 6 ]
	[ "$(counter joined)" = 0 ]
	[ "$(counter joined_late)" = 0 ]
	# One that reads plainly from the start is fit.
	unknown_program uses plainly
	mkfifo "$WORK/end"
	"$UNKNOWN" requests 1 <"$WORK/end" &
	exec 9>"$WORK/end"
	until_true 10 program_is "$UNKNOWN" trusted
	echo >&9
	exec 9>&-
	wait $!
	"$UNKNOWN" plainly
	[ "$(counter joined)" = 1 ]
	accel_stop
}

# Most connections of this listener are too short to gain: the next begin on TCP, and the one that lasts is joined.
brief() {
	local lasting

	accel_start --trust "$TOOLS/uses"
	mkfifo "$WORK/end"
	"$TOOLS/uses" requests 200 <"$WORK/end" &
	lasting=$!
	exec 9>"$WORK/end"
	until_true 10 counter_is local 201
	at_least brief 100
	at_least joined 1
	until_true 10 counter_is joined_late 2
	"$WAGGLE" sockets --json | jq -e '.summary == {pairs: 1, joined: 1, watched: 0, singles: 0}'
	echo >&9
	exec 9>&-
	wait "$lasting"
	accel_stop
}

# The reason is told while it lasts.
brief_is_told() {
	accel_start --trust "$TOOLS/shorts"
	"$WAGGLE" trace --json >"$WORK/trace" &
	until_true 10 traced_something
	"$TOOLS/shorts" --one-send --connections 200
	until_true 5 grep -q '"event":"established".*"reason":"brief"' "$WORK/trace"
	accel_stop
}

traced_something() {
	"$TOOLS/shorts" --connections 1
	[ -s "$WORK/trace" ]
}

# Live connections are joined in the middle, whatever is queued and whoever sleeps.
joined_in_the_middle() {
	local i late=0

	[ "$1" = 0 ] || rps_on lo
	for i in 1 2 3; do
		unknown_program torture
		accel_start
		"$UNKNOWN" --seconds 3 --connections 48 --no-blocking
		at_least local 10
		late=$((late + $(counter joined_late)))
		accel_stop
		rm -f /var/lib/waggle/learned.json "$UNKNOWN"
	done
	((late > 0))
}

# A program that sleeps in recv(2) is seen to do so, and never learns that there is an accelerator.
sleeps() {
	[ "$1" = 0 ] || rps_on lo
	accel_start
	unknown_program torture
	"$UNKNOWN" --seconds 3
	at_least local 10
	program_is "$UNKNOWN" blocking-recv
	[ "$(counter joined)" = 0 ]
	accel_stop
	is_kept_or_gone "$UNKNOWN" blocking-recv
}

# It may have ended before it was kept.
is_kept_or_gone() {
	is_kept "$@" || ! grep -q "$1" /var/lib/waggle/learned.json
}

# One that polled until it was joined, and sleeps since: its connection goes back to TCP, and its next ones stay there.
late() {
	unknown_program uses
	mkfifo "$WORK/lines"
	accel_start
	"$UNKNOWN" turn <"$WORK/lines" >"$WORK/out" &
	exec 9>"$WORK/lines"
	until_true 10 program_is "$UNKNOWN" trusted
	until_true 10 counter_is joined_late 2
	echo >&9
	until_true 10 grep -q asleep "$WORK/out"
	program_is "$UNKNOWN" blocking-recv
	at_least sleep_late 1
	[ "$(counter left)" = 2 ]
	"$WAGGLE" sockets --json | jq -e '.summary.joined == 0 and .pairs[0].reason == "blocking-recv"'
	exec 9>&-
	wait $!
	"$UNKNOWN" plainly
	[ "$(counter joined)" = 0 ]
	accel_stop
}

# A stream of small writes is TCP's; when it has become something else, the pair is joined again.
small_writes() {
	accel_start --trust "$TOOLS/uses"
	mkfifo "$WORK/lines"
	"$TOOLS/uses" stream <"$WORK/lines" &
	exec 9>"$WORK/lines"
	until_true 10 counter_is left 2
	at_least small_writes 1
	"$WAGGLE" sockets --json | jq -e '.pairs[0] | .state == "watched" and .reason == "small-writes"'
	echo >&9
	until_true 30 joined_late_all
	echo >&9
	exec 9>&-
	wait $!
	accel_stop
}

# However often it was tried meanwhile.
joined_late_all() {
	"$WAGGLE" sockets --json | jq -e '.summary.joined == 1' && at_least joined_late 2
}

@test "an unknown program is joined when it has earned it, and that is kept" { inside earned_and_kept; }
@test "a program that uses MSG_WAITALL or SO_RCVLOWAT is found unfit" { inside unfit; }
@test "torture with readers that sleep in recv(2): they stay on TCP" { inside sleeps 0; }
@test "torture with readers that sleep in recv(2): they stay on TCP, RPS on" { inside sleeps 1; }
@test "a program that sleeps in recv(2) later than it was learned goes back to TCP" { inside late; }
@test "a stream of small writes goes back to TCP, and is joined when it has ended" { inside small_writes; }
@test "connections of one request begin on TCP, and one that lasts is joined" { inside brief; }
@test "trace tells that a connection is taken for brief" { inside brief_is_told; }
@test "torture while its live connections are joined" { inside joined_in_the_middle 0; }
@test "torture while its live connections are joined, RPS on" { inside joined_in_the_middle 1; }
