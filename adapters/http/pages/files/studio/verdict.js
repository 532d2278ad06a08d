// One word on a session, from what is known of it.

/** @typedef {import("api").components["schemas"]} Schemas */
/** @typedef {"good" | "look" | "bad" | "waiting"} Word */

/**
 * A verdict and what it is from.
 *
 * @typedef {object} Verdict
 * @property {Word} word
 * @property {string} why key of a text, behind `why.`
 * @property {number} [share] of the last minute
 */

/** Beyond it, a trained ear notices; the server's alarm begins there, too. */
const BAD_SHARE = 0.02;

/** @type {Record<import("./microphone.js").Obstacle, Word>} */
const OBSTACLE_WORDS = {
  ended: "bad",
  interrupted: "bad",
  mute: "bad",
  "mute.speaker": "look",
  "mute.paused": "waiting",
};

/**
 * Judges a session.
 *
 * @param {Schemas["Session"]} session
 * @param {Schemas["Alarm"][]} alarms those of the session that are on, the worst first
 * @param {Schemas["Shares"][]} shares of the last minute of each track
 * @param {import("./microphone.js").Obstacle | null} [obstacle] of its microphone
 * @returns {Verdict}
 */
export function judge(session, alarms, shares, obstacle = null) {
  const { state, tracks } = session;
  if (tracks.some((track) => track.fault)) return { word: "bad", why: "fault" };
  const [alarm] = alarms;
  if (alarm?.level === "critical") return { word: "bad", why: `alarm.${alarm.kind}` };
  const hasBegun = tracks.some((track) => track.recording);
  if (state === "connecting") return { word: "waiting", why: "connecting" };
  if (!hasBegun) return { word: "waiting", why: "begin" };
  if (state === "interrupted") return { word: "look", why: "away" };
  if (state === "silent") return { word: "look", why: "nothing" };
  if (obstacle) return { word: OBSTACLE_WORDS[obstacle], why: `mic.${obstacle}` };
  const share = Math.max(0, ...shares.map((one) => one.silence + one.concealed));
  const isToCome = tracks.some((track) => track.wanted > 0);
  if (share >= BAD_SHARE && !isToCome) return { word: "bad", why: "missing", share };
  if (alarm) return { word: "look", why: `alarm.${alarm.kind}` };
  if (share > 0) return { word: "look", why: isToCome ? "to_come" : "missing", share };
  return { word: "good", why: "good" };
}
