#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# waggle capture: packets as they come in and go out, the reason, files that others read, and nothing left behind.
# shellcheck source=test/lib/packet.bash

load ../lib/packet
load ../lib/capture

export TEST_SECONDS=180
export CONFIG=/run/work/waggle.yaml

# written HOOK FAMILY
written() {
	local forward

	{
		echo "services:"
		for forward in nat dsr ipip; do
			echo "  - { name: $forward, listen: '$(vip "$2"):$(port $forward 80)', scheduler: round-robin, forward: $forward,"
			echo "      backends: [ '$(backend "$2" 1):$(listens $forward 80)', '$(backend "$2" 2):$(listens $forward 80)' ] }"
		done
		echo "  - { name: ill, listen: '$(vip "$2"):90', forward: nat, health: { tcp: true, interval: 1s, timeout: 1s },"
		echo "      backends: [ '$(backend "$2" 1):9' ] }"
		echo "connect: { cgroups: [ '$CG/out' ] }"
		echo "packet: { interfaces: [ { name: l-client, hook: $1 }, { name: l-b1, hook: $1 }, { name: l-b2, hook: $1 } ] }"
	} >"$CONFIG"
}

ill_is_down() {
	"$WAGGLE" status --json | jq -e '.services[] | select(.name == "ill") | .state == "down"' >/dev/null
}

at_least_bytes() {
	[ "$(stat -c %s "$WORK/x.pcap")" -ge "$1" ]
}

# programs FIELD: of what the interfaces run.
programs() {
	local pin

	for pin in /sys/fs/bpf/waggle/pk_xdp@* /sys/fs/bpf/waggle/pk_tc@*; do
		[ -e "$pin" ] || continue
		bpftool -j prog show id "$(bpftool -j link show pinned "$pin" | jq .prog_id)" | jq -r ".$1"
	done
}

# As text: the addresses of a packet's outermost header, of a frame without a tag.
ends() {
	if [ "$FAMILY" = 4 ]; then echo '.data[52:68]'; else echo '.data[44:108]'; fi
}

hex_of() {
	python3 -c 'import socket, sys; a = sys.argv[1].strip("[]"); print(socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a).hex())' "$1"
}

# A connection by each way of forwarding, from its SYN on, as the file has it.
forwarded() {
	local forward=$1 b1 from before after extra=0

	b1=$(hex_of "$(backend "$FAMILY" 1)")
	before=$(date +%s)
	capturing "service $forward" -w "$WORK/x.pcap"
	get "http://$(vip "$FAMILY"):$(port "$forward" 80)/" >/dev/null
	get "http://$(vip "$FAMILY"):$(port "$forward" 80)/" >/dev/null
	after=$(date +%s)
	# Its last packets: on their way still, perhaps.
	until_true 20 closed "$forward"
	captured
	pairs_hold
	is "$(found ".service != \"$forward\" or .hook != \"${HOOK^^}\" or .at < $before or .at > $after + 30")" 0
	# Two handshakes begin at the client's interface, and go to each backend's.
	is "$(found ".reason == \"forwarded\" and .direction == \"in\" and .interface != \"l-client\"")" 0
	is "$(jq -rs '[.[] | select(.reason == "forwarded" and .direction == "out") | .interface] | unique | join(" ")' "$WORK/packets")" "l-b1 l-b2"
	is "$(jq -rs '[.[] | select(has("id")) | .backend] | unique | length' "$WORK/packets")" 2
	from=$(hex_of "$([ "$FAMILY" = 4 ] && echo 198.18.1.2 || echo 2001:2:0:1::2)")
	is "$(found ".reason == \"forwarded\" and .direction == \"in\" and ($(ends) != \"$from$(hex_of "$(vip "$FAMILY")")\")")" 0
	case $forward in
	nat)
		[ "$(found ".reason == \"returned\" and .direction == \"in\" and .interface != \"l-client\"")" -ge 6 ]
		is "$(found ".reason == \"returned\" and .direction == \"out\" and ($(ends) != \"$(hex_of "$(vip "$FAMILY")")$from\")")" 0
		[ "$(found ".reason == \"forwarded\" and .direction == \"out\" and ($(ends) | endswith(\"$b1\"))")" -ge 3 ]
		;;
	dsr)
		is "$(found ".direction == \"out\" and ($(ends) != \"$from$(hex_of "$(vip "$FAMILY")")\")")" 0
		;;
	ipip)
		extra=$([ "$FAMILY" = 4 ] && echo 20 || echo 40)
		[ "$(found ".direction == \"out\" and ($(ends) | endswith(\"$b1\"))")" -ge 3 ]
		;;
	esac
	is "$(jq -s "[.[] | select(has(\"id\"))] | group_by(.id) | map(select(.[0].reason == \"forwarded\" and .[1].length - .[0].length != $extra)) | length" "$WORK/packets")" 0
}

# Of nat all packets are seen: both ends have closed.
closed() {
	[ "$("$WAGGLE" conns --json --service "$1" | jq '[.conns[] | select(.state == "established" or .state == "new")] | length')" = 0 ]
}

refused() {
	local status=0

	"$WAGGLE" capture "${@:3}" >"$WORK/out" 2>"$WORK/err" || status=$?
	is "$status" "$1"
	is "$(wc -l <"$WORK/err")" 1
	grep -qF -- "$2" "$WORK/err" || { cat "$WORK/err" >&2; return 1; }
}

bad_usage() {
	refused 2 "there is no 'port80'" port80
	refused 2 "'99999' is no port" port 99999
	refused 2 "'or' stands between values of one kind" 'service nat or port 80'
	refused 2 "there is no verdict 'lost'" verdict lost
	refused 2 "there is no reason 'nonsense'" reason nonsense
	refused 2 "choose one" --json -w "$WORK/never"
	refused 2 "give a number from 64 to 16384" -s 20
	refused 1 "there is no service 'nobody'" service nobody -w "$WORK/never"
	refused 1 "there is no interface 'nil0'" interface nil0
	[ ! -e "$WORK/never" ]
}

# What is asked for is what comes; a drop has its reason, and no other side.
filters() {
	local v nat ill

	v=$(vip "$FAMILY") nat=$(port nat 80)
	capturing 'verdict dropped' -w "$WORK/x.pcap"
	get "http://$v:$nat/" >/dev/null
	! get --max-time 1 "http://$v:90/"
	captured
	pairs_hold
	ill=$(found 'true')
	[ "$ill" -ge 1 ]
	is "$(found '.verdict == "dropped" and .reason == "no-backend" and .service == "ill" and .backend == "-"')" "$ill"

	capturing --json "port $nat and host $(bare "$(backend "$FAMILY" 2)") and not interface l-b1 and tcp"
	get "http://$v:$nat/" >/dev/null
	get "http://$v:$nat/" >/dev/null
	! get --max-time 1 "http://$v:90/"
	until_true 20 grep -q l-b2 "$WORK/capture.out"
	kill -INT "$CAPTURE"
	wait "$CAPTURE"
	is "$(jq -rs '[.[] | select(.event == "packet") | .backend] | unique | join(" ")' "$WORK/capture.out")" "$(backend "$FAMILY" 2):$(listens nat 80)"

	# Not ours: only who asks for it gets it. One after the other, or the first one's answer might come late.
	capturing -w "$WORK/x.pcap"
	own_traffic "$FAMILY" >/dev/null
	captured
	is "$(found true)" 0
	capturing 'reason not-ours and icmp' -w "$WORK/x.pcap"
	own_traffic "$FAMILY" >/dev/null
	until_true 20 at_least_bytes 600
	captured
	[ "$(found '.reason == "not-ours" and .verdict == "passed"')" -ge 2 ]
	pairs_hold

	# So many, so long, and of each so much; as text.
	capturing "service nat" -c 3 -s 64 -w "$WORK/x.pcap"
	get "http://$v:$nat/body" | cmp - "$WORK/body"
	wait "$CAPTURE"
	grep -qx 'waggle: 3 packets captured, 0 lost' "$WORK/capture.err"
	python3 "$READ" "$WORK/x.pcap" >"$WORK/packets"
	is "$(found 'true')" 6
	is "$(found '.taken > 64 or .taken > .length')" 0
	capturing --duration 1 "service nat"
	wait "$CAPTURE"
	capturing -c 1 "service nat"
	get "http://$v:$nat/" >/dev/null
	wait "$CAPTURE"
	grep -qE "^[0-9:.]{18} l-client > l-b[12] tcp .* > .*:$nat \\[S\\] [0-9]+ bytes: sent \\(forwarded\\) nat .*:$(listens nat 80)\$" "$WORK/capture.out" ||
		{ cat "$WORK/capture.out" >&2; return 1; }
	# For a pipe.
	: >"$WORK/capture.err"
	("$WAGGLE" capture "service nat" -c 2 -w - 2>"$WORK/capture.err" | tcpdump -nr - >"$WORK/piped" 2>/dev/null) &
	CAPTURE=$!
	until_true 30 grep -q 'capturing on' "$WORK/capture.err"
	get "http://$v:$nat/" >/dev/null
	wait "$CAPTURE"
	is "$(wc -l <"$WORK/piped")" 4
}

captures() {
	HOOK=$1 FAMILY=$2
	network
	backends
	neighbours "$FAMILY"
	written "$HOOK" "$FAMILY"
	started
	until_true 60 ill_is_down
	# Next hops are known: XDP leaves no packet to TC.
	for f in nat dsr ipip; do both_answer $f "$FAMILY"; done
	programs id >"$WORK/programs"
	forwarded nat
	forwarded dsr
	forwarded ipip
	filters
	bad_usage
	programs id | cmp - "$WORK/programs"
	kill -TERM "$RUN"
	wait "$RUN"
}

plain_again() {
	[ "$("$WAGGLE" status --json | jq '.hooks[] | select(.name == "packet") | .captures')" = 0 ] &&
		programs id | cmp -s - "$WORK/programs"
}

replaced() {
	! cmp -s <(programs id) "$WORK/programs"
}

# Whoever captures is replaced for as long, and nobody notices: neither when the client is killed, nor when the daemon is.
leaves_nothing() {
	local tags

	HOOK=$1 FAMILY=4
	network
	backends
	written "$HOOK" 4
	started
	both_answer nat 4
	programs id >"$WORK/programs"
	tags=$(programs tag)
	(in_ns client wrk -t1 -c8 -d6 --timeout 30s "http://$(vip 4):$(port nat 80)/" >"$WORK/wrk") &
	WRK=$!
	while kill -0 "$WRK" 2>/dev/null; do
		"$WAGGLE" capture service nat -c 50 -s 128 --duration 10 >"$WORK/capture.out" 2>"$WORK/capture.err"
		plain_again
	done
	wait "$WRK"
	! grep -E 'Socket errors|Non-2xx' "$WORK/wrk"

	capturing service nat -w "$WORK/x.pcap"
	replaced
	is "$("$WAGGLE" status --json | jq '.hooks[] | select(.name == "packet") | .captures')" 1
	"$WAGGLE" capture service dsr >"$WORK/second" 2>&1 &
	SECOND=$!
	until_true 30 captures_are 2
	kill -KILL "$CAPTURE"
	wait "$CAPTURE" || true
	until_true 30 captures_are 1
	replaced
	kill -INT "$SECOND"
	wait "$SECOND"
	until_true 30 plain_again
	both_answer nat 4

	# A reload meanwhile: the interface that comes gets what the others have.
	capturing service nat -w "$WORK/x.pcap"
	sed -i 's/, { name: l-b2, hook: [a-z]* }//' "$CONFIG"
	"$WAGGLE" reload
	written "$HOOK" 4
	"$WAGGLE" reload
	is "$(programs id | sort -u | wc -l)" "$([ "$HOOK" = tc ] && echo 1 || echo 2)"
	replaced
	both_answer nat 4
	captured
	pairs_hold
	plain_again

	# The daemon dies: what is attached goes on, and the next one has the plain programs.
	capturing service nat
	kill -KILL "$RUN"
	wait "$RUN" "$CAPTURE" || true
	replaced
	both_answer nat 4
	started
	is "$(programs tag)" "$tags"
	[ ! -e /sys/fs/bpf/waggle/pk_steps_tc_c ]
	both_answer nat 4
	# It ends as it should while somebody captures.
	programs id >"$WORK/programs"
	capturing service nat
	kill -TERM "$RUN"
	wait "$RUN"
	wait "$CAPTURE"
	programs id | cmp - "$WORK/programs"
	both_answer nat 4
}

captures_are() {
	[ "$("$WAGGLE" status --json | jq '.hooks[] | select(.name == "packet") | .captures')" = "$1" ]
}

# What somebody does not read in time is counted: each packet is in the file, or lost.
loses() {
	local before sent got lost

	HOOK=tc FAMILY=4
	network
	backends
	written tc 4
	started
	both_answer nat 4
	until_true 20 closed nat
	before=$(sent_so_far)
	capturing service nat -s 16384 -w "$WORK/x.pcap"
	kill -STOP "$CAPTURE"
	for _ in $(seq 20); do
		get "http://$(vip 4):$(port nat 80)/body" >/dev/null
	done
	until_true 20 closed nat
	sent=$(($(sent_so_far) - before))
	# All of them have been told, or counted: no interface is served any more, so it ends.
	sed -i '/^packet:/d' "$CONFIG"
	"$WAGGLE" reload
	kill -CONT "$CAPTURE"
	wait "$CAPTURE"
	got=$(sed -nE 's/.*: ([0-9]+) packets? captured, ([0-9]+) lost/\1/p' "$WORK/capture.err")
	lost=$(sed -nE 's/.*: ([0-9]+) packets? captured, ([0-9]+) lost/\2/p' "$WORK/capture.err")
	echo "# $sent packets: $got captured, $lost lost" >&3
	[ "$lost" -gt 0 ]
	is "$((got + lost))" "$sent"
	python3 "$READ" "$WORK/x.pcap" >"$WORK/packets"
	is "$(found '.direction == "in"')" "$got"
	is "$(jq -s '.[-1].lost' "$WORK/packets")" "$lost"
	pairs_hold
	kill -TERM "$RUN"
	wait "$RUN"
}

sent_so_far() {
	"$WAGGLE" status --json | jq '.hooks[] | select(.name == "packet") | .counters | .forwarded + .returned'
}

@test "waggle capture in TC, IPv4" { inside captures tc 4; }
@test "waggle capture in TC, IPv6" { inside captures tc 6; }
@test "waggle capture in XDP, IPv4" { inside captures xdp 4; }
@test "waggle capture in XDP, IPv6" { inside captures xdp 6; }
@test "a capture leaves nothing behind, in TC" { inside leaves_nothing tc; }
@test "a capture leaves nothing behind, in XDP" { inside leaves_nothing xdp; }
@test "what a capture cannot keep is counted" { inside loses; }
