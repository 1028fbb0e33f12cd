#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The first bytes of a connection, some of which go by TCP while the two sockets are being joined.

load ../lib/net.bash

# first VIA [OPTION...]: one-byte sends right after connect(2), the receive queues spread over both CPUs.
first() {
	local via=$1 where=()
	shift

	if [ "$via" = veth ]; then
		link_pair
		rps_on va a
		rps_on vb b
		where=(--pair /run/netns/a,/run/netns/b --listen 198.18.1.2 --connect 198.18.1.2)
	else
		rps_on lo
	fi
	accel_start --trust "$TOOLS/shorts"
	"$TOOLS/shorts" "${where[@]}" "$@"
	joined_share 99
	accel_stop
}

@test "first bytes on loopback, RPS on" { inside first lo --connections 5000; }
@test "first bytes on loopback, RPS on, TCP_DEFER_ACCEPT" { inside first lo --connections 5000 --defer-accept; }
@test "first bytes on loopback, RPS on, data in the third ACK" { inside first lo --connections 5000 --third-ack; }
@test "first bytes on loopback, a slow reader of few bytes, TCP_DEFER_ACCEPT" { inside first lo --connections 1000 --think-us 300 --defer-accept --third-ack; }
@test "first bytes between namespaces, RPS on" { inside first veth --connections 5000; }
@test "first bytes between namespaces, RPS on, TCP_DEFER_ACCEPT" { inside first veth --connections 5000 --defer-accept; }
@test "first bytes between namespaces, RPS on, data in the third ACK" { inside first veth --connections 5000 --third-ack --defer-accept; }
