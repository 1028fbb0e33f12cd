# SPDX-License-Identifier: GPL-2.0-or-later
"""A headless Chromium, spoken to by the DevTools protocol on a pipe (https://chromedevtools.github.io/devtools-protocol):
one page, what it complains of, and what it asks the network for."""
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time

NAMES = ("chromium-headless-shell", "chromium")
# The time is for a machine that does many other things.
LIMIT_S = 60


def find():
    for name in NAMES:
        if shutil.which(name):
            return name
    sys.exit("browser: neither %s is here: tools/install-deps test" % " nor ".join(NAMES))


class Browser:
    def __init__(self, directory):
        to_child, self.out = os.pipe()
        self.inp, from_child = os.pipe()
        self.buffer = b""
        self.next_id = 0
        self.session = None
        self.complaints = []
        self.urls = []

        def pipes():
            # As the protocol wants them: 3 to read from, 4 to write to. First out of the way of each other.
            a, b = os.dup2(to_child, 100), os.dup2(from_child, 101)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.child = subprocess.Popen(
            [find(), "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
             "--hide-scrollbars", "--user-data-dir=" + directory, "about:blank"],
            preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=dict(os.environ, HOME=directory))
        os.close(to_child)
        os.close(from_child)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page", "Accessibility"):
            self.call(domain + ".enable")

    def read(self, until):
        """The next message; None when the time is up."""
        while b"\0" not in self.buffer:
            ready = select.select([self.inp], [], [], max(0, until - time.monotonic()))[0]
            if not ready:
                return None
            data = os.read(self.inp, 1 << 20)
            if not data:
                sys.exit("browser: it ended (exit code %s)" % self.child.poll())
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        self.note(message)
        return message

    def note(self, message):
        what, params = message.get("method"), message.get("params", {})
        if what == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:600])
        elif what == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"])[:600])
        elif what == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append("%s %s" % (params["entry"]["text"], params["entry"].get("url", "")))
        elif what == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])

    def call(self, method, **params):
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + LIMIT_S
        while True:
            answer = self.read(until)
            if answer is None:
                sys.exit("browser: %s was not answered in %d s" % (method, LIMIT_S))
            if answer.get("id") == self.next_id:
                if "error" in answer:
                    sys.exit("browser: %s: %s" % (method, answer["error"]))
                return answer["result"]

    def run(self, script):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            sys.exit("browser: %s: %s" % (script, json.dumps(result["exceptionDetails"])[:600]))
        return result["result"].get("value")

    def until(self, script, what):
        """Waits until the expression is true; returns for how many seconds."""
        begin = time.monotonic()
        while not self.run(script):
            if time.monotonic() > begin + LIMIT_S:
                sys.exit("page: not in %d s: %s: %s" % (LIMIT_S, what, self.run("document.body.innerText")[:2000]))
            self.read(time.monotonic() + 0.02)
        return time.monotonic() - begin

    def key(self, key, code=None, text=None):
        for kind in ("keyDown", "keyUp"):
            params = {"type": kind, "key": key, "code": code or key}
            if text and kind == "keyDown":
                params["text"] = text
            if key in ("Enter", "Tab"):
                params["windowsVirtualKeyCode"] = {"Enter": 13, "Tab": 9}[key]
            self.call("Input.dispatchKeyEvent", **params)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def shot(self, path, whole):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def close(self):
        self.child.kill()
        self.child.wait()
