// The studio: what is recorded now, and what was. Its address says what is shown (`#recordings`).

import { byId, fill, h } from "../shared/dom.js";
import { loadTexts, t } from "../shared/text.js";

/**
 * A part of the studio: fills `root`, and returns what ends it when another is shown.
 *
 * @typedef {(root: HTMLElement, context: Context) => (() => void) | Promise<() => void>} View
 */

/**
 * What all views know.
 *
 * @typedef {object} Context
 * @property {"watch" | "admin"} role what the one who watches may do
 * @property {URLSearchParams} query what stands behind the view's name: `#recordings?room=…`
 */

/** @type {Record<string, () => Promise<{ open: View }>>} */
const VIEWS = {
  live: () => import("./live.js"),
  recordings: () => import("./recordings.js"),
  rooms: () => import("./rooms.js"),
  invite: () => import("./invite.js"),
};

await loadTexts("shared", "studio");
document.title = t("title");
const links = Object.keys(VIEWS).map((name) => h("a", { href: `#${name}` }, t(`nav.${name}`)));
byId("head").append(h("nav", { class: "row", "aria-label": t("nav.label") }, links));
let close = () => {};
addEventListener("hashchange", show);
await show();

async function show() {
  const [name, query = ""] = location.hash.slice(1).split("?");
  const shown = name in VIEWS ? name : "live";
  for (const link of links)
    link.toggleAttribute("aria-current", link.getAttribute("href") === `#${shown}`);
  const { open } = await VIEWS[shown]();
  close();
  const root = byId("page");
  fill(root);
  close = await open(root, { role: "admin", query: new URLSearchParams(query) });
}
