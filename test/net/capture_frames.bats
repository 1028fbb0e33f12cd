#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# waggle capture of frames that are not plain: with a tag, which TC has beside the packet and XDP in the frame; IP
# fragments; frames larger than a page, which are in pieces in the kernel. The file has the tag, and lengths that are true.
# shellcheck source=test/lib/packet.bash

load ../lib/packet
load ../lib/capture

export TEST_SECONDS=180
export CONFIG=/run/work/waggle.yaml

# tagged ADDRESS PORT SOURCE SIZE MAC: a datagram in a tagged frame, until its answer, which has no tag.
export TAGGED='
import os, socket, struct, sys
dst, port, src, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
mac = bytes(int(x, 16) for x in sys.argv[5].split(":"))
v6 = ":" in dst
family = socket.AF_INET6 if v6 else socket.AF_INET
a, b = socket.inet_pton(family, src), socket.inet_pton(family, dst)
def sum16(data):
    s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff or 0xffff
body = os.urandom(size)
n = 8 + size
udp = struct.pack("!HHHH", 40000, port, n, 0)
udp = udp[:6] + struct.pack("!H", sum16(a + b + struct.pack("!II", n, 17) + udp + body))
if v6:
    ip = struct.pack("!IHBB", 6 << 28, n, 17, 64) + a + b
else:
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + n, 0, 0x4000, 64, 17, 0) + a + b
    ip = ip[:10] + struct.pack("!H", sum16(ip)) + ip[12:]
answer = socket.socket(family, socket.SOCK_DGRAM)
answer.bind((src, 40000))
answer.settimeout(2)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for i in range(10):
    s.send(mac + bytes([2, 0, 0, 0, 0, 9]) + struct.pack("!HHH", 0x8100, 0x6007, 0x86dd if v6 else 0x0800) + ip + udp + body)
    try:
        if answer.recv(65535) == body:
            sys.exit(0)
    except socket.timeout:
        pass
sys.exit("no answer to a tagged frame")
'

# Each frame of the file, as its own bytes have it: the tag that belongs there, and lengths that are true. HOOK FAMILY.
export ODD_FRAMES='
import json, sys
hook, v6 = sys.argv[1], sys.argv[2] == "6"
# A tag is allowed where the client may have put one.
seen = {"tag": 0, "page": 0, "first": 0, "later": 0}
count = {way: dict(seen) for way in (("l-client", "in"), ("b", "out"), ("b", "in"), ("client", "out"))}
for line in sys.stdin:
    p = json.loads(line)
    if "id" not in p:
        continue
    where = p["interface"], p["direction"]
    data = bytes.fromhex(p["data"])
    tag = data[12:14] == b"\x81\x00"
    if tag and (where != ("l-client", "in") or data[14:16] != b"\x60\x07"):
        sys.exit("%s: not the tag that belongs there: %s" % (where, data[:20].hex()))
    ip = data[18 if tag else 14:]
    if data[len(data) - len(ip) - 2:len(data) - len(ip)] != (b"\x86\xdd" if v6 else b"\x08\x00"):
        sys.exit("%s: not IP: %s" % (where, data[:20].hex()))
    size = len(data) - len(ip) + (int.from_bytes(ip[4:6], "big") + 40 if v6 else int.from_bytes(ip[2:4], "big"))
    if p["length"] != size or p["taken"] != size:
        sys.exit("%s: %d bytes of %d, and not %d" % (where, p["taken"], p["length"], size))
    if v6:
        part = int.from_bytes(ip[42:44], "big") if ip[6] == 44 else 0
        at, more = part & ~7, part & 1
    else:
        part = int.from_bytes(ip[6:8], "big")
        at, more = part & 0x1fff, part & 0x2000
    n = count[where if where in count else ("client" if "client" in where[0] else "b", where[1])]
    n["tag"] += tag and size > 4096
    n["page"] += size > 4096
    n["first"] += more != 0 and not at
    n["later"] += at != 0
for way, n in count.items():
    least = {"tag": way == ("l-client", "in"), "page": 4, "first": 1, "later": 2}
    if any(n[what] < least[what] for what in least):
        sys.exit("%s: only %s" % (way, n))
'

# Tagged by the client, with a priority; larger than a page; in fragments.
odd_frames() {
	local name b1 vip client mac

	HOOK=$1 FAMILY=$2
	network
	backends
	# These cannot have such frames, and nobody is behind a tunnel here.
	rm /sys/fs/bpf/waggle/decap_*
	for name in client b1 b2; do
		ip -n lb link set "l-$name" mtu 9000
		ip -n "$name" link set eth0 mtu 9000
	done
	b1=$(backend "$FAMILY" 1)
	{
		echo "services:"
		echo "  - { name: echo, listen: '$(vip "$FAMILY"):53', protocol: udp, forward: nat, backends: [ '$b1:$(listens nat 53)' ] }"
		echo "connect: { cgroups: [ '$CG/out' ] }"
		echo "packet: { interfaces: [ { name: l-client, hook: $HOOK }, { name: l-b1, hook: $HOOK }, { name: l-b2, hook: $HOOK } ] }"
	} >"$CONFIG"
	started
	neighbours "$FAMILY"
	# Next hops are known: XDP leaves no packet to TC.
	vip=$(bare "$(vip "$FAMILY")") client=$([ "$FAMILY" = 4 ] && echo 198.18.1.2 || echo 2001:2:0:1::2)
	mac=$(ip -n lb -json link show dev l-client | jq -r '.[0].address')
	in_ns client python3 -c "$UDP_ASK" "$vip" 53 100 1
	capturing 'service echo' -s 16384 -w "$WORK/x.pcap"
	in_ns client python3 -c "$TAGGED" "$vip" 53 "$client" 8000 "$mac"
	in_ns client python3 -c "$UDP_ASK" "$vip" 53 8000 1
	in_ns client python3 -c "$UDP_ASK" "$vip" 53 20000 1
	captured
	pairs_hold
	is "$(found ".hook != \"${HOOK^^}\" or .verdict != \"sent\"")" 0
	python3 -c "$ODD_FRAMES" "$HOOK" "$FAMILY" <"$WORK/packets"
	# As another reader of such files has it.
	tcpdump -enr "$WORK/x.pcap" 2>/dev/null | grep -q 'vlan 7, p 3,'
	kill -TERM "$RUN"
	wait "$RUN"
}

@test "waggle capture of tags, fragments and frames larger than a page, in TC, IPv4" { inside odd_frames tc 4; }
@test "waggle capture of tags, fragments and frames larger than a page, in TC, IPv6" { inside odd_frames tc 6; }
@test "waggle capture of tags, fragments and frames larger than a page, in XDP, IPv4" { inside odd_frames xdp 4; }
@test "waggle capture of tags, fragments and frames larger than a page, in XDP, IPv6" { inside odd_frames xdp 6; }
