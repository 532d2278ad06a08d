// Asks for the last minute of those recordings that somebody begins to look at.

import { ApiError, ask } from "../shared/api.js";
import { intervalsOf } from "../shared/waveform.js";

const MOST_ATTEMPTS = 10;

/** Asks for one waveform at a time: the server draws them from its disk. */
export class Filler {
  constructor() {
    /** @type {Set<import("./card.js").Card>} */
    this.waiting = new Set();
    this.isAsking = false;
    this.closing = new AbortController();
  }

  /**
   * Fills in what a card does not know, once.
   *
   * @param {import("./card.js").Card} card
   */
  add(card) {
    if (![...card.tracks.values()].some(isWanting)) return;
    this.waiting.add(card);
    if (!this.isAsking) void this.#run();
  }

  close() {
    this.closing.abort();
    this.waiting.clear();
  }

  async #run() {
    this.isAsking = true;
    for (const card of this.waiting) {
      this.waiting.delete(card);
      for (const track of card.tracks.values()) {
        if (!isWanting(track) || this.closing.signal.aborted) continue;
        track.attempts += 1;
        track.isFilled = (await this.#fill(track)) || track.attempts === MOST_ATTEMPTS;
      }
    }
    this.isAsking = false;
  }

  /**
   * Returns whether there is nothing more to ask for.
   *
   * @param {import("./track-view.js").TrackView} track
   */
  async #fill({ track, history }) {
    const from = Math.ceil(history.from / history.slot) * history.slot;
    const to = Math.floor((history.began ?? 0) / history.slot) * history.slot;
    if (to <= from || !track.recording) return true;
    const points = (to - from) / history.slot;
    const path = `/api/recordings/${encodeURIComponent(track.recording)}/peaks`;
    const { signal } = this.closing;
    try {
      const peaks = await ask("GET", `${path}?from=${from}&to=${to}&points=${points}`, undefined, {
        signal,
      });
      history.fill(peaks.from, peaks.to, intervalsOf(peaks));
      // the latest second may not be on the server's disk yet
      return peaks.to >= to;
    } catch (error) {
      // without it, the waveform begins now
      if (!(error instanceof ApiError) && !signal.aborted) throw error;
      return true;
    }
  }
}

/**
 * What is asked for ends where levels begin to tell of the track.
 *
 * @param {import("./track-view.js").TrackView} track
 */
function isWanting({ isFilled, history }) {
  return !isFilled && history.latest !== null;
}
