// Tells screen readers what has happened, wherever on the page it is shown.

import { h } from "../shared/dom.js";

/** Has two places that are read out when their text changes: at once, or when there is time. */
export class Announcer {
  constructor() {
    this.urgent = h("p", { "aria-live": "assertive" });
    this.calm = h("p", { "aria-live": "polite" });
    this.element = h("div", { class: "unseen" }, this.urgent, this.calm);
  }

  /**
   * Says something.
   *
   * @param {string} text
   * @param {{ isUrgent?: boolean }} [options]
   */
  say(text, { isUrgent = false } = {}) {
    const place = isUrgent ? this.urgent : this.calm;
    // the same text twice is said twice
    place.replaceChildren(h("span", {}, text));
  }
}
