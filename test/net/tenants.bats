#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Pairs of namespaces that use the same addresses and ports at the same time: no byte crosses over.

load ../lib/net.bash

# Each namespace talks to itself by 127.0.0.1; the four-tuples are equal in both.
on_loopback() {
	local n
	for n in a b c; do
		netns_new "$n"
		rps_on lo "$n"
	done
	accel_start --trust "$TOOLS/shorts"
	"$TOOLS/shorts" --connections 3000 --source-port 20000 --pair /run/netns/a,/run/netns/a \
		--pair /run/netns/b,/run/netns/b --pair /run/netns/c,/run/netns/c
	joined_share 99
	accel_stop
}

# Two links with equal addresses at their ends, servers that end and start again, connections reset.
on_links() {
	local n
	for n in 1 2; do
		netns_new "client$n"
		netns_new "server$n"
		ip link add "c$n" netns "client$n" type veth peer name "s$n" netns "server$n"
		ip -n "client$n" address add 198.18.1.1/24 dev "c$n"
		ip -n "server$n" address add 198.18.1.2/24 dev "s$n"
		ip -n "client$n" link set "c$n" up
		ip -n "server$n" link set "s$n" up
		rps_on "s$n" "server$n"
	done
	accel_start --trust "$TOOLS/shorts"
	"$TOOLS/shorts" --connections 3000 --source-port 20000 --restart-every 250 --listen 198.18.1.2 --connect 198.18.1.2 \
		--pair /run/netns/client1,/run/netns/server1 --pair /run/netns/client2,/run/netns/server2
	joined_share 90
	accel_stop
}

@test "three namespaces with equal four-tuples on loopback" { inside on_loopback; }
@test "two links with equal four-tuples, servers restarting" { inside on_links; }
