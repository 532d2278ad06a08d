// The studio: what is recorded now, and what was. Its address says what is shown (`#recordings`).

import { ApiError, ask } from "../shared/api.js";
import { byId, fill, h } from "../shared/dom.js";
import { timeOfDay } from "../shared/format.js";
import { loadTexts, t } from "../shared/text.js";
import { Alarms } from "./alarms.js";
import { Announcer } from "./announcer.js";
import { Events } from "./events.js";
import { Sessions } from "./sessions.js";
import { signInForm } from "./sign-in.js";
import { StorageView } from "./storage.js";

/** @typedef {import("api").components["schemas"]["SignedIn"]} SignedIn */

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
 * @property {Events} events what happens; views end what they listen to
 * @property {Sessions} sessions what is recorded now
 * @property {Alarms} alarms
 * @property {Announcer} announcer tells screen readers what has happened
 */

/** @type {Record<string, () => Promise<{ open: View }>>} */
const VIEWS = {
  live: () => import("./live.js"),
  recordings: () => import("./recordings.js"),
  rooms: () => import("./rooms.js"),
  invite: () => import("./invite.js"),
};
/** Views of what a watcher may not do. */
const FOR_ADMINS = ["invite"];

await loadTexts("shared", "studio");
document.title = t("title");
const head = byId("head");
const page = byId("page");
const announcer = new Announcer();
document.body.append(announcer.element);
await begin();

/** Finds out who is there, and opens the studio or asks for a token. */
async function begin() {
  try {
    await studio(await ask("GET", "/api/sign-in"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401 || error.status === 403) signIn();
    else fill(page, unreachable(error));
  }
}

/** @param {string} [why] what is said above the form */
function signIn(why) {
  fill(
    page,
    signInForm(why, (who) => void studio(who)),
  );
  page.querySelector("input")?.focus();
}

/** @param {ApiError} error */
function unreachable(error) {
  return h(
    "div",
    { class: "notice critical stack tight", role: "alert" },
    h("p", {}, error.status ? t("error.detail", { detail: error.message }) : t("error.network")),
    h("div", {}, h("button", { onclick: () => void begin() }, t("action.retry"))),
  );
}

/** @param {SignedIn} who */
async function studio(who) {
  const events = new Events();
  const sessions = new Sessions(events);
  const alarms = new Alarms(events, sessions, announcer);
  const storage = new StorageView(events);
  const names = Object.keys(VIEWS).filter(
    (name) => who.role === "admin" || !FOR_ADMINS.includes(name),
  );
  const links = names.map((name) => h("a", { href: `#${name}` }, t(`nav.${name}`)));
  const nav = h("nav", { class: "row", "aria-label": t("nav.label") }, links);
  const out = h("button", { class: "plain", onclick: () => void signOut() }, t("sign_in.out"));
  const side = h(
    "div",
    { class: "row side" },
    storage.element,
    alarms.button,
    who.needs_token && h("span", { class: "who soft small" }, whoText(who)),
    who.needs_token && out,
  );
  const lost = h("div", { class: "lost", role: "alert" });
  head.append(nav, side);
  head.after(lost, alarms.bar);
  let close = () => {};
  let turn = 0;
  const stopping = new AbortController();

  events.on("connection", (isConnected) => {
    if (isConnected) fill(lost);
    else if (!lost.firstChild)
      fill(
        lost,
        h("p", { class: "notice critical" }, t("connection.lost", { at: timeOfDay(new Date()) })),
      );
  });
  events.on("busy", () => fill(lost, h("p", { class: "notice warning" }, t("connection.busy"))));
  events.on("refused", () => leave(t("sign_in.ended")));
  await events.start();
  void sessions.refresh();
  void alarms.load();
  void storage.load();
  addEventListener("hashchange", () => void show(), { signal: stopping.signal });
  await show();

  async function show() {
    const [name, query = ""] = location.hash.slice(1).split("?");
    const shown = names.includes(name) ? name : "live";
    for (const link of links)
      if (link.getAttribute("href") === `#${shown}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    turn += 1;
    const mine = turn;
    const { open } = await VIEWS[shown]();
    // another view was asked for meanwhile, or nobody is signed in any more
    if (mine !== turn) return;
    close();
    close = () => {};
    // of its own: a view that is still being opened writes into no other one
    const root = h("div", { class: "view" });
    fill(page, root);
    const ended = await open(root, {
      role: who.role,
      query: new URLSearchParams(query),
      events,
      sessions,
      alarms,
      announcer,
    });
    if (mine === turn) close = ended;
    else ended();
  }

  async function signOut() {
    try {
      await ask("DELETE", "/api/sign-in");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      announcer.say(t("sign_in.out_failed"), { isUrgent: true });
      return;
    }
    leave();
  }

  /** @param {string} [why] */
  function leave(why) {
    turn += 1;
    stopping.abort();
    close();
    events.stop();
    sessions.stop();
    alarms.stop();
    for (const element of [nav, side, lost, alarms.bar]) element.remove();
    document.title = t("title");
    signIn(why);
  }
}

/** @param {SignedIn} who */
function whoText({ name, role }) {
  const what = role === "admin" ? t("role.admin") : t("role.watch");
  return name ? [h("bdi", {}, name), ` (${what})`] : what;
}
