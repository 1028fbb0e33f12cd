#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Watching `waggle run`: rates in the status, filters of the trace, and what becomes of a trace that nobody reads.

load ../lib/net.bash
load ../lib/run.bash

export TEST_SECONDS=240

# Clients of web, one after the other, until clients_stop.
clients_start() {
	(while :; do curl -s -o /dev/null --max-time 10 "$1"; done) &
	CLIENTS=$!
}

clients_stop() {
	kill -TERM "$CLIENTS"
	wait "$CLIENTS" 2>/dev/null || true
}

status_says() {
	"$WAGGLE" status --json | jq -e "$1" >/dev/null
}

rates() {
	local series

	two_services "$CG"
	status_says '.balancing.rates.picks_per_second == 0'
	clients_start http://198.18.0.5/
	until_true 20 status_says '.services[] | select(.name == "web") | .picks_per_second > 0 and all(.backends[]; .picks_per_second > 0)'
	status_says '.services[] | select(.name == "api") | .picks_per_second == 0'
	until_true 20 status_says '.balancing.rates.picks_per_second > 0'
	"$WAGGLE" status >"$WORK/status"
	grep -qE '^a second: [0-9.]+ picks, 0\.0 failed; 0 bytes' "$WORK/status"
	grep -qE '^SERVICE +LISTEN +SCHEDULER +STATE +PICKS/S +BACKEND +STATE +WEIGHT +CONNS +PICKS/S ' "$WORK/status"
	grep -qE '^web +tcp 198.18.0.5:80 +round-robin +up +[0-9.]+ +198.18.0.2:8080 +up ' "$WORK/status"
	clients_stop
	# They end, some seconds after what they are the rates of.
	until_true 20 status_says '.services[] | select(.name == "web") | .picks_per_second == 0'
	# The series goes back to the start.
	until_true 10 eval '[ "$(api /v1/services/web/history | jq ".picks_per_second[-1]")" = 0 ]'
	series=$(api /v1/services/web/history | jq '.picks_per_second | add')
	jq -ne --argjson sum "$series" '$sum > 0'
	api /v1/history | jq -e '(.picks_per_second | length) == (.joined_per_second | length)'
	run_stop
}

# trace_start FILE [OPTION...]: until it listens. Sets TRACE.
trace_start() {
	"$WAGGLE" trace --json "${@:2}" >"$1" 2>&1 &
	TRACE=$!
	LISTENERS=$((${LISTENERS-0} + 1))
	until_true 20 listens "$LISTENERS"
}

# A listener has sent its request, and been given its filter, when the daemon holds its connection for good.
listens() {
	[ "$(ss -Hx state established src /run/waggle/control.sock | wc -l)" -ge "$1" ]
}

# told NAME EXPRESSION: of all that this listener was told.
told() {
	jq -es "$2" "$WORK/$1" >/dev/null
}

filters() {
	two_services "$CG"
	trace_start "$WORK/all"
	trace_start "$WORK/service" --service api
	trace_start "$WORK/address" --address 198.18.0.3:8080 --event picked
	trace_start "$WORK/network" --address 198.18.0.2/32 --event picked --event backend
	trace_start "$WORK/process" --process curl --event picked
	trace_start "$WORK/program" --process httpd --event closed
	trace_start "$WORK/nobody" --process "$$"
	who http://198.18.0.5/ 4 >/dev/null
	who http://198.18.0.6/ 2 >/dev/null
	exec 3<>/dev/tcp/198.18.0.5/80
	exec 3>&-
	"$WAGGLE" drain web 198.18.0.2:8080
	"$WAGGLE" drain api 198.18.0.3:8080
	"$WAGGLE" reload
	until_true 20 grep -q '"event":"reload"' "$WORK/all"
	until_true 20 grep -q '"draining"' "$WORK/service"
	until_true 20 grep -q '"draining"' "$WORK/network"
	until_true 20 told all 'map(select(.event == "picked")) | length == 7'
	until_true 20 told all 'map(select(.event == "established")) | length >= 7 and all(.[]; .family == "ipv4" and (.local | test("^198.18.0.[23]:8080$")))'
	# What the kernel tells comes up to a tenth of a second later than what the daemon itself has to say.
	until_true 20 told service 'all(.[]; .service == "api") and length == 3 and (map(select(.event == "backend")) | length == 1)'
	until_true 20 told address 'length >= 4 and all(.[]; .backend == "198.18.0.3:8080" and .event == "picked")'
	until_true 20 told network 'all(.[]; .backend == "198.18.0.2:8080") and (map(select(.event == "backend")) | length == 1)'
	until_true 20 told process 'length == 6 and all(.[]; .process == "curl")'
	until_true 20 grep -q '"program":"httpd"' "$WORK/program"
	until_true 20 told program 'all(.[]; .event == "closed" and .program == "httpd")'
	# What was sent is told, joined or not: six answers.
	until_true 20 told program 'map(select(.joined_bytes + .tcp_bytes > 0)) | length == 6'
	! grep -v "\"pid\":$$,\\|\"pid\":$$}" "$WORK/nobody"
	! "$WAGGLE" trace --address nowhere 2>"$WORK/err"
	grep -q "'nowhere' is no address" "$WORK/err"
	! "$WAGGLE" trace --event nothing 2>"$WORK/err"
	grep -q "there is no event 'nothing'" "$WORK/err"
	[ "$(curl -s -o "$WORK/answer" -w '%{http_code}' --unix-socket /run/waggle/control.sock 'http://waggle/v1/events?color=red')" = 400 ]
	jq -e '.error | test("no filter .color")' "$WORK/answer"
	# For people, every kind of event is a line.
	timeout 30 "$WAGGLE" trace --count 3 --event picked --event backend >"$WORK/text" &
	TRACE=$!
	until_true 20 listens 8
	"$WAGGLE" enable web 198.18.0.2:8080
	who http://198.18.0.5/ 2 >/dev/null
	wait "$TRACE"
	grep -qE '  picked +tcp web -> 198.18.0.[23]:8080  for curl\([0-9]+\)$' "$WORK/text"
	run_stop
}

# Two listeners, of which one sleeps: what it misses is counted, and the daemon keeps no more than a bounded part of it.
drops() {
	local fast slow

	two_services "$CG"
	trace_start "$WORK/fast" --event picked
	fast=$TRACE
	trace_start "$WORK/slow" --event picked
	slow=$TRACE
	kill -STOP "$slow"
	# More than fits into a queue and into the buffers of a socket.
	wrk -t 1 -c 8 -d 120 -H 'Connection: close' http://198.18.0.5/ >/dev/null 2>&1 &
	LOAD=$!
	until_true 120 eval '(($(stat -c %s "$WORK/fast") > 2500000))'
	kill -TERM "$LOAD"
	wait "$LOAD" 2>/dev/null || true
	kill -CONT "$slow"
	until_true 30 all_are_told
	jq -es 'map(select(.event == "lost")) | length > 0' "$WORK/slow"
	kill -TERM "$slow" "$fast"
	run_stop
}

# Of each second no more than it wants, the others are counted; and what the daemon has to say comes through.
rates_are_kept() {
	local since

	two_services "$CG"
	since=$SECONDS
	trace_start "$WORK/few" --event picked --event backend --rate 10
	FEW=$TRACE
	trace_start "$WORK/all" --event picked --event backend --rate 0
	wrk -t 1 -c 4 -d 120 -H 'Connection: close' http://198.18.0.5/ >/dev/null 2>&1 &
	LOAD=$!
	until_true 60 told few 'map(select(.event == "lost").count) | add > 100'
	"$WAGGLE" drain web 198.18.0.2:8080
	until_true 20 grep -q '"draining"' "$WORK/few"
	kill -TERM "$LOAD"
	wait "$LOAD" 2>/dev/null || true
	kill -TERM "$FEW"
	wait "$FEW" 2>/dev/null || true
	jq -es --argjson s "$((SECONDS - since))" 'map(select(.event == "picked")) | length <= 10 * ($s + 2)' "$WORK/few"
	until_true 20 grep -q '"draining"' "$WORK/all"
	[ "$(curl -s -o "$WORK/answer" -w '%{http_code}' --unix-socket /run/waggle/control.sock 'http://waggle/v1/events?rate=many')" = 400 ]
	run_stop
}

# Read or counted as lost, both know of the same number of events.
all_are_told() {
	local known='map(if .event == "lost" then .count else 1 end) | add'

	[ "$(jq -s "$known" "$WORK/fast")" = "$(jq -s "$known" "$WORK/slow")" ]
}

@test "status shows rates, and there are series of them" { inside rates; }
@test "trace: by service, address, process and event" { inside filters; }
@test "trace: what a slow reader misses is counted" { inside drops; }
@test "trace: no more events a second than are wanted" { inside rates_are_kept; }
