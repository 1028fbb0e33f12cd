#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# SYN cookies end to end: while SYNs of nobody flood a service, clients are served, whoever speaks first, and their bytes
# are compared.
# shellcheck source=test/lib/packet.bash

load ../lib/packet

# Verifying the programs takes its time where others are at work.
export TEST_SECONDS=240
export CONFIG=/run/work/waggle.yaml

# flood ADDRESS PORT PACKETS: SYNs from addresses that nobody has, at most 20 s.
export FLOOD='
import os, socket, struct, sys, time
dst, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
mac = bytes(int(x, 16) for x in sys.argv[4].split(":"))
v6 = ":" in dst
to = socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, dst)
def sum16(data):
    s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
def frame(i):
    head = struct.pack("!HHIIBBHHHBBH", 1024 + i % 60000, port, i * 7919, 0, 0x60, 2, 64240, 0, 0, 2, 4, 1460)
    if v6:
        src = bytes.fromhex("20010002000c") + struct.pack("!HQ", 0, i)
        tcp = head[:16] + struct.pack("!H", sum16(src + to + struct.pack("!II", len(head), 6) + head)) + head[18:]
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + src + to
        return mac + bytes([2, 0, 0, 0, 0, 9]) + b"\x86\xdd" + ip + tcp
    src = bytes([198, 51, 100, 0]) if i < 0 else struct.pack("!I", 0xc6336400 | i % 250)
    tcp = head[:16] + struct.pack("!H", sum16(src + to + struct.pack("!HH", 6, len(head)) + head)) + head[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + src + to
    ip = ip[:10] + struct.pack("!H", sum16(ip)) + ip[12:]
    return mac + bytes([2, 0, 0, 0, 0, 9]) + b"\x08\x00" + ip + tcp
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
frames = [frame(i) for i in range(4000)]
end = time.monotonic() + 20
for i in range(n):
    if i % 100 == 0:
        if time.monotonic() > end:
            break
        time.sleep(0.005)
    try:
        s.send(frames[i % len(frames)])
    except OSError:
        pass
'

# The banner is there before anything was said, and within less than a backend takes to ask again.
export READ_BANNER='
import socket, sys
for i in range(20):
    c = socket.create_connection((sys.argv[1], 2525), 20)
    f = c.makefile("rb")
    if f.readline() != b"220 banner\r\n":
        sys.exit("no banner")
    c.sendall(b"hello\n")
    if f.readline() != b"you said hello\n":
        sys.exit("no answer")
    if f.read() != b"":
        sys.exit("no end")
    c.close()
'

# config FAMILY HOOK WORD
config() {
	cat >"$CONFIG" <<-END
		services:
		  - { name: web, listen: '$(vip "$1"):80', syn-cookies: $3, backends: [ '$(backend "$1" 1):8080', '$(backend "$1" 2):8080' ] }
		  - { name: mail, listen: '$(vip "$1"):2525', syn-cookies: $3, backends: [ '$(backend "$1" 1):2525' ] }
		  - { name: nobody, listen: '$(vip "$1"):81', syn-cookies: $3, backends: [ '$(backend "$1" 1):81' ] }
		packet: { interfaces: [ { name: l-client, hook: $2 }, { name: l-b1, hook: $2 }, { name: l-b2, hook: $2 } ] }
		connect: { cgroups: [ '$CG/out' ] }
	END
}

# counted REASON LEAST: what the hook has counted.
counted() {
	"$WAGGLE" status --json | jq -e --arg r "$1" --argjson n "$2" \
		'[.hooks[] | select(.name == "packet") | .counters[$r]] | add >= $n' >/dev/null
}

# Both ways, some at a time, for as long as the flood goes on.
traffic() {
	local i

	for i in 1 2 3; do
		large_bodies nat "$1"
		both_answer nat "$1"
		in_ns client python3 -c "$READ_BANNER" "$(bare "$(vip "$1")")"
	done
}

# cookies HOOK FAMILY WORD RPS
cookies() {
	local flood mac link

	network
	backends
	in_ns b1 python3 -c "$BANNER" "$2" &
	until_true 20 in_ns b1 python3 -c "import socket, sys; socket.create_connection((sys.argv[1], 2525), 2)" \
		"$(bare "$(backend "$2" 1)")"
	if [ "$4" = 1 ]; then
		rps_on eth0 client
		for link in l-client l-b1 l-b2; do
			rps_on "$link" lb
		done
	fi
	config "$2" "$1" "$3"
	started
	mac=$(ip -n lb -json link show dev l-client | jq -r '.[0].address')
	# Before, so that the first downloads meet it.
	in_ns client python3 -c "$FLOOD" "$(bare "$(vip "$2")")" 80 60000 "$mac" &
	flood=$!
	until_true 20 counted cookie-sent 100
	traffic "$2"
	# A backend that refuses is told as that: not as a connection that hangs.
	if get "http://$(vip "$2"):81/"; then return 1; fi
	kill "$flood" 2>/dev/null || true
	wait "$flood" || true
	counted cookie-sent 100
	if [ "$3" = always ]; then
		counted cookie-accepted 60
		# Asked what would become of a SYN.
		"$WAGGLE" explain "$([ "$2" = 4 ] && echo 198.18.1.2:40000 || echo '[2001:2:0:1::2]:40000')" "$(vip "$2"):80" --json |
			jq -e '.reason == "cookie-sent"'
	else
		counted cookie-accepted 1
	fi
	traffic "$2"
	kill -TERM "$RUN"
	wait "$RUN"
}

@test "SYN cookies under a flood: TC, IPv4, always" { inside cookies tc 4 always 0; }
@test "SYN cookies under a flood: TC, IPv6, always, RPS" { inside cookies tc 6 always 1; }
@test "SYN cookies under a flood: XDP, IPv4, always, RPS" { inside cookies xdp 4 always 1; }
@test "SYN cookies under a flood: XDP, IPv6, always" { inside cookies xdp 6 always 0; }
@test "SYN cookies under a flood: TC, IPv4, auto" { inside cookies tc 4 auto 0; }
@test "SYN cookies under a flood: XDP, IPv6, auto" { inside cookies xdp 6 auto 0; }
