// Ends a session, after one question.

import { ApiError, send } from "../shared/api.js";
import { fill, h, setText } from "../shared/dom.js";
import { duration } from "../shared/format.js";
import { t } from "../shared/text.js";

/**
 * Asks whether a session is to be ended; says what was recorded when it has.
 *
 * @param {string} id
 * @param {string} name
 * @param {import("./announcer.js").Announcer} announcer
 */
export function askToEnd(id, name, announcer) {
  const problem = h("p", { class: "notice critical", role: "alert", hidden: true });
  const yes = h("button", { class: "danger", onclick: () => void end() }, t("end.yes"));
  const no = h("button", { autofocus: true, onclick: () => dialog.close() }, t("action.cancel"));
  const title = h("h2", { id: "end-title" }, t("end.title"));
  const text = h("p", {}, h("bdi", {}, name), ": ", t("end.text"));
  const buttons = h("div", { class: "row" }, yes, no);
  const dialog = h(
    "dialog",
    { "aria-labelledby": "end-title", onclose: () => dialog.remove() },
    h("div", { class: "stack" }, title, text, problem, buttons),
  );
  document.body.append(dialog);
  dialog.showModal();

  async function end() {
    yes.disabled = true;
    problem.hidden = true;
    setText(yes, t("end.ending"));
    try {
      const answer = await send("DELETE", `/api/sessions/${encodeURIComponent(id)}`);
      const seconds = Number(answer.headers.get("Gapless-Seconds") ?? 0);
      const told = t("end.done", { time: duration(seconds) });
      announcer.say(told);
      setText(title, t("end.ended"));
      fill(text, h("bdi", {}, name), ": ", told);
      const close = h("button", { onclick: () => dialog.close() }, t("action.close"));
      fill(buttons, close);
      close.focus();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      problem.hidden = false;
      setText(problem, problemText(error));
      yes.disabled = false;
      setText(yes, t("end.yes"));
    }
  }
}

/** @param {ApiError} error */
function problemText({ status, message }) {
  if (status === 0) return t("error.network");
  if (status === 404 || status === 410) return t("end.gone");
  return t("error.detail", { detail: message });
}
