// When a room was used: recordings that belong together in time.

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */

/** Recordings that are further apart are of another sitting, in seconds. */
const APART_S = 1800;

/**
 * Recordings on one time axis.
 *
 * @typedef {object} Sitting
 * @property {number} start when the first one begins, in ms since 1970
 * @property {number} seconds from there to the end of the last one
 * @property {{ recording: Recording, start: number }[]} lanes the earliest first; `start` in
 *   seconds from the beginning of the sitting
 */

/**
 * Returns the sittings of a room, the latest first.
 *
 * @param {Recording[]} recordings in any order
 * @param {number} [apart] in seconds
 * @returns {Sitting[]}
 */
export function sittingsOf(recordings, apart = APART_S) {
  const begun = (/** @type {Recording} */ one) => Date.parse(one.started_at);
  const sorted = [...recordings].sort(
    (one, other) => begun(one) - begun(other) || one.name.localeCompare(other.name),
  );
  /** @type {Sitting[]} */
  const found = [];
  for (const recording of sorted) {
    const at = begun(recording);
    let sitting = found.at(-1);
    if (!sitting || at > sitting.start + (sitting.seconds + apart) * 1000) {
      sitting = { start: at, seconds: 0, lanes: [] };
      found.push(sitting);
    }
    const start = (at - sitting.start) / 1000;
    sitting.lanes.push({ recording, start });
    sitting.seconds = Math.max(sitting.seconds, start + recording.seconds);
  }
  return found.reverse();
}

/**
 * A room as a list shows it.
 *
 * @typedef {{ name: string, count: number, latest: number, isLive: boolean }} Room
 */

/**
 * Returns the rooms that recordings are of, the latest first. Case does not tell rooms apart.
 *
 * @param {Recording[]} recordings
 * @returns {Room[]}
 */
export function roomsOf(recordings) {
  /** @type {Map<string, Room>} */
  const found = new Map();
  for (const { room, started_at, state } of recordings) {
    if (!room) continue;
    const key = room.toLowerCase();
    const one = found.get(key) ?? { name: room, count: 0, latest: 0, isLive: false };
    one.count += 1;
    one.latest = Math.max(one.latest, Date.parse(started_at));
    one.isLive ||= state === "live";
    found.set(key, one);
  }
  return [...found.values()].sort((one, other) => other.latest - one.latest);
}
