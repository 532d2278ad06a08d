// What is known of a spool beside its sound: lines of JSON, of which the last may be cut off.

/** @typedef {import("./ranges.js").Range} Range */
/** @typedef {import("./terms.js").Session} Session */
/** @typedef {import("./terms.js").Description} Description */

/**
 * What has happened to the microphone, as the server takes it.
 *
 * @typedef {{ type: string, at: string, position: number | null, seconds?: number, text?: string }}
 *   Noted
 */

/**
 * One line: what has become known.
 *
 * @typedef {object} Line
 * @property {Description & { id: string, startedAt: string }} [begun]
 * @property {Session} [session] the last one counts
 * @property {[number, number]} [missed] position and length, as `Axis.miss`
 * @property {number} [base] when position 0 was captured, in seconds of the clock
 * @property {[number, number][]} [confirmed] start and length of all that the server has
 * @property {Noted} [event]
 * @property {number} [told] how many of the events the server has, in their order
 * @property {boolean} [ended] the speaker has stopped
 * @property {boolean} [delivered] the server has all of it
 */

/**
 * Everything that the lines say.
 *
 * @typedef {object} Known
 * @property {Description & { id: string, startedAt: string }} begun
 * @property {Session | null} session
 * @property {[number, number][]} missed
 * @property {number | null} base
 * @property {Range[]} confirmed
 * @property {Noted[]} events which the server has not
 * @property {boolean} ended
 * @property {boolean} delivered
 */

/** @param {Line} line */
export function written(line) {
  return `${JSON.stringify(line)}\n`;
}

/**
 * Reads a journal.
 *
 * @param {string} text
 * @returns {Known | null} null if it does not say what the spool is: it has not begun
 */
export function read(text) {
  /** @type {Known["begun"] | undefined} */
  let begun;
  /** @type {Omit<Known, "begun">} */
  const known = {
    session: null,
    missed: [],
    base: null,
    confirmed: [],
    events: [],
    ended: false,
    delivered: false,
  };
  for (const line of lines(text)) {
    begun ??= line.begun;
    known.session = line.session ?? known.session;
    known.base = line.base ?? known.base;
    known.ended = line.ended ?? known.ended;
    known.delivered ||= line.delivered ?? false;
    if (line.missed) known.missed.push(line.missed);
    if (line.confirmed)
      known.confirmed = line.confirmed.map(([start, length]) => ({ start, length }));
    if (line.event) known.events.push(line.event);
    if (line.told) known.events.splice(0, line.told);
  }
  return begun ? { begun, ...known } : null;
}

/**
 * @param {string} text
 * @returns {Line[]}
 */
function lines(text) {
  const found = [];
  for (const line of text.split("\n")) {
    if (!line) continue;
    try {
      found.push(JSON.parse(line));
    } catch {
      // a page that was killed while it wrote; what follows is whole again
    }
  }
  return found;
}
