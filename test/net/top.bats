#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# `waggle top`: for scripts, and on a terminal of tmux, whose keys and screen are the test's.

load ../lib/net.bash
load ../lib/run.bash

# A terminal of its own, on a socket of its own: mux COMMAND...
mux() {
	tmux -f /dev/null -S "$WORK/tmux" "$@"
}

screen_start() {
	mux new-session -d -s top -x 140 -y 20 "$WAGGLE top $*; echo ended with \$?; sleep 60"
	until_true 15 shows '^SERVICE '
}

screen() {
	mux capture-pane -p -t top
}

# shows PATTERN: a line of the screen matches.
shows() {
	local text

	text=$(screen)
	grep -qE -- "$1" <<<"$text" || { echo "no line is like '$1' in:" $'\n'"$text" >&2; return 1; }
}

hides() {
	! shows "$1"
}

keys() {
	mux send-keys -t top "$@"
}

once() {
	two_services "$SCOPE"
	who http://198.18.0.5/ 6 >/dev/null
	"$WAGGLE" top --once >"$WORK/top"
	grep -qE '^SERVICE +LISTEN +STATE +UP +BACKENDS +CONNS +PICKS/S' "$WORK/top"
	grep -qE '^api +198.18.0.6:80 +up +1 +1 ' "$WORK/top"
	grep -qE '^web +198.18.0.5:80 +up +2 +2 .* 6 +0$' "$WORK/top"
	"$WAGGLE" top --once --json --view backends --sort picks --filter WEB >"$WORK/json"
	jq -e '.view == "backends" and (.rows | length == 2) and all(.rows[]; .picks == 3 and .service == "web")
		and all(.rows[]; .picks_per_second == 0)' "$WORK/json"
	"$WAGGLE" top --once --json --sort backends >"$WORK/json"
	jq -e '[.rows[].service] == ["web", "api"]' "$WORK/json"
	"$WAGGLE" top --once --json --sort backends --reverse >"$WORK/json"
	jq -e '[.rows[].service] == ["api", "web"]' "$WORK/json"
	# Rates are of what happened between the two looks.
	load_start http://198.18.0.5/ 60 2 -H 'Connection: close'
	"$WAGGLE" top --once --json --view backends --filter web --interval 2 >"$WORK/json"
	kill -TERM "$LOAD"
	jq -e 'all(.rows[]; .picks_per_second > 0)' "$WORK/json"
	run_stop
}

pairs() {
	two_services "$SCOPE"
	exec 3<>/dev/tcp/198.18.0.2/8080
	"$WAGGLE" top --once --json --view pairs --filter 198.18.0.2:8080 >"$WORK/json"
	jq -e '.view == "pairs" and (.rows | length == 1) and .rows[0].server == "198.18.0.2:8080"' "$WORK/json"
	exec 3>&-
	run_stop
}

refuses() {
	local code=0

	! "$WAGGLE" top --once 2>"$WORK/err"
	grep -q 'no waggle is running' "$WORK/err"
	"$WAGGLE" top --view nothing 2>"$WORK/err" || code=$?
	[ "$code" = 2 ]
	code=0
	"$WAGGLE" top --sort nothing 2>"$WORK/err" || code=$?
	[ "$code" = 2 ]
	! "$WAGGLE" top </dev/null 2>"$WORK/err"
	grep -q 'not a terminal' "$WORK/err"
}

live() {
	two_services "$SCOPE"
	screen_start
	until_true 15 shows '^waggle top: 2 services by service'
	until_true 15 shows '^web +198.18.0.5:80 +up +2 +2 '
	who http://198.18.0.5/ 4 >/dev/null
	until_true 15 shows '^web .* 4 +0 *$'
	keys 2
	until_true 15 shows '^waggle top: 3 backends by service'
	# Sorting: by the next column, and the other way round.
	keys '>'
	until_true 15 shows 'by backend$'
	keys r
	until_true 15 shows 'by backend, reversed'
	keys '<'
	until_true 15 shows 'by service$'
	# A filter is at work while it is typed.
	keys / a p i
	until_true 15 shows '^filter: api'
	until_true 15 shows '^waggle top: 1 backends'
	until_true 15 hides '^web '
	keys Enter
	until_true 15 shows '^waggle top: 1 backends by service, with api'
	keys /
	until_true 15 shows '^filter: api'
	keys Escape
	until_true 15 shows '^waggle top: 3 backends'
	keys 3
	until_true 15 shows '^waggle top: [0-9]+ pairs by client'
	keys q
	until_true 15 shows '^ended with 0'
	run_stop
	mux kill-server
}

drains() {
	two_services "$SCOPE"
	screen_start --view backends
	# api's one, then the second of web.
	keys Down
	keys Down
	keys d
	until_true 15 shows '^drain 198.18.0.3:8080 of web\? \(y/n\)'
	keys n
	until_true 15 hides '^drain '
	backend_is web 198.18.0.3:8080 state up
	keys d
	until_true 15 shows '^drain 198.18.0.3:8080 of web'
	keys y
	until_true 15 shows '^198.18.0.3:8080: draining'
	backend_is web 198.18.0.3:8080 state draining
	backend_is web 198.18.0.2:8080 state up
	until_true 15 shows '^web +198.18.0.3:8080 +draining '
	keys e
	until_true 15 backend_is web 198.18.0.3:8080 state up
	# It says so when there is nobody to ask any more, and goes on when there is.
	run_stop
	until_true 15 shows 'no waggle is running'
	run_start
	until_true 15 shows '^web +198.18.0.3:8080 +up '
	keys C-c
	until_true 15 shows '^ended with 0'
	mux kill-server
	run_stop
}

narrow() {
	two_services "$SCOPE"
	screen_start
	mux resize-window -t top -x 30 -y 4
	until_true 15 shows '^1 services 2 backends 3 pai'
	until_true 15 shows '^SERVICE'
	mux resize-window -t top -x 140 -y 20
	until_true 15 shows '^web +198.18.0.5:80 +up '
	keys q
	until_true 15 shows '^ended with 0'
	mux kill-server
	run_stop
}

@test "top --once: tables, JSON, sorting, filters, rates" { inside once; }
@test "top shows pairs of sockets" { inside pairs; }
@test "top refuses what it cannot do" { inside refuses; }
@test "top on a terminal: views, sorting, a filter" { inside live; }
@test "top drains and enables by keys, and outlives the daemon" { inside drains; }
@test "top in a small window" { inside narrow; }
