// A level meter: peak and RMS of each channel on a scale in dBFS.

import { h } from "./dom.js";
import { dbfs } from "./format.js";
import { fitted, scale } from "./waveform.js";

const LOWEST_DBFS = -60;
const HIGH_DBFS = -12;
const OVER_DBFS = -1;
/** What the peak mark falls in a second, as of a programme meter (IEC 60268-10, type I). */
const FALL_DB_PER_S = 12;

/**
 * How loud a channel is.
 *
 * @typedef {object} Level
 * @property {number | null} peak_dbfs null for digital silence
 * @property {number | null} rms_dbfs
 */

/** Shows levels as they come. */
export class Meter {
  /** @param {string} label what is measured, for screen readers */
  constructor(label) {
    this.canvas = h("canvas", {
      role: "meter",
      "aria-label": label,
      "aria-valuemin": LOWEST_DBFS,
      "aria-valuemax": 0,
      "aria-valuenow": LOWEST_DBFS,
      "aria-valuetext": dbfs(null),
    });
    this.element = h("div", { class: "meter" }, this.canvas);
    /** @type {number[]} */
    this.held = [];
    this.at = performance.now();
    this.spokenAt = -Infinity;
  }

  /** @param {Level[]} channels */
  show(channels) {
    const now = performance.now();
    const fallen = ((now - this.at) / 1000) * FALL_DB_PER_S;
    this.at = now;
    const context = fitted(this.canvas);
    const { width, height } = this.canvas;
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name);
    context.fillStyle = colour("--sunken");
    context.fillRect(0, 0, width, height);
    const rows = Math.max(1, channels.length);
    const gap = Math.round(scale() * 2);
    const tall = (height - gap * (rows - 1)) / rows;
    for (const [index, { peak_dbfs, rms_dbfs }] of channels.entries()) {
      const top = index * (tall + gap);
      const peak = peak_dbfs ?? -Infinity;
      this.held[index] = Math.max(peak, (this.held[index] ?? -Infinity) - fallen);
      for (const [from, to, name] of BANDS) {
        context.fillStyle = colour(name);
        bar(context, from, Math.min(to, peak), top, tall, 0.35);
        bar(context, from, Math.min(to, rms_dbfs ?? -Infinity), top, tall, 1);
      }
      const mark = place(this.held[index]) * width;
      context.fillStyle = colour("--ink");
      if (mark > 0) context.fillRect(mark - scale(), top, scale() * 2, tall);
    }
    context.fillStyle = colour("--ink-soft");
    for (let at = LOWEST_DBFS; at < 0; at += 10)
      context.fillRect(Math.round(place(at) * width), 0, 1, height * 0.16);
    if (now - this.spokenAt > 1000) {
      this.spokenAt = now;
      const loudest = Math.max(LOWEST_DBFS, ...channels.map((one) => one.peak_dbfs ?? LOWEST_DBFS));
      this.canvas.setAttribute("aria-valuenow", loudest.toFixed(0));
      this.canvas.setAttribute("aria-valuetext", dbfs(loudest));
    }
  }
}

/** @type {[number, number, string][]} */
const BANDS = [
  [LOWEST_DBFS, HIGH_DBFS, "--level-low"],
  [HIGH_DBFS, OVER_DBFS, "--level-high"],
  [OVER_DBFS, 1, "--level-over"],
];

/**
 * Returns where a level is on the scale, 0 to 1.
 *
 * @param {number} level in dBFS
 */
function place(level) {
  return Math.min(1, Math.max(0, (level - LOWEST_DBFS) / -LOWEST_DBFS));
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} from
 * @param {number} to
 * @param {number} top
 * @param {number} tall
 * @param {number} alpha
 */
function bar(context, from, to, top, tall, alpha) {
  if (to <= from) return;
  const width = context.canvas.width;
  context.globalAlpha = alpha;
  context.fillRect(place(from) * width, top, (place(to) - place(from)) * width, tall);
  context.globalAlpha = 1;
}
