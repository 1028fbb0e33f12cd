#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# waggle explain: what it says of flows comes true, and asking changes nothing.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

export REASONS=$BATS_TEST_DIRNAME/../../src/abi/packet.h

export TEST_SECONDS=180
export CONFIG=/run/work/waggle.yaml

# host FAMILY NETWORK HOST: an address of one of the links.
host() {
	if [ "$1" = 4 ]; then echo "198.18.$2.$3"; else echo "[2001:2:0:$2::$3]"; fi
}

nowhere() {
	if [ "$1" = 4 ]; then echo 192.0.2.9; else echo '[2001:db8::9]'; fi
}

written() {
	{
		echo "services:"
		echo "  - { name: web, listen: '$(vip "$1"):80', scheduler: round-robin, forward: nat,"
		echo "      backends: [ '$(backend "$1" 1):8080', '$(backend "$1" 2):8080' ] }"
		echo "  - { name: echo, listen: '$(vip "$1"):54', protocol: udp, forward: dnat, scheduler: maglev,"
		echo "      backends: [ '$(backend "$1" 2):8054' ] }"
		echo "  - { name: ill, listen: '$(vip "$1"):85', forward: nat, health: { tcp: true, interval: 1s, timeout: 1s },"
		echo "      backends: [ '$(backend "$1" 1):9' ] }"
		echo "  - { name: silent, listen: '$(vip "$1"):86', forward: nat, backends: [ '$(host "$1" 11 77):80' ] }"
		echo "  - { name: lost, listen: '$(vip "$1"):87', forward: dsr, backends: [ '$(nowhere "$1"):87' ] }"
		echo "  - { name: full, listen: '$(vip "$1"):88', forward: nat, max-connections: 1,"
		echo "      backends: [ '$(backend "$1" 1):8080' ] }"
		echo "  - { name: slow, listen: '$(vip "$1"):89', forward: nat, syn-rate: 1, backends: [ '$(backend "$1" 1):8080' ] }"
		echo "connect: { cgroups: [ '$CG/out' ] }"
		echo "packet: { deny: [ '$(bare "$(host "$1" 1 66)")' ], source-rate: 1000,"
		echo "    interfaces: [ { name: l-b1, hook: tc }, { name: l-client, hook: tc }, { name: l-b2, hook: tc } ] }"
	} >"$CONFIG"
}

# On each backend, and of the family in question.
servers() {
	local b

	for b in b1 b2; do
		in_ns "$b" python3 -c "$SERVE" 8080 &
		in_ns "$b" python3 -c "$UDP_ECHO" "$FAMILY" 8054 &
		until_true 20 listening "$b"
	done
}

listening() {
	[ "$(in_ns "$1" ss -Htln 'sport = :8080' | wc -l)" = 1 ] && [ "$(in_ns "$1" ss -Huln 'sport = :8054' | wc -l)" = 1 ]
}

ill_is_down() {
	"$WAGGLE" status --json | jq -e '.services[] | select(.name == "ill") | .state == "down"' >/dev/null
}

# explained JQ CLIENT PORT [OPTION...]: what a filter makes of the answer for that port of the address of all services.
explained() {
	"$WAGGLE" explain --json "$2" "$(vip "$FAMILY"):$3" "${@:4}" | jq -c "$1"
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
	grep -q "$1" "$WORK/err" || { cat "$WORK/err" >&2; return 1; }
}

# All that packets change: without what any packet of the neighbourhood is counted as, and without the time that passes.
tables() {
	local map

	"$WAGGLE" conns --json --limit 0 | jq -c 'del(.conns[].idle_ms)'
	"$WAGGLE" status --json | jq -c '[.services[] | [.name, .connections, .picks]]'
	bpftool -j map dump pinned /sys/fs/bpf/waggle/pk_stats |
		jq -c '[.[].formatted | select(.key as $k | '"$1"' | index($k) | not) | [.key, .values[].value]]'
	for map in pk_uses lb_cursors lb_load pk_far pk_hops pk_sources pk_frags; do
		bpftool -j map dump pinned "/sys/fs/bpf/waggle/$map" | jq -c '.[].formatted' | sha256sum
	done
}

# numbers REASON...: as a JSON array.
numbers() {
	sed -nE 's/^\tX\([A-Z_]+, (SENT|PASS|DROP), "([a-z-]+)".*/\2/p' "$REASONS" |
		jq -R . | jq -sc --args '[. as $all | $ARGS.positional[] as $word | $all | index($word)]' "$@"
}

mac_of() {
	ip -n "$1" -j link show eth0 | jq -r '.[0].address'
}

# Every kind of answer, for a client that has no connection.
every_answer() {
	local new="$CLIENT:45000"

	is "$(explained '[.service, .scheduler, .forward, .connection, .state, .verdict, .reason]' "$new" 80)" \
		'["web","round-robin","nat","new",null,"sent","forwarded"]'
	is "$(explained '[.interface, .hook, .backend_state, .backend_name]' "$new" 80)" '["l-client","tc","up",null]'
	is "$(explained '[.service, .forward, .connection, .backend, .source, .verdict]' "$new" 54 --protocol udp)" \
		"[\"echo\",\"dnat\",\"new\",\"$(backend "$FAMILY" 2):8054\",null,\"sent\"]"
	is "$(explained '[.next_hop.interface, .next_hop.mac]' "$new" 54 --protocol udp)" "[\"l-b2\",\"$(mac_of b2)\"]"
	# Not a service: neither this port, nor that protocol.
	is "$(explained '[.service, .forward, .connection, .backend, .next_hop, .verdict, .reason]' "$new" 99)" \
		'[null,null,null,null,null,"passed","not-ours"]'
	is "$(explained .reason "$new" 80 --protocol udp)" '"not-ours"'
	is "$(explained '[.service, .connection, .backend, .verdict, .reason]' "$new" 85)" \
		'["ill",null,null,"dropped","no-backend"]'
	is "$(explained '[.service, .connection, .verdict, .reason]' "$(host "$FAMILY" 1 66):45000" 80)" \
		'["web",null,"dropped","denied"]'
	is "$(explained '[.connection, .backend, .next_hop, .verdict, .reason]' "$new" 86)" \
		"[\"new\",\"$(host "$FAMILY" 11 77):80\",null,\"passed\",\"no-neighbour\"]"
	is "$(explained '[.connection, .backend, .next_hop, .verdict, .reason]' "$new" 87)" \
		"[\"new\",\"$(nowhere "$FAMILY"):87\",null,\"dropped\",\"no-route\"]"
	is "$(explained '[.service, .connection, .verdict, .reason]' "$new" 88)" '["full",null,"dropped","quota"]'
	is "$(explained '[.connection, .verdict]' "$CLIENT:46004" 88)" '["existing","sent"]'
	# One a second: asking does not use it up.
	is "$(explained '[.connection, .verdict]' "$new" 89)" '["new","sent"]'
	is "$(explained '[.connection, .verdict]' "$new" 89)" '["new","sent"]'
	is "$(explained '[.interface, .verdict]' "$new" 80 --interface l-b1)" '["l-b1","sent"]'
	"$WAGGLE" explain "$new" "$(vip "$FAMILY"):80" >"$WORK/text"
	grep -qx 'service:    web (round-robin, nat)' "$WORK/text"
	grep -qx 'connection: new' "$WORK/text"
	grep -qx 'verdict:    sent (forwarded: sent on to a backend)' "$WORK/text"
}

badly_asked() {
	local other

	other=$([ "$FAMILY" = 4 ] && backend 6 1 || backend 4 1)
	refused "does not serve an interface 'lo'" "$WAGGLE" explain "$CLIENT:45000" "$(vip "$FAMILY"):80" --interface lo
	refused "both IPv4, or both IPv6" "$WAGGLE" explain "$CLIENT:45000" "$other:80"
	refused "'service' is an address and a port" "$WAGGLE" explain "$CLIENT:45000" web:80
	refused "'client' is an address and a port" "$WAGGLE" explain "$CLIENT" "$(vip "$FAMILY"):80"
	refused "'protocol' is tcp or udp" "$WAGGLE" explain "$CLIENT:45000" "$(vip "$FAMILY"):80" --protocol icmp
}

# holds SOURCE-PORT PORT: a connection that stays.
holds() {
	(
		exec nsenter --net=/run/netns/client python3 -c "$HOLD" "$(bare "$(vip "$FAMILY")")" "$2" "$1"
	) >"$WORK/hold.$1" &
	HOLDERS+=($!)
	until_true 20 grep -qx open "$WORK/hold.$1"
}

# What was said of a connection, and what became of it: whose turn it was, and by which port.
comes_true() {
	local said

	said=$(explained '[.backend, .source]' "$CLIENT:$1" 80)
	holds "$1" 80
	is "$("$WAGGLE" conns --json | jq -c ".conns[] | select(.client == \"$CLIENT:$1\") | [.backend, .source]")" "$said"
	# And now that it is there.
	is "$(explained '[.backend, .source]' "$CLIENT:$1" 80)" "$said"
	is "$(explained '[.service, .connection, .state, .verdict]' "$CLIENT:$1" 80)" '["web","existing","established","sent"]'
	is "$(explained .next_hop.mac "$CLIENT:$1" 80)" \
		"\"$(mac_of "$(jq -r '.[0] | if test("18.11|:11:") then "b1" else "b2" end' <<<"$said")")\""
}

explains() {
	local counted_anyway

	FAMILY=$1
	CLIENT=$(host "$1" 1 2)
	HOLDERS=()
	counted_anyway=$(numbers not-ours not-ip)
	network
	servers
	neighbours "$1"
	written "$1"
	started
	until_true 60 ill_is_down
	comes_true 46001
	comes_true 46002
	comes_true 46003
	# Each has had connections.
	is "$("$WAGGLE" conns --json --service web | jq -c '[.conns[].backend] | unique | length')" 2
	is "$(explained '[.connection, .verdict]' "$CLIENT:45000" 88)" '["new","sent"]'
	holds 46004 88
	until_true 30 settled "$counted_anyway"
	every_answer
	every_answer
	badly_asked
	tables "$counted_anyway" >"$WORK/after"
	diff "$WORK/before" "$WORK/after"
	# Each of these was a packet of a flow that is counted: the comparison sees that.
	in_ns client python3 -c "$UDP_ASK" "$(bare "$(vip "$1")")" 54 100 1
	tables "$counted_anyway" >"$WORK/later"
	! cmp -s "$WORK/before" "$WORK/later"
	kill "${HOLDERS[@]}"
	wait "${HOLDERS[@]}" || true
	# Without the hook there is no program.
	sed -i '/^packet:/,$d' "$CONFIG"
	"$WAGGLE" reload
	refused 'packet hook is off' "$WAGGLE" explain "$CLIENT:45000" "$(vip "$1"):80"
	kill -TERM "$RUN"
	wait "$RUN"
}

# The last acknowledgements of the connections that were made are through: two looks are the same.
settled() {
	tables "$1" >"$WORK/before"
	sleep 1
	tables "$1" | cmp -s - "$WORK/before"
}

# Keeps what it has accepted, and never ends it: nothing happens that the test does not do.
export SERVE='
import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
kept = []
while True:
    kept.append(s.accept()[0])
    kept[-1].sendall(b"open")
'

export HOLD='
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.bind(("", int(sys.argv[3])))
s.settimeout(20)
s.connect((sys.argv[1], int(sys.argv[2])))
if s.recv(4, socket.MSG_WAITALL) != b"open":
    sys.exit("not served")
print("open", flush=True)
time.sleep(150)
'

@test "waggle explain says where a flow will go, and changes nothing, IPv4" { inside explains 4; }
@test "waggle explain says where a flow will go, and changes nothing, IPv6" { inside explains 6; }
