// Finds time in which nothing was captured, by the clock and the number of samples.

/** Later by less than this is jitter. */
const LEAST_S = 0.15;
/** So long all blocks have to be late: a stall makes them late for ever, and a busy machine not. */
const CONFIRM_S = 2;
/** Of the blocks of this time, the one with the least delay counts. */
const KEPT_S = 10;
/** The two clocks drift apart by less than this. What is more was lost, in bits of any size. */
const MAX_DRIFT = 5e-4;

/**
 * Compares positions with the clock: a block that was rendered in time is the one with the least
 * delay. Where the delay rises and stays, time was not captured. A busy browser loses bits that are
 * too short to tell from jitter: they add up until they are a stall.
 *
 * The clock is that of the day, which goes on while a machine sleeps. Where it is set forward, that
 * looks like sleep, and gives silence.
 */
export class Stalls {
  #rate;
  /** @type {{ since: number, least: number }[]} the least delay in each of the last seconds */
  #kept = [];
  /** @type {number | null} */
  #base;
  /** When the latest block in time was rendered. */
  #inTimeAt = -Infinity;
  /** @type {{ position: number, since: number, least: number } | null} blocks that are late */
  #late = null;

  /**
   * @param {number} rateHz
   * @param {number | null} [base] as of an earlier page, to go on with
   */
  constructor(rateHz, base = null) {
    this.#rate = rateHz;
    this.#base = base;
  }

  /** When position 0 was captured, in seconds of the clock; null before the first block. */
  get base() {
    return this.#base;
  }

  /** Where the positions may still change; Infinity if nowhere. */
  get unsettledFrom() {
    return this.#late?.position ?? Infinity;
  }

  /** The stall that there seems to be; null if there is none. */
  get pending() {
    if (!this.#late) return null;
    const seconds = this.#late.least - /** @type {number} */ (this.base);
    return { position: this.#late.position, samples: Math.round(seconds * this.#rate) };
  }

  /**
   * Notes a block. Returns a stall once it is sure: the caller puts so much time before the position,
   * and counts positions with it from then on.
   *
   * @param {number} start position of the block
   * @param {number} length samples per channel
   * @param {number} atS when its last sample was rendered, by the clock
   * @returns {{ position: number, samples: number } | null}
   */
  add(start, length, atS) {
    const delay = atS - (start + length) / this.#rate;
    const { base } = this;
    if (base === null || delay - base <= LEAST_S) {
      this.#late = null;
      this.#keep(atS, delay);
      return null;
    }
    this.#late ??= { position: start, since: atS, least: delay };
    this.#late.least = Math.min(this.#late.least, delay);
    if (atS - this.#late.since < CONFIRM_S) return null;
    return this.settle();
  }

  /** Returns the stall that there seems to be, as `add` does; no other blocks can be waited for. */
  settle() {
    const { pending } = this;
    this.#late = null;
    return pending;
  }

  /**
   * @param {number} atS
   * @param {number} delay
   */
  #keep(atS, delay) {
    const last = this.#kept.at(-1);
    if (last && atS - last.since < 1) last.least = Math.min(last.least, delay);
    else this.#kept.push({ since: atS, least: delay });
    // of a clock that was set back, too
    while (this.#kept.length > 1 && Math.abs(atS - this.#kept[0].since) > KEPT_S)
      this.#kept.shift();
    const passed = Math.min(KEPT_S, Math.max(0, atS - this.#inTimeAt));
    const most = this.#base === null ? Infinity : this.#base + MAX_DRIFT * passed;
    this.#base = Math.min(most, ...this.#kept.map(({ least }) => least));
    this.#inTimeAt = atS;
  }
}
