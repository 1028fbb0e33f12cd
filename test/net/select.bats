#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Which connections are joined: by cgroup and by port.

load ../lib/net.bash

traffic() {
	"$TOOLS/shorts" --connections 20 "$@"
}

only_port() {
	accel_start --trust "$TOOLS/shorts" --port 7000-7010,8000
	traffic --port 7411
	[ "$(counter joined)" = 0 ]
	traffic --port 7005
	[ "$(counter joined)" = 20 ]
	traffic --port 8000
	[ "$(counter joined)" = 40 ]
	accel_stop
}

not_port() {
	accel_start --trust "$TOOLS/shorts" --exclude-port 7411
	traffic --port 7411
	[ "$(counter joined)" = 0 ]
	traffic --port 7412
	[ "$(counter joined)" = 20 ]
	accel_stop
}

# The one whose peer is out of scope is as if its peer were on another machine.
peer_out_of_scope() {
	accel_start --trust "$TOOLS/shorts"
	traffic --server-cgroup "$CG/out"
	[ "$(counter announced)" = 0 ]
	[ "$(counter remote)" = 20 ]
	traffic --client-cgroup "$CG/out"
	[ "$(counter local)" = 0 ]
	[ "$(counter joined)" = 0 ]
	traffic
	[ "$(counter joined)" = 20 ]
	accel_stop
}

below_the_scope() {
	mkdir "$SCOPE/deeper"
	accel_start --trust "$TOOLS/shorts"
	traffic --server-cgroup "$SCOPE/deeper"
	[ "$(counter joined)" = 20 ]
	accel_stop
}

# The root of the v2 tree is found, on a hybrid mount too. It sees the whole machine: short, and one port only.
whole_machine() {
	echo $$ >"$CG/ctl/cgroup.procs"
	"$WAGGLE" accel --port 7413 --trust "$TOOLS/shorts" >"$WORK/accel.out" 2>"$WORK/accel.err" &
	ACCEL=$!
	for _ in {1..250}; do
		grep -qx ready "$WORK/accel.out" && break
		sleep 0.02
	done
	traffic --port 7413
	at_least joined 20
	accel_stop
}

@test "--port selects" { inside only_port; }
@test "--exclude-port leaves out" { inside not_port; }
@test "a peer outside the cgroup is never touched" { inside peer_out_of_scope; }
@test "cgroups below the one named are in scope" { inside below_the_scope; }
@test "without --cgroup the whole machine is in scope" { inside whole_machine; }
