// The last minute of a track, as levels tell of it while it is recorded.

import { KINDS } from "../shared/kinds.js";

/** @typedef {import("../shared/kinds.js").Kind} Kind */
/** @typedef {import("../shared/waveform.js").Interval} Interval */

const SHOWN_S = 60;
/** Intervals of a second: each is as long as two of the server's events of levels. */
const PER_S = 2;

/**
 * What the events of levels say of a track.
 *
 * @typedef {object} Told
 * @property {number} length samples of each channel so far
 * @property {{ peak_dbfs: number | null }[]} channels
 * @property {Record<Kind, number>} samples of each kind so far
 */

/** Keeps intervals of half a second. They begin at multiples of that, so that nothing flickers. */
export class History {
  /** @param {number} rate samples of a channel in a second */
  constructor(rate) {
    this.slot = Math.max(1, Math.round(rate / PER_S));
    /** @type {number | null} where the first event was; what is before it has to be filled in */
    this.began = null;
    /** The position behind the last sample. */
    this.end = 0;
    /** @type {Map<number, Interval>} by the number of the interval */
    this.slots = new Map();
    /** @type {Told | null} */
    this.latest = null;
  }

  /** The first sample that is shown now. */
  get from() {
    return Math.max(0, this.end - SHOWN_S * PER_S * this.slot);
  }

  /**
   * Adds what has come since the event before; the first one only says where the track is.
   *
   * @param {Told} told
   */
  add(told) {
    const before = this.latest;
    this.latest = told;
    this.end = told.length;
    this.began ??= told.length;
    if (!before || told.length <= before.length) return;
    const peak = Math.max(-Infinity, ...told.channels.map((one) => one.peak_dbfs ?? -Infinity));
    const high = Math.min(1, 10 ** (peak / 20));
    /** @type {Kind} */
    let kind = "received";
    for (const one of KINDS) if (told.samples[one] > before.samples[one]) kind = one;
    this.#put(before.length, told.length, { min: -high, max: high, kind });
    this.#forget();
  }

  /**
   * Puts in what was recorded before anybody looked; what is known already stays.
   *
   * @param {number} from position of the first interval
   * @param {number} to position behind the last one
   * @param {Interval[]} intervals all of the same length
   */
  fill(from, to, intervals) {
    const step = (to - from) / Math.max(1, intervals.length);
    /** @type {Map<number, Interval>} */
    const found = new Map();
    for (const [index, interval] of intervals.entries()) {
      const number = Math.floor((from + (index + 0.5) * step) / this.slot);
      const there = found.get(number);
      found.set(number, there ? worse(there, interval) : interval);
    }
    this.slots = new Map([...found, ...this.slots]);
    this.#forget();
  }

  /**
   * Returns the intervals that are shown, and which part of the width they take (0 to 1).
   *
   * @returns {{ intervals: (Interval | null)[], from: number, to: number }}
   */
  shown() {
    const first = Math.floor(this.from / this.slot);
    const behind = Math.ceil(this.end / this.slot);
    const intervals = [];
    for (let number = first; number < behind; number += 1)
      intervals.push(this.slots.get(number) ?? null);
    const place = (/** @type {number} */ number) =>
      1 + (number * this.slot - this.end) / (SHOWN_S * PER_S * this.slot);
    return { intervals, from: place(first), to: place(behind) };
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {Interval} interval
   */
  #put(from, to, interval) {
    const middle = Math.floor((from + to) / 2 / this.slot);
    // a short one is of the interval that has most of it: one lost packet colours only one
    const isShort = to - from <= this.slot;
    const first = isShort ? middle : Math.floor(Math.max(from, this.from) / this.slot);
    const last = isShort ? middle : Math.ceil(to / this.slot) - 1;
    for (let number = first; number <= last; number += 1) {
      const there = this.slots.get(number);
      this.slots.set(number, there ? worse(there, interval) : interval);
    }
    if (!isShort) return;
    for (const number of [Math.floor(from / this.slot), Math.ceil(to / this.slot) - 1])
      if (!this.slots.has(number)) this.slots.set(number, { ...interval, kind: "received" });
  }

  #forget() {
    const first = Math.floor(this.from / this.slot);
    for (const number of this.slots.keys()) if (number < first) this.slots.delete(number);
  }
}

/**
 * @param {Interval} one
 * @param {Interval} other
 * @returns {Interval}
 */
function worse(one, other) {
  return {
    min: Math.min(one.min, other.min),
    max: Math.max(one.max, other.max),
    kind: KINDS.indexOf(other.kind) > KINDS.indexOf(one.kind) ? other.kind : one.kind,
  };
}
