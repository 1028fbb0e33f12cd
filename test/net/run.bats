#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# `waggle run` from its start to its end: what is changed, killed, taken over and taken out while clients go on.

load ../lib/net.bash
load ../lib/run.bash

three_backends() {
	run_addresses
	backend_start 198.18.0.2 8080
	FIRST=$BACKEND
	backend_start 198.18.0.3 8080
	backend_start 198.18.0.4 8080
}

# web LINE...: a service with these backends, one a line.
web() {
	{
		printf 'services:\n  - name: web\n    listen: 198.18.0.5:80\n    %s\n    backends:\n' "${MORE:-scheduler: round-robin}"
		printf '      - %s\n' "$@"
	} | config "${SECTION-}"
}

balances() {
	three_backends
	web 198.18.0.2:8080 '{ address: 198.18.0.3:8080, weight: 2 }'
	run_start
	[ "$(who http://198.18.0.5/ 30)" = $'10 198.18.0.2\n20 198.18.0.3' ]
	backend_is web 198.18.0.2:8080 picks 10
	backend_is web 198.18.0.3:8080 picks 20
	"$WAGGLE" status >"$WORK/status"
	grep -q '^web .*198.18.0.5:80 .*round-robin .*up .*198.18.0.2:8080 .*up' "$WORK/status"
	"$WAGGLE" status --json | jq -e '.services[0].backends | length == 2'
	run_stop
	grep -q "balancing goes on in the kernel" "$WORK/run.err"
}

# Its connections break, and each may be refused once when it is made again, until the first refusal is known: then nobody
# gets there any more.
backend_killed_under_load() {
	local had

	three_backends
	MORE="health: { tcp: true, interval: 1s, timeout: 1s }"
	web 198.18.0.2:8080 198.18.0.3:8080 198.18.0.4:8080
	run_start
	until_true 10 backend_is web 198.18.0.2:8080 state up
	load_start http://198.18.0.5/ 6 30
	had=$(backend_field web 198.18.0.2:8080 connections)
	((had > 0))
	kill -KILL "$FIRST"
	until_true 15 backend_is web 198.18.0.2:8080 state down
	load_end
	echo "# $REQUESTS requests, $had connections broke, $ERRORS errors" >&3
	((ERRORS <= 2 * had))
	backend_is web 198.18.0.2:8080 connections 0
	run_stop
}

reload_under_load() {
	local i

	three_backends
	web 198.18.0.2:8080 198.18.0.3:8080
	run_start
	load_start http://198.18.0.5/ 5 20 -H 'Connection: close'
	for ((i = 0; i < 15; i++)); do
		web 198.18.0.3:8080 '{ address: 198.18.0.4:8080, weight: 3 }'
		"$WAGGLE" reload >"$WORK/reload"
		web 198.18.0.2:8080 198.18.0.3:8080
		kill -HUP "$RUN"
		until_true 15 backend_is web 198.18.0.2:8080 state up
	done
	load_end
	echo "# $REQUESTS requests, $ERRORS errors" >&3
	((ERRORS == 0))
	grep -q '^services: 0 added, 0 removed, 1 changed; backends: 1 added, 1 removed$' "$WORK/reload"
	run_stop
}

# Connections that live through it too: they keep their backend though it has left the file.
reload_keeps_connections() {
	three_backends
	web 198.18.0.2:8080
	run_start
	load_start http://198.18.0.5/ 3 10
	web 198.18.0.3:8080
	"$WAGGLE" reload
	[ "$(who http://198.18.0.5/ 3)" = "3 198.18.0.3" ]
	load_end
	((ERRORS == 0))
	run_stop
}

# Whatever happens to the process: connections are balanced, and the next one knows what this one knew.
killed_and_restarted_under_load() {
	local picks

	three_backends
	web 198.18.0.2:8080 198.18.0.3:8080
	run_start
	"$WAGGLE" drain web 198.18.0.3:8080
	load_start http://198.18.0.5/ 6 10 -H 'Connection: close'
	kill -KILL "$RUN"
	! wait "$RUN"
	picks=$(who http://198.18.0.5/ 5)
	[ "$picks" = "5 198.18.0.2" ]
	web 198.18.0.2:8080 198.18.0.3:8080 198.18.0.4:8080
	run_start
	backend_is web 198.18.0.3:8080 state draining
	picks=$(backend_field web 198.18.0.2:8080 picks)
	((picks >= 5))
	[ "$(backend_field web 198.18.0.3:8080 picks)" = 0 ]
	kill -TERM "$RUN"
	wait "$RUN"
	run_start
	load_end
	echo "# $REQUESTS requests, $ERRORS errors" >&3
	((ERRORS == 0))
	run_stop
}

# A service that has left the file while nobody ran is taken away.
restart_with_other_services() {
	three_backends
	web 198.18.0.2:8080
	run_start
	run_stop
	echo 'services: [ { name: api, listen: 198.18.0.6:80, backends: [ 198.18.0.3:8080 ] } ]' | config
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	run_start
	[ "$(who http://198.18.0.6/)" = "1 198.18.0.3" ]
	! curl -s --max-time 5 http://198.18.0.5/
	run_stop
}

bad_file_changes_nothing() {
	three_backends
	web 198.18.0.2:8080
	run_start
	api /v1/services | jq -c 'del(.services[].backends[].check)' >"$WORK/before"
	{
		grep -v '^connect:' "$CONFIG"
		printf '      - 198.18.0.3:99999\n  - { name: web, listen: 198.18.0.7:80, backends: [], nonsense: 1 }\n'
	} >"$WORK/bad.yaml"
	cp "$WORK/bad.yaml" "$CONFIG"
	! "$WAGGLE" reload >"$WORK/out" 2>&1
	grep -q "^$CONFIG:7:" "$WORK/out"
	grep -q "^$CONFIG:8:" "$WORK/out"
	grep -q 'nothing was changed' "$WORK/out"
	kill -HUP "$RUN"
	until_true 10 eval '[ "$(api /v1/status | jq .config.failed_reloads)" = 2 ]'
	grep -q "$CONFIG:7:" "$WORK/run.err"
	api /v1/services | jq -c 'del(.services[].backends[].check)' | diff "$WORK/before" -
	[ "$(who http://198.18.0.5/ 3)" = "3 198.18.0.2" ]
	# Right again: all is well, and the complaint is gone.
	web 198.18.0.3:8080
	"$WAGGLE" reload
	api /v1/status | jq -e '.config.error == null and .config.reloads == 1'
	[ "$(who http://198.18.0.5/ 3)" = "3 198.18.0.3" ]
	run_stop
	# And one that does not start at all says where.
	cp "$WORK/bad.yaml" "$CONFIG"
	status=0
	"$WAGGLE" run -c "$CONFIG" >"$WORK/out" 2>&1 || status=$?
	((status == 2))
	grep -q "^$CONFIG:7:" "$WORK/out"
}

# Until the last connection has ended.
drains_to_zero() {
	three_backends
	web 198.18.0.2:8080 198.18.0.3:8080
	run_start
	exec 5<>/dev/tcp/198.18.0.5/80 6<>/dev/tcp/198.18.0.5/80 7<>/dev/tcp/198.18.0.5/80 8<>/dev/tcp/198.18.0.5/80
	until_true 10 backend_is web 198.18.0.2:8080 connections 2
	[ "$("$WAGGLE" drain web 198.18.0.2:8080)" = "198.18.0.2:8080: draining: 2 connections left" ]
	[ "$(who http://198.18.0.5/ 6)" = "6 198.18.0.3" ]
	status=0
	"$WAGGLE" drain --wait 1 web 198.18.0.2:8080 >"$WORK/out" 2>&1 || status=$?
	((status == 1))
	grep -q '2 connections left after 1 s: it goes on draining' "$WORK/out"
	"$WAGGLE" drain --wait 60 web 198.18.0.2:8080 >"$WORK/out" 5>&- 6>&- 7>&- 8>&- &
	DRAIN=$!
	until_true 10 grep -q draining "$WORK/out"
	exec 5>&- 6>&- 7>&- 8>&-
	wait "$DRAIN"
	grep -qx '198.18.0.2:8080: no connection left' "$WORK/out"
	[ "$("$WAGGLE" enable web 198.18.0.2:8080)" = "198.18.0.2:8080: up" ]
	[ "$(who http://198.18.0.5/ 6)" = $'3 198.18.0.2\n3 198.18.0.3' ]
	run_stop
}

# By the process, and without one. What else it sweeps up on this machine is not looked at.
unloads() {
	three_backends
	web 198.18.0.2:8080
	run_start
	"$WAGGLE" unload || true
	wait "$RUN"
	[ ! -e /sys/fs/bpf/waggle ]
	[ ! -e /run/waggle/services.json ]
	! curl -s --max-time 5 http://198.18.0.5/
	run_start
	kill -KILL "$RUN"
	! wait "$RUN"
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	"$WAGGLE" unload >"$WORK/out" || true
	grep -q 'took the balancing out of the kernel' "$WORK/out"
	[ ! -e /sys/fs/bpf/waggle ]
	! curl -s --max-time 5 http://198.18.0.5/
	"$WAGGLE" unload >"$WORK/out" || true
	! grep -q balancing "$WORK/out"
}

# Another one is refused, and disturbs nothing.
only_one() {
	three_backends
	web 198.18.0.2:8080
	run_start
	status=0
	"$WAGGLE" run -c "$CONFIG" >"$WORK/out" 2>&1 || status=$?
	((status == 1))
	grep -q "already running (pid $RUN)" "$WORK/out"
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	run_stop
}

# What systemd is told: ready, reloading with the moment, the watchdog, stopping.
tells_systemd() {
	three_backends
	web 198.18.0.2:8080
	python3 -c '
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/run/work/notify")
while True:
    print(s.recv(4096).decode().replace("\n", " "), flush=True)' >"$WORK/told" &
	until_true 10 test -S "$WORK/notify"
	export NOTIFY_SOCKET=$WORK/notify WATCHDOG_USEC=400000
	run_start
	until_true 10 grep -qx 'READY=1' "$WORK/told"
	until_true 10 grep -qx 'WATCHDOG=1' "$WORK/told"
	"$WAGGLE" reload
	until_true 10 grep -qE '^RELOADING=1 MONOTONIC_USEC=[0-9]+$' "$WORK/told"
	until_true 10 grep -qx 'READY=1 STATUS=' "$WORK/told"
	run_stop
	until_true 10 grep -qx 'STOPPING=1' "$WORK/told"
}

# With `accelerate:` a client goes straight to its backend, and both are joined.
accelerates() {
	three_backends
	SECTION="accelerate: { cgroups: [ \"$CG\" ], trust: [ \"$TOOLS/httpd\", \"$(command -v wrk)\" ] }"
	web 198.18.0.2:8080
	run_start
	api /v1/status | jq -e '.class != "off" and ([.hooks[] | select(.on) | .name] == ["connect", "accelerate"])'
	load_start http://198.18.0.5/ 2 5
	load_end
	((ERRORS == 0))
	api /v1/status | jq -e '.counters.joined > 0'
	run_stop
	# The accelerator has left, balancing has not.
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
}

# Clients in one cgroup and servers in another, neither of them all: pairs have an end in each. A third is not looked at.
accelerates_cgroups() {
	three_backends
	SECTION="accelerate: { cgroups: [ \"$SCOPE\", \"$SCOPE/below\", \"$CG/out\" ],
		trust: [ \"$TOOLS/httpd\", \"$(command -v wrk)\" ] }"
	mkdir "$SCOPE/below" "$CG/third"
	web 198.18.0.2:8080
	run_start
	api /v1/status | jq -e --arg a "$SCOPE" --arg b "$CG/out" '.cgroup == "\($a), \($a)/below, \($b)"
		and (.hooks[] | select(.name == "accelerate") | .cgroups == [$a, "\($a)/below", $b])'
	(
		echo "$BASHPID" >"$CG/out/cgroup.procs"
		load_start http://198.18.0.5/ 2 5
		load_end
		((ERRORS == 0))
	)
	api /v1/status | jq -e '.counters.joined >= 5' >/dev/null
	seen=$(api /v1/status | jq .counters.local)
	(
		echo "$BASHPID" >"$CG/third/cgroup.procs"
		[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	)
	[ "$(api /v1/status | jq .counters.local)" = "$seen" ]
	# Once each, though two of the cgroups hold it.
	(
		echo "$BASHPID" >"$SCOPE/below/cgroup.procs"
		[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	)
	[ "$(api /v1/status | jq .counters.local)" = $((seen + 1)) ]
	run_stop
}

# Whether the connect hook serves, and for whom, changes with a reload too.
hooks_come_and_go() {
	three_backends
	web 198.18.0.2:8080
	cp "$CONFIG" "$WORK/good.yaml"
	run_start
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	SECTION="connect: { cgroups: [ \"${CG#"$(cgroup_root)"}/out\" ] }"
	web 198.18.0.2:8080
	"$WAGGLE" reload
	! curl -s --max-time 5 http://198.18.0.5/
	(
		echo "$BASHPID" >"$CG/out/cgroup.procs"
		[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	)
	cp "$WORK/good.yaml" "$CONFIG"
	"$WAGGLE" reload
	[ "$(who http://198.18.0.5/)" = "1 198.18.0.2" ]
	run_stop
}

@test "run: balances by weight, and says so" { inside balances; }
@test "run: a backend killed under load breaks only the connections it had" { inside backend_killed_under_load; }
@test "run: reloads under load fail no request" { inside reload_under_load; }
@test "run: connections live through the reload that takes their backend away" { inside reload_keeps_connections; }
@test "run: killed and restarted under load, no request fails" { inside killed_and_restarted_under_load; }
@test "run: takes over what is still wanted, and takes away the rest" { inside restart_with_other_services; }
@test "run: a bad file changes nothing" { inside bad_file_changes_nothing; }
@test "run: drains to zero" { inside drains_to_zero; }
@test "run: unload, with and without a process" { inside unloads; }
@test "run: a second one is refused" { inside only_one; }
@test "run: systemd is told" { inside tells_systemd; }
@test "run: with the accelerator clients are joined to their backends" { inside accelerates; }
@test "run: with the accelerator on several cgroups" { inside accelerates_cgroups; }
@test "run: the connect hook follows its cgroups" { inside hooks_come_and_go; }
