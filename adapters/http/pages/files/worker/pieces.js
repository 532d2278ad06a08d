// Which pieces of a spool are sent, for what a server wants of it.

import { Ranges } from "./ranges.js";

/** @typedef {import("./ranges.js").Range} Range */

const MAX_SAMPLES = 480_000; // a server takes no more
const MAX_BYTES = 1024 * 1024; // of PCM
/** What a request and its answer cost beside their sound. */
export const REQUEST_BYTES = 600;
/** How long sending a piece should take; beside live sound, what it may hold up. */
const REQUEST_S = 3;
const REQUEST_BESIDE_S = 0.25;
const SHORTEST_S = 0.02;
/** Wanted sound with no more than this between is sent as one, if that is not more than a request. */
const LONGEST_GAP_S = 1;
const FIRST_SPEED = 20_000;
const LOWEST_SPEED = 4_000; // so that pieces still tell the speed
const WEIGHT = 0.25;
/** Smaller pieces do not tell the speed. */
const TELLING_BYTES = 8192;

/** Divides wanted sound into pieces, by how fast the last ones were sent. */
export class PiecePlan {
  #rate;
  #most;
  #sampleBytes;
  #speed = FIRST_SPEED; // bytes a second

  /** @type {number | null} bytes a second that may be sent beside live sound; null without it */
  limit = null;

  /**
   * @param {number} rateHz
   * @param {number} frameBytes
   */
  constructor(rateHz, frameBytes) {
    this.#rate = rateHz;
    this.#most = Math.min(MAX_SAMPLES, Math.floor(MAX_BYTES / frameBytes));
    this.#sampleBytes = frameBytes / 2; // what FLAC makes of it, as long as nothing is known
  }

  /** How many samples are sent at once, at most. */
  get size() {
    const least = Math.round(SHORTEST_S * this.#rate);
    const bytes =
      this.limit === null
        ? REQUEST_S * this.#speed
        : REQUEST_BESIDE_S * Math.min(this.#speed, this.limit);
    return Math.max(least, Math.min(this.#most, Math.round(bytes / this.#sampleBytes)));
  }

  /**
   * @param {number} samples
   * @param {number} bytes that they took
   * @param {number} seconds
   */
  sent(samples, bytes, seconds) {
    this.#sampleBytes += WEIGHT * (bytes / samples - this.#sampleBytes);
    if (bytes >= TELLING_BYTES)
      this.#speed += WEIGHT * (bytes / Math.max(seconds, 1e-3) - this.#speed);
  }

  /** A request with sound has failed: the next ones are shorter. */
  failed() {
    this.#speed = Math.max(LOWEST_SPEED, this.#speed / 2);
  }

  /**
   * Yields the pieces of what is wanted, in order, without what was not captured.
   *
   * @param {Iterable<Range>} wanted
   * @param {Ranges} captured
   * @returns {Generator<Range>}
   */
  *pieces(wanted, captured) {
    for (let { start, length } of this.#runs(wanted, captured)) {
      while (length) {
        const count = Math.min(length, this.size);
        yield { start, length: count };
        start += count;
        length -= count;
      }
    }
  }

  /**
   * @param {Iterable<Range>} wanted
   * @param {Ranges} captured
   */
  #runs(wanted, captured) {
    const gap = Math.min(LONGEST_GAP_S * this.#rate, REQUEST_BYTES / this.#sampleBytes);
    /** @type {Range[]} */
    const runs = [];
    for (const range of wanted)
      for (const part of captured.within(range.start, range.start + range.length)) {
        const last = runs.at(-1);
        const end = last ? last.start + last.length : 0;
        if (last && part.start - end <= gap && captured.covers(end, part.start))
          last.length = part.start + part.length - last.start;
        else runs.push({ ...part });
      }
    return runs;
  }
}
