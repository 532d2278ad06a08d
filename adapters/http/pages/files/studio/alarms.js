// Alarms: a bar that is hard to miss and easy to dismiss, and what there was before.

import { ApiError, ask } from "../shared/api.js";
import { fill, h, setText } from "../shared/dom.js";
import { dateTime, timeOfDay } from "../shared/format.js";
import { hasText, t } from "../shared/text.js";
import { AlarmBook } from "./alarm-book.js";

/** @typedef {import("api").components["schemas"]["Alarm"]} Alarm */

const DISMISSED = "gapless.dismissed";
/** Alarms in the bar; the others are behind the button in the head. */
const MOST_IN_BAR = 3;

/** Shows the alarms of the whole server. */
export class Alarms {
  /**
   * @param {import("./events.js").Events} events
   * @param {import("./sessions.js").Sessions} sessions for their names
   * @param {import("./announcer.js").Announcer} announcer
   */
  constructor(events, sessions, announcer) {
    this.sessions = sessions;
    this.announcer = announcer;
    this.drawn = "";
    this.book = new AlarmBook(read());
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    this.bar = h("section", { class: "alarms", "aria-label": t("alarms.on"), hidden: true });
    this.button = h("button", { class: "plain", onclick: () => this.#open() }, t("alarms.button"));
    this.history = h("div", { class: "stack tight" });
    this.dialog = h(
      "dialog",
      { class: "history", "aria-labelledby": "alarms-title" },
      h(
        "div",
        { class: "stack" },
        h("h2", { id: "alarms-title" }, t("alarms.title")),
        this.history,
        h("div", {}, h("button", { onclick: () => this.dialog.close() }, t("action.close"))),
      ),
    );
    document.body.append(this.dialog);
    /** @type {(() => void)[]} */
    this.offs = [
      events.on("anew", () => void this.load()),
      events.on("alarm.raised", ({ alarm }) => this.#raised(alarm)),
      events.on("alarm.ended", ({ alarm }) => {
        this.book.end(alarm);
        this.#changed();
      }),
      sessions.onChange(() => this.#draw()),
    ];
  }

  /** Asks the server for all alarms. */
  async load() {
    try {
      this.book.replace(await ask("GET", "/api/alarms"));
    } catch (error) {
      if (error instanceof ApiError) return; // it is asked again when the server is back
      throw error;
    }
    this.#changed();
  }

  /**
   * Returns the alarms of a session that are on, the worst first.
   *
   * @param {string} session
   */
  of(session) {
    return this.book.of(session);
  }

  /**
   * Calls a function when alarms have changed; returns what ends that.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  stop() {
    for (const off of this.offs) off();
    this.listeners.clear();
    this.dialog.remove();
  }

  /** @param {Alarm} alarm */
  #raised(alarm) {
    this.book.raise(alarm);
    this.#changed();
    const isUrgent = alarm.level === "critical";
    const name = this.#nameOf(alarm);
    this.announcer.say(name ? `${name}: ${kindText(alarm)}` : kindText(alarm), { isUrgent });
  }

  /** @param {Alarm[]} alarms */
  #dismiss(...alarms) {
    for (const { id } of alarms) this.book.dismiss(id);
    this.#changed();
    (this.bar.querySelector("button") ?? this.button).focus();
  }

  #changed() {
    write(this.book.dismissed);
    this.#draw();
    for (const listener of [...this.listeners]) listener();
  }

  #draw() {
    const shown = this.book.shown();
    const critical = shown.filter(({ level }) => level === "critical").length;
    document.title = critical ? t("title.critical", { count: critical }) : t("title");
    const on = this.book.on.size;
    setText(this.button, on ? t("alarms.count", { count: on }) : t("alarms.button"));
    const key = shown.map((one) => `${one.id} ${one.level} ${this.#nameOf(one)}`).join("\n");
    if (key !== this.drawn) {
      this.drawn = key;
      const rest = shown.slice(MOST_IN_BAR);
      this.bar.hidden = !shown.length;
      fill(
        this.bar,
        shown.slice(0, MOST_IN_BAR).map((alarm) => this.#line(alarm)),
        rest.length > 0 &&
          h(
            "div",
            { class: "alarm row" },
            h("button", { class: "plain", onclick: () => this.#open() }, moreText(rest.length)),
            h("button", { onclick: () => this.#dismiss(...shown) }, t("alarms.dismiss_all")),
          ),
      );
    }
    if (this.dialog.open) this.#list();
  }

  /** @param {Alarm} alarm */
  #line(alarm) {
    return h(
      "div",
      { class: `alarm row ${alarm.level}` },
      mark(alarm),
      h(
        "p",
        { class: "what" },
        ...this.#subject(alarm),
        h("strong", {}, kindText(alarm)),
        " ",
        h("span", { class: "small detail", lang: "en", dir: "auto" }, alarm.text),
      ),
      h("time", { class: "small", datetime: alarm.since }, timeOfDay(alarm.since)),
      h(
        "button",
        {
          "aria-label": t("alarms.dismiss_one", { what: kindText(alarm) }),
          onclick: () => this.#dismiss(alarm),
        },
        t("alarms.dismiss"),
      ),
    );
  }

  #open() {
    this.#list();
    this.dialog.showModal();
  }

  #list() {
    const on = this.book.all();
    const { ended } = this.book;
    fill(
      this.history,
      h("h3", {}, t("alarms.on")),
      on.length
        ? h(
            "ul",
            {},
            on.map((one) => this.#row(one)),
          )
        : h("p", {}, t("alarms.none")),
      ended.length > 0 && h("h3", {}, t("alarms.ended")),
      ended.length > 0 &&
        h(
          "ul",
          {},
          ended.map((one) => this.#row(one)),
        ),
    );
  }

  /** @param {Alarm} alarm */
  #row(alarm) {
    const end = alarm.ended_at;
    return h(
      "li",
      { class: "past" },
      end ? null : mark(alarm),
      h("p", {}, ...this.#subject(alarm), h("strong", {}, kindText(alarm))),
      h("p", { class: "small", lang: "en", dir: "auto" }, alarm.text),
      h(
        "p",
        { class: "small soft" },
        end
          ? t("alarms.from_to", { from: dateTime(alarm.since), to: timeOfDay(end) })
          : t("alarms.since", { since: dateTime(alarm.since) }),
      ),
    );
  }

  /** @param {Alarm} alarm */
  #subject(alarm) {
    const name = this.#nameOf(alarm);
    return name ? [h("bdi", {}, name), ": "] : [];
  }

  /** @param {Alarm} alarm */
  #nameOf({ session }) {
    if (session === null) return "";
    return this.sessions.names.get(session) || t("session.unnamed");
  }
}

/** @param {Alarm} alarm */
function mark({ level }) {
  return h("span", { class: `mark ${level}` }, t(`alarms.level.${level}`));
}

/**
 * Names what is wrong; in the server's words, if it is of a kind that the studio does not know.
 *
 * @param {Alarm} alarm
 */
function kindText({ kind, text }) {
  const key = `why.alarm.${kind}`;
  return hasText(key) ? t(key) : text;
}

/** @param {number} count */
function moreText(count) {
  return t("alarms.more", { count });
}

/** @returns {Record<string, string>} */
function read() {
  try {
    const found = JSON.parse(localStorage.getItem(DISMISSED) ?? "{}");
    const isPlain = typeof found === "object" && found !== null && !Array.isArray(found);
    return isPlain ? found : {};
  } catch {
    return {}; // there is no storage, or something else is in it
  }
}

/** @param {Map<string, string>} dismissed */
function write(dismissed) {
  try {
    localStorage.setItem(DISMISSED, JSON.stringify(Object.fromEntries(dismissed)));
  } catch {
    // without a storage, what was dismissed is known until the page is closed
  }
}
