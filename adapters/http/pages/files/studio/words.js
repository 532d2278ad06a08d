// What states and faults are called, in the views of what was recorded.

import { ApiError } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { hasText, t } from "../shared/text.js";
import { keyOf } from "./microphone.js";

/**
 * Returns what a recording is called: as the client has called it, if that is known.
 *
 * @param {import("api").components["schemas"]["Recording"]} recording
 */
export function nameOf(recording) {
  return recording.title || recording.client_name || t("recording.unnamed");
}

/**
 * Says what a recording does that is live.
 *
 * @param {string | undefined} session the state of its session, if it is known
 */
export function stateMark(session) {
  if (session === "interrupted")
    return h("span", { class: "mark warning" }, t("recording.interrupted"));
  if (session === "silent") return h("span", { class: "mark warning" }, t("recording.silent"));
  if (session === "recording") return h("span", { class: "mark recording" }, t("recording.live"));
  return h("span", { class: "mark quiet" }, t("state.live"));
}

/**
 * Says what a live recording does, as long as it is shown.
 *
 * @param {import("./sessions.js").Sessions} sessions
 * @param {import("api").components["schemas"]["Recording"]} recording
 * @returns {{ element: HTMLElement, close: () => void }}
 */
export function liveMark(sessions, recording) {
  const element = h("span");
  const show = () => {
    const mark = stateMark(sessions.byId.get(recording.session)?.state);
    if (mark.textContent !== element.textContent) fill(element, mark);
  };
  show();
  return { element, close: sessions.onChange(show) };
}

/**
 * Says what has happened to a microphone; nothing if the pages have no words for it.
 *
 * @param {{ what?: string, text?: string, seconds?: number | string | null }} event as the ledger
 *   or an event has it
 */
export function microphoneText({ what = "", text = "", seconds }) {
  const key = `mic.${keyOf({ what, text })}`;
  if (!hasText(key)) return "";
  // what a client has written is not to turn round what stands beside it (Unicode UAX #9, isolates)
  const isolated = text && `\u2068${text}\u2069`;
  return t(key, {
    text: isolated,
    seconds: number(Number(seconds ?? 0), { maximumFractionDigits: 1 }),
  });
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
 * Does some work. If it fails, shows that in a place, with a button that tries again; unless the view
 * has been closed meanwhile.
 *
 * @param {HTMLElement} place
 * @param {AbortSignal} signal aborted when the view is closed
 * @param {() => Promise<void>} work
 */
export async function attempt(place, signal, work) {
  try {
    await work();
  } catch (error) {
    if (signal.aborted) return;
    const again = () => void attempt(place, signal, work);
    fill(place, trouble(error, again));
  }
}

/**
 * Returns why something does not work, in words.
 *
 * @param {unknown} error
 */
export function reason(error) {
  if (!(error instanceof ApiError)) return t("recording.fault", { detail: String(error) });
  return error.status ? t("error.detail", { detail: error.message }) : t("error.network");
}
