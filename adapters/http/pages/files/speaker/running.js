// While a recording runs: its time, its level, how it fares, and what is safe.

import { h, setText } from "../shared/dom.js";
import { duration, timeOfDay } from "../shared/format.js";
import { Meter } from "../shared/meter.js";
import { hasText, t } from "../shared/text.js";
import { clock, mark, microphoneChoice, notice } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Actions} Actions */
/** @typedef {import("./words.js").Tone} Tone */

/** How many messages are shown at once. */
const SHOWN_MESSAGES = 3;

/** What proxies answer while the server behind them cannot be reached. */
const GATEWAY = [502, 504];

/** @type {Record<import("./connection.js").State, Tone>} */
const TONES = {
  connecting: "quiet",
  live: "good",
  restarting: "warning",
  waiting: "warning",
  offline: "warning",
  blocked: "warning",
  over: "critical",
  refused: "critical",
  closed: "quiet",
};

/** @param {Actions} actions */
export function runningScreen(actions) {
  const title = h("h1", { class: "recording", tabindex: -1 });
  const time = h("time", { class: "time" });
  const meter = new Meter(t("level.label"));
  const verdict = h("p", { class: "verdict", role: "status" });
  const connection = h("span", {});
  const about = h("p", { class: "small soft" });
  const safe = h("p", { class: "safe figures" });
  const safeAbout = h("p", { class: "small soft" });
  const trouble = notice(true);
  const keeping = notice();
  const messages = messageList(actions);
  const microphone = microphoneChoice(actions.choose);
  const pause = toggle(() => actions.pause(pause.getAttribute("aria-pressed") !== "true"));
  const mute = toggle(() => actions.mute(mute.getAttribute("aria-pressed") !== "true"));
  const stop = h("button", { class: "record", type: "button", onclick: actions.stop });
  setText(stop, t("running.stop"));
  return {
    element: h(
      "div",
      { class: "stack" },
      h(
        "section",
        { class: "panel stack" },
        h("div", { class: "stack tight" }, title, time),
        h("div", { class: "stack tight" }, meter.element, verdict),
        h(
          "div",
          { class: "stack tight facts" },
          h("p", { role: "status" }, connection),
          about,
          safe,
          safeAbout,
        ),
        h("div", { class: "controls" }, pause, mute, stop),
      ),
      trouble.element,
      keeping.element,
      messages.element,
      h("details", {}, h("summary", {}, t("running.other")), microphone.element),
      h("p", { class: "small soft" }, t("running.promise")),
    ),
    /** @param {State} state */
    update(state) {
      const { isPaused, isMuted, elapsedS, safeS, hearing, level } = state;
      setText(title, t(isPaused ? "running.paused" : isMuted ? "running.muted" : "running.title"));
      title.dataset.held = isPaused || isMuted ? "true" : "false";
      setText(time, clock(elapsedS));
      meter.show(level);
      // pauses between sentences are no fault: only what a speaker can mend is said
      const isTold = !isPaused && !isMuted && (hearing === "clips" || hearing === "silent");
      const isHeld = isPaused || isMuted;
      setText(verdict, isTold ? t(`running.${hearing}`) : isHeld ? t("running.held") : "");
      verdict.dataset.tone = isTold ? "warning" : "";
      const how = wordOf(state.connection);
      mark(connection, TONES[state.connection.state], t(`connection.${how}`));
      // nothing is promised of a copy that is not there
      const isKept = state.keeping !== "none";
      const key = isKept ? `connection.${how}.about` : "connection.unkept";
      setText(about, how === "live" ? "" : t(key, { detail: state.connection.detail ?? "" }));
      about.hidden = how === "live";
      setText(safe, t("safe.until", { time: clock(safeS) }));
      safe.hidden = !isKept && safeS === 0;
      setText(safeAbout, safeText(state));
      safeAbout.hidden = safeAbout.textContent === "";
      pressed(pause, isPaused, t(isPaused ? "running.resume" : "running.pause"));
      pressed(mute, isMuted, t(isMuted ? "running.unmute" : "running.mute"));
      showIncident(trouble, state);
      if (state.keeping === "memory")
        keeping.show("warning", t("keeping.memory"), t("keeping.memory.what"));
      else if (state.keeping === "none")
        keeping.show("warning", t("keeping.none"), t("keeping.none.what"));
      else keeping.hide();
      messages.update(state.messages);
      microphone.update(state);
    },
  };
}

/**
 * Returns the word for a connection. A server that answers can be reached, but a proxy may have
 * answered in its place.
 *
 * @param {import("./connection.js").Condition} connection
 */
function wordOf({ state, status }) {
  return state === "waiting" && status && !GATEWAY.includes(status) ? "later" : state;
}

/**
 * Says where what is not safe yet is.
 *
 * @param {State} state
 */
function safeText({ keeping, owedS }) {
  if (keeping === "none") return "";
  return owedS >= 1 ? t("safe.owed", { time: duration(owedS) }) : t("safe.all");
}

/**
 * @param {import("./words.js").Notice} trouble
 * @param {State} state
 */
function showIncident(trouble, { incident }) {
  if (!incident) {
    trouble.hide();
    return;
  }
  const { type, seconds = 0, text = "" } = incident;
  const values = { seconds: Math.max(1, Math.round(seconds)), text };
  const named = `incident.${type}.named`;
  trouble.show(
    ["stall", "other", "back"].includes(type) ? "warning" : "critical",
    t(text && hasText(named) ? named : `incident.${type}`, values),
    t(`incident.${type}.what`, values),
  );
}

/** @param {() => void} press */
function toggle(press) {
  return h("button", { type: "button", "aria-pressed": "false", onclick: press });
}

/**
 * @param {HTMLButtonElement} button
 * @param {boolean} isPressed
 * @param {string} text
 */
function pressed(button, isPressed, text) {
  button.setAttribute("aria-pressed", String(isPressed));
  setText(button, text);
}

/**
 * The latest messages from the studio.
 *
 * @param {Actions} actions
 */
function messageList(actions) {
  // a log is no list to a screen reader, so its messages are no items
  const list = h("div", { class: "stack tight", role: "log", "aria-label": t("messages.label") });
  /** @type {Map<string, HTMLElement>} */
  const shown = new Map();
  return {
    element: list,
    /** @param {import("./messages.js").Message[]} messages */
    update(messages) {
      const latest = messages.slice(-SHOWN_MESSAGES);
      for (const [id, item] of shown)
        if (!latest.some((one) => one.id === id)) {
          item.remove();
          shown.delete(id);
        }
      for (const { id, text, at } of latest) {
        if (shown.has(id)) continue;
        const item = h(
          "div",
          { class: "notice message" },
          h("p", { class: "small soft" }, t("messages.from", { time: timeOfDay(at) })),
          h("p", { class: "text", dir: "auto" }, text),
          h("button", { type: "button", onclick: () => actions.dismiss(id) }, t("messages.seen")),
        );
        shown.set(id, item);
        list.append(item);
      }
      list.hidden = !latest.length;
    },
  };
}
