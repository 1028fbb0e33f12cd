// SPDX-License-Identifier: GPL-2.0-or-later
// Asks the daemon again and again, and shows what it says.
import * as format from "./format.js";
import { backendColumns, serviceColumns } from "./columns.js";
import { Graph, views } from "./graph.js";
import { Table } from "./table.js";

const everyMs = 1000; // all of it
const changesMs = 250; // whether there is something that cannot wait
const timeoutMs = 10000;
const rowsShown = 100; // of the backends, until all are asked for

/** @type {{ status: any, services: any[], history: any, events: any, chosen: string | null, all: boolean, offset: number }} */
const seen = { status: null, services: [], history: null, events: { changes: -1, events: [] }, chosen: null, all: false, offset: 0 };

/** @param {string} id */
function element(id) {
	const found = document.getElementById(id);

	if (!found)
		throw new Error(`there is no #${id}`);
	return found;
}

/**
 * Writes only what has changed.
 * @param {HTMLElement} node
 * @param {string} text
 */
function write(node, text) {
	if (node.textContent !== text)
		node.textContent = text;
}

/** The clock of the daemon's machine. */
function now() {
	return Date.now() + seen.offset;
}

const graph = new Graph(element("graph"));
const services = new Table(/** @type {HTMLTableElement} */ (element("services")), "Services", serviceColumns(choose), (s) => s.name);
const backends = new Table(/** @type {HTMLTableElement} */ (element("backends")), "Backends", backendColumns(now),
	(b) => `${b.service} ${b.address}`);
const filter = /** @type {HTMLInputElement} */ (element("filter"));

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
async function ask(path) {
	const answer = await fetch(path, { signal: /** @type {any} */ (AbortSignal).timeout(timeoutMs) });
	const date = answer.headers.get("Date");

	/* The header is in whole seconds: half of one is as near as it comes. */
	if (date && Math.abs(Date.parse(date) + 500 - now()) > 2000)
		seen.offset = Date.parse(date) + 500 - Date.now();
	if (!answer.ok)
		throw new Error((await answer.json()).error);
	return answer.json();
}

/**
 * A service, and all together: null.
 * @param {string | null} name
 */
function choose(name) {
	seen.chosen = name === seen.chosen ? null : name;
	seen.history = null;
	showAll();
	wake();
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string} [more]
 * @param {string} [state]
 */
function tile(name, value, more, state) {
	const div = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");

	if (state)
		div.className = state;
	dt.textContent = name;
	dd.textContent = value;
	if (more) {
		const small = document.createElement("small");

		small.textContent = more;
		dd.append(" ", small);
	}
	div.append(dt, dd);
	return div;
}

/**
 * Instead of what was there, if that is another thing.
 * @param {HTMLElement} node
 * @param {HTMLElement[]} parts
 */
function renew(node, parts) {
	const text = parts.map((part) => part.className + part.outerHTML).join("");

	if (node.dataset.was === text)
		return;
	node.dataset.was = text;
	node.replaceChildren(...parts);
}

/**
 * "2 down, 1 draining"
 * @param {Record<string, number>} states
 * @param {string[]} words
 */
function those(states, words) {
	return words.filter((word) => states[word]).map((word) => `${states[word]} ${word}`).join(", ");
}

function showTiles() {
	const { balancing, sockets, class: kind } = seen.status;
	/** @type {Record<string, number>} */
	const states = {};

	for (const service of seen.services)
		states[service.state] = (states[service.state] ?? 0) + 1;
	const tiles = [
		tile("Services", format.count(balancing.services), those(states, ["down", "panic", "degraded"]) || "all up",
			states.down || states.panic ? "bad" : states.degraded ? "warn" : ""),
		tile("Backends", format.count(balancing.backends), those(balancing.states, ["down", "draining", "disabled", "unknown"]) || "all up",
			balancing.states.down ? "warn" : ""),
		tile("New connections", `${format.rate(balancing.rates.picks_per_second)}/s`, `${format.short(balancing.counters.picked)} in all`),
		tile("Failed", `${format.rate(balancing.rates.failures_per_second)}/s`, undefined,
			balancing.rates.failures_per_second > 0 ? "warn" : ""),
		tile("Open connections", format.count(seen.services.reduce((n, s) => n + s.connections, 0))),
		tile("Forwarded", `${format.bytes(balancing.rates.in_bytes_per_second + balancing.rates.out_bytes_per_second)}/s`),
	];

	if (kind !== "off")
		tiles.push(tile("Joined", `${format.rate(balancing.rates.joined_per_second)}/s`, `${format.count(sockets.joined)} sockets now`));
	renew(element("tiles"), tiles);
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string} [kind] a class
 */
function pair(name, value, kind) {
	const dt = document.createElement("dt"), dd = document.createElement("dd");

	dt.textContent = name;
	dd.textContent = value;
	if (kind)
		dd.className = kind;
	return [dt, dd];
}

/** @param {any} hook */
function hookText(hook) {
	if (!hook.on)
		return "off";
	const parts = [
		...(hook.interfaces ?? []).map((/** @type {any} */ i) => `${i.name}: ${i.hook}`),
		...(hook.cgroups ?? []),
		...(hook.redirects ?? []).map((/** @type {any} */ r) => `${r.cgroup} to ${r.to}: ${format.count(r.connections)}`),
		...(hook.policies ?? []).map((/** @type {any} */ p, /** @type {number} */ i) => `policy ${i} (${p.action}): ${format.count(p.decisions)}`),
	];

	return parts.length ? `on: ${parts.slice(0, 8).join("; ")}${parts.length > 8 ? "; ..." : ""}` : "on";
}

function showAside() {
	const { hooks, sockets, class: kind, reason } = seen.status;

	renew(element("hooks"), hooks.flatMap((/** @type {any} */ hook) => pair(hook.name, hookText(hook), hook.on ? "on" : "off")));
	renew(element("sockets"), kind === "off" ? pair("the accelerator", "off", "off") : [
		...pair("accelerator", reason ? `${kind}: ${reason}` : kind),
		...pair("joined", format.count(sockets.joined), "number"),
		...pair("on TCP", format.count(sockets.watched), "number"),
		...Object.entries(sockets.reasons).sort((a, b) => b[1] - a[1]).flatMap(([word, n]) => pair(`– ${word}`, format.count(n), "number")),
	]);
}

/** @param {any} event */
function eventText(event) {
	if (event.event === "backend")
		return `${event.service}: ${event.backend} is ${event.state}, was ${event.was}: ${event.text}`;
	return event.event === "reload" ? `reload ${event.state}: ${event.text}` : event.text;
}

/** New ones are put before the others. They are spoken too, in one sentence for all of a moment; those from before are not. */
function showEvents() {
	const list = element("events");
	const { pid } = seen.status, { changes, events } = seen.events;
	/* Another process counts from its own start. */
	const known = list.dataset.pid === String(pid) ? Number(list.dataset.changes) : 0;
	const news = events.slice(Math.max(0, events.length - (changes - known)));

	if (list.dataset.pid && news.length)
		write(element("said"), `${news.length > 1 ? `${news.length} events, the last: ` : ""}${eventText(news.at(-1))}`);
	for (const event of news) {
		const li = document.createElement("li"), time = document.createElement("time"), text = document.createElement("span");

		time.dateTime = event.time;
		time.title = new Date(event.time).toLocaleString("en-GB");
		time.textContent = format.clock(event.time);
		text.textContent = eventText(event);
		li.className = event.state ?? "";
		li.append(time, " ", text);
		list.prepend(li);
	}
	while (list.children.length > 256)
		list.lastElementChild?.remove();
	list.dataset.changes = String(changes);
	list.dataset.pid = String(pid);
}

function showBackends() {
	const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
	const all = seen.services.flatMap((s) => seen.chosen && s.name !== seen.chosen ? [] : s.backends);
	const rows = backends.sorted(all.filter((b) => {
		const text = `${b.service} ${b.address} ${b.name ?? ""} ${b.state}`.toLowerCase();

		return words.every((word) => text.includes(word));
	}));
	const shown = seen.all ? rows : rows.slice(0, rowsShown);

	backends.show(shown);
	write(element("shown"), `${format.count(shown.length)} of ${format.count(all.length)}${seen.chosen ? ` of ${seen.chosen}` : ""}`);
	element("more").hidden = shown.length === rows.length;
	write(element("more"), `Show all ${format.count(rows.length)}`);
}

function showServices() {
	services.show(services.sorted(seen.services));
	for (const [name, tr] of services.rows) {
		tr.classList.toggle("chosen", name === seen.chosen);
		tr.cells[0].firstElementChild?.setAttribute("aria-pressed", String(name === seen.chosen));
	}
	write(element("graph-title"), seen.chosen ?? "All services");
	element("all").hidden = !seen.chosen;
}

function showAll() {
	if (!seen.status)
		return;
	const { version, pid, uptime_s: uptime, config, state } = seen.status;
	const down = seen.status.balancing.states.down;

	document.title = down ? `(${down} down) waggle` : "waggle";
	write(element("about"), `${version}, ${state} for ${format.span(uptime)}, pid ${pid}, by ${config.path}`);
	element("trouble").hidden = !config.error;
	write(element("trouble"), config.error ? `The last reload failed: ${config.error}` : "");
	showTiles();
	showAside();
	graph.show(seen.history);
	showServices();
	showBackends();
	showEvents();
}

async function takeAll() {
	const chosen = seen.chosen;
	const [status, list, history, events] = await Promise.all([ask("/v1/status"), ask("/v1/services"),
		ask(chosen ? `/v1/services/${encodeURIComponent(chosen)}/history` : "/v1/history").catch(() => null), ask("/v1/events/recent")]);

	for (const service of list.services) {
		service.in_use = 0;
		for (const backend of service.backends) {
			backend.service = service.name;
			service.in_use += backend.effective_weight > 0 ? 1 : 0;
		}
	}
	seen.status = status;
	seen.services = list.services;
	seen.events = events;
	if (chosen === seen.chosen)
		seen.history = history;
	/* It was taken out of the configuration. */
	if (seen.chosen && !list.services.some((/** @type {any} */ s) => s.name === seen.chosen))
		seen.chosen = null;
}

/** @type {() => void} */
let wake = () => {};
let paused = false;

/** @param {number} ms */
function sleep(ms) {
	return new Promise((resolve) => {
		const timer = setTimeout(resolve, ms, undefined);

		wake = () => {
			clearTimeout(timer);
			resolve(undefined);
		};
	});
}

/**
 * @param {"live" | "paused" | "gone"} state
 * @param {string} text
 */
function showLive(state, text) {
	element("live").className = state;
	write(element("live"), text);
	document.body.classList.toggle("stale", state === "gone");
}

/**
 * Until it is time to ask for everything, or something has changed.
 * @param {number} due
 * @returns {Promise<void>}
 */
async function wait(due) {
	while (performance.now() < due && !paused) {
		const until = Math.min(due, performance.now() + changesMs), chosen = seen.chosen;

		await sleep(Math.max(0, until - performance.now()));
		if (seen.chosen !== chosen)
			return;
		if (performance.now() < due && (await ask("/v1/changes")).changes !== seen.events.changes)
			return;
	}
}

async function run() {
	let gone = "";

	for (;;) {
		const begin = performance.now();

		/* Nobody looks: nobody is asked. */
		if (paused || document.hidden) {
			showLive("paused", "paused");
			await sleep(everyMs * 60);
			continue;
		}
		try {
			await takeAll();
			showAll();
			showLive("live", "live");
			gone = "";
			await wait(begin + everyMs);
		} catch (error) {
			gone ||= format.clock(new Date().toISOString());
			showLive("gone", `waggle does not answer since ${gone}: trying again`);
			console.debug(error);
			await sleep(everyMs);
		}
	}
}

function start() {
	const choice = element("graph-choice");

	for (const view of views) {
		const label = document.createElement("label"), input = document.createElement("input");

		input.type = "radio";
		input.name = "view";
		input.checked = view === graph.view;
		input.addEventListener("change", () => {
			graph.view = view;
			graph.show(seen.history);
		});
		label.append(input, view.name);
		choice.append(label);
	}
	services.onsort = showServices;
	backends.sortBy = backends.columns[2];
	backends.markSort();
	backends.onsort = showBackends;
	filter.addEventListener("input", showBackends);
	/* Both go with what they do; who is there by keyboard goes on at what they have changed. */
	element("all").addEventListener("click", () => {
		choose(null);
		element("graph-title").focus();
	});
	element("more").addEventListener("click", () => {
		seen.all = true;
		showBackends();
		element("backends-title").focus();
	});
	element("pause").addEventListener("click", (event) => {
		paused = !paused;
		/** @type {HTMLElement} */ (event.currentTarget).setAttribute("aria-pressed", String(paused));
		wake();
	});
	document.addEventListener("visibilitychange", () => wake());
	document.addEventListener("keydown", (event) => {
		if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && event.target !== filter) {
			event.preventDefault();
			filter.focus();
		}
	});
	void run();
}

start();
