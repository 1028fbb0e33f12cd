#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Whatever is configured, the host stays reachable: the packet hook is on the only interface of a host, by which
# somebody is logged in, and configurations that no one should write are loaded one after the other.
# shellcheck source=test/lib/net.bash

load ../lib/net

export TEST_SECONDS=180
export CONFIG=/run/work/waggle.yaml

# "host" has one interface, eth0 (198.18.1.1), and "admin" (198.18.1.2) is logged in there, on port 2222.
host() {
	mount -t bpf bpf /sys/fs/bpf
	netns_new host
	netns_new admin
	ip link add eth0 netns host type veth peer name eth0 netns admin
	ip -n host address add 198.18.1.1/24 dev eth0
	ip -n admin address add 198.18.1.2/24 dev eth0
	ip -n host address add 2001:2:0:1::1/64 dev eth0 nodad
	ip -n admin address add 2001:2:0:1::2/64 dev eth0 nodad
	ip -n host link set eth0 up
	ip -n admin link set eth0 up
	nsenter --net=/run/netns/host sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1
	# For XDP: see lib/packet.bash.
	nsenter --net=/run/netns/host ethtool -K eth0 tx off gro on >/dev/null
	nsenter --net=/run/netns/admin ethtool -K eth0 tx off gro on >/dev/null
	(exec nsenter --net=/run/netns/host python3 -c "$SHELL_SERVER" "$1") >"$WORK/server" 2>&1 &
	until_true 20 grep -q listening "$WORK/server"
	mkfifo "$WORK/ask" "$WORK/answer"
	(exec nsenter --net=/run/netns/admin python3 -c "$SHELL_CLIENT" "$1") <"$WORK/ask" >"$WORK/answer" &
	exec 7>"$WORK/ask" 8<"$WORK/answer"
	read -r -t 20 ADMIN <&8
}

export SHELL_SERVER='
import socket, sys, threading
def serve(c):
    while True:
        line = c.recv(4096)
        if not line:
            return
        c.sendall(line)
s = socket.create_server((sys.argv[1], 2222), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
'

# Says its own port, and then of each line from stdin whether it came back.
export SHELL_CLIENT='
import socket, sys
c = socket.create_connection((sys.argv[1], 2222), 20)
print(c.getsockname()[1], flush=True)
for line in sys.stdin:
    c.sendall(line.encode())
    back = b""
    while not back.endswith(b"\n"):
        part = c.recv(4096)
        if not part:
            sys.exit("gone")
        back += part
    sys.stdout.write(back.decode())
    sys.stdout.flush()
'

# The connection that there is carries a line both ways.
logged_in() {
	local back

	echo "$1" >&7
	if ! read -r -t 20 back <&8 || [ "$back" != "$1" ]; then
		echo "after '$1' the connection has gone" >&2
		return 1
	fi
}

# A new one is made.
can_log_in() {
	nsenter --net=/run/netns/admin python3 -c "$SHELL_CLIENT" "$1" <<<"again" >"$WORK/again"
	grep -qx again "$WORK/again"
}

# load WHAT < SERVICES-AND-SECTIONS: by a reload, or by a start if nobody runs yet.
load_config() {
	{
		cat
		echo "connect: { cgroups: [ '$CG/out' ] }"
	} >"$CONFIG"
	if [ -z "${RUN-}" ]; then
		: >"$WORK/run.out"
		(exec nsenter --net=/run/netns/host "$WAGGLE" run -c "$CONFIG") >"$WORK/run.out" 2>>"$WORK/run.err" &
		RUN=$!
		until_true 60 grep -qx ready "$WORK/run.out"
	else
		"$WAGGLE" reload >/dev/null
	fi
	echo "loaded: $1" >&2
}

interfaces() {
	echo "interfaces: [ { name: eth0, hook: $1 } ]"
}

# bracket ADDRESS
bracket() {
	if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi
}

# survives HOOK HOST ADMIN FAR: FAR is an address that nobody has.
survives() {
	local own admin far i

	host "$2"
	own=$(bracket "$2") admin=$(bracket "$3") far=$(bracket "$4")
	logged_in "nothing loaded"
	load_config "a service on another port, whose backend is nowhere" <<-END
		services: [ { name: a, listen: '$own:80', backends: [ '$far:80' ] } ]
		packet: { $(interfaces "$1") }
	END
	"$WAGGLE" status --json | jq -e --arg hook "$1" \
		'[.hooks[] | select(.name == "packet") | .interfaces[] | select(.name == "eth0" and .hook == $hook)] | length == 1'
	logged_in "another port"
	can_log_in "$2"
	load_config "many services, every backend down" <<-END
		services:
		$(for i in $(seq 2300 2330); do
			echo "  - { name: s$i, listen: '$own:$i', health: { tcp: true, interval: 100ms, timeout: 100ms, fall: 1 }, backends: [ '$far:$i' ] }"
		done)
		packet: { $(interfaces "$1") }
	END
	until_true 20 all_down
	logged_in "everything down"
	can_log_in "$2"
	load_config "nobody is let in" <<-END
		services: [ { name: a, listen: '$own:80', backends: [ '$far:80' ] } ]
		packet: { $(interfaces "$1"), deny: [ 0.0.0.0/0, '::/0' ] }
	END
	logged_in "all are denied"
	can_log_in "$2"
	load_config "only somebody else is let in, and slowly" <<-END
		services: [ { name: a, listen: '$own:80', max-connections: 1, syn-rate: 1, backends: [ '$far:80' ] } ]
		packet: { $(interfaces "$1"), allow: [ 192.0.2.1 ], source-rate: 1 }
	END
	for i in 1 2 3 4 5; do
		logged_in "rates, $i"
		can_log_in "$2"
	done
	load_config "the same port, but of UDP; and the administrator's end is a backend" <<-END
		services:
		  - { name: a, listen: '$own:2222', protocol: udp, backends: [ '$far:2222' ] }
		  - { name: b, listen: '$own:81', forward: dnat, backends: [ '$admin:$ADMIN' ] }
		packet: { $(interfaces "$1") }
	END
	logged_in "the administrator is a backend"
	can_log_in "$2"
	load_config "the host itself is its service's backend" <<-END
		services: [ { name: a, listen: '$own:82', backends: [ '$own:2222' ] } ]
		packet: { $(interfaces "$1") }
	END
	logged_in "the host is a backend"
	can_log_in "$2"
	# Who logs in anew is balanced, for that is what was written. Who is logged in stays.
	for i in nat dnat dsr ipip gue; do
		load_config "the administrator's port is a service, $i" <<-END
			services: [ { name: a, listen: '$own:2222', forward: $i, backends: [ '$far:2222' ] } ]
			packet: { $(interfaces "$1") }
		END
		logged_in "my own port, $i"
	done
	kill -KILL "$RUN"
	wait "$RUN" || true
	logged_in "killed"
}

all_down() {
	"$WAGGLE" status --json | jq -e '[.services[].backends[].state] | length == 31 and all(. == "down")' >/dev/null
}

@test "whatever is configured, the host stays reachable: TC, IPv4" { inside survives tc 198.18.1.1 198.18.1.2 198.18.1.77; }
@test "whatever is configured, the host stays reachable: TC, IPv6" { inside survives tc 2001:2:0:1::1 2001:2:0:1::2 2001:2:0:1::77; }
@test "whatever is configured, the host stays reachable: XDP, IPv4" { inside survives xdp 198.18.1.1 198.18.1.2 198.18.1.77; }
@test "whatever is configured, the host stays reachable: XDP, IPv6" { inside survives xdp 2001:2:0:1::1 2001:2:0:1::2 2001:2:0:1::77; }
