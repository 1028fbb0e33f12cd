#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The packet hook on paths whose middle is narrow.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

# Verifying the programs takes its time where others are at work.
export TEST_SECONDS=240

# hop A B NETWORK MTU: A has .1, B has .2.
hop() {
	ip link add "to-$2" netns "$1" mtu "$4" type veth peer name "to-$1" mtu "$4" netns "$2"
	ip -n "$1" address add "198.18.$3.1/24" dev "to-$2"
	ip -n "$1" address add "2001:2:0:$3::1/64" dev "to-$2" nodad
	ip -n "$2" address add "198.18.$3.2/24" dev "to-$1"
	ip -n "$2" address add "2001:2:0:$3::2/64" dev "to-$1" nodad
	ip -n "$1" link set "to-$2" up
	ip -n "$2" link set "to-$1" up
}

# The client is two routers away, and between them are 1280 bytes: one tells the client, and the other tells an address
# of a service, whose backend has to hear of it.
narrow_path() {
	local forward net

	network
	backends
	netns_new mid
	netns_new far
	hop client mid 50 1280
	hop mid far 51 1500
	for net in client mid; do
		in_ns $net sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1
	done
	ip -n far route add default via 198.18.51.1
	ip -n far route add default via 2001:2:0:51::1
	ip -n mid route add default via 198.18.50.1
	ip -n mid route add default via 2001:2:0:50::1
	ip -n client route add 198.18.51.0/24 via 198.18.50.2
	ip -n client route add 2001:2:0:51::/64 via 2001:2:0:50::2
	ip -n lb route add 198.18.51.0/24 via 198.18.1.2
	ip -n lb route add 2001:2:0:51::/64 via 2001:2:0:1::2
	# shellcheck disable=SC2046 # a list
	balancer "$1" $(for forward in nat dnat dsr ipip gue; do service $forward "$2"; done)
	for forward in nat dnat dsr ipip gue; do
		echo "$forward" >&2
		FROM=far large_bodies $forward "$2"
	done
	balancer_look >&2
	balancer_stop
}

@test "a path whose middle has an MTU of 1280: TC, IPv4" { inside narrow_path tc 4; }
@test "a path whose middle has an MTU of 1280: TC, IPv6" { inside narrow_path tc 6; }
@test "a path whose middle has an MTU of 1280: XDP, IPv4" { inside narrow_path xdp 4; }
@test "a path whose middle has an MTU of 1280: XDP, IPv6" { inside narrow_path xdp 6; }
