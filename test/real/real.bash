# SPDX-License-Identifier: GPL-2.0-or-later
# Real programs, plain and with `waggle accel`. `compare NAME SCENARIO` runs a scenario three times in the test's own
# place: without the accelerator, with one that knows nothing yet, and with one that kept what the second had learned.
# What the scenario says by `result` must be equal three times. Each must leave in good order what it started.
# shellcheck shell=bash

# Inside, the functions of a test have no other way to learn where its files are.
export BATS_TEST_DIRNAME

# need COMMAND...: skips in one sentence where a program is missing, and fails in CI.
need() {
	local command

	for command; do
		[ -x "$command" ] || command -v "$command" >/dev/null && continue
		echo "$command is missing: sudo tools/install-deps real" >&2
		[ "${CI-}" = true ] && return 1
		skip "$command is missing: sudo tools/install-deps real"
	done
}

# result TEXT...: one line of what must be equal.
result() {
	echo "$*" >>"$RESULT"
}

# result_of NAME COMMAND...: what a command says, which must succeed.
result_of() {
	local said

	said=$("${@:2}")
	result "$1: $said"
}

# sum_of NAME COMMAND...: the same of a long answer.
sum_of() {
	local said

	said=$("${@:2}" | sha256sum)
	result "$1: $said"
}

# failure_of NAME COMMAND...: the error of a command that must fail.
failure_of() {
	local said status=0

	said=$("${@:2}" 2>&1) || status=$?
	result "$1: $said, exit $status"
	((status))
}

# told TEXT...: for people only.
told() {
	echo "# $*" >&3
}

# sums FILE...: their SHA-256, without names.
sums() {
	sha256sum -- "$@" | cut -d ' ' -f 1
}

# start COMMAND...: in the background; ended by stop_all.
start() {
	"$@" >>"$WORK/servers.log" 2>&1 </dev/null 3>/dev/null &
	STARTED+=($!)
}

# Ends what was started, the last first, by SIGTERM; what has ended by itself before is an error.
stop_all() {
	local i pid status

	for ((i = ${#STARTED[@]} - 1; i >= 0; i--)); do
		pid=${STARTED[i]}
		if ! kill -TERM "$pid" 2>/dev/null; then
			wait "$pid" && status=0 || status=$?
			echo "a server ended by itself with status $status; the last it said: $(tail -n 5 "$WORK/servers.log")" >&2
			return 1
		fi
		until_true 20 has_ended "$pid"
		wait "$pid" || true
	done
	STARTED=()
}

has_ended() {
	case $(sed -nE 's/^State:\s+(.).*/\1/p' "/proc/$1/status" 2>/dev/null) in
	Z | '') ;;
	*) return 1 ;;
	esac
}

# listens PORT...: waits until somebody listens on each.
listens() {
	local port

	for port; do
		until_true 30 some_listener "$port"
	done
}

some_listener() {
	ss -Hltn "sport = $1" | grep -q .
}

# The class of this kernel as the accelerator found it by trying: full, limited or refused.
class() {
	"$WAGGLE" doctor --json | jq -r .class
}

# state_of FILE: what the running accelerator has learned of an executable, or "unseen".
state_of() {
	"$WAGGLE" sockets --programs --json |
		jq -r --argjson inode "$(stat -Lc %i "$1")" '[.executables[] | select(.inode == $inode) | .state][0] // "unseen"'
}

# state_is FILE STATE...: one of them. A state is told soon after what caused it, so this waits.
state_is() {
	local state

	state=$(state_of "$1")
	case " ${*:2} " in
	*" $state "*) ;;
	*)
		echo "$1 is $state, expected: ${*:2}" >&2
		return 1
		;;
	esac
}

# stats_word NAME: one counter of the run that has just ended.
stats_word() {
	jq ".$1" "$WORK/$MODE.stats"
}

# compare NAME SCENARIO [ARG...]. While a scenario runs, MODE is plain, learning or learned. If there is a function
# SCENARIO_ends, it is called before the accelerator is stopped.
compare() {
	local name=$1 scenario=$2 began

	[ "$(class)" != refused ] || { echo "this kernel is refused: see waggle doctor" >&2; return 1; }
	for MODE in plain learning learned; do
		RESULT=$WORK/$MODE.result STARTED=()
		: >"$RESULT"
		: >"$WORK/servers.log"
		[ $MODE = plain ] || accel_start
		began=$SECONDS
		"${@:2}"
		told "$name, $MODE: $((SECONDS - began)) s"
		if [ $MODE != plain ]; then
			"$TOOLS/kernel_view" stats "$ACCEL" >"$WORK/$MODE.stats"
			told "$name, $MODE: $(jq -r '"local \(.local), joined \(.joined), joined late \(.joined_late), brief \(.brief), left \(.left), fallback \(.fallback), unfit late \(.unfit_late), splice late \(.splice_late), reset \(.reset)"' "$WORK/$MODE.stats")"
			"$WAGGLE" sockets --programs --json | jq -r '"# '"$name, $MODE"':" + ([.executables[] | select(.state != "learning") | " \(.path // .name) \(.state)"] | join(","))' >&3
			[ "$(stats_word reset)" = 0 ]
			[ "$(stats_word splice_late)" = 0 ]
			! declare -F "${scenario}_ends" >/dev/null || "${scenario}_ends"
		fi
		stop_all
		[ $MODE = plain ] || accel_stop
	done
	for MODE in learning learned; do
		if ! diff -u --label plain --label "$MODE" "$WORK/plain.result" "$WORK/$MODE.result" >&2; then
			echo "$name: what came out differs from plain TCP" >&2
			return 1
		fi
	done
	[ -s "$WORK/plain.result" ]
	told "$name: $(wc -l <"$WORK/plain.result") results, all equal"
}

# some_joined: in a run with an accelerator that knows the programs, some pairs must have been joined.
some_joined() {
	if [ "$MODE" = learned ]; then
		if ! jq -e '.joined + .joined_late > 0' "$WORK/$MODE.stats" >/dev/null; then
			echo "no pair was joined: $(cat "$WORK/$MODE.stats"); $("$WAGGLE" sockets --programs --json | jq -c .executables)" >&2
			return 1
		fi
	fi
}

# joined_or_asleep FILE...: as some_joined, unless one of these programs sleeps in recv(2), which keeps it on plain TCP.
joined_or_asleep() {
	local file

	for file; do
		[ "$(state_of "$file")" = blocking-recv ] || continue
		told "$(basename "$file") sleeps in recv(2), so its connections stay on TCP, and $(stats_word joined) others were joined"
		return 0
	done
	some_joined
}

# none_joined: what belongs to this program stays on plain TCP.
none_joined() {
	if ! jq -e '.local > 0 and .joined == 0 and .joined_late == 0' "$WORK/$MODE.stats" >/dev/null; then
		echo "joined, or never seen: $(cat "$WORK/$MODE.stats")" >&2
		return 1
	fi
}
