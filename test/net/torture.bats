#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Every byte of many different connections arrives once, in order, at the end it was sent to.

load ../lib/net.bash

# Programs that wait by epoll see what they see on plain TCP. A reader that sleeps in recv(2) on a joined socket may be
# woken with EAGAIN, as test/conform shows; nothing else may be different for it.
both_kinds() {
	"$TOOLS/torture" --seconds 3 --no-blocking "$@"
	"$TOOLS/torture" --seconds 3 --allow-eagain "$@"
}

on_lo() {
	local family=$1 rps=$2

	[ "$rps" = 0 ] || rps_on lo
	accel_start --trust "$TOOLS/torture"
	both_kinds --family "$family"
	joined_share 95
	accel_stop
}

on_veth() {
	local family=$1 rps=$2 to=198.18.1.2

	[ "$family" != 6 ] || to=2001:2::2
	link_pair
	if [ "$rps" = 1 ]; then
		rps_on va a
		rps_on vb b
	fi
	accel_start --trust "$TOOLS/torture"
	both_kinds --family "$family" --client-netns /run/netns/a --server-netns /run/netns/b \
		--listen "$([ "$family" = 4 ] && echo 0.0.0.0 || echo ::)" --connect "$to"
	joined_share 95
	accel_stop
}

@test "torture on loopback, IPv4" { inside on_lo 4 0; }
@test "torture on loopback, IPv4, RPS on" { inside on_lo 4 1; }
@test "torture on loopback, IPv6, RPS on" { inside on_lo 6 1; }
@test "torture on loopback, v4-mapped, RPS on" { inside on_lo mapped 1; }
@test "torture between namespaces, IPv4" { inside on_veth 4 0; }
@test "torture between namespaces, IPv4, RPS on" { inside on_veth 4 1; }
@test "torture between namespaces, IPv6, RPS on" { inside on_veth 6 1; }
@test "torture between namespaces, v4-mapped, RPS on" { inside on_veth mapped 1; }
