#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad requests to the control socket, the same ones every time: each is refused with a reason, and changes nothing.

usage: api_fuzz.py SOCKET SERVICE BACKEND COUNT
"""
import json
import random
import socket
import sys

GOOD = ["/v1/status", "/v1/services", "/v1/reload", "/v1/unload", "/v1/services/{s}",
        "/v1/services/{s}/backends/{b}/drain", "/v1/services/{s}/backends/{b}/enable",
        "/v1/services/{s}/backends/{b}/weight"]
ACTS = GOOD[2:4] + GOOD[5:]
WORDS = ["", "x", "%00", "%2f", "..", "%ff", "v1", "*", "a" * 300, "%5B::1%5D:80", "\"", "{}", "é", "198.18.0.2:70000"]
BODIES = [b"", b"{", b"[]", b"null", b"{\"weight\":-1}", b"{\"weight\":1e99}", b"{\"weight\":\"1\"}", b"{\"now\":2}",
          b"{\"a\":1,\"a\":2}", b"\xff\xfe", b"{\"\\u0000\":1}", b"[" * 3000, b"{\"weight\":1}x", b"\0"]


def talk(path, data):
    """The answer's status and body; the server may hang up on what is no HTTP."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(path)
        try:
            s.sendall(data)
        except OSError:
            pass
        answer = b""
        try:
            while part := s.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if head.startswith(b"HTTP/") else (0, b"")


def request(method, url, body, headers=b""):
    return b"%s %s HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s" % (
        method, url, len(body), headers, body)


def main():
    path, service, backend, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    rng = random.Random(4)

    def services():
        status, body = talk(path, b"GET /v1/services HTTP/1.0\r\n\r\n")  # in one piece
        assert status == 200, status
        # What health checks and clocks change of themselves is left out.
        return [(s["name"], [(b["address"], b.get("weight"), b.get("admin"), b.get("draining")) for b in s["backends"]])
                for s in json.loads(body)["services"]]

    def bad(kind):
        good = rng.choice(GOOD).format(s=service, b=backend)
        if kind == 0:  # a part of the path is another
            parts = good.split("/")
            parts[rng.randrange(1, len(parts))] = rng.choice(WORDS)
            return b"POST", "/".join(parts).encode(), rng.choice(BODIES)
        if kind == 1:  # the body is wrong for what acts
            url = rng.choice(ACTS).format(s=service, b=backend)
            bodies = [b for b in BODIES if b or url.endswith("weight")]
            return b"POST", url.encode(), rng.choice(bodies)
        if kind == 2:  # the method
            return rng.choice([b"PUT", b"DELETE", b"PATCH", b"FOO"]), good.encode(), rng.choice(BODIES)
        cut = bytearray(good.encode())  # a byte is another
        cut[rng.randrange(len(cut))] = rng.choice(b"!~0Az/")
        return b"PUT", bytes(cut), b""

    before, seen = services(), {}
    for i in range(count):
        method, url, body = bad(i % 4)
        status, answer = talk(path, request(method, url, body))
        seen[status] = seen.get(status, 0) + 1
        what = "%r %r %r: %d %r" % (method, url[:100], body[:40], status, answer[:200])
        # An empty part may make another good path: a service's name left out is the list.
        if not 400 <= status < 500:
            sys.exit("not refused: " + what)
        if len(json.loads(answer)["error"]) < 10:
            sys.exit("no reason: " + what)
    for junk in (b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/reload HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                 b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n"):
        status, _ = talk(path, junk)
        if status and not 400 <= status < 600:
            sys.exit("%r: %d" % (junk[:40], status))
    if services() != before:
        sys.exit("something has changed: %r, was %r" % (services(), before))
    print(json.dumps(seen))


main()
