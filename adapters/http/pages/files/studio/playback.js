// Plays recordings, one at a time, from any position.

import { h } from "../shared/dom.js";

/**
 * Plays what is stored: a server sends that with ranges, so that a browser seeks without reading
 * what is before. WAV is exact to the sample everywhere.
 */
export class Playback {
  /**
   * @param {{ moved: (seconds: number) => void, changed: () => void,
   *   failed: (isUnknownFormat: boolean) => void }} told
   *   `moved`: for each frame while it plays, and after a jump; `changed`: it plays, or no more
   */
  constructor({ moved, changed, failed }) {
    this.audio = h("audio", { preload: "none" });
    this.told = { moved, changed, failed };
    /** @type {string | null} the id of what plays, or is ready to */
    this.id = null;
    this.wanted = 0;
    this.frame = 0;
    for (const name of ["play", "pause", "ended"])
      this.audio.addEventListener(name, () => {
        changed();
        this.#follow();
      });
    this.audio.addEventListener("seeked", () => moved(this.at));
    this.audio.addEventListener("loadedmetadata", () => {
      if (Math.abs(this.audio.currentTime - this.wanted) > 0.001)
        this.audio.currentTime = this.wanted;
    });
    this.audio.addEventListener("error", () => {
      if (!this.audio.getAttribute("src")) return;
      failed(this.audio.error?.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED);
      changed();
    });
  }

  get isPlaying() {
    return !this.audio.paused && !this.audio.ended;
  }

  /** The position, in seconds of the recording. */
  get at() {
    return this.audio.readyState ? this.audio.currentTime : this.wanted;
  }

  /**
   * Plays a recording from a position.
   *
   * @param {string} id
   * @param {number} seconds
   */
  play(id, seconds) {
    this.seek(id, seconds);
    this.audio.play().catch(() => {}); // what is wrong comes as the event `error`
  }

  /**
   * Goes to a position; what plays goes on there.
   *
   * @param {string} id
   * @param {number} seconds
   */
  seek(id, seconds) {
    this.wanted = seconds;
    if (this.id !== id || this.audio.error) {
      this.id = id;
      this.audio.src = `/api/recordings/${encodeURIComponent(id)}/audio`;
    }
    if (this.audio.readyState) this.audio.currentTime = seconds;
    this.told.moved(seconds);
  }

  pause() {
    this.audio.pause();
  }

  /** Lets go of what was loaded: the recording has changed. */
  reset() {
    this.pause();
    this.id = null;
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
  }

  #follow() {
    cancelAnimationFrame(this.frame);
    if (!this.isPlaying) return;
    this.frame = requestAnimationFrame(() => {
      if (this.audio.readyState) this.told.moved(this.audio.currentTime);
      this.#follow();
    });
  }
}
