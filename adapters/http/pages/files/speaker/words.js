// Pieces that the screens of the speaker's page are made of.

import { fill, h } from "../shared/dom.js";
import { t } from "../shared/text.js";

/**
 * Returns a text with elements in place of its `{names}`.
 *
 * @param {string} key
 * @param {Record<string, Node>} nodes
 * @returns {(Node | string)[]}
 */
export function worded(key, nodes) {
  const parts = t(key).split(/\{(\w+)\}/);
  return parts.map((part, index) => (index % 2 ? (nodes[part] ?? "") : part));
}

/**
 * Isolates a name that comes from others: it may be written from right to left.
 *
 * @param {string} name
 */
export function nameOf(name) {
  return h("bdi", { class: "name", title: name }, name);
}

/**
 * Writes a time as hh:mm:ss: its places do not move while it runs.
 *
 * @param {number} seconds
 */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/**
 * A word of state, with its mark.
 *
 * @typedef {"good" | "warning" | "critical" | "quiet"} Tone
 */

/**
 * @param {HTMLElement} element
 * @param {Tone} tone
 * @param {string} text
 */
export function mark(element, tone, text) {
  const wanted = `mark ${tone}`;
  if (element.className !== wanted) element.className = wanted;
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the choice of microphones, and shows which is in use.
 *
 * @param {(id: string) => void} choose
 * @returns {{ element: HTMLElement, update: (state: import("./state.js").State) => void }}
 */
export function microphoneChoice(choose) {
  const select = h("select", { onchange: () => choose(select.value) });
  let shown = "";
  return {
    element: h("label", { class: "field" }, h("span", {}, t("ready.microphone")), select),
    update({ microphones, microphone, label }) {
      const wanted = JSON.stringify([microphones, microphone]);
      if (wanted === shown) return;
      shown = wanted;
      const options = microphones.map(({ id, label: text }, index) =>
        h("option", { value: id }, text || t("ready.microphone.nameless", { number: index + 1 })),
      );
      fill(select, options);
      select.value = microphone;
      select.title = label;
    },
  };
}

/**
 * @typedef {object} Notice
 * @property {HTMLElement} element
 * @property {(tone: Tone, title: string, text?: string) => void} show
 * @property {() => void} hide
 */

/**
 * Makes a place for something to know, which is hidden while there is nothing.
 *
 * @param {boolean} isUrgent whether screen readers say it at once
 * @returns {Notice}
 */
export function notice(isUrgent = false) {
  const title = h("strong", {});
  const text = h("p", {});
  const element = h("div", { class: "notice", role: isUrgent ? "alert" : "status" }, title, text);
  element.hidden = true;
  let shown = "";
  return {
    element,
    show(tone, heading, more = "") {
      const all = `${tone} ${heading} ${more}`;
      element.hidden = false;
      if (all === shown) return;
      shown = all;
      element.className = `notice ${tone}`;
      title.textContent = heading;
      text.textContent = more;
      text.hidden = !more;
    },
    hide() {
      element.hidden = true;
      shown = "";
    },
  };
}
