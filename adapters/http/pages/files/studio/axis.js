// A time axis: how much of it is seen, and where its ticks are. All times are in seconds.

/** The shortest time that can be seen: 10 ms are 480 samples at 48 kHz. */
const LEAST_S = 0.01;
const STEPS_S = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
  1800, 3600, 7200, 14400, 21600, 43200, 86400,
];

/** Which part of a time axis is seen. */
export class Axis {
  /** @param {number} total how long all of it is */
  constructor(total) {
    this.total = Math.max(total, LEAST_S);
    this.from = 0;
    this.to = this.total;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
  }

  /** How long the part is that is seen. */
  get length() {
    return this.to - this.from;
  }

  get isWhole() {
    return this.length >= this.total;
  }

  /**
   * Calls a function after each change; returns what ends that.
   *
   * @param {() => void} listener
   */
  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * Makes the axis longer or shorter. Who sees its end goes on seeing it.
   *
   * @param {number} total
   */
  resize(total) {
    const wasWhole = this.isWhole;
    const atEnd = this.to >= this.total;
    const grown = Math.max(total, LEAST_S) - this.total;
    this.total += grown;
    if (wasWhole) this.#show(0, this.total);
    else this.#show(this.from + (atEnd ? grown : 0), this.length);
  }

  /**
   * Shows a shorter or longer part.
   *
   * @param {number} factor 2 shows half as much
   * @param {number} [at] the time that stays where it is; by default the middle
   */
  zoom(factor, at = (this.from + this.to) / 2) {
    const length = Math.min(this.total, Math.max(LEAST_S, this.length / factor));
    this.#show(at - (at - this.from) * (length / this.length), length);
  }

  /** @param {number} seconds */
  pan(seconds) {
    this.#show(this.from + seconds, this.length);
  }

  whole() {
    this.#show(0, this.total);
  }

  /**
   * Moves on so that a time is seen.
   *
   * @param {number} at
   */
  reveal(at) {
    if (at < this.from || at > this.to) this.#show(at - this.length * 0.1, this.length);
  }

  /**
   * Returns where a time is: 0 at the left edge, 1 at the right one.
   *
   * @param {number} at
   */
  place(at) {
    return (at - this.from) / this.length;
  }

  /**
   * Returns the time at a place.
   *
   * @param {number} place 0 at the left edge, 1 at the right one
   */
  at(place) {
    return Math.min(this.total, Math.max(0, this.from + place * this.length));
  }

  /**
   * Returns where the ticks are, at round times.
   *
   * @param {number} most how many there may be
   * @returns {{ step: number, times: number[] }}
   */
  ticks(most) {
    const step = STEPS_S.find((one) => this.length / one <= most) ?? this.length;
    const times = [];
    for (let number = Math.ceil(this.from / step - 1e-9); number * step <= this.to; number += 1)
      times.push(number * step);
    return { step, times };
  }

  /**
   * @param {number} from
   * @param {number} length
   */
  #show(from, length) {
    const kept = Math.min(length, this.total);
    this.from = Math.min(Math.max(0, from), this.total - kept);
    this.to = this.from + kept;
    for (const listener of [...this.listeners]) listener();
  }
}

/**
 * Writes a time as finely as the ticks of an axis are apart.
 *
 * @param {number} seconds
 * @param {number} step in seconds
 */
export function clock(seconds, step) {
  const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3;
  const units = Math.round(Math.max(0, seconds) * 10 ** digits);
  const whole = Math.floor(units / 10 ** digits);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const text = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  const tail = digits ? `.${String(units % 10 ** digits).padStart(digits, "0")}` : "";
  return (hours ? `${hours}:${text}` : text) + tail;
}
