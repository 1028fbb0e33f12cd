#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the status page with a browser, as people would, while things happen to the services.
usage: page_check.py URL SHOTS live PID SERVICE BACKEND    PID serves BACKEND, and is killed
       page_check.py URL SHOTS many N                      N backends
       page_check.py file:PATH SHOTS report                a benchmark's report, without a network"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from browser import LIMIT_S, Browser  # noqa: E402

NAMED = ("button", "link", "searchbox", "textbox", "radio", "table", "image", "region", "img", "navigation", "checkbox")


def fail(text):
    sys.exit("page: " + text)


def ask(url, path):
    with urllib.request.urlopen(url + path, timeout=30) as answer:
        return json.load(answer)


def cell(backend, column):
    """The text of a cell of the backend's row, as a JavaScript expression."""
    return ("[...document.querySelectorAll('#backends tbody tr')].find(r => r.cells[0].textContent.startsWith(%s))"
            "?.querySelector('td.%s')?.textContent" % (json.dumps(backend), column))


def tile(name):
    return ("[...document.querySelectorAll('#tiles div')].find(d => d.firstElementChild.textContent === %s)"
            "?.lastElementChild.textContent" % json.dumps(name))


def load(browser, url, rows):
    browser.size(1440, 900)
    browser.scheme("light")
    browser.call("Page.navigate", url=url + "/")
    return browser.until("document.querySelectorAll('#backends tbody tr').length === %d" % rows, "%d rows" % rows)


def check_names(browser):
    """Whatever can be used or is a picture has a name that can be spoken, and there is one main heading."""
    headings = 0
    for node in browser.call("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        name = node.get("name", {}).get("value", "").strip()
        if node.get("ignored"):
            continue
        if role in NAMED and not name:
            fail("a %s has no name: %s" % (role, json.dumps(node)[:400]))
        headings += role == "heading"
    if headings < 6:
        fail("only %d headings" % headings)
    for script, what in (("document.querySelectorAll('h1').length === 1", "one h1"),
                         ("document.documentElement.lang === 'en'", "a language"),
                         ("document.querySelectorAll('th[aria-sort=ascending], th[aria-sort=descending]').length === 2",
                          "each table says how it is sorted")):
        if not browser.run(script):
            fail("there is not: " + what)


def use_keys(browser, service, backend):
    """Without a mouse: filter, sort, choose a service, and look at everything again."""
    rows = "document.querySelectorAll('#backends tbody tr').length"
    before = browser.run(rows)
    browser.key("/", "Slash", "/")
    browser.until("document.activeElement.id === 'filter' && document.activeElement.value === ''", "/ goes to the filter")
    browser.type("nothing like this")
    browser.until(rows + " === 0", "filtered to nothing")
    browser.run("document.getElementById('filter').select()")
    browser.type(backend)
    browser.until(rows + " === 1", "filtered to one")
    browser.run("document.getElementById('filter').select()")
    browser.type(" ")
    browser.until(rows + " === %d" % before, "the filter is empty")
    browser.run("document.querySelector('#backends th.address button').focus()")
    browser.key("Enter", "Enter", "\r")
    browser.until("document.querySelector('#backends th.address').ariaSort === 'ascending'", "sorted by backend")
    browser.key("Enter", "Enter", "\r")
    browser.until("document.querySelector('#backends th.address').ariaSort === 'descending'", "and the other way round")
    browser.run("document.querySelector('#services tbody button').focus()")
    browser.key("Enter", "Enter", "\r")
    browser.until("document.querySelector('#services tr.chosen button')?.ariaPressed === 'true'", "a service is chosen")
    name = browser.run("document.getElementById('graph-title').textContent")
    browser.until("[...document.querySelectorAll('#backends td.service')].every(c => c.textContent === %s)"
                  % json.dumps(name), "its backends alone")
    browser.run("document.getElementById('all').focus()")
    browser.key("Enter", "Enter", "\r")
    browser.until(rows + " === %d" % before, "all again")
    if browser.run("document.activeElement.id") != "graph-title":
        fail("the focus is lost with the button")


CONTRAST = """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).flatMap(e => {
    const rgb = text => text.match(/[0-9.]+/g).map(Number);
    const light = color => { const [r, g, b] = color.slice(0, 3).map(c => c / 255).map(c =>
        c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    let under = e;
    while (under.parentElement && rgb(getComputedStyle(under).backgroundColor)[3] === 0)
        under = under.parentElement;
    const ground = rgb(getComputedStyle(under).backgroundColor), canvas = matchMedia('(prefers-color-scheme: dark)').matches ? 18 : 255;
    const ink = getComputedStyle(e)[e instanceof SVGElement ? 'fill' : 'color'];
    const two = [light(rgb(ink)), light(ground[3] === 0 ? [canvas, canvas, canvas] : ground)];
    const ratio = (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
    return ratio < 4.5 ? [`${e.tagName} ${e.getAttribute('class') ?? ''} '${e.textContent.trim().slice(0, 30)}' ${ratio.toFixed(2)}`] : [];
})"""


def check_contrast(browser, scheme):
    """What WCAG 2 asks for of small text, of all of it."""
    browser.scheme(scheme)
    weak = browser.run(CONTRAST)
    if weak:
        fail("too little contrast, %s: %s" % (scheme, "; ".join(sorted(set(weak)))))


def keep_focus(browser, service, backends):
    """The focus stays where somebody works, though the rows are put into another order."""
    order = "[...document.querySelectorAll('#services tbody button')].map(b => b.textContent).indexOf(%s)" % json.dumps(service)
    browser.run("document.querySelector('#services th.state button').click()")
    if browser.run(order) == 0:
        fail("%s is first already" % service)
    browser.run("[...document.querySelectorAll('#services tbody button')].find(b => b.textContent === %s).focus()" % json.dumps(service))
    for verb in ("drain", "enable"):
        for backend in backends:
            subprocess.run([os.environ["WAGGLE"], verb, service, backend], check=True, stdout=subprocess.DEVNULL)
        browser.until("(%s === 0) === %s" % (order, "true" if verb == "drain" else "false"), "%s moves" % service)
        if browser.run("document.activeElement.textContent") != service:
            fail("the focus is lost when rows are sorted anew")
    browser.until("document.getElementById('said').textContent.includes(%s)" % json.dumps(service), "it is spoken of")


def check_chart(browser):
    if not browser.run("typeof Chart === 'function'"):
        fail("the binary has no chart library in it")
    browser.until("document.querySelector('#graph canvas').ariaLabel.includes('given a backend')", "the chart tells its numbers")
    # Something was drawn: not every pixel is the same.
    browser.until("""(() => { const c = document.querySelector('#graph canvas');
        const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
        return d.some(p => p !== d[0]); })()""", "the chart is drawn")


def shots(browser, directory, name, whole=True):
    os.makedirs(directory, exist_ok=True)
    for scheme in ("dark", "light"):
        browser.scheme(scheme)
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        browser.shot(os.path.join(directory, "%s-%s.png" % (name, scheme)), whole)


def live(browser, url, directory, pid, service, backend):
    rows = sum(len(s["backends"]) for s in ask(url, "/v1/services")["services"])
    load(browser, url, rows)
    browser.until("document.getElementById('live').textContent === 'live'", "it is live")
    browser.until("document.querySelectorAll('#events li').length > 0", "events from before")
    if browser.run("document.getElementById('said').textContent"):
        fail("what was before is spoken")
    browser.until("!%s.startsWith('0/s')" % tile("New connections"), "new connections are counted")
    check_chart(browser)
    # What an operator says: the page has it at once, without being loaded again.
    for verb, state in (("drain", "draining"), ("enable", "up")):
        subprocess.run([os.environ["WAGGLE"], verb, service, backend], check=True, stdout=subprocess.DEVNULL)
        took = browser.until("%s?.includes(%s)" % (cell(backend, "state"), json.dumps(state)), state)
        print("# %s after %.2f s" % (state, took))
    use_keys(browser, service, backend)
    other = ask(url, "/v1/services")["services"][1]
    keep_focus(browser, other["name"], [b["address"] for b in other["backends"]])
    check_names(browser)
    # A backend dies: first the API says so, then the page.
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + LIMIT_S
    while not any(b["state"] == "down" for s in ask(url, "/v1/services")["services"] for b in s["backends"]):
        if time.monotonic() > until:
            fail("no backend is down in %d s" % LIMIT_S)
        time.sleep(0.02)
    took = browser.until("%s?.includes('down')" % cell(backend, "state"), "it is down")
    print("# down %.2f s after the API said so" % took)
    browser.until("document.querySelector('#events li.down')?.textContent.includes(%s)" % json.dumps(backend), "an event")
    browser.until("document.title.includes('1 down')", "the title tells")
    browser.until("%s?.includes('1 down')" % tile("Backends"), "the overview tells")
    for scheme in ("dark", "light"):
        check_contrast(browser, scheme)
    shots(browser, directory, "page")
    browser.size(390, 844)
    browser.until("document.documentElement.scrollWidth <= 390", "nothing sticks out on a telephone")
    shots(browser, directory, "page-narrow")
    if browser.complaints:
        fail("the browser complains: " + "; ".join(browser.complaints))
    # The daemon goes: the page says so. What the browser says of it is no complaint about the page.
    subprocess.run([os.environ["WAGGLE"], "unload"], check=True, stdout=subprocess.DEVNULL)
    browser.until("document.getElementById('live').className === 'gone'", "it says that nobody answers")
    said, asked = browser.run("document.getElementById('live').textContent"), len(browser.urls)
    until = time.monotonic() + LIMIT_S
    while len(browser.urls) < asked + 12:
        if time.monotonic() > until:
            fail("it does not try again")
        browser.read(time.monotonic() + 0.5)
    if browser.run("document.getElementById('live').textContent") != said:
        fail("it says the same in other words, again and again")
    # The next one: the page goes on, and knows that it is another.
    starts = "[...document.querySelectorAll('#events li')].filter(e => e.textContent.includes('has started')).length"
    before = browser.run(starts)
    daemon = subprocess.Popen(["sh", "-c", 'echo $$ >"$CG/ctl/cgroup.procs" && exec "$WAGGLE" run -c "$CONFIG"'],
                              stdout=subprocess.DEVNULL)
    browser.until("document.getElementById('live').textContent === 'live'", "it is live again")
    browser.until("%s === %d" % (starts, before + 1), "the start is told")
    daemon.terminate()
    if daemon.wait(LIMIT_S):
        fail("waggle run ended with an error")


def many(browser, url, directory, n):
    print("# %d backends: there after %.2f s" % (n, load(browser, url, 100)))
    browser.run("document.getElementById('more').focus()")
    browser.key("Enter", "Enter", "\r")
    print("# all of them after %.2f s" % browser.until(
        "document.querySelectorAll('#backends tbody tr').length === %d" % n, "all are shown"))
    if browser.run("document.activeElement.id") != "backends-title":
        fail("the focus is lost with the button")
    # It goes on being live with all of them.
    seen = browser.run("performance.getEntriesByName(location.origin + '/v1/services').length")
    browser.until("performance.getEntriesByName(location.origin + '/v1/services').length > %d + 2" % seen, "it goes on")
    shots(browser, directory, "page-many", False)
    if browser.complaints:
        fail("the browser complains: " + "; ".join(browser.complaints))


def report(browser, url, directory):
    browser.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    browser.size(1440, 900)
    browser.call("Page.navigate", url=url)
    browser.until("document.readyState === 'complete' && document.querySelectorAll('main table').length > 1", "it is there")
    drawn = "[...document.querySelectorAll('svg')].map(s => s.getBBox().width * s.getBBox().height)"
    if not browser.run("(areas => areas.length > 0 && areas.every(a => a > 0))(%s)" % drawn):
        fail("there is no plot, or an empty one: %s" % browser.run(drawn))
    if not browser.run("document.querySelectorAll('h1').length === 1 && document.documentElement.lang === 'en'"):
        fail("it has no heading, or no language")
    for scheme in ("dark", "light"):
        check_contrast(browser, scheme)
    shots(browser, directory, "report")
    browser.size(390, 844)
    browser.until("document.documentElement.scrollWidth <= 390", "nothing sticks out on a telephone")
    if browser.complaints:
        fail("the browser complains: " + "; ".join(browser.complaints))


def main():
    url, directory, what = sys.argv[1:4]
    with tempfile.TemporaryDirectory(dir=os.environ.get("WORK"), ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            if what == "live":
                live(browser, url, directory, int(sys.argv[4]), sys.argv[5], sys.argv[6])
            elif what == "report":
                report(browser, url, directory)
            else:
                many(browser, url, directory, int(sys.argv[4]))
            away = [u for u in browser.urls if u != url and not u.startswith((url + "/", "about:"))]
            if away:
                fail("it asks others: %s" % away)
        finally:
            browser.close()


main()
