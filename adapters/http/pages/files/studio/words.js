// What states and faults are called, in the views of what was recorded.

import { ApiError } from "../shared/api.js";
import { h } from "../shared/dom.js";
import { t } from "../shared/text.js";

/**
 * Says what a recording does that is live.
 *
 * @param {string | undefined} session the state of its session, if it is known
 */
export function stateMark(session) {
  if (session === "interrupted")
    return h("span", { class: "mark warning" }, t("recording.interrupted"));
  if (session === "silent") return h("span", { class: "mark warning" }, t("recording.silent"));
  return h("span", { class: "mark recording" }, t("recording.live"));
}

/**
 * Says that the server has refused something, or is away.
 *
 * @param {unknown} error
 * @param {(() => void) | null} again what tries it again
 */
export function trouble(error, again = null) {
  return h(
    "div",
    { class: "notice critical row spread", role: "alert" },
    h("p", {}, reason(error)),
    again && h("button", { type: "button", onClick: again }, t("action.retry")),
  );
}

/**
 * Returns why something does not work, in words.
 *
 * @param {unknown} error
 */
export function reason(error) {
  if (error instanceof ApiError && error.status)
    return t("error.detail", { detail: error.message });
  if (!(error instanceof ApiError)) console.error(error);
  return t("error.network");
}
