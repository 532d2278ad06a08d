// Deletes recordings, but not at once: for ten seconds it can be undone.

import { ApiError, ask, send } from "../shared/api.js";
import { h } from "../shared/dom.js";
import { t } from "../shared/text.js";

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */

const UNDO_MS = 10_000;

/**
 * Recordings that will be deleted, or are.
 *
 * @type {Set<string>}
 */
const leaving = new Set();

/** Tells `change` when a recording begins to be deleted, or stays after all. */
export const deletions = new EventTarget();

/**
 * Returns whether a recording is deleted, or will be: lists leave it out.
 *
 * @param {string} id
 */
export function isLeaving(id) {
  return leaving.has(id);
}

/**
 * Deletes a recording in ten seconds, unless somebody undoes it. If the page is left before, it is
 * deleted then.
 *
 * @param {Recording} recording
 */
export function deleteSoon(recording) {
  if (leaving.has(recording.id)) return;
  const name = h("bdi", {}, recording.title || recording.client_name || recording.name);
  const undo = h("button", { type: "button" }, t("delete.undo"));
  const notice = h(
    "div",
    { class: "notice undo row spread" },
    h("p", { role: "status" }, name, " ", t("delete.soon")),
    undo,
  );
  shelf().append(notice);
  const end = () => {
    clearTimeout(timer);
    removeEventListener("pagehide", leave);
  };
  const leave = () => {
    end();
    void send("DELETE", pathOf(recording), { keepalive: true }).catch(() => {});
  };
  undo.addEventListener("click", () => {
    end();
    leaving.delete(recording.id);
    notice.remove();
    tell();
  });
  const timer = setTimeout(async () => {
    undo.disabled = true;
    try {
      await ask("DELETE", pathOf(recording), undefined, { keepalive: true });
      notice.remove();
    } catch (error) {
      // it is gone already: that is what was wanted
      if (error instanceof ApiError && error.status === 404) return notice.remove();
      notice.replaceWith(failure(recording, error));
      leaving.delete(recording.id);
      tell();
    } finally {
      end();
    }
  }, UNDO_MS);
  addEventListener("pagehide", leave);
  leaving.add(recording.id);
  tell();
  undo.focus();
}

/** @param {Recording} recording */
function pathOf(recording) {
  return `/api/recordings/${encodeURIComponent(recording.id)}`;
}

/**
 * @param {Recording} recording
 * @param {unknown} error
 */
function failure(recording, error) {
  const close = h("button", { type: "button" }, t("action.close"));
  const detail = error instanceof ApiError && error.status ? error.message : t("error.network");
  const notice = h(
    "div",
    { class: "notice critical undo row spread", role: "alert" },
    h(
      "p",
      {},
      h("bdi", {}, recording.title || recording.client_name || recording.name),
      " ",
      t("delete.failed"),
    ),
    h("p", { class: "small" }, detail),
    close,
  );
  close.addEventListener("click", () => notice.remove());
  return notice;
}

/** Returns where notices stand, whatever part of the studio is shown. */
function shelf() {
  const found = document.querySelector(".shelf");
  if (found) return found;
  const made = h("aside", { class: "shelf", "aria-label": t("delete.label") });
  document.body.append(made);
  return made;
}

function tell() {
  deletions.dispatchEvent(new Event("change"));
}
