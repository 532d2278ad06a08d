// The list of what happened in a recording; a press on one plays from there.

import { fill, h } from "../shared/dom.js";
import { hasText, t } from "../shared/text.js";
import { clock } from "./axis.js";
import { kindName, span } from "./recording-verdict.js";
import { microphoneText, reason } from "./words.js";

/** @typedef {import("./happenings.js").Happening} Happening */

/** What is shown at once; a ledger may have 200,000 spans. */
const PAGE = 100;

/** Shows happenings, a page of them at a time. */
export class HappeningList {
  /** @param {(seconds: number) => void} play */
  constructor(play) {
    this.play = play;
    /** @type {Happening[]} */
    this.all = [];
    this.shown = 0;
    this.list = h("ol", { class: "happenings" });
    this.empty = h("p", { class: "soft" }, t("happenings.loading"));
    this.more = h("button", { type: "button", hidden: true, onClick: () => this.#more() });
    this.element = h("div", { class: "stack tight" }, this.empty, this.list, this.more);
  }

  /** @param {Happening[]} all */
  show(all) {
    this.all = all;
    this.shown = 0;
    fill(this.list);
    fill(this.empty, all.length ? null : t("happenings.none"));
    this.empty.hidden = all.length > 0;
    this.#more();
  }

  /**
   * @param {unknown} error
   * @param {() => void} again
   */
  fail(error, again) {
    fill(
      this.empty,
      reason(error),
      " ",
      h("button", { type: "button", onClick: again }, t("action.retry")),
    );
  }

  #more() {
    const added = this.all.slice(this.shown, this.shown + PAGE).map((one) => this.#row(one));
    this.list.append(...added);
    const [first] = added;
    if (this.shown && first) first.querySelector("button")?.focus();
    this.shown += added.length;
    const left = this.all.length - this.shown;
    this.more.hidden = left <= 0;
    fill(this.more, t("happenings.more", { count: left }));
  }

  /** @param {Happening} happening */
  #row({ at, seconds, type, kind, cause, details }) {
    const time = clock(at, 0.1);
    const name = kind ? kindName(kind) : nameOf(type);
    const button = h(
      "button",
      { type: "button", class: "plain figures", "aria-label": t("happenings.play", { time }) },
      time,
    );
    button.addEventListener("click", () => this.play(at));
    const why = cause && h("span", { class: "soft" }, ` (${nameOf(cause)})`);
    const inWords = type === "capture" && microphoneText(Object.fromEntries(details));
    // each value by itself: what a client has written is not to turn round what follows it
    const told = details.map(([key, value], index) => [
      `${index ? ", " : ""}${key}: `,
      h("bdi", {}, value),
    ]);
    return h(
      "li",
      {},
      button,
      h(
        "span",
        { class: kind ? `happening-kind kind-${kind}` : "happening-kind" },
        h("b", {}, name),
        why,
      ),
      h("span", { class: "figures" }, seconds ? span(seconds) : ""),
      inWords
        ? h("span", { class: "soft small", dir: "auto" }, inWords)
        : h("span", { class: "soft small", lang: "en", dir: "auto" }, ...told),
    );
  }
}

/**
 * Returns what a type of event is called; servers may have types that this page does not know.
 *
 * @param {string} type
 */
function nameOf(type) {
  const key = `event.${type.replaceAll(" ", "_")}`;
  return hasText(key) ? t(key) : type;
}
