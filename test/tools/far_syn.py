#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of another machine, as far as the kernel can tell: it has no socket that connects.

usage: far_syn.py SOURCE DESTINATION PORT SECONDS
Sends a SYN each half second until there is an answer, and prints what that was: accepted, refused, or silent.
"""
import os
import socket
import struct
import sys
import time


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(family, source, destination, ports, seq):
    header = struct.pack("!HHIIBBHHH", *ports, seq, 0, 5 << 4, 0x02, 65535, 0, 0)
    pseudo = socket.inet_pton(family, source) + socket.inet_pton(family, destination) + struct.pack("!II", len(header), 6)
    return header[:16] + struct.pack("!H", checksum(pseudo + header)) + header[18:]


def answer(sock, family, ports, seq, until):
    while (left := until - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet = sock.recv(2048)
        except socket.timeout:
            break
        tcp = packet[(packet[0] & 15) * 4 :] if family == socket.AF_INET else packet
        source, destination, _, ack, _, flags = struct.unpack("!HHIIBB", tcp[:14])
        if (destination, source) == ports and ack == (seq + 1) & 0xFFFFFFFF:
            return "refused" if flags & 0x04 else "accepted"
    return None


def main():
    source, destination, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ports = (20000 + int.from_bytes(os.urandom(2), "big") % 10000, port)
    seq = int.from_bytes(os.urandom(4), "big")
    end = time.monotonic() + float(sys.argv[4])
    found = None
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as sock:
        sock.bind((source, 0))
        while not found and time.monotonic() < end:
            sock.sendto(syn(family, source, destination, ports, seq), (destination, 0))
            found = answer(sock, family, ports, seq, time.monotonic() + 0.5)
    print(found or "silent")


main()
