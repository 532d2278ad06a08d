// A list of thousands of rows, of which only those on the screen are in the page.

import { h } from "../shared/dom.js";

/** Rows above and below the screen: one scrolls into them before the next frame. */
const MORE = 8;

/**
 * Shows rows of one height, and scrolls with the page. One row at a time can be reached with the
 * Tab key; arrows, Page Up, Page Down, Home and End go to the others.
 *
 * @template T
 */
export class VirtualList {
  /**
   * @param {{ make: () => HTMLElement, show: (row: HTMLElement, item: T) => void,
   *   keyOf: (item: T) => string, near: (index: number) => void }} rows `make`: an empty row, with
   *   one link; `show`: fills it; `near`: this row is nearly seen, so it may have to be loaded
   */
  constructor({ make, show, keyOf, near }) {
    this.make = make;
    this.show = show;
    this.keyOf = keyOf;
    this.near = near;
    /** @type {T[]} */
    this.items = [];
    /** @type {Map<number, HTMLElement>} */
    this.rows = new Map();
    /** @type {HTMLElement[]} */
    this.spare = [];
    this.active = 0;
    this.frame = 0;
    this.element = h("div", { class: "list-body", role: "rowgroup" });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("focusin", (event) => {
      for (const [index, row] of this.rows)
        if (row.contains(/** @type {Node} */ (event.target))) this.#activate(index);
    });
    const redraw = () => this.redraw();
    addEventListener("scroll", redraw, { passive: true });
    addEventListener("resize", redraw);
    this.close = () => {
      cancelAnimationFrame(this.frame);
      removeEventListener("scroll", redraw);
      removeEventListener("resize", redraw);
    };
  }

  /**
   * Shows other rows.
   *
   * @param {T[]} items
   */
  set(items) {
    const hasFocus = this.rows.get(this.active)?.contains(document.activeElement);
    const before = this.items[this.active];
    const key = before === undefined ? "" : this.keyOf(before);
    const found = items.findIndex((item) => this.keyOf(item) === key);
    this.items = items;
    this.#activate(Math.max(0, found >= 0 ? found : Math.min(this.active, items.length - 1)));
    this.element.style.setProperty("--count", String(items.length));
    for (const [index, row] of this.rows)
      if (index < items.length) this.show(row, items[index]);
      else this.#drop(index, row);
    if (hasFocus && items.length) this.#focus();
    else this.redraw();
  }

  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.#draw();
    });
  }

  /** The height of a row, in pixels. */
  get tall() {
    return this.element.clientHeight / Math.max(1, this.items.length);
  }

  #draw() {
    const count = this.items.length;
    if (!count) return;
    const tall = this.tall;
    const top = this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / tall) - MORE);
    const last = Math.min(count - 1, Math.ceil((innerHeight - top) / tall) + MORE);
    for (const [index, row] of this.rows)
      // the row with the focus stays, wherever one scrolls
      if ((index < first || index > last) && index !== this.active) this.#drop(index, row);
    const shown = new Set([this.active]);
    for (let index = first; index <= last; index += 1) shown.add(index);
    // in the order of the list, as screen readers read it
    let next = this.element.firstElementChild;
    for (const index of [...shown].sort((one, other) => one - other)) {
      const row = this.rows.get(index) ?? this.#add(index);
      if (row === next) next = next.nextElementSibling;
      else this.element.insertBefore(row, next);
    }
    this.near(last);
  }

  /** @param {number} index */
  #add(index) {
    const row = this.spare.pop() ?? this.make();
    row.style.setProperty("--index", String(index));
    row.setAttribute("aria-rowindex", String(index + 2)); // the head is the first
    this.show(row, this.items[index]);
    link(row).tabIndex = index === this.active ? 0 : -1;
    this.rows.set(index, row);
    return row;
  }

  /**
   * @param {number} index
   * @param {HTMLElement} row
   */
  #drop(index, row) {
    this.rows.delete(index);
    row.remove();
    this.spare.push(row);
  }

  /** @param {number} index */
  #activate(index) {
    const before = this.rows.get(this.active);
    if (before) link(before).tabIndex = -1;
    this.active = index;
    const row = this.rows.get(index);
    if (row) link(row).tabIndex = 0;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const page = Math.max(1, Math.floor(innerHeight / this.tall) - 2);
    const last = this.items.length - 1;
    /** @type {Record<string, number>} */
    const goals = {
      "ArrowDown": this.active + 1,
      "ArrowUp": this.active - 1,
      "PageDown": this.active + page,
      "PageUp": this.active - page,
      "Home": 0,
      "End": last,
    };
    const goal = goals[event.key];
    if (goal === undefined || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey)
      return;
    event.preventDefault();
    this.#activate(Math.min(last, Math.max(0, goal)));
    const tall = this.tall;
    const above = this.element.getBoundingClientRect().top + this.active * tall;
    const edge = tall * 2; // what may stand at the edges of the screen
    if (above < edge) scrollBy(0, above - edge);
    else if (above + tall > innerHeight - edge) scrollBy(0, above + tall - innerHeight + edge);
    this.#focus();
  }

  #focus() {
    this.#draw();
    const row = this.rows.get(this.active);
    if (row) link(row).focus({ preventScroll: true });
  }
}

/**
 * @param {HTMLElement} row
 * @returns {HTMLElement}
 */
function link(row) {
  const found = row.querySelector("a");
  if (!found) throw new Error("a row needs a link");
  return found;
}
