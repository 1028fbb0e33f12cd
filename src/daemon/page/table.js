// SPDX-License-Identifier: GPL-2.0-or-later
// A table that is brought up to date: only what has changed is written, so that a thousand rows a second cost little, the
// focus stays where it is, and a screen reader keeps its place.

/**
 * @typedef {object} Column
 * @property {string} name field to sort by, and class of the cells
 * @property {string} title
 * @property {boolean} [right] numbers
 * @property {(row: any) => string} text also what is compared to tell whether the cell has changed
 * @property {(row: any) => string | number} [sort] in place of the text
 * @property {(row: any, cell: HTMLElement) => void} [draw] in place of the text
 */

/**
 * @template T
 */
export class Table {
	/**
	 * @param {HTMLTableElement} table
	 * @param {string} caption for screen readers
	 * @param {Column[]} columns the first one is the head of its row
	 * @param {(row: T) => string} key
	 */
	constructor(table, caption, columns, key) {
		this.columns = columns;
		this.key = key;
		/** @type {Map<string, HTMLTableRowElement>} */
		this.rows = new Map();
		this.sortBy = columns[0];
		this.reverse = false;
		/** @type {() => void} */
		this.onsort = () => {};
		const head = table.createTHead().insertRow();

		table.createCaption().textContent = caption;
		table.caption?.classList.add("spoken");
		this.heads = columns.map((column) => head.appendChild(this.head(column)));
		this.body = table.createTBody();
		this.markSort();
	}

	/** @param {Column} column */
	head(column) {
		const th = document.createElement("th");
		const button = document.createElement("button");

		th.scope = "col";
		th.className = column.right ? `${column.name} number` : column.name;
		button.type = "button";
		button.textContent = column.title;
		button.addEventListener("click", () => {
			this.reverse = this.sortBy === column && !this.reverse;
			this.sortBy = column;
			this.markSort();
			this.onsort();
		});
		th.append(button);
		return th;
	}

	markSort() {
		this.columns.forEach((column, i) => {
			const down = this.reverse !== Boolean(column.right);

			this.heads[i].ariaSort = column !== this.sortBy ? "none" : down ? "descending" : "ascending";
		});
	}

	/**
	 * Text from a to z, numbers from the greatest down.
	 * @param {T[]} rows
	 */
	sorted(rows) {
		const { sort, text, right } = this.sortBy;
		const value = sort ?? text;
		const sign = (right ? -1 : 1) * (this.reverse ? -1 : 1);
		const pairs = rows.map((row, i) => ({ row, i, v: value(row) }));

		pairs.sort((a, b) => (a.v < b.v ? -sign : a.v > b.v ? sign : a.i - b.i));
		return pairs.map((pair) => pair.row);
	}

	/**
	 * A row that is moved loses the focus: the one that has it stays, and the others are moved around it.
	 * @param {T[]} rows in their order
	 */
	show(rows) {
		const seen = new Set(), focused = document.activeElement?.closest("tr");
		let at = this.body.firstElementChild;

		for (const row of rows) {
			const key = this.key(row);
			const tr = this.rows.get(key) ?? this.add(key);

			seen.add(key);
			this.fill(tr, row);
			while (tr === focused && at && at !== tr) {
				const next = at.nextElementSibling;

				this.body.append(at);
				at = next;
			}
			if (tr === at)
				at = at.nextElementSibling;
			else
				this.body.insertBefore(tr, at);
		}
		for (const [key, tr] of this.rows) {
			if (seen.has(key))
				continue;
			tr.remove();
			this.rows.delete(key);
		}
	}

	/** @param {string} key */
	add(key) {
		const tr = document.createElement("tr");

		this.columns.forEach((column, i) => {
			const cell = document.createElement(i ? "td" : "th");

			if (!i)
				/** @type {HTMLTableCellElement} */ (cell).scope = "row";
			cell.className = column.right ? `${column.name} number` : column.name;
			tr.append(cell);
		});
		this.rows.set(key, tr);
		return tr;
	}

	/**
	 * @param {HTMLTableRowElement} tr
	 * @param {T} row
	 */
	fill(tr, row) {
		this.columns.forEach((column, i) => {
			const cell = tr.cells[i];
			const text = column.text(row);

			if (cell.dataset.was === text)
				return;
			cell.dataset.was = text;
			if (column.draw)
				column.draw(row, cell);
			else
				cell.textContent = text;
		});
	}
}
