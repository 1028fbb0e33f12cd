// SPDX-License-Identifier: GPL-2.0-or-later
// The chart of the last minutes, by Chart.js where the binary was built with it.
import * as format from "./format.js";

/** What may be looked at, and which fields of a history are its lines. */
export const views = [
	{ name: "connections made", unit: "/s", axis: format.short, lines: [
		{ field: "picks_per_second", label: "given a backend", color: "--blue" },
		{ field: "failures_per_second", label: "refused or unanswered", color: "--red" }] },
	{ name: "open connections", unit: "", axis: format.short, lines: [
		{ field: "connections", label: "open", color: "--green" }] },
	{ name: "bytes forwarded", unit: "/s", axis: format.bytes, lines: [
		{ field: "in_bytes_per_second", label: "from clients", color: "--blue" },
		{ field: "out_bytes_per_second", label: "to clients", color: "--amber" }] },
	{ name: "sockets joined", unit: "/s", axis: format.short, lines: [
		{ field: "joined_per_second", label: "joined", color: "--amber" }] },
];

/** @param {string} name of a colour of the style sheet */
function color(name) {
	return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Graph {
	/** @param {HTMLElement} place */
	constructor(place) {
		this.view = views[0];
		this.canvas = document.createElement("canvas");
		this.canvas.setAttribute("role", "img");
		this.legend = document.createElement("p");
		this.legend.className = "legend";
		/** @type {any} */
		this.last = null;
		this.chart = this.make(place);
		place.append(this.legend);
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show(this.last));
	}

	/** @param {HTMLElement} place */
	make(place) {
		const library = /** @type {any} */ (globalThis).Chart;

		if (!library) {
			const p = document.createElement("p");

			p.textContent = "This waggle was built without the chart library: here are the latest numbers.";
			place.append(p);
			return null;
		}
		const box = document.createElement("div");

		box.className = "canvas";
		box.append(this.canvas);
		place.append(box);
		return new library(this.canvas, {
			type: "line",
			data: { datasets: [] },
			options: {
				animation: false,
				responsive: true,
				maintainAspectRatio: false,
				parsing: false,
				normalized: true,
				interaction: { mode: "index", intersect: false },
				elements: { point: { radius: 0, hitRadius: 6 }, line: { borderWidth: 1.75, tension: 0 } },
				plugins: { legend: { display: false }, tooltip: { callbacks: {
					title: (/** @type {any} */ items) => this.moment(items[0].parsed.x),
					label: (/** @type {any} */ item) => ` ${item.dataset.label}: ${this.number(item.parsed.y)}`,
				} } },
				scales: {
					x: { type: "linear", ticks: { maxRotation: 0, autoSkipPadding: 24, stepSize: 30,
						callback: (/** @type {number} */ x) => this.moment(x) } },
					y: { beginAtZero: true, suggestedMax: 1, ticks: { maxTicksLimit: 6,
						callback: (/** @type {number} */ y) => this.view.axis(y) } },
				},
			},
		});
	}

	/** @param {number} x seconds before the end */
	moment(x) {
		const end = this.last ? Date.parse(this.last.end) : Date.now();

		return new Date(end + x * 1000).toLocaleTimeString("en-GB");
	}

	/** @param {number} y */
	number(y) {
		return this.view.axis === format.bytes ? format.bytes(y) + this.view.unit : format.rate(y) + this.view.unit;
	}

	/** @param {any} history as /v1/history tells it; null: there is none yet */
	show(history) {
		this.last = history;
		const lines = this.view.lines.filter((line) => history?.[line.field]);

		this.describe(lines);
		if (!this.chart)
			return;
		const grid = color("--line"), text = color("--muted"), { options, data } = this.chart;

		data.datasets = lines.map((line) => {
			const values = history[line.field];

			return {
				label: line.label, borderColor: color(line.color), backgroundColor: color(line.color),
				data: values.map((/** @type {number} */ y, /** @type {number} */ i) => ({ x: i + 1 - values.length, y })),
			};
		});
		options.scales.x.min = -Math.min(180, Math.max(60, ...data.datasets.map((/** @type {any} */ d) => d.data.length)));
		options.scales.x.max = 0;
		for (const scale of [options.scales.x, options.scales.y]) {
			scale.grid = { color: grid, borderColor: grid };
			scale.ticks.color = text;
		}
		this.chart.update("none");
	}

	/**
	 * In words: under the chart, and for who does not see it.
	 * @param {typeof views[0]["lines"]} lines
	 */
	describe(lines) {
		const parts = lines.map((line) => ({ line, now: this.last[line.field].at(-1) ?? 0 }));
		const most = lines.map((line) => Math.max(0, ...this.last[line.field]));

		this.legend.replaceChildren(...parts.map(({ line, now }, i) => {
			const span = document.createElement("span"), mark = document.createElement("i");

			mark.className = `mark ${line.color.slice(2)}`;
			span.append(mark, `${line.label} ${this.number(now)}, at most ${this.number(most[i])}`);
			return span;
		}));
		if (!lines.length)
			this.legend.textContent = "no numbers yet";
		this.canvas.ariaLabel = `${this.view.name} in the last three minutes: ${parts.map(({ line, now }) =>
			`${line.label} ${this.number(now)}`).join(", ")}`;
	}
}
