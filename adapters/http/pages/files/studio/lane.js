// The waveform of one recording on a time axis.

import { ApiError, ask } from "../shared/api.js";
import { h } from "../shared/dom.js";
import { drawWaveform, intervalsOf, scale } from "../shared/waveform.js";

/** Intervals that the server draws at once. */
const MAX_POINTS = 4000;
/** When a waveform is asked for again that the server is still making; it names no event for that. */
const AGAIN_MS = 1000;
/** How much is asked for on each side of what is seen, as a share of it: one pans into it. */
const MARGIN = 0.5;

/**
 * What a lane has drawn or can draw: intervals from a time to another, in seconds of the recording.
 *
 * @typedef {{ from: number, to: number, points: number,
 *   intervals: import("../shared/waveform.js").Interval[] }} Drawn
 */

/** Draws what is seen of a recording, and asks for more detail when one looks closer. */
export class Lane {
  /**
   * @param {import("./axis.js").Axis} axis
   * @param {import("api").components["schemas"]["Recording"]} recording
   * @param {{ start?: number, failed?: (error: unknown) => void }} [options] `start`: where the
   *   recording begins on the axis, in seconds
   */
  constructor(axis, recording, { start = 0, failed = () => {} } = {}) {
    this.axis = axis;
    this.id = recording.id;
    this.rate = recording.sample_rate_hz;
    this.seconds = recording.seconds;
    this.start = start;
    this.failed = failed;
    this.canvas = h("canvas", { class: "waveform lane-canvas", "aria-hidden": "true" });
    /** @type {Drawn | null} */
    this.overview = null;
    /** @type {Drawn | null} */
    this.detail = null;
    this.isSeen = false;
    this.isStale = true;
    this.frame = 0;
    this.asking = new AbortController();
    this.isAsking = false;
    /** @type {(() => unknown)[]} */
    this.ends = [axis.onChange(() => this.redraw())];
    const resized = new ResizeObserver(() => this.redraw());
    resized.observe(this.canvas);
    const seen = new IntersectionObserver(
      ([entry]) => {
        this.isSeen = entry.isIntersecting;
        this.redraw();
      },
      { rootMargin: "100% 0px" }, // a screen ahead: one scrolls to what is drawn
    );
    seen.observe(this.canvas);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => this.redraw();
    dark.addEventListener("change", redraw);
    this.ends.push(
      () => resized.disconnect(),
      () => seen.disconnect(),
      () => dark.removeEventListener("change", redraw),
    );
  }

  /**
   * Takes the new length of a recording that grows.
   *
   * @param {number} seconds
   */
  grow(seconds) {
    this.seconds = seconds;
    this.isStale = true;
    this.redraw();
  }

  redraw() {
    if (!this.isSeen || this.frame || this.asking.signal.aborted) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.#draw();
      void this.#ask();
    });
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.asking.abort();
    for (const end of this.ends) end();
  }

  #draw() {
    const { from, to } = this.#range(0);
    const fits = this.detail && this.detail.from <= from && this.detail.to >= to;
    const shown = fits ? this.detail : (this.overview ?? this.detail);
    const span = {
      from: this.axis.place(this.start + (shown?.from ?? 0)),
      to: this.axis.place(this.start + (shown?.to ?? 0)),
    };
    drawWaveform(this.canvas, shown?.intervals ?? [], span);
  }

  /**
   * Returns what is seen of the recording, in its own seconds.
   *
   * @param {number} margin on each side, as a share of what is seen
   */
  #range(margin) {
    const more = this.axis.length * margin;
    const limit = (/** @type {number} */ at) => Math.min(this.seconds, Math.max(0, at));
    return {
      from: limit(this.axis.from - this.start - more),
      to: limit(this.axis.to - this.start + more),
    };
  }

  /** Whether what there is has an interval for each pixel of what is seen. */
  #isSharp() {
    const { from, to } = this.#range(0);
    if (to <= from) return true;
    const wanted = (this.canvas.clientWidth * scale()) / this.axis.length;
    return [this.overview, this.detail].some(
      (one) =>
        one &&
        one.from <= from &&
        one.to >= to - 0.02 &&
        // where each sample has its own interval, there is no more to see
        one.points / (one.to - one.from) >= Math.min(wanted * 0.75, this.rate * 0.9),
    );
  }

  /** Asks for what is seen now, one request at a time: the last wish counts. */
  async #ask() {
    if (this.isAsking) return;
    this.isAsking = true;
    try {
      while (this.isSeen && !this.asking.signal.aborted && (this.isStale || !this.#isSharp())) {
        const isFirst = this.overview === null || this.isStale;
        const { from, to } = isFirst ? { from: 0, to: this.seconds } : this.#range(MARGIN);
        this.isStale = false;
        const pixels = (this.canvas.clientWidth * scale() * (to - from)) / this.axis.length;
        const points = Math.min(MAX_POINTS, Math.max(1, Math.ceil(pixels)));
        const drawn = await this.#peaks(from, to, points);
        if (!drawn.points) return;
        if (isFirst) {
          this.overview = drawn;
          this.detail = null;
        } else {
          this.detail = drawn;
        }
        this.#draw();
        // the server has no more detail than that
        if (!isFirst && !this.#isSharp() && same(this.#range(MARGIN), { from, to })) return;
      }
    } catch (error) {
      if (!this.asking.signal.aborted) this.failed(error);
    } finally {
      this.isAsking = false;
    }
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {number} points
   * @returns {Promise<Drawn>}
   */
  async #peaks(from, to, points) {
    const query = new URLSearchParams({
      from: String(Math.floor(from * this.rate)),
      to: String(Math.ceil(to * this.rate)),
      points: String(points),
    });
    const path = `/api/recordings/${encodeURIComponent(this.id)}/peaks?${query}`;
    const peaks = await this.#patiently(path);
    return {
      from: peaks.from / this.rate,
      to: peaks.to / this.rate,
      points: peaks.points,
      intervals: intervalsOf(peaks),
    };
  }

  /**
   * @param {string} path
   * @returns {Promise<import("api").components["schemas"]["Peaks"]>}
   */
  async #patiently(path) {
    const { signal } = this.asking;
    for (;;) {
      try {
        return await ask("GET", path, undefined, { signal });
      } catch (error) {
        // it is being made, or too many are asked for at a time
        if (!(error instanceof ApiError) || error.status !== 503) throw error;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        signal.throwIfAborted();
      }
    }
  }
}

/**
 * @param {{ from: number, to: number }} one
 * @param {{ from: number, to: number }} other
 */
function same(one, other) {
  return one.from === other.from && one.to === other.to;
}
