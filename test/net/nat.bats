#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Container-style networking: a port mapped by NAT is joined right through it; one mapped by a proxy that splices
# stays on TCP from its first connection on, without an error or a wait.

load ../lib/net.bash

# client 198.18.1.1 - .2 router 198.18.2.2 - .1 server; 198.18.1.2:8080 is mapped to the server's 7411.
three() {
	netns_new client
	netns_new router
	netns_new server
	ip link add c netns client type veth peer name rc netns router
	ip link add s netns server type veth peer name rs netns router
	ip -n client address add 198.18.1.1/24 dev c
	ip -n router address add 198.18.1.2/24 dev rc
	ip -n router address add 198.18.2.2/24 dev rs
	ip -n server address add 198.18.2.1/24 dev s
	ip -n client address add 2001:2:0:1::1/64 dev c nodad
	ip -n router address add 2001:2:0:1::2/64 dev rc nodad
	ip -n router address add 2001:2:0:2::2/64 dev rs nodad
	ip -n server address add 2001:2:0:2::1/64 dev s nodad
	ip -n client link set c up
	ip -n router link set rc up
	ip -n router link set rs up
	ip -n server link set s up
	rps_on s server
	rps_on rs router
}

map_port() {
	ip netns exec router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	nsenter --net=/run/netns/router nft -f - <<-'END'
		table ip ports {
			chain pre { type nat hook prerouting priority dstnat; ip daddr 198.18.1.2 tcp dport 8080 dnat to 198.18.2.1:7411; }
			chain post { type nat hook postrouting priority srcnat; oifname "rs" masquerade; }
		}
		table ip6 ports {
			chain pre { type nat hook prerouting priority dstnat; ip6 daddr 2001:2:0:1::2 tcp dport 8080 dnat to [2001:2:0:2::1]:7411; }
			chain post { type nat hook postrouting priority srcnat; oifname "rs" masquerade; }
		}
	END
}

by_nat() {
	local family=$1 connect=198.18.1.2 listen=198.18.2.1

	if [ "$family" = 6 ]; then
		connect=2001:2:0:1::2 listen=2001:2:0:2::1
	fi
	three
	map_port
	accel_start --trust "$TOOLS/torture"
	"$TOOLS/torture" --seconds 4 --allow-eagain --family "$family" --client-netns /run/netns/client \
		--server-netns /run/netns/server --listen "$listen" --listen-port 7411 --connect "$connect" --connect-port 8080
	joined_share 95
	accel_stop
}

# Neither the proxy nor the traffic is trusted: what they are has to be learned.
by_docker_proxy() {
	local proxy

	proxy=$(command -v docker-proxy || echo /usr/sbin/docker-proxy)
	[ -x "$proxy" ] || { echo "docker-proxy is missing: install docker.io" >&2; return 1; }
	three
	accel_start --trust "$TOOLS/torture"
	nsenter --net=/run/netns/router "$proxy" -proto tcp -host-ip 198.18.1.2 -host-port 8080 \
		-container-ip 198.18.2.1 -container-port 7411 3>/dev/null &
	until_true 10 proxy_listens
	"$TOOLS/torture" --seconds 6 --no-reset --client-netns /run/netns/client --server-netns /run/netns/server \
		--listen 198.18.2.1 --listen-port 7411 --connect 198.18.1.2 --connect-port 8080
	[ "$(counter joined)" = 0 ]
	[ "$(counter joined_late)" = 0 ]
	[ "$(counter reset)" = 0 ]
	at_least local 10
	accel_stop
	# That it splices was seen, and is kept for the next start.
	cat /var/lib/waggle/learned.json
	jq -e '.. | objects | select(.path? and (.path | endswith("docker-proxy"))) | select(.state == "splices")' \
		/var/lib/waggle/learned.json
}

proxy_listens() {
	nsenter --net=/run/netns/router ss -Hltn 'sport = 8080' | grep -q .
}

# rate: requests/s of wrk through the proxy; none may fail.
rate() {
	nsenter --net=/run/netns/client wrk -t1 -c50 -d2s http://198.18.1.2:8080/ >"$WORK/wrk"
	if grep -E 'Socket errors|Non-2xx' "$WORK/wrk" >&2; then
		return 1
	fi
	awk '/^Requests\/sec:/ { print int($2); if ($2 > 0) ok = 1 } END { exit !ok }' "$WORK/wrk"
}

# What it costs is told, not judged.
rates_of_docker_proxy() {
	local proxy plain accel

	proxy=$(command -v docker-proxy || echo /usr/sbin/docker-proxy)
	three
	cat >"$WORK/nginx.conf" <<-'END'
		daemon off;
		worker_processes 1;
		pid /run/work/nginx.pid;
		error_log /run/work/nginx.err;
		events { worker_connections 1024; }
		http {
			access_log off;
			keepalive_requests 1000000000;
			server { listen 7411; location / { return 200 "hello"; } }
		}
	END
	nsenter --net=/run/netns/server nginx -c "$WORK/nginx.conf" &
	nsenter --net=/run/netns/router "$proxy" -proto tcp -host-ip 198.18.1.2 -host-port 8080 \
		-container-ip 198.18.2.1 -container-port 7411 3>/dev/null &
	until_true 10 proxy_listens
	until_true 10 nsenter --net=/run/netns/client curl -fsS http://198.18.1.2:8080/
	plain=$(rate)
	accel_start
	accel=$(rate)
	accel=$(rate)
	at_least local 50
	[ "$(counter reset)" = 0 ]
	accel_stop
	echo "# through docker-proxy: $plain requests/s plain, $accel with waggle" >&3
}

@test "torture through DNAT and masquerade, IPv4: joined" { inside by_nat 4; }
@test "torture through DNAT and masquerade, IPv6: joined" { inside by_nat 6; }
@test "torture through docker-proxy from its first connection on: plain TCP, no error, no wait" { inside by_docker_proxy; }
@test "requests through docker-proxy, plain and with waggle: none fails" { inside rates_of_docker_proxy; }
