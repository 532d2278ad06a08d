// Where the samples of a file are on the axis of time, on which some time was not captured.

/** @typedef {import("./ranges.js").Range} Range */

/** Positions of a spool. They count samples per channel, captured or missed, from its first one. */
export class Axis {
  /** Samples per channel that were captured: what the file has. */
  captured = 0;
  /** @type {Range[]} what was missed, in order and apart */
  missing = [];

  /** The position after the last one. */
  get length() {
    return this.captured + this.missed;
  }

  /** The samples that were missed. */
  get missed() {
    return this.missing.reduce((sum, { length }) => sum + length, 0);
  }

  /**
   * Puts time that was missed where it was: what lies behind moves.
   *
   * @param {number} at
   * @param {number} length
   */
  miss(at, length) {
    const { missing } = this;
    let index = 0;
    while (index < missing.length && missing[index].start + missing[index].length < at) index++;
    if (index < missing.length && missing[index].start <= at) missing[index].length += length;
    else missing.splice(index, 0, { start: at, length });
    for (const behind of missing.slice(index + 1)) behind.start += length;
  }

  /**
   * Returns the parts of what lies from `start` to `end`, in order: from the file, or missing.
   *
   * @param {number} start
   * @param {number} end not included
   * @returns {{ start: number, length: number, offset: number | null }[]} `offset`: samples of the
   *   file before it; null for what is missing
   */
  parts(start, end) {
    const found = [];
    let position = start;
    let before = 0; // missed before the position
    for (const range of [...this.missing, { start: this.length, length: 0 }]) {
      const until = Math.min(range.start, end);
      if (position < until) {
        found.push({ start: position, length: until - position, offset: position - before });
        position = until;
      }
      before += range.length;
      const last = Math.min(range.start + range.length, end);
      if (position < last && position >= range.start) {
        found.push({ start: position, length: last - position, offset: null });
        position = last;
      }
    }
    return found;
  }
}
