// Pauses that something may end before their time.

/** One pause at a time. */
export class Pauses {
  /** @type {(() => void) | null} */
  #wake = null;

  /** @param {number} seconds how long, if nothing ends it */
  async wait(seconds) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, seconds) * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
    this.#wake = null;
  }

  /** Ends the pause, if there is one: something has changed. */
  end() {
    this.#wake?.();
  }
}
