// What happened in a recording, by its ledger: events, and what was not simply received.

/** @typedef {import("../shared/kinds.js").Kind} Kind */
/** @typedef {import("api").components["schemas"]["Ledger"]} Ledger */

/**
 * Something at a position of a recording.
 *
 * @typedef {object} Happening
 * @property {number} at in seconds of the recording
 * @property {number} seconds how long it took; 0 for a moment
 * @property {string} type of the event; empty for samples that were not received
 * @property {Kind | null} kind what the samples are; null for an event
 * @property {string} cause the type of the event that says why the samples are what they are
 * @property {[string, string][]} details name and value, as the ledger has them
 */

/** Spans of these kinds are told. */
const TOLD = new Set(["silence", "concealed", "restored", "recovered"]);
/** What an event has beside its details. */
const NO_DETAILS = new Set(["type", "position", "length", "fill_samples", "gap"]);

/**
 * Returns what happened, in the order of time.
 *
 * @param {Ledger} ledger
 * @param {number} rate samples in a second
 * @returns {Happening[]}
 */
export function happeningsOf(ledger, rate) {
  /** @type {Happening[]} */
  const found = [];
  /** @type {Map<number, Happening>} by the position of their first sample */
  const spans = new Map();
  for (const { start, length, kind } of ledger.spans) {
    if (!TOLD.has(kind)) continue;
    const [at, seconds] = [start / rate, length / rate];
    const one = { at, seconds, type: "", kind, cause: "", details: [] };
    spans.set(start, one);
    found.push(one);
  }
  for (const event of /** @type {Record<string, any>[]} */ (ledger.events)) {
    const length = Number(event.length ?? event.fill_samples ?? event.gap ?? 0);
    const details = Object.entries(event).filter(
      ([name, value]) => !NO_DETAILS.has(name) && value !== null && typeof value !== "object",
    );
    const happening = {
      at: Number(event.position ?? 0) / rate,
      seconds: length / rate,
      type: String(event.type),
      kind: null,
      cause: "",
      details: details.map(
        /** @returns {[string, string]} */
        ([name, value]) => [name.replaceAll("_", " "), String(value)],
      ),
    };
    const span = spans.get(event.position);
    if (span && length && span.seconds === happening.seconds && !span.cause) {
      span.cause = happening.type;
      span.details = happening.details;
    } else found.push(happening);
  }
  return found.sort((one, other) => one.at - other.at);
}

/**
 * Returns how many samples are of each kind.
 *
 * @param {Ledger} ledger
 * @returns {Partial<Record<Kind, number>>}
 */
export function samplesByKind(ledger) {
  /** @type {Partial<Record<Kind, number>>} */
  const found = {};
  for (const { length, kind } of ledger.spans) found[kind] = (found[kind] ?? 0) + length;
  return found;
}
