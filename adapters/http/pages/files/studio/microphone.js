// What a page tells of its microphone, while it is recorded.

/** @typedef {import("api").components["schemas"]["SessionCaptureEvent"]} CaptureEvent */

/**
 * Something that keeps the microphone from being heard, and has not ended yet.
 *
 * @typedef {"ended" | "interrupted" | "mute" | "mute.speaker" | "mute.paused"} Obstacle
 */

/** @type {Obstacle[]} those that sound is lost by come first */
const OBSTACLES = ["ended", "interrupted", "mute", "mute.paused", "mute.speaker"];

/** Keeps what has happened to the microphone of a session. */
export class Microphone {
  constructor() {
    /** @type {{ event: CaptureEvent, what: string } | null} the latest, and the key of its text */
    this.latest = null;
    /** @type {Set<Obstacle>} */
    this.obstacles = new Set();
  }

  /** What keeps it from being heard now; the worst, if it is several things. */
  get obstacle() {
    return OBSTACLES.find((one) => this.obstacles.has(one)) ?? null;
  }

  /** @param {CaptureEvent} event */
  add(event) {
    const what = keyOf(event);
    this.latest = { event, what };
    const is = /** @type {Obstacle} */ (what);
    if (OBSTACLES.includes(is)) this.obstacles.add(is);
    else if (what.startsWith("unmute")) this.obstacles.delete(obstacleBehind(what));
    else if (what === "resumed") this.obstacles.delete("interrupted");
    else if (what === "microphone") {
      // another one is used, whatever the former one suffered from
      this.obstacles.delete("ended");
      this.obstacles.delete("mute");
    }
  }
}

/**
 * Returns what has happened, and by whom if a page may do it, too.
 *
 * @param {{ what: string, text: string }} event
 */
export function keyOf({ what, text }) {
  if (what !== "mute" && what !== "unmute") return what;
  if (text === "by the speaker") return `${what}.speaker`;
  return text === "paused" || text === "continued" ? `${what}.paused` : what;
}

/** @param {string} unmute */
function obstacleBehind(unmute) {
  return /** @type {Obstacle} */ (unmute.replace("unmute", "mute"));
}
