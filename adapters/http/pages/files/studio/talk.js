// Messages to the speaker of a session, and whether somebody got them.

import { ApiError, ask } from "../shared/api.js";
import { h, setText } from "../shared/dom.js";
import { timeOfDay } from "../shared/format.js";
import { t } from "../shared/text.js";

/** The server takes no longer ones. */
const MOST_CHARACTERS = 500;
const MOST_SHOWN = 5;

/** A button, and what it opens: a line to write, and what was sent. */
export class Talk {
  /**
   * @param {string} id of the session
   * @param {import("./main.js").Context} context
   */
  constructor(id, context) {
    this.id = id;
    this.context = context;
    const panel = `talk-${id}`;
    this.button = h(
      "button",
      { "aria-expanded": "false", "aria-controls": panel, onclick: () => this.#toggle() },
      t("talk.button"),
    );
    this.input = h("input", {
      type: "text",
      maxlength: MOST_CHARACTERS,
      dir: "auto",
      autocomplete: "off",
    });
    this.submit = h("button", {}, t("talk.send"));
    this.problem = h("p", { class: "small problem", role: "alert" });
    this.sent = h("ol", { class: "sent small", "aria-label": t("talk.sent") });
    this.element = h(
      "div",
      { class: "stack tight talk", id: panel, hidden: true },
      h(
        "form",
        { class: "row", onsubmit: (/** @type {SubmitEvent} */ event) => void this.#send(event) },
        h("label", { class: "field" }, h("span", {}, t("talk.label")), this.input),
        this.submit,
      ),
      this.problem,
      this.sent,
    );
  }

  #toggle() {
    this.element.hidden = !this.element.hidden;
    this.button.setAttribute("aria-expanded", String(!this.element.hidden));
    if (!this.element.hidden) this.input.focus();
  }

  /** @param {SubmitEvent} event */
  async #send(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (!text) return;
    this.submit.disabled = true;
    setText(this.problem, "");
    try {
      const path = `/api/sessions/${encodeURIComponent(this.id)}/messages`;
      const { listeners } = await ask("POST", path, { text });
      this.input.value = "";
      this.#show(text, listeners);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setText(
        this.problem,
        error.status ? t("error.detail", { detail: error.message }) : t("error.network"),
      );
    } finally {
      this.submit.disabled = false;
      this.input.focus();
    }
  }

  /**
   * @param {string} text
   * @param {number} listeners how many clients have got it
   */
  #show(text, listeners) {
    const fate = listeners ? t("talk.shown") : t("talk.waits");
    this.sent.prepend(
      h(
        "li",
        {},
        h("bdi", {}, text),
        h("span", { class: "soft" }, ` ${timeOfDay(new Date())} · ${fate}`),
      ),
    );
    while (this.sent.childElementCount > MOST_SHOWN) this.sent.lastElementChild?.remove();
    this.context.announcer.say(fate);
  }
}
