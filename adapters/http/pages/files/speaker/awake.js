// Keeps the screen on: a phone whose screen is locked takes the microphone away.

/** A screen lock that is held while it is wanted and the page is visible. */
export class Awake {
  constructor() {
    this.wanted = false;
    /** @type {WakeLockSentinel | null} */
    this.lock = null;
    /** @type {(isHeld: boolean) => void} */
    this.onchange = () => {};
    document.addEventListener("visibilitychange", () => this.#hold());
  }

  /** @param {boolean} wanted */
  async want(wanted) {
    this.wanted = wanted;
    if (!wanted) await this.lock?.release();
    await this.#hold();
  }

  async #hold() {
    if (!this.wanted || this.lock || document.visibilityState !== "visible") return;
    try {
      // a browser releases it whenever the page is hidden
      const lock = await navigator.wakeLock.request("screen");
      this.lock = lock;
      lock.addEventListener("release", () => {
        this.lock = null;
        this.onchange(false);
      });
      this.onchange(true);
      if (!this.wanted) await lock.release();
    } catch {
      // the browser has none, or the battery is low
      this.onchange(false);
    }
  }
}
