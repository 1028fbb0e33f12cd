#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The packet hook end to end: a client, a balancer and two backends as network namespaces, every way of forwarding, in
# TC, native and generic XDP, IPv4 and IPv6, with real TCP and UDP whose bytes are compared.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

# Verifying the programs takes its time where others are at work.
export TEST_SECONDS=180

# ways HOOK FAMILY
ways() {
	local forward

	network
	backends
	[ "$1" != xdp-generic ] || neighbours "$2"
	# shellcheck disable=SC2046 # a list
	balancer "$1" $(for forward in nat dnat dsr ipip gue; do service $forward "$2"; done)
	for forward in nat dnat dsr ipip gue; do
		echo "$forward" >&2
		both_answer $forward "$2"
		large_bodies $forward "$2"
		udp_echo $forward "$2" 512
	done
	ping_answers "$2"
	own_traffic "$2"
	balancer_look >&2
	# Whose address the backend sees.
	[ "$(get "http://$(vip "$2"):$(port nat 80)/client")" != "$(client "$2")" ]
	[ "$(get "http://$(vip "$2"):$(port dnat 80)/client")" = "$(client "$2")" ]
	[ "$(get "http://$(vip "$2"):$(port dsr 80)/client")" = "$(client "$2")" ]
	[ "$(get "http://$(vip "$2"):$(port gue 80)/client")" = "$(client "$2")" ]
	balancer_stop
}

client() {
	if [ "$1" = 4 ]; then echo 198.18.1.2; else echo 2001:2:0:1::2; fi
}

@test "every way of forwarding in TC, IPv4" { inside ways tc 4; }
@test "every way of forwarding in TC, IPv6" { inside ways tc 6; }
@test "every way of forwarding in XDP, IPv4" { inside ways xdp 4; }
@test "every way of forwarding in XDP, IPv6" { inside ways xdp 6; }
@test "every way of forwarding in generic XDP, IPv4" { inside ways xdp-generic 4; }
@test "every way of forwarding in generic XDP, IPv6" { inside ways xdp-generic 6; }
