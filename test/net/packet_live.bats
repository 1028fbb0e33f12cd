#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The packet hook under load, while its services change and its daemon is killed.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

# Verifying the programs takes its time where others are at work.
export TEST_SECONDS=240
export CONFIG=/run/work/waggle.yaml

# written HOOK FORWARD BACKEND...: each backend as a number and what else is said of it.
written() {
	local hook=$1 forward=$2 backend

	shift 2
	{
		echo "services:"
		echo "  - name: web"
		echo "    listen: '$(vip 4):$(port "$forward" 80)'"
		echo "    scheduler: round-robin"
		echo "    forward: $forward"
		echo "    health: { tcp: true, interval: 200ms, fall: 1, rise: 1 }"
		echo "    backends:"
		for backend in "$@"; do
			echo "      - { address: '$(backend 4 "${backend%%,*}"):$(listens "$forward" 80)'${backend#?} }"
		done
		echo "connect: { cgroups: [ '$CG/out' ] }"
		echo "packet: { interfaces: [ { name: l-client, hook: $hook }, { name: l-b1, hook: $hook }, { name: l-b2, hook: $hook } ] }"
	} >"$CONFIG"
}

# answers FORWARD NAMES: what 10 new connections meet.
answers() {
	local i

	for i in $(seq 10); do
		get "http://$(vip 4):$(port "$1" 80)/"
		echo
	done | sort -u | tr '\n' ' ' | grep -qx "$2 "
}

# open_at_most BACKEND N: what a drained backend still has. One that is closed is no connection any more.
open_at_most() {
	"$WAGGLE" status --json | jq -e ".services[0].backends[] | select(.address == \"$1\") | .connections <= $2" >/dev/null
}

# Added, drained, enabled, of another weight; a daemon that is killed and one that takes over: no request comes to nothing,
# whether its connection is new or from before.
changes() {
	local download

	network
	backends
	written "$1" "$2" 1
	started
	FROM=client load_start "http://$(vip 4):$(port "$2" 80)/" 120 4 -H 'Connection: close'
	get --max-time 120 --limit-rate 100k "http://$(vip 4):$(port "$2" 80)/body" >"$WORK/got" &
	download=$!
	answers "$2" b1
	written "$1" "$2" 1 2
	"$WAGGLE" reload
	until_true 20 answers "$2" 'b1 b2'
	"$WAGGLE" drain web "$(backend 4 1):$(listens "$2" 80)"
	until_true 20 answers "$2" b2
	# The download may be there. Where answers do not come by, closed connections are not known as such.
	[ "$2" != nat ] || until_true 20 open_at_most "$(backend 4 1):$(listens "$2" 80)" 1
	kill -KILL "$RUN"
	wait "$RUN" || true
	answers "$2" b2
	started
	"$WAGGLE" enable web "$(backend 4 1):$(listens "$2" 80)"
	until_true 20 answers "$2" 'b1 b2'
	written "$1" "$2" 1 '2, weight: 3'
	"$WAGGLE" reload
	until_true 20 answers "$2" 'b1 b2'
	# All of that was under load.
	kill -INT "$LOAD"
	load_end
	echo "# $REQUESTS connections, $ERRORS errors" >&3
	[ "$ERRORS" = 0 ] || cat "$WORK/wrk" >&2
	[ "$ERRORS" = 0 ]
	wait "$download"
	cmp "$WORK/got" "$WORK/body"
	kill -TERM "$RUN"
	wait "$RUN"
}

@test "services change under load, and the daemon is killed: TC, nat" { inside changes tc nat; }
@test "services change under load, and the daemon is killed: TC, ipip" { inside changes tc ipip; }
@test "services change under load, and the daemon is killed: XDP, nat" { inside changes xdp nat; }
@test "services change under load, and the daemon is killed: XDP, dsr" { inside changes xdp dsr; }
