// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers, spans and moments as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** @param {number} n */
export function count(n) {
	return whole.format(n);
}

/**
 * 0.4, 12.5, 4,711: something a second.
 * @param {number} n
 */
export function rate(n) {
	return n < 100 ? tenths.format(n) : whole.format(n);
}

/**
 * 12 k, 3.4 M: for axes.
 * @param {number} n
 */
export function short(n) {
	const units = ["", " k", " M", " G", " T"];
	let i = 0;

	for (; Math.abs(n) >= 1000 && i < units.length - 1; i++)
		n /= 1000;
	return tenths.format(n) + units[i];
}

/** @param {number} n of bytes */
export function bytes(n) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let i = 0;

	for (; n >= 1024 && i < units.length - 1; i++)
		n /= 1024;
	return `${n < 100 ? tenths.format(n) : whole.format(n)} ${units[i]}`;
}

/**
 * 45 s, 12 min, 3 h 5 min, 2 d 4 h.
 * @param {number} s
 */
export function span(s) {
	if (s < 60)
		return `${Math.max(0, Math.floor(s))} s`;
	if (s < 3600)
		return `${Math.floor(s / 60)} min`;
	if (s < 86400)
		return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
	return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

/**
 * How long ago.
 * @param {string | null} iso
 * @param {number} now of the daemon, in ms
 */
export function ago(iso, now) {
	return iso ? span((now - Date.parse(iso)) / 1000) : "";
}

/** @param {string} iso */
export function clock(iso) {
	return new Date(iso).toLocaleTimeString("en-GB");
}
