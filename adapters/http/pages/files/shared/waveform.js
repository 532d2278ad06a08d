// Draws a waveform on a canvas, each interval in the colour of what its samples are.

import { KINDS, kindColours } from "./kinds.js";

/** @typedef {import("./kinds.js").Kind} Kind */

/**
 * One interval of a waveform.
 *
 * @typedef {object} Interval
 * @property {number} min lowest sample, −1 to 1
 * @property {number} max highest sample, −1 to 1
 * @property {Kind} kind the worst kind that it has
 */

/**
 * Returns the intervals of an answer of `GET /api/recordings/{id}/peaks`, all channels in one.
 *
 * @param {import("api").components["schemas"]["Peaks"]} peaks
 * @returns {Interval[]}
 */
export function intervalsOf(peaks) {
  const intervals = [];
  for (let index = 0; index < peaks.points; index += 1) {
    /** @type {Kind} */
    let kind = "received";
    let worst = -1;
    for (const { kind: found, shares } of peaks.kinds) {
      const rank = KINDS.indexOf(found);
      if (shares[index] > 0 && rank > worst) {
        worst = rank;
        kind = found;
      }
    }
    intervals.push({
      min: Math.min(...peaks.min.map((channel) => channel[index])) / 32768,
      max: Math.max(...peaks.max.map((channel) => channel[index])) / 32768,
      kind,
    });
  }
  return intervals;
}

/**
 * Draws intervals over the whole width of a canvas. What is not received has a strip of its colour
 * at the lower edge, too: silence has no height of its own.
 *
 * @param {HTMLCanvasElement} canvas its size on the page is kept
 * @param {(Interval | null)[]} intervals null: nothing is known, and nothing drawn
 * @param {{ from?: number, to?: number }} [span] which part of the width they take, 0 to 1
 */
export function drawWaveform(canvas, intervals, { from = 0, to = 1 } = {}) {
  const context = fitted(canvas);
  const { width, height } = canvas;
  const strip = Math.round(3 * scale());
  const middle = (height - strip) / 2;
  const colours = kindColours();
  context.clearRect(0, 0, width, height);
  const step = ((to - from) * width) / Math.max(1, intervals.length);
  for (const [index, interval] of intervals.entries()) {
    if (!interval) continue;
    const { min, max, kind } = interval;
    const left = Math.round(from * width + index * step);
    const wide = Math.max(1, Math.round(from * width + (index + 1) * step) - left);
    const top = middle - max * middle;
    const bottom = middle - min * middle;
    context.fillStyle = colours[kind];
    context.fillRect(left, top, wide, Math.max(bottom - top, scale()));
    if (kind !== "received" && kind !== "dtx") context.fillRect(left, height - strip, wide, strip);
  }
}

/**
 * Fits the pixels of a canvas to the size that it has on the page, and returns its context.
 *
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function fitted(canvas) {
  const width = Math.max(1, Math.round(canvas.clientWidth * scale()));
  const height = Math.max(1, Math.round(canvas.clientHeight * scale()));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  if (!context) throw new Error("there is no canvas in this browser");
  return context;
}

/** How many pixels of the screen a pixel of the page has; two are sharp enough. */
export function scale() {
  return Math.min(2, globalThis.devicePixelRatio || 1);
}
