#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Redirects and policies that are wrong, or whose cgroups come and go: a clear message, and nothing is broken.

load ../lib/net.bash
load ../lib/run.bash
load ../lib/redirect.bash

# told TEXT: the daemon has said this, in a line of its own.
told() {
	grep -qF "$1" "$WORK/run.err"
}

# refused_config TEXT: check and reload refuse the file for this, and what is in force stays so.
refused_config() {
	local status=0

	"$WAGGLE" check -c "$CONFIG" 2>"$WORK/err" || status=$?
	[ "$status" = 2 ]
	grep -qF "$CONFIG:$1" "$WORK/err"
	[ "$(wc -l <"$WORK/err")" = 1 ]
	status=0
	"$WAGGLE" reload 2>"$WORK/err" || status=$?
	[ "$status" != 0 ]
	grep -qF ":$1" "$WORK/err"
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
}

wrong_files() {
	servers
	haproxy_start 15001
	redirect
	run_start
	until_true 10 proxy_is_up
	# Two redirects for the same connections.
	printf 'redirect:\n  - { cgroup: %s, to: "127.0.0.1:15001" }\n  - { cgroup: %s, to: "127.0.0.1:15003" }\n' "$SCOPE" "$SCOPE" |
		config
	refused_config "3:5: this redirect takes connections of '$SCOPE' that the one at $CONFIG:2:5 takes already: give them different"
	# A proxy whose own connections would come back to it.
	printf 'redirect: [ { cgroup: /, to: "127.0.0.1:15001" } ]\n' | config
	refused_config "1:23: the proxy itself is within '/', and would be redirected to itself: add proxy-cgroup: or exclude-users:"
	printf 'redirect: [ { cgroup: %s, to: "127.0.0.1:15001", proxy-cgroup: %s } ]\n' "$SCOPE" "$CG" | config
	refused_config "1:"
	grep -qF "the proxy's cgroup '$CG' holds all of '$SCOPE', so that nothing is redirected" "$WORK/err"
	# One that is no cgroup, and never will be, is known when it is to be used only: the hook goes on by what it had.
	for _ in 1 2 3; do
		printf 'redirect: [ { cgroup: /proc, to: "127.0.0.1:15003" }, { cgroup: /app, to: "127.0.0.1:15003" } ]\n' | config
		"$WAGGLE" reload >"$WORK/out" 2>&1 || true
		grep -q "'/proc' is not a cgroup v2 directory" "$WORK/out" "$WORK/run.err"
		[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
		status_is 'redirects | map(.to)' $'[\n  "127.0.0.1:15001"\n]'
	done
	redirect
	"$WAGGLE" reload
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	run_stop
}

# The proxy runs in the cgroup that is redirected, and nobody has said so: no loop, and it is told once.
own_proxy() {
	servers
	haproxy_config 15001
	start_in scope haproxy -db -f "$WORK/haproxy.cfg"
	until_true 10 answers 127.0.0.1 15001
	printf 'redirect: [ { cgroup: %s, to: "127.0.0.1:15001" } ]\n' "$SCOPE" | config
	run_start
	for _ in 1 2 3; do
		[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
	done
	# From below it goes to the proxy, whose own connections go straight on.
	[ "$(in_group scope/below redirected http://198.18.0.2:8080/)" = "198.18.0.2 by 198.18.0.2:8080" ]
	status_is 'counters.own >= 4' true
	until_true 10 told 'shares the cgroup of the proxy at 127.0.0.1:15001'
	[ "$(grep -c 'shares the cgroup of the proxy' "$WORK/run.err")" = 1 ]
	run_stop
}

# A program opens a connection, goes elsewhere with it, and its cgroup is removed; then it goes on.
removed_in_use() {
	local line

	servers
	haproxy_start 15001
	printf 'redirect: [ { cgroup: %s, to: "127.0.0.1:15001", proxy-cgroup: %s } ]\n' "$CG/brief" "$CG/proxy" | config
	mkdir "$CG/brief"
	run_start
	until_true 10 in_group brief proxy_is_up
	status_is missing_cgroups 0
	echo "$BASHPID" >"$CG/brief/cgroup.procs"
	exec 3<>/dev/tcp/198.18.0.2/8080
	echo "$BASHPID" >"$SCOPE/cgroup.procs"
	until_true 10 rmdir "$CG/brief"
	until_true 10 status_is missing_cgroups 1
	told "cgroup '${CG#"$(cgroup_root)"}/brief' does not exist: its entries apply as soon as it does" ||
		told "cgroup '$CG/brief' does not exist: its entries apply as soon as it does"
	printf 'GET / HTTP/1.0\r\n\r\n' >&3
	while read -r -t 10 -u 3 line && [ "${line%$'\r'}" ]; do
		printf '%s\n' "${line%$'\r'}"
	done >"$WORK/answer"
	exec 3>&-
	grep -q '^HTTP/1.* 200' "$WORK/answer"
	grep -q '^told: 198.18.0.2:8080$' "$WORK/answer"
	# Others are not redirected, and nothing is in the way of the next of that name.
	[ "$(redirected http://198.18.0.2:8080/)" = "198.18.0.2 by " ]
	mkdir "$CG/brief"
	until_true 10 in_group brief proxy_is_up
	run_stop
}

# A policy about a cgroup that comes, goes and comes again; nobody else is denied meanwhile.
later_policy() {
	servers
	policy "  - { action: deny, from: $CG/later, to: 198.18.0.2/32 }"
	run_start
	grep -q "cgroup .*/later' does not exist" "$WORK/run.err"
	for _ in 1 2; do
		[ "$(curl -sS --max-time 10 http://198.18.0.2:8080/)" = 198.18.0.2 ]
		mkdir "$CG/later"
		until_true 10 in_group later is_refused http://198.18.0.2:8080/
		[ "$(in_group later curl -sS --max-time 10 http://198.18.0.3:8080/)" = 198.18.0.3 ]
		until_true 10 rmdir "$CG/later"
		until_true 10 status_is missing_cgroups 1
	done
	[ "$(curl -sS --max-time 10 http://198.18.0.2:8080/)" = 198.18.0.2 ]
	run_stop
}

# Joined pairs that policy turns against, where the entry says so: closed at once, both ends, and those of others are not.
closes_joined() {
	servers
	printf 'policy: [ { action: allow, from: %s } ]\n' "$SCOPE" |
		config "accelerate: { cgroups: [ $CG ], trust: [ $TOOLS/httpd, $(command -v wrk) ] }"
	run_start
	load_start http://198.18.0.2:8080/ 30 4
	until_true 10 has_joined
	printf 'policy: [ { action: deny, from: %s, to: 198.18.0.2/32, on-change: close } ]\n' "$SCOPE" |
		config "accelerate: { cgroups: [ $CG ], trust: [ $TOOLS/httpd, $(command -v wrk) ] }"
	"$WAGGLE" reload
	# With the answer to the reload it is done.
	status_is 'counters.closed >= 1' true
	until_true 10 none_is_open
	is_refused http://198.18.0.2:8080/
	[ "$(curl -sS --max-time 10 http://198.18.0.3:8080/)" = 198.18.0.3 ]
	kill -TERM "$LOAD"
	wait "$LOAD" || true
	run_stop
}

# No connection to the server that is denied, joined or not.
none_is_open() {
	"$WAGGLE" sockets --json | jq -e '.summary.joined == 0'
	[ -z "$(ss -Htn state established '( dport = :8080 )' dst 198.18.0.2)" ]
}

@test "redirects that overlap, and proxies within their own redirect, are refused, and what is in force stays" {
	inside wrong_files
}

@test "a proxy within its own redirect: no loop, and it is told once" {
	inside own_proxy
}

@test "a redirected cgroup that is removed while in use: it is told, and the connection goes on" {
	inside removed_in_use
}

@test "a policy about a cgroup that comes and goes" {
	inside later_policy
}

@test "a joined pair that policy turns against is closed, if the entry says so" {
	inside closes_joined
}
