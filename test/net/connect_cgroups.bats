#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The cgroups of the connect hook change under a daemon that runs: nothing is lost, and nothing stays that should not.

load ../lib/net.bash
load ../lib/run.bash

# serve_in CGROUP: the configuration; one service of TCP and one of UDP.
serve_in() {
	config "connect: { cgroups: [ $1 ] }" <<-EOF
		services:
		  - { name: web, listen: "198.18.0.5:80", backends: [ "198.18.0.2:8080" ] }
		  - { name: log, listen: "198.18.0.5:80", protocol: udp, backends: [ "198.18.0.2:8080" ] }
	EOF
}

conns_are() {
	[ "$(backend_field log 198.18.0.2:8080 connections)" = "$1" ]
}

is_served() {
	curl -sS --max-time 5 http://198.18.0.5/ >/dev/null
}

# How many programs are on the cgroup of the test's processes.
programs() {
	find /sys/fs/bpf/waggle -name "cn_*-$(stat -c %i "$SCOPE")" | wc -l
}

programs_are() {
	[ "$(programs)" = "$1" ]
}

# A cgroup leaves while a UDP socket of it is open: that is counted until it is closed, and then the cgroup is let go.
leaves() {
	run_addresses
	backend_start 198.18.0.2 8080
	serve_in "$SCOPE"
	run_start
	until_true 10 is_served
	programs_are 9
	exec 3<>/dev/udp/198.18.0.5/80
	until_true 10 conns_are 1
	serve_in "$CG/out"
	"$WAGGLE" reload
	! is_served 2>/dev/null || return 1
	conns_are 1
	programs_are 5
	exec 3>&-
	until_true 10 conns_are 0
	until_true 10 programs_are 0
	serve_in "$SCOPE"
	"$WAGGLE" reload
	is_served
	programs_are 9
	run_stop
}

# A cgroup that is not there at one reload is asked for again at the next.
comes_later() {
	run_addresses
	backend_start 198.18.0.2 8080
	serve_in "$CG/out"
	run_start
	serve_in "$SCOPE/below"
	"$WAGGLE" reload >"$WORK/out" 2>&1 || true
	grep -q "there is no cgroup '.*/below'" "$WORK/out" "$WORK/run.err"
	mkdir "$SCOPE/below"
	"$WAGGLE" reload
	echo "$BASHPID" >"$SCOPE/below/cgroup.procs"
	until_true 10 is_served
	# One of the same name that is another.
	echo "$BASHPID" >"$SCOPE/cgroup.procs"
	until_true 10 rmdir "$SCOPE/below"
	mkdir "$SCOPE/below"
	"$WAGGLE" reload
	echo "$BASHPID" >"$SCOPE/below/cgroup.procs"
	until_true 10 is_served
	echo "$BASHPID" >"$SCOPE/cgroup.procs"
	run_stop
}

@test "a cgroup leaves the connect hook: its sockets are counted to their end" { inside leaves; }
@test "a cgroup that comes later, and one that is replaced, are served after a reload" { inside comes_later; }
