#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks a running `waggle run` everything that docs/openapi.yaml promises, and compares: every path and method, the
schema of every answer, and that whatever is refused has a reason, is described, and changes nothing.
usage: api_check.py OPENAPI SOCKET SERVICE BACKEND"""
import http.client
import json
import socket
import sys
import urllib.parse

import jsonschema
import yaml

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
checks = 0


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("waggle", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def json_schema(node, root):
    """References filled in, and nullable said as JSON Schema says it; there are no circles."""
    if isinstance(node, list):
        return [json_schema(n, root) for n in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = root
        for part in node["$ref"].lstrip("#/").split("/"):
            target = target[part]
        return json_schema(target, root)
    out = {k: json_schema(v, root) for k, v in node.items() if k not in ("nullable", "example")}
    if node.get("nullable"):
        return {"anyOf": [out, {"type": "null"}]}
    return out


def fail(text):
    sys.exit("api: " + text)


class Api:
    def __init__(self, path, sock):
        with open(path, encoding="utf-8") as f:
            doc = yaml.safe_load(f)
        self.doc = json_schema(doc, doc)
        self.sock = sock
        self.seen = set()

    def call(self, method, url, body=None):
        conn = Unix(self.sock)
        conn.request(method, url, body, {"Content-Type": "application/json"} if body is not None else {})
        reply = conn.getresponse()
        data = reply.read()
        conn.close()
        return reply, data

    def valid(self, value, schema, what):
        """What the document does not mention is as wrong as what is missing."""
        try:
            jsonschema.Draft4Validator(schema).validate(value)
        except jsonschema.ValidationError as e:
            fail("%s: %s at %s: %s" % (what, e.message, list(e.absolute_path), json.dumps(value)[:400]))
        self.known(value, schema, what)

    def known(self, value, schema, what):
        if "anyOf" in schema:
            if value is not None:
                self.known(value, schema["anyOf"][0], what)
        elif isinstance(value, list):
            for v in value:
                self.known(v, schema.get("items", {}), what)
        elif isinstance(value, dict) and "properties" in schema:
            for k, v in value.items():
                if k not in schema["properties"]:
                    fail("%s: the field '%s' is not described" % (what, k))
                self.known(v, schema["properties"][k], what)

    def expect(self, method, path, status, body=None, **args):
        """Calls, and compares with what is described for this path, method and status."""
        global checks
        url = path
        for key, value in args.items():
            url = url.replace("{%s}" % key, urllib.parse.quote(value, safe=""))
        if not isinstance(body, (str, bytes, type(None))):
            body = json.dumps(body)
        reply, data = self.call(method, url, body)
        what = "%s %s %s" % (method, url, body or "")
        if reply.status != status:
            fail("%s: answered %d, not %d: %s" % (what, reply.status, status, data[:300]))
        if status == 405:
            if not reply.getheader("Allow"):
                fail("%s: does not say what is allowed" % what)
            operations = self.doc["paths"][path].values()
        else:
            operations = [self.doc["paths"][path][method.lower()]]
        for operation in operations:
            if str(status) not in operation["responses"]:
                fail("%s: the answer %d is not described" % (what, status))
            response = operation["responses"][str(status)]
            value = json.loads(data)
            self.valid(value, response["content"]["application/json"]["schema"], what)
            if status >= 400 and len(value["error"]) < 10:
                fail("%s: gives no reason" % what)
        self.seen.add((path, method))
        checks += 1
        return value


def state(api):
    """What nobody may have changed: the model, without its counters and moments."""
    services = api.expect("GET", "/v1/services", 200)["services"]
    for service in services:
        for node in [service] + service["backends"]:
            for key in [k for k in node if k.endswith("_per_second")] + ["check", "connections", "picks", "failures"]:
                node.pop(key, None)
    return services


def refused(api, service, backend):
    before = state(api)
    for path, operations in api.doc["paths"].items():
        allowed = {m.upper() for m in operations}
        for method in METHODS:
            if method not in allowed:
                api.expect(method, path, 405, name=service, address=backend)
    for verb in ("drain", "enable", "weight"):
        path = "/v1/services/{name}/backends/{address}/" + verb
        api.expect("POST", path, 404, name="nobody", address=backend)
        api.expect("POST", path, 404, name=service, address="198.18.0.250:1")
        api.expect("POST", path, 404, name=service, address="no.such.name:1")
        for address in ("198.18.0.2", "x", ":", "[::1", "198.18.0.2:0", "198.18.0.2:70000", "a b:c"):
            api.expect("POST", path, 400, name=service, address=address)
        for body in ("{", "[]", "1", '{"a":1}', '{"weight":1,"a":1}', '{"a":1,"a":1}', "\0", "null"):
            api.expect("POST", path, 400, body, name=service, address=backend)
        api.expect("POST", path, 413, "x" * 5000, name=service, address=backend)
    path = "/v1/services/{name}/backends/{address}/weight"
    for weight in (-1, 65536, 1.5, "1", None, 1e99, [1], True):
        api.expect("POST", path, 400, {"weight": weight}, name=service, address=backend)
    api.expect("POST", path, 400, name=service, address=backend)
    for body in ("{", "[]", '{"a":1}'):
        api.expect("POST", "/v1/reload", 400, body)
        api.expect("POST", "/v1/unload", 400, body)
    api.expect("POST", "/v1/unload", 400, '{"now":1}')
    for url in ("/", "/v1", "/v1/", "/v2/status", "/v1/services/", "/v1/services//backends//drain", "/v1/status/x",
                "/v1/services/%s/backends/%s" % (service, backend), "/v1/services/%s/x" % service,
                "/v1/" + "x" * 3000):
        reply, data = api.call("GET", url)
        if reply.status != 404 or not json.loads(data)["error"]:
            fail("GET %s: answered %d" % (url[:50], reply.status))
    after = state(api)
    if after != before:
        fail("what was refused has changed something: %s, was %s" % (json.dumps(after), json.dumps(before)))


def changes(api, service, backend):
    base = "/v1/services/{name}/backends/{address}/"
    args = {"name": service, "address": backend}
    for body in (None, "{}"):
        if api.expect("POST", base + "drain", 200, body, **args)["state"] != "draining":
            fail("drain: is not draining")
        if api.expect("POST", base + "enable", 200, body, **args)["state"] == "draining":
            fail("enable: is draining still")
    was = api.expect("POST", base + "weight", 200, {"weight": 7}, **args)
    if was["weight"] != 7:
        fail("weight: is not 7")
    if api.expect("POST", base + "weight", 200, {"weight": 0}, **args)["state"] != "disabled":
        fail("weight: 0 does not disable")
    api.expect("POST", base + "weight", 200, {"weight": 1}, **args)
    one = api.expect("GET", "/v1/services/{name}", 200, name=service)
    if backend not in [b["address"] for b in one["backends"]]:
        fail("the service does not list its backend")
    api.expect("GET", "/v1/services/{name}", 404, name="nobody")
    for body in (None, "{}"):
        api.expect("POST", "/v1/reload", 200, body)


def conns(api, service):
    """Of the packet hook, where it is on: the questions that are part of the address are no part of the document's path."""
    hooks = {h["name"]: h["on"] for h in api.expect("GET", "/v1/status", 200)["hooks"]}
    api.expect("GET", "/v1/conns", 200 if hooks["packet"] else 409)
    if not hooks["packet"]:
        return
    operation = api.doc["paths"]["/v1/conns"]["get"]
    for query, status in (("service=" + service, 200), ("limit=1", 200), ("limit=0&service=" + service, 200),
                          ("service=nobody", 404), ("limit=-1", 400), ("limit=x", 400), ("limit=", 400)):
        reply, data = api.call("GET", "/v1/conns?" + query)
        if reply.status != status:
            fail("GET /v1/conns?%s: answered %d, not %d" % (query, reply.status, status))
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        api.valid(json.loads(data), schema, "GET /v1/conns?" + query)


def explain(api, service):
    """Of the packet hook too."""
    hooks = {h["name"]: h["on"] for h in api.expect("GET", "/v1/status", 200)["hooks"]}
    api.expect("GET", "/v1/explain", 400 if hooks["packet"] else 409)
    if not hooks["packet"]:
        return
    listen = api.expect("GET", "/v1/services/{name}", 200, name=service)["listen"]
    operation = api.doc["paths"]["/v1/explain"]["get"]
    flow = "client=198.18.0.77:40000&service="
    for query, status in ((flow + listen, 200), (flow + listen + "&protocol=udp", 200), (flow + listen + "&interface=lo", 200),
                          (flow + "198.18.0.99:9", 200), ("client=[2001:2::7]:9&service=[2001:2::9]:9", 200),
                          (flow + listen + "&protocol=sctp", 400), (flow + listen + "&interface=nil", 400),
                          (flow + "198.18.0.99", 400), (flow + "[2001:2::9]:9", 400), (flow + "nobody:80", 400),
                          ("service=" + listen, 400), ("client=198.18.0.77:0&service=" + listen, 400)):
        reply, data = api.call("GET", "/v1/explain?" + query)
        if reply.status != status:
            fail("GET /v1/explain?%s: answered %d, not %d: %s" % (query, reply.status, status, data))
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        api.valid(json.loads(data), schema, "GET /v1/explain?" + query)


def capture(api, service):
    """A stream too, that ends when its time is up."""
    hooks = {h["name"]: h["on"] for h in api.expect("GET", "/v1/status", 200)["hooks"]}
    operation = api.doc["paths"]["/v1/capture"]["get"]
    api.seen.add(("/v1/capture", "GET"))
    wanted = [("duration=1&filter=service%20" + service, 200), ("filter=service%20nobody", 404), ("filter=nonsense", 400),
              ("filter=port%200", 400), ("count=0", 400), ("snaplen=63", 400), ("snaplen=x", 400), ("duration=-1", 400)]
    for query, status in wanted if hooks["packet"] else [("", 409)]:
        reply, data = api.call("GET", "/v1/capture?" + query)
        if reply.status != status:
            fail("GET /v1/capture?%s: answered %d, not %d: %s" % (query, reply.status, status, data))
        kind = "application/json" if status >= 400 else "application/x-ndjson"
        schema = operation["responses"][str(status)]["content"][kind]["schema"]
        lines = [json.loads(line) for line in data.splitlines()]
        for line in lines:
            api.valid(line, schema, "GET /v1/capture?" + query)
        if status == 200 and (lines[0]["event"] != "start" or lines[-1]["event"] != "end"):
            fail("capture: %s" % data)


def events(api, service, backend):
    """A stream: what is changed meanwhile is told in it."""
    conn = Unix(api.sock)
    conn.request("GET", "/v1/events")
    reply = conn.getresponse()
    schema = api.doc["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    api.seen.add(("/v1/events", "GET"))
    for verb in ("drain", "enable"):
        api.expect("POST", "/v1/services/{name}/backends/{address}/" + verb, 200, name=service, address=backend)
    states = []
    while len(states) < 2:
        event = json.loads(reply.readline())
        api.valid(event, schema, "event")
        if event["event"] == "backend" and event["backend"] == backend:
            states.append(event["state"])
    conn.close()
    if states[0] != "draining" or states[1] == "draining":
        fail("events: %s" % states)


def main():
    path, sock, service, backend = sys.argv[1:]
    api = Api(path, sock)
    for path in ("/v1/status", "/v1/services", "/v1/backends", "/v1/history", "/v1/events/recent", "/v1/changes"):
        api.expect("GET", path, 200)
        reply, data = api.call("HEAD", path)
        if reply.status != 200 or data:
            fail("HEAD %s: answered %d" % (path, reply.status))
    is_off = api.expect("GET", "/v1/status", 200)["class"] == "off"
    api.expect("GET", "/v1/services/{name}/history", 200, name=service)
    api.expect("GET", "/v1/services/{name}/history", 404, name="nobody")
    for path in ("/v1/sockets", "/v1/executables"):
        api.expect("GET", path, 409 if is_off else 200)
    conns(api, service)
    explain(api, service)
    capture(api, service)
    refused(api, service, backend)
    changes(api, service, backend)
    events(api, service, backend)
    # The last one, for it ends the daemon.
    api.expect("POST", "/v1/unload", 202, {"now": True})
    missing = {(p, m.upper()) for p, ops in api.doc["paths"].items() for m in ops} - api.seen
    if missing:
        fail("was not asked: %s" % sorted(missing))
    print("%d answers as described" % checks)


main()
