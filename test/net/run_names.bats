#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Backends that are names, services that listen on interfaces, and UDP.

load ../lib/net.bash
load ../lib/run.bash

# A DNS server for the test alone: what $WORK/hosts/names says, for a second. It is read again by names_are.
dns_start() {
	printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:2\n' >"$WORK/resolv.conf"
	mount --bind "$WORK/resolv.conf" /etc/resolv.conf
	mkdir -p "$WORK/hosts"
	touch "$WORK/hosts/names"
	dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --pid-file= --user=root \
		--listen-address="${1:-127.0.0.1}" --local=/test/ --local-ttl=1 --addn-hosts="$WORK/hosts/names" >/dev/null 2>&1 &
	DNS=$!
	# TCP is served too, which is easier to wait for.
	until_true 15 answers "${1:-127.0.0.1}" 53
}

# names_are LINE...: "ADDRESS NAME"
names_are() {
	printf '%s\n' "$@" >"$WORK/hosts/names"
	kill -HUP "$DNS"
}

three_backends() {
	run_addresses
	backend_start 198.18.0.2 8080
	backend_start 198.18.0.3 8080
	backend_start 198.18.0.4 8080
}

addresses_are() {
	[ "$(api /v1/services/web | jq -r '[.backends[].address] | sort | join(" ")')" = "$1" ]
}

names_change() {
	three_backends
	dns_start
	names_are '198.18.0.2 web.test' '198.18.0.3 web.test'
	echo 'services: [ { name: web, listen: 198.18.0.5:80, scheduler: round-robin, resolve: 2s, backends: [ "web.test:8080" ] } ]' | config
	run_start
	# They were waited for: the first client finds them.
	[ "$(who http://198.18.0.5/ 4)" = $'2 198.18.0.2\n2 198.18.0.3' ]
	backend_is web 198.18.0.2:8080 name web.test
	names_are '198.18.0.4 web.test' '2001:2::2 web.test'
	until_true 20 addresses_are '198.18.0.4:8080 [2001:2::2]:8080'
	[ "$(who http://198.18.0.5/ 2)" = "2 198.18.0.4" ]
	# What fails changes nothing, and is told.
	kill -KILL "$DNS"
	! wait "$DNS"
	until_true 20 eval 'api /v1/status | jq -e ".balancing.names[0] | .failures > 0 and .error != null"'
	addresses_are '198.18.0.4:8080 [2001:2::2]:8080'
	[ "$(who http://198.18.0.5/ 2)" = "2 198.18.0.4" ]
	# Nor does a restart without a server that answers.
	run_stop
	run_start
	addresses_are '198.18.0.4:8080 [2001:2::2]:8080'
	dns_start
	names_are '198.18.0.2 web.test'
	until_true 30 addresses_are '198.18.0.2:8080'
	api /v1/status | jq -e '.balancing.names[0] | .name == "web.test" and .addresses == ["198.18.0.2"] and .error == null'
	run_stop
}

# No answer at the start: the service is there, refuses, and begins when there is one.
name_comes_late() {
	three_backends
	dns_start
	echo 'services: [ { name: web, listen: 198.18.0.5:80, resolve: 2s, backends: [ "late.test:8080" ] } ]' | config
	run_start
	addresses_are ''
	[ "$(api /v1/services/web | jq -r .state)" = down ]
	status=0
	curl -s --max-time 10 http://198.18.0.5/ || status=$?
	((status == 7))
	names_are '198.18.0.2 late.test'
	until_true 20 addresses_are '198.18.0.2:8080'
	[ "$(who http://198.18.0.5/ 2)" = "2 198.18.0.2" ]
	"$WAGGLE" drain web late.test:8080 | grep -q '^198.18.0.2:8080: draining'
	run_stop
}

listens_are() {
	[ "$(api /v1/services/web | jq -r '.addresses | sort | join(" ")')" = "$1" ]
}

interface_changes() {
	three_backends
	ip link add lan type veth peer name far
	ip link set far up
	ip link set lan up
	ip address add 198.18.3.1/24 dev lan
	echo 'services: [ { name: web, listen: "lan:80", backends: [ 198.18.0.2:8080 ] } ]' | config
	run_start
	listens_are '198.18.3.1:80'
	[ "$(who http://198.18.3.1/)" = "1 198.18.0.2" ]
	ip address add 198.18.3.2/24 dev lan
	ip address add 2001:2:3::1/64 dev lan nodad
	until_true 15 listens_are '198.18.3.1:80 198.18.3.2:80 [2001:2:3::1]:80'
	[ "$(who http://198.18.3.2/)" = "1 198.18.0.2" ]
	backend_is web 198.18.0.2:8080 picks 2
	ip link del lan
	until_true 15 listens_are ''
	api /v1/services/web | jq -e '.state == "down" and (.error | test("has no address"))'
	run_stop
}

# ask ADDRESS NAME: by UDP, with a socket that does not connect; the answer has to come from whom was asked.
ask() {
	python3 -c '
import socket, struct, sys
name = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[2].split(".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.sendto(struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1), (sys.argv[1], 53))
data, peer = s.recvfrom(512)
assert peer == (sys.argv[1], 53), peer
print(socket.inet_ntoa(data[-4:]))' "$@"
}

dns_service() {
	local i

	run_addresses
	mkdir "$WORK/hosts"
	echo '198.18.9.9 www.test' >"$WORK/hosts/names"
	dns_start 198.18.0.2
	dns_start 198.18.0.3
	config <<-EOF
		services:
		  - name: dns
		    listen: 198.18.0.53:53
		    protocol: udp
		    scheduler: round-robin
		    health: { tcp: true, port: 53, interval: 1s, timeout: 1s, rise: 1, fall: 2 }
		    backends: [ 198.18.0.2:53, 198.18.0.3:53 ]
	EOF
	run_start
	until_true 15 backend_is dns 198.18.0.2:53 state up
	until_true 15 eval '[ "$(ask 198.18.0.2 www.test)" = 198.18.9.9 ]'
	for ((i = 0; i < 10; i++)); do
		[ "$(ask 198.18.0.53 www.test)" = 198.18.9.9 ]
	done
	backend_is dns 198.18.0.2:53 picks 5
	backend_is dns 198.18.0.3:53 picks 5
	kill -KILL "$DNS"
	! wait "$DNS"
	until_true 15 backend_is dns 198.18.0.3:53 state down
	for ((i = 0; i < 4; i++)); do
		[ "$(ask 198.18.0.53 www.test)" = 198.18.9.9 ]
	done
	backend_is dns 198.18.0.2:53 picks 9
	run_stop
}

@test "names: backends follow their name, and outlive its server" { inside names_change; }
@test "names: an answer that comes late" { inside name_comes_late; }
@test "names: a service follows its interface" { inside interface_changes; }
@test "names: DNS queries by UDP through a service" { inside dns_service; }
