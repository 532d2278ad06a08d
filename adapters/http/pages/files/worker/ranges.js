// Sets of positions, as ranges.

/** @typedef {{ start: number, length: number }} Range `length` positions from `start` on */

/** A set of positions, kept as disjoint ranges that do not touch. */
export class Ranges {
  /** @type {[number, number][]} starts, and ends that are not included; in order */
  #parts = [];

  /** @param {Iterable<Range>} [ranges] */
  constructor(ranges = []) {
    for (const { start, length } of ranges) this.add(start, start + length);
  }

  /** @returns {IterableIterator<Range>} */
  *[Symbol.iterator]() {
    for (const [start, end] of this.#parts) yield { start, length: end - start };
  }

  /** The number of positions. */
  get total() {
    return this.#parts.reduce((sum, [start, end]) => sum + end - start, 0);
  }

  /**
   * @param {number} start
   * @param {number} end not included, here and below
   */
  add(start, end) {
    if (end <= start) return;
    const parts = this.#parts;
    let first = parts.length; // most is added at the end
    while (first > 0 && parts[first - 1][1] >= start) first--;
    let behind = first;
    for (; behind < parts.length && parts[behind][0] <= end; behind++) {
      start = Math.min(start, parts[behind][0]);
      end = Math.max(end, parts[behind][1]);
    }
    parts.splice(first, behind - first, [start, end]);
  }

  /**
   * @param {number} start
   * @param {number} end
   */
  remove(start, end) {
    if (end <= start) return;
    this.#parts = this.#parts.flatMap(([from, to]) => {
      if (to <= start || from >= end) return [[from, to]];
      /** @type {[number, number][]} */
      const left = [];
      if (from < start) left.push([from, start]);
      if (to > end) left.push([end, to]);
      return left;
    });
  }

  /**
   * Returns the ranges from `start` to `end`, cut at both.
   *
   * @param {number} start
   * @param {number} end
   * @returns {Range[]}
   */
  within(start, end) {
    const found = [];
    for (const [from, to] of this.#parts) {
      const first = Math.max(from, start);
      const last = Math.min(to, end);
      if (first < last) found.push({ start: first, length: last - first });
    }
    return found;
  }

  /**
   * Returns whether all positions from `start` to `end` are in the set.
   *
   * @param {number} start
   * @param {number} end
   */
  covers(start, end) {
    return end <= start || this.#parts.some(([from, to]) => from <= start && end <= to);
  }
}
