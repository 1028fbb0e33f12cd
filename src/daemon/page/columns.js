// SPDX-License-Identifier: GPL-2.0-or-later
// What the two tables show of a service and of a backend.
import * as format from "./format.js";

/** Worst first: what is looked for is at the top. The mark says it too, for who does not see colours. */
const states = {
	down: { rank: 0, mark: "▼" },
	panic: { rank: 1, mark: "▼" },
	degraded: { rank: 2, mark: "◆" },
	draining: { rank: 3, mark: "◐" },
	unknown: { rank: 4, mark: "○" },
	disabled: { rank: 5, mark: "–" },
	up: { rank: 6, mark: "●" },
};

/** @param {string} state */
function rank(state) {
	return states[/** @type {keyof states} */ (state)]?.rank ?? 0;
}

/**
 * @param {string} state
 * @param {HTMLElement} cell
 */
function drawState(state, cell) {
	const pill = document.createElement("span"), mark = document.createElement("span");

	pill.className = `state ${state}`;
	mark.ariaHidden = "true";
	mark.textContent = `${states[/** @type {keyof states} */ (state)]?.mark ?? "?"} `;
	pill.append(mark, state);
	cell.replaceChildren(pill);
}

const svgSpace = "http://www.w3.org/2000/svg";
const resultsKept = 64;

/**
 * The last checks, a stroke each: high ones failed.
 * @param {string} results
 * @param {HTMLElement} cell
 */
function drawResults(results, cell) {
	const svg = document.createElementNS(svgSpace, "svg");
	const failed = results.split("0").length - 1;
	const from = (resultsKept - results.length) * 2;
	const strokes = { 0: "", 1: "", none: "" };

	[...results].forEach((result, i) => {
		strokes[/** @type {"0" | "1"} */ (result)] += `M${from + i * 2 + 0.5} ${result === "1" ? 6 : 1}V13`;
	});
	for (let x = 0; x < from; x += 2)
		strokes.none += `M${x + 0.5} 11V13`;
	svg.setAttribute("viewBox", `0 0 ${resultsKept * 2} 14`);
	svg.setAttribute("role", "img");
	svg.setAttribute("aria-label", results ? `${failed} of the last ${results.length} checks failed` : "no checks yet");
	for (const [result, d] of Object.entries(strokes)) {
		const path = document.createElementNS(svgSpace, "path");

		path.setAttribute("d", d || "M0 0");
		path.setAttribute("class", { 0: "failed", 1: "passed" }[result] ?? "none");
		svg.append(path);
	}
	cell.replaceChildren(svg);
}

/** @param {any} check */
function checkText(check) {
	if (!check)
		return "none";
	if (!check.last)
		return "not yet";
	return check.error ?? `${check.latency_ms.toFixed(1)} ms`;
}

/**
 * @param {(name: string) => void} choose
 * @returns {import("./table.js").Column[]}
 */
export function serviceColumns(choose) {
	return [
		{ name: "name", title: "Service", text: (s) => s.name, draw: (s, cell) => {
			const button = document.createElement("button");

			button.type = "button";
			button.textContent = s.name;
			button.title = "Chart and backends of this service";
			button.addEventListener("click", () => choose(s.name));
			cell.replaceChildren(button);
		} },
		{ name: "state", title: "State", text: (s) => s.error ? `${s.state}: ${s.error}` : s.state, sort: (s) => rank(s.state),
			draw: (s, cell) => {
				drawState(s.state, cell);
				if (s.error)
					cell.append(` ${s.error}`);
			} },
		{ name: "listen", title: "Listens on", text: (s) => `${s.protocol} ${s.listen}` },
		{ name: "scheduler", title: "Scheduler", text: (s) => s.scheduler },
		{ name: "up", title: "In use", right: true, text: (s) => `${s.in_use} of ${s.backends.length}`, sort: (s) => s.in_use },
		{ name: "connections", title: "Open", right: true, text: (s) => format.count(s.connections), sort: (s) => s.connections },
		{ name: "picks", title: "New/s", right: true, text: (s) => format.rate(s.picks_per_second), sort: (s) => s.picks_per_second },
		{ name: "failures", title: "Failed/s", right: true, text: (s) => format.rate(s.failures_per_second),
			sort: (s) => s.failures_per_second },
		{ name: "bytes", title: "Bytes/s", right: true, text: (s) => format.bytes(s.in_bytes_per_second + s.out_bytes_per_second),
			sort: (s) => s.in_bytes_per_second + s.out_bytes_per_second },
	];
}

/**
 * @param {() => number} now
 * @returns {import("./table.js").Column[]}
 */
export function backendColumns(now) {
	return [
		{ name: "address", title: "Backend", text: (b) => b.name ? `${b.address} (${b.name})` : b.address },
		{ name: "service", title: "Service", text: (b) => b.service },
		{ name: "state", title: "State", text: (b) => b.state, sort: (b) => rank(b.state), draw: (b, cell) => drawState(b.state, cell) },
		{ name: "since", title: "For", right: true, text: (b) => format.ago(b.since, now()), sort: (b) => -Date.parse(b.since ?? "") || 0 },
		{ name: "weight", title: "Weight", right: true, sort: (b) => b.effective_weight, text: (b) =>
			b.effective_weight > 0 && b.effective_weight !== b.weight ? `${b.effective_weight} of ${b.weight}` : `${b.weight}` },
		{ name: "connections", title: "Open", right: true, text: (b) => format.count(b.connections), sort: (b) => b.connections },
		{ name: "picks", title: "New/s", right: true, text: (b) => format.rate(b.picks_per_second), sort: (b) => b.picks_per_second },
		{ name: "failures", title: "Failed/s", right: true, text: (b) => format.rate(b.failures_per_second),
			sort: (b) => b.failures_per_second },
		{ name: "bytes", title: "Bytes/s", right: true, text: (b) => format.bytes(b.in_bytes_per_second + b.out_bytes_per_second),
			sort: (b) => b.in_bytes_per_second + b.out_bytes_per_second },
		{ name: "results", title: "Last checks", text: (b) => b.check?.results ?? "", draw: (b, cell) =>
			b.check ? drawResults(b.check.results, cell) : cell.replaceChildren(), sort: (b) => b.check?.results.split("0").length ?? 0, right: false },
		{ name: "check", title: "Check", text: (b) => checkText(b.check) },
	];
}
