#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a pcapng file strictly, and prints a line of JSON for each packet. Whatever is not as the format has it is an
error, also what readers let pass. usage: pcapng_read.py FILE"""
import json
import struct
import sys

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6


def need(is_so, text):
    if not is_so:
        sys.exit("pcapng: " + text)


def options(body):
    """All of them in order; a block's last one is the end, and nothing stands behind it."""
    found = {}
    while True:
        need(len(body) >= 4, "options are cut")
        code, n = struct.unpack_from("<HH", body)
        if code == 0:
            need(n == 0 and len(body) == 4, "the end of options is not the end")
            return found
        padded = (n + 3) // 4 * 4
        need(len(body) >= 4 + padded + 4 and not any(body[4 + n:4 + padded]), "option %d is cut, or its padding is not 0" % code)
        need(code not in found, "option %d stands twice" % code)
        found[code] = body[4:4 + n]
        body = body[4 + padded:]


def interface(body):
    link, reserved, snaplen = struct.unpack_from("<HHI", body)
    o = options(body[8:])
    need(link == 1 and reserved == 0 and o[9] == b"\x09", "the interface is not Ethernet in nanoseconds")
    return {"name": o[2].decode(), "description": o[3].decode(), "snaplen": snaplen}


def packet(body, interfaces):
    number, high, low, taken, length = struct.unpack_from("<IIIII", body)
    padded = (taken + 3) // 4 * 4
    need(number < len(interfaces), "the packet's interface is not described yet")
    at = interfaces[number]
    need(taken <= at["snaplen"] and taken <= length and not any(body[20 + taken:20 + padded]), "a packet's length is wrong")
    o = options(body[20 + padded:])
    flags, = struct.unpack("<I", o[2])
    need({1: "in", 2: "out"}.get(flags) == at["description"].split(",")[0], "the direction is not the interface's")
    verdict_of, verdict = struct.unpack("<Bq", o[7])
    need({1: "TC", 2: "XDP"}.get(verdict_of) == at["description"].split(", ")[1], "the verdict is not the hook's")
    said = dict(word.split("=", 1) for word in o[1].decode().split(" "))
    return {"interface": at["name"], "direction": at["description"].split(",")[0], "hook": at["description"].split(", ")[1],
            "at": (high << 32 | low) / 1e9, "length": length, "taken": taken, "id": struct.unpack("<Q", o[5])[0],
            "returned": verdict, "data": body[20:20 + taken].hex(), **said}


def main():
    with open(sys.argv[1], "rb") as f:
        data = f.read()
    interfaces = []
    at = 0
    while at < len(data):
        need(len(data) - at >= 12, "a block is cut")
        kind, n = struct.unpack_from("<II", data, at)
        need(n % 4 == 0 and n >= 12 and at + n <= len(data), "a block's length is wrong")
        need(struct.unpack_from("<I", data, at + n - 4)[0] == n, "a block's lengths differ")
        need((kind == SECTION) == (at == 0), "a section begins elsewhere than at the beginning")
        body = data[at + 8:at + n - 4]
        if kind == SECTION:
            need(struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1), "the section's header is wrong")
            need(options(body[16:])[4].startswith(b"waggle "), "the section does not name its program")
        elif kind == INTERFACE:
            interfaces.append(interface(body))
        elif kind == PACKET:
            print(json.dumps(packet(body, interfaces)))
        elif kind == STATISTICS:
            need(struct.unpack_from("<I", body)[0] < len(interfaces), "statistics are of no interface")
            print(json.dumps({"lost": struct.unpack("<Q", options(body[12:])[5])[0]}))
        else:
            need(False, "there is a block of type %d" % kind)
        at += n


main()
