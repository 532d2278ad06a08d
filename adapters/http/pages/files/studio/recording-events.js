// Tells views which recordings have changed, by the server's events.

import { ApiError, ask } from "../shared/api.js";

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */

/** @typedef {import("./events.js").Events} Events */

const CHANGES = ["started", "completed", "recovered", "interrupted", "failed", "format_changed"];
const OF_SESSIONS = ["restored", "not_restored"];
/** Changes that wait; with more of them it is less work to ask for the list anew. */
const MAX_WAITING = 50;

/**
 * What a view wants to know.
 *
 * @typedef {object} Told
 * @property {(recording: Recording) => void} changed a recording as it is now
 * @property {(id: string) => void} removed
 * @property {() => void} missed so much has happened that all has to be asked for anew
 * @property {(session: string, track: number, samples: number) => void} [grown] the length of
 *   what is being recorded, a few times a second
 * @property {(session: string) => Iterable<string>} [idsOf] the recordings of a session that the
 *   view has
 */

/**
 * Listens until it is closed.
 *
 * @param {Events} events
 * @param {Told} told
 * @returns {() => void} closes it
 */
export function listen(events, told) {
  /** @type {Set<string>} */
  const waiting = new Set();
  const stop = new AbortController();
  let isAsking = false;

  const fetchWaiting = async () => {
    if (isAsking) return;
    isAsking = true;
    for (const id of waiting) {
      waiting.delete(id);
      try {
        const path = `/api/recordings/${encodeURIComponent(id)}`;
        told.changed(await ask("GET", path, undefined, { signal: stop.signal }));
      } catch (error) {
        if (stop.signal.aborted) return;
        if (error instanceof ApiError && error.status === 404) told.removed(id);
        // otherwise the server is away: when it is back, all is asked for anew
      }
    }
    isAsking = false;
  };
  const look = (/** @type {string} */ id) => {
    waiting.add(id);
    if (waiting.size > MAX_WAITING) {
      waiting.clear();
      told.missed();
    } else void fetchWaiting();
  };

  const ends = [
    ...CHANGES.map((name) => events.on(`recording.${name}`, ({ recording }) => look(recording))),
    ...OF_SESSIONS.map((name) =>
      events.on(`recording.${name}`, ({ session }) => {
        for (const id of told.idsOf?.(session) ?? []) look(id);
      }),
    ),
    events.on("recording.deleted", ({ recording }) => told.removed(recording)),
    events.on("anew", () => told.missed()),
  ];
  const { grown } = told;
  if (grown)
    ends.push(
      events.on("levels", ({ sessions }) => {
        for (const { session, tracks } of sessions)
          for (const { track, length } of tracks) grown(session, track, length);
      }),
    );
  return () => {
    stop.abort();
    for (const end of ends) end();
  };
}
