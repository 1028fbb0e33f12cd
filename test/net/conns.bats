#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# waggle conns: the connections of real clients, as the packet hook of waggle run knows them.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

export TEST_SECONDS=180
export CONFIG=/run/work/waggle.yaml

written() {
	{
		echo "services:"
		echo "  - { name: web, listen: '$(vip "$1"):$(port nat 80)', scheduler: round-robin, forward: nat,"
		echo "      backends: [ '$(backend "$1" 1):$(listens nat 80)' ] }"
		echo "  - { name: echo, listen: '$(vip "$1"):$(port dnat 53)', protocol: udp, forward: dnat,"
		echo "      backends: [ '$(backend "$1" 2):$(listens dnat 53)' ] }"
		echo "connect: { cgroups: [ '$CG/out' ] }"
		echo "packet: { interfaces: [ { name: l-client, hook: tc }, { name: l-b1, hook: tc }, { name: l-b2, hook: tc } ] }"
	} >"$CONFIG"
}

# conns JQ [OPTION...]: what a filter makes of the connections.
conns() {
	local filter=$1

	shift
	"$WAGGLE" conns --json "$@" | jq -c "$filter"
}

is() {
	[ "$1" = "$2" ] || { echo "'$1', not '$2'" >&2; return 1; }
}

# refused TEXT COMMAND...: fails, and says so.
refused() {
	if "${@:2}" 2>"$WORK/err"; then
		echo "was not refused: ${*:2}" >&2
		return 1
	fi
	grep -q "$1" "$WORK/err"
}

web_states_are() {
	is "$(conns '[.conns[].state] | sort' --service web)" "$1"
}

listed() {
	local i holders=()

	network
	backends
	written "$1"
	started
	is "$(conns '[.conns, .more]')" '[[],false]'
	"$WAGGLE" conns | grep -qx '0 connections; the table has room for [0-9]*'
	# Three that stay open: each sends a request and waits; and a datagram.
	for i in 1 2 3; do
		(
			exec nsenter --net=/run/netns/client python3 -c "$HOLD" "$(bare "$(vip "$1")")" "$(port nat 80)" 1
		) >"$WORK/hold.$i" &
		holders+=($!)
		until_true 20 grep -qx open "$WORK/hold.$i"
	done
	in_ns client python3 -c "$UDP_ASK" "$(bare "$(vip "$1")")" "$(port dnat 53)" 100 1
	web_states_are '["established","established","established"]'
	is "$(conns '.conns | length')" 4
	is "$(conns '[.conns[] | select(.protocol == "udp") | [.service, .listen, .backend, .source, .forward, .state]]')" \
		"[[\"echo\",\"$(vip "$1"):$(port dnat 53)\",\"$(backend "$1" 2):$(listens dnat 53)\",null,\"dnat\",\"established\"]]"
	is "$(conns '[.conns[] | [.listen, .backend]] | unique' --service web)" \
		"[[\"$(vip "$1"):$(port nat 80)\",\"$(backend "$1" 1):$(listens nat 80)\"]]"
	# What the backend's host says of them is what is listed as their source, and what the client's host says as theirs.
	is "$(conns '.conns[].source' --service web | tr -d '"' | sort)" \
		"$(in_ns b1 ss -Htn state established "sport = :$(listens nat 80)" | awk '{ print $4 }' | sort)"
	is "$(conns '.conns[].client' --service web | tr -d '"' | sort)" \
		"$(in_ns client ss -Htn state established "dport = :$(port nat 80)" | awk '{ print $3 }' | sort)"
	is "$(conns '[(.conns | length), .more]' --limit 2)" '[2,true]'
	is "$(conns '[(.conns | length), .more]' --limit 3 --service web)" '[3,false]'
	is "$("$WAGGLE" conns --limit 0 | grep -c ' established ')" 4
	"$WAGGLE" conns --limit 1 | grep -q '^1 connection, and there are more: see --limit; '
	refused "no service 'nobody'" "$WAGGLE" conns --service nobody
	# They end, and are known to have.
	kill "${holders[@]}"
	wait "${holders[@]}" || true
	until_true 20 web_states_are '["closed","closed","closed"]'
	# Without the hook there is no table.
	sed -i '/^packet:/d' "$CONFIG"
	"$WAGGLE" reload
	refused 'packet hook is off' "$WAGGLE" conns
	kill -TERM "$RUN"
	wait "$RUN"
}

export HOLD='
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
while b"b" + sys.argv[3].encode() not in s.recv(65535):
    pass
print("open", flush=True)
time.sleep(150)
'

@test "waggle conns lists the connections of the packet hook, IPv4" { inside listed 4; }
@test "waggle conns lists the connections of the packet hook, IPv6" { inside listed 6; }
