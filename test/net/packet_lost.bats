#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# SYN cookies where the SYN to the backend is lost: who is served nevertheless, and what is counted if nobody can be.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

export TEST_SECONDS=240
export CONFIG=/run/work/waggle.yaml

# counted REASON LEAST: what the hook has counted.
counted() {
	"$WAGGLE" status --json | jq -e --arg r "$1" --argjson n "$2" \
		'[.hooks[] | select(.name == "packet") | .counters[$r]] | add >= $n' >/dev/null
}

# Connects to a server that speaks first. ADDRESS silent: says nothing either; keepalive: asks now and then whether it is
# there; speaks: does not wait to be spoken to.
export WAIT_BANNER='
import socket, sys
c = socket.create_connection((sys.argv[1], 2525), 20)
c.settimeout(90)
print("connected", flush=True)
if sys.argv[2] == "keepalive":
    c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 100)
if sys.argv[2] == "speaks":
    c.sendall(b"hello\n")
if c.makefile("rb").readline() != b"220 banner\r\n":
    sys.exit("no banner")
print("banner", flush=True)
'

# waiting HOW: such a client, in the background, once it is connected. Sets CLIENT.
waiting() {
	(in_ns client python3 -c "$WAIT_BANNER" "$(bare "$(vip "$FAMILY")")" "$1") >"$WORK/$1" 2>&1 &
	CLIENT=$!
	until_true 30 grep -qx connected "$WORK/$1"
}

accepted_are() {
	[ "$("$WAGGLE" status --json | jq '[.hooks[] | select(.name == "packet") | .counters["cookie-accepted"]] | add')" -ge "$1" ]
}

# SYNs to the backend get lost: whoever says anything afterwards is served. Who says nothing waits, and that is counted.
lost_syns() {
	local mac silent keepalive speaks

	HOOK=$1 FAMILY=$2
	network
	in_ns b1 python3 -c "$BANNER" "$FAMILY" &
	until_true 20 in_ns b1 python3 -c "import socket, sys; socket.create_connection((sys.argv[1], 2525), 2)" \
		"$(bare "$(backend "$FAMILY" 1)")"
	cat >"$CONFIG" <<-END
		services:
		  - { name: mail, listen: '$(vip "$FAMILY"):2525', syn-cookies: always, backends: [ '$(backend "$FAMILY" 1):2525' ] }
		packet: { interfaces: [ { name: l-client, hook: $HOOK }, { name: l-b1, hook: $HOOK }, { name: l-b2, hook: $HOOK } ] }
		connect: { cgroups: [ '$CG/out' ] }
	END
	started
	mac=$(ip -n b1 -json link show dev eth0 | jq -r '.[0].address')
	ip -n lb neighbour replace "$(bare "$(backend "$FAMILY" 1)")" dev l-b1 lladdr 02:00:00:00:00:99 nud permanent
	waiting silent
	silent=$CLIENT
	waiting keepalive
	keepalive=$CLIENT
	waiting speaks
	speaks=$CLIENT
	until_true 30 accepted_are 3
	ip -n lb neighbour replace "$(bare "$(backend "$FAMILY" 1)")" dev l-b1 lladdr "$mac" nud permanent
	wait "$keepalive"
	wait "$speaks"
	grep -qx banner "$WORK/keepalive"
	grep -qx banner "$WORK/speaks"
	until_true 90 counted cookie-unanswered 1
	[ "$("$WAGGLE" conns --json | jq '[.conns[] | select(.state == "new")] | length')" = 0 ]
	! grep -qx banner "$WORK/silent"
	kill "$silent" 2>/dev/null || true
	wait "$silent" || true
	kill -TERM "$RUN"
	wait "$RUN"
}

@test "SYN cookies, and SYNs to the backend that get lost: TC, IPv4" { inside lost_syns tc 4; }
@test "SYN cookies, and SYNs to the backend that get lost: XDP, IPv6" { inside lost_syns xdp 6; }
