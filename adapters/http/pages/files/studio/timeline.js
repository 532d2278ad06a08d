// A ruler with a cursor above lanes: where one is in time, and where one may go.

import { fill, h } from "../shared/dom.js";
import { fitted, scale } from "../shared/waveform.js";
import { t } from "../shared/text.js";
import { clock } from "./axis.js";
import { followKeys, followPointers } from "./gestures.js";

/** Pixels between two ticks, with room for 0:00:00.000. */
const TICK_PX = 96;
/** Pixels that the time at a tick takes. */
const LABEL_PX = 64;
const ZOOM = 2;

/** Shows an axis, and lets people move on it. */
export class Timeline {
  /**
   * @param {import("./axis.js").Axis} axis
   * @param {{ label: string, pick: (seconds: number) => void, move: (seconds: number) => void,
   *   toggle: () => void }} told `pick`: somebody has clicked at a time; `move`: the keys have set
   *   the cursor; `toggle`: to play or to pause
   */
  constructor(axis, { label, pick, move, toggle }) {
    this.axis = axis;
    this.pick = pick;
    this.at = 0;
    /** @type {number[]} */
    this.marks = [];
    this.ticks = h("div", { class: "ruler-ticks", "aria-hidden": "true" });
    this.strip = h("canvas", { class: "ruler-marks", "aria-hidden": "true" });
    this.ruler = h(
      "div",
      {
        class: "ruler",
        role: "slider",
        tabindex: 0,
        "aria-label": label,
        "aria-describedby": "timeline-keys",
        "aria-valuemin": 0,
      },
      this.ticks,
      this.strip,
    );
    this.cursor = h("div", { class: "cursor", "aria-hidden": "true" });
    this.lanes = h("div", { class: "lanes" });
    this.element = h("div", { class: "timeline" }, this.ruler, this.lanes, this.cursor);
    const zoom = (/** @type {string} */ text, /** @type {() => void} */ act) =>
      h("button", { type: "button", onClick: act }, text);
    this.out = zoom(t("timeline.out"), () => axis.zoom(1 / ZOOM, this.#middle()));
    this.in = zoom(t("timeline.in"), () => axis.zoom(ZOOM, this.#middle()));
    this.whole = zoom(t("timeline.whole"), () => axis.whole());
    this.controls = h("div", { class: "row" }, this.out, this.in, this.whole);
    this.help = h(
      "div",
      { class: "small soft" },
      h("p", { class: "with-keys", id: "timeline-keys" }, t("timeline.keys")),
      h("p", { class: "with-fingers" }, t("timeline.fingers")),
    );
    followKeys(this.ruler, axis, { at: () => this.at, move, toggle });
    this.follow(this.ruler);
    const redraw = () => this.#draw();
    const resized = new ResizeObserver(redraw);
    resized.observe(this.ruler);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", redraw);
    const endChange = axis.onChange(redraw);
    this.close = () => {
      endChange();
      resized.disconnect();
      dark.removeEventListener("change", redraw);
    };
    this.moveTo(0);
  }

  /**
   * Lets an element that is as wide as the axis be clicked and dragged.
   *
   * @param {HTMLElement} stage
   */
  follow(stage) {
    stage.classList.add("stage");
    followPointers(stage, this.axis, (seconds) => {
      this.ruler.focus({ preventScroll: true });
      this.pick(seconds);
    });
  }

  /**
   * @param {number} seconds
   * @param {{ isTold?: boolean }} [options] whether screen readers are told: not while it plays
   */
  moveTo(seconds, { isTold = true } = {}) {
    this.at = seconds;
    const place = this.axis.place(seconds);
    this.cursor.hidden = place < 0 || place > 1;
    this.cursor.style.setProperty("--at", String(place));
    if (!isTold) return;
    this.ruler.setAttribute("aria-valuemax", this.axis.total.toFixed(3));
    this.ruler.setAttribute("aria-valuenow", seconds.toFixed(3));
    const values = { at: clock(seconds, 0.1), total: clock(this.axis.total, 1) };
    this.ruler.setAttribute("aria-valuetext", t("timeline.position", values));
  }

  /**
   * Marks times on the ruler.
   *
   * @param {number[]} times
   */
  mark(times) {
    this.marks = times;
    this.#draw();
  }

  /** What zooming by a button keeps in its place: the cursor, if it is seen. */
  #middle() {
    const place = this.axis.place(this.at);
    return place >= 0 && place <= 1 ? this.at : undefined;
  }

  #draw() {
    const { step, times } = this.axis.ticks(Math.max(2, this.ruler.clientWidth / TICK_PX));
    const room = 1 - LABEL_PX / Math.max(1, this.ruler.clientWidth);
    const ticks = times.map((time) => {
      const isRoom = this.axis.place(time) <= room;
      const tick = h("span", {}, isRoom ? clock(time, step) : null);
      tick.style.setProperty("--at", String(this.axis.place(time)));
      return tick;
    });
    fill(this.ticks, ticks);
    const context = fitted(this.strip);
    const { width, height } = this.strip;
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(this.strip).color;
    for (const time of this.marks) {
      const place = this.axis.place(time);
      if (place >= 0 && place <= 1)
        context.fillRect(Math.round(place * width) - scale(), 0, 2 * scale(), height);
    }
    this.in.disabled = this.axis.length <= 0.0101;
    this.out.disabled = this.whole.disabled = this.axis.isWhole;
    this.moveTo(this.at, { isTold: false });
  }
}
