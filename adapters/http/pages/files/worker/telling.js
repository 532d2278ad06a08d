// Tells a server what has happened to the microphone.

import { Refused } from "./asking.js";

const MAX_EVENTS = 50; // in one request
const MAX_CHARACTERS = 200; // of a text

/** Tells what a spool has noted. */
export class Telling {
  #kept;
  #isRouteThere = true;

  /** @param {import("./kept.js").Kept} kept */
  constructor(kept) {
    this.#kept = kept;
  }

  /**
   * Tells what is not told yet. What is refused is left out: the sound matters more.
   *
   * @param {(events: import("./journal.js").Noted[]) => Promise<unknown>} post
   * @throws {import("./asking.js").Unreachable}
   */
  async tell(post) {
    while (this.#kept.events.length && this.#isRouteThere) {
      const events = this.#kept.events.slice(0, MAX_EVENTS);
      try {
        await post(events.map(fitting));
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        // a server that is older has no such route
        this.#isRouteThere = error.status !== 404 && error.status !== 405;
      }
      this.#kept.noteTold(events.length);
    }
  }
}

/**
 * Returns an event as a server takes it. It would refuse all events of the request otherwise, and
 * what a device is called its maker decides, or whoever has named it.
 *
 * @param {import("./journal.js").Noted} event
 * @returns {import("./journal.js").Noted}
 */
function fitting(event) {
  if (event.text === undefined) return event;
  const characters = [...event.text.replace(/\p{Surrogate}/gu, "\ufffd")];
  return { ...event, text: characters.slice(0, MAX_CHARACTERS).join("") };
}
