// Before a recording: for whom, which microphone, how loud; and one big button.

import { fill, h, setText } from "../shared/dom.js";
import { Meter } from "../shared/meter.js";
import { t } from "../shared/text.js";
import { isVirtual } from "./hearing.js";
import { microphoneChoice, nameOf, notice, worded } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Actions} Actions */

/**
 * Makes the head of the page before a recording: whom it is for.
 *
 * @returns {{ element: HTMLElement, update: (state: State) => void }}
 */
function invitation() {
  const title = h("h1", { tabindex: -1 });
  const forWhom = h("p", { class: "soft" });
  const where = h("p", { class: "soft" });
  const expired = notice();
  return {
    element: h(
      "div",
      { class: "stack tight" },
      title,
      h("div", {}, forWhom, where),
      expired.element,
    ),
    update({ guest: { name, room, isInvited, isExpired } }) {
      setText(title, t(isInvited ? "ready.invited" : "ready.title"));
      if (name && !forWhom.firstChild)
        fill(forWhom, worded("ready.for.name", { name: nameOf(name) }));
      if (room && !where.firstChild) fill(where, worded("ready.for.room", { room: nameOf(room) }));
      if (isExpired) expired.show("warning", t("ready.expired"), t("ready.expired.what"));
      else expired.hide();
    },
  };
}

/**
 * Before there is a microphone: what the browser will ask, or why there is none.
 *
 * @param {Actions} actions
 */
export function openingScreen(actions) {
  const head = invitation();
  const why = h("p", {});
  const trouble = notice(true);
  const button = h("button", { class: "primary big", type: "button", onclick: actions.allow });
  return {
    element: h("div", { class: "stack" }, head.element, trouble.element, why, button),
    /** @param {State} state */
    update(state) {
      head.update(state);
      const { permission } = state;
      const isTrouble = permission !== "ask" && permission !== "asking";
      if (isTrouble)
        trouble.show("critical", t(`permission.${permission}`), t(`permission.${permission}.what`));
      else trouble.hide();
      setText(why, t("permission.why"));
      why.hidden = isTrouble;
      const isHopeless = permission === "insecure" || permission === "unsupported";
      button.hidden = isHopeless;
      button.disabled = permission === "asking";
      setText(
        button,
        t(
          isTrouble
            ? "action.retry"
            : permission === "asking"
              ? "permission.asking"
              : "permission.allow",
        ),
      );
    },
  };
}

/**
 * With a microphone, before anything is sent.
 *
 * @param {Actions} actions
 */
export function readyScreen(actions) {
  const head = invitation();
  const microphone = microphoneChoice(actions.choose);
  const meter = new Meter(t("level.label"));
  const verdict = h("p", { class: "verdict", role: "status" });
  const wrong = notice();
  const modes = modeChoice(actions);
  const button = h(
    "button",
    { class: "record big", type: "button", onclick: actions.record },
    t("ready.record"),
  );
  return {
    element: h(
      "div",
      { class: "stack" },
      head.element,
      h(
        "section",
        { class: "panel stack" },
        microphone.element,
        h("div", { class: "stack tight" }, meter.element, verdict),
        wrong.element,
        modes.element,
      ),
      button,
      h("p", { class: "small soft" }, t("ready.promise")),
    ),
    /** @param {State} state */
    update(state) {
      head.update(state);
      const { microphones, label, level, hearing } = state;
      microphone.update(state);
      meter.show(level);
      setText(verdict, t(`hearing.${hearing}`));
      verdict.dataset.tone = ["good", "listening"].includes(hearing) ? "" : "warning";
      if (isVirtual(label)) wrong.show("warning", t("wrong.virtual"), t("wrong.virtual.what"));
      else if (hearing === "silent")
        wrong.show(
          "warning",
          t("wrong.silent"),
          t(microphones.length > 1 ? "wrong.silent.others" : "wrong.silent.what"),
        );
      else wrong.hide();
      modes.update(state.mode);
    },
  };
}

/**
 * Voice or music.
 *
 * @param {Actions} actions
 */
function modeChoice(actions) {
  const about = h("p", { class: "small soft", id: "mode-about" });
  /** @type {Record<string, HTMLInputElement>} */
  const inputs = {};
  const choices = /** @type {const} */ (["voice", "music"]).map((mode) => {
    inputs[mode] = h("input", {
      type: "radio",
      name: "mode",
      value: mode,
      "aria-describedby": "mode-about",
      onchange: () => actions.change(mode),
    });
    return h("label", {}, inputs[mode], t(`mode.${mode}`));
  });
  return {
    element: h(
      "fieldset",
      { class: "stack tight" },
      h("legend", { class: "small soft" }, t("mode.label")),
      h("div", { class: "choice" }, choices),
      about,
    ),
    /** @param {import("./sdp.js").Mode} mode */
    update(mode) {
      inputs[mode].checked = true;
      setText(about, t(mode === "music" ? "mode.music.about" : "mode.voice.about"));
    },
  };
}
