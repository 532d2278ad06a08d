// Who is on, and how each is doing.

import { fill, h, setText } from "../shared/dom.js";
import { duration, timeOfDay } from "../shared/format.js";
import { KINDS } from "../shared/kinds.js";
import { t } from "../shared/text.js";
import { Card } from "./card.js";
import { Filler } from "./filler.js";
import { Listener } from "./listener.js";
import { ListenerBar } from "./listener-bar.js";

/** @typedef {import("./main.js").Context} Context */

/** Recordings that have ended since the view was opened, of which the latest are shown. */
const MOST_ENDED = 5;
/** How far beyond the screen cards are drawn already. */
const NEAR = "200px";

/** @type {import("./main.js").View} */
export function open(root, context) {
  const live = new Live(root, context);
  return () => live.close();
}

/** Shows a card for each session, by rooms. What is not on the screen is not drawn. */
class Live {
  /**
   * @param {HTMLElement} root
   * @param {Context} context
   */
  constructor(root, context) {
    this.context = context;
    /** @type {Map<string, Card>} */
    this.cards = new Map();
    /** @type {Map<string, Room>} */
    this.rooms = new Map();
    this.listener = new Listener();
    this.bar = new ListenerBar(this.listener);
    this.filler = new Filler();
    /** @type {Map<Element, Card>} */
    this.byElement = new Map();
    this.observer = new IntersectionObserver((entries) => this.#seen(entries), {
      rootMargin: NEAR,
    });
    this.frame = 0;
    this.noticed = "";
    this.summary = h("p", { class: "soft figures" });
    this.notices = h("div", { class: "stack tight notices", role: "status" });
    this.list = h("div", { class: "stack rooms" });
    this.ended = h("ul", { class: "stack tight" });
    this.lately = h("section", { hidden: true, class: "stack tight" }, [
      h("h2", {}, t("live.lately")),
      this.ended,
    ]);
    this.legend = h(
      "p",
      { class: "legend", hidden: true },
      KINDS.map((kind) => h("span", { class: `kind-${kind}` }, t(`kind.${kind}`))),
    );
    const { events, sessions, alarms } = context;
    fill(
      root,
      h("div", { class: "row spread" }, h("h1", {}, t("nav.live")), this.summary),
      this.notices,
      this.list,
      this.legend,
      this.lately,
      this.bar.element,
    );
    this.offs = [
      sessions.onChange(() => this.#sync()),
      alarms.onChange(() => this.#judge()),
      events.on("levels", (levels) => this.#told(levels)),
      events.on("session.capture", (event) => {
        this.cards.get(event.session)?.happen(event);
        this.#draw();
      }),
      events.on("recording.completed", (recording) => this.#completed(recording)),
    ];
    this.#sync();
  }

  close() {
    for (const off of this.offs) off();
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.filler.close();
    this.listener.close();
    for (const card of this.cards.values()) card.close();
  }

  #sync() {
    const { sessions } = this.context;
    for (const id of this.cards.keys()) if (!sessions.byId.has(id)) this.#remove(id);
    const ordered = [...sessions.byId.values()].sort((one, other) =>
      one.opened_at.localeCompare(other.opened_at),
    );
    const names = [...new Set(ordered.map(({ room }) => room))].sort(byRoom);
    for (const name of this.rooms.keys())
      if (!names.includes(name)) {
        this.rooms.get(name)?.element.remove();
        this.rooms.delete(name);
      }
    for (const [index, name] of names.entries()) {
      let room = this.rooms.get(name);
      if (!room) {
        room = new Room(name);
        this.rooms.set(name, room);
      }
      place(this.list, room.element, index);
      const members = ordered.filter((session) => session.room === name);
      room.title.hidden = names.length === 1 && !name;
      setText(room.count, t("live.on", { count: members.length }));
      for (const [at, session] of members.entries()) {
        const card = this.cards.get(session.id) ?? this.#add(session);
        card.update(session);
        place(room.list, card.element, at);
      }
    }
    this.#judge();
    this.#notice();
  }

  /** @param {import("./sessions.js").Session} session */
  #add(session) {
    const card = new Card(session, this.context, this.listener);
    this.cards.set(session.id, card);
    this.byElement.set(card.element, card);
    this.observer.observe(card.element);
    return card;
  }

  /** @param {string} id */
  #remove(id) {
    const card = this.cards.get(id);
    if (!card) return;
    this.cards.delete(id);
    this.byElement.delete(card.element);
    this.observer.unobserve(card.element);
    card.close();
    card.element.remove();
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const card = this.byElement.get(target);
      if (!card) continue;
      card.isSeen = isIntersecting;
      if (isIntersecting) this.filler.add(card);
    }
    this.#draw();
  }

  /** @param {import("api").components["schemas"]["LevelsEvent"]} levels */
  #told({ sessions }) {
    for (const told of sessions) {
      const card = this.cards.get(told.session);
      if (!card) continue;
      card.told(told);
      if (card.isSeen) this.filler.add(card);
    }
    // levels do not say whether what is missing is still to come
    const isMissing = [...this.cards.values()].some((card) => card.verdict.share);
    if (isMissing) this.context.sessions.refreshSoon();
    this.#summarize();
    this.#draw();
  }

  #judge() {
    for (const [id, card] of this.cards) card.judge(this.context.alarms.of(id));
    this.#summarize();
    this.#draw();
  }

  /** Draws all cards that are seen, at the next frame. */
  #draw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      const seen = [...this.cards.values()].filter((card) => card.isSeen);
      // text first: what is asked of the layout after that is computed once
      for (const card of this.cards.values()) if (card.isSeen || card.isChanged) card.write();
      for (const card of seen) card.draw();
    });
  }

  #summarize() {
    /** @type {Record<string, number>} */
    const counts = { bad: 0, look: 0, waiting: 0, good: 0 };
    for (const { verdict } of this.cards.values()) counts[verdict.word] += 1;
    const parts = Object.entries(counts)
      .filter(([, count]) => count)
      .map(([word, count]) => t(`live.count.${word}`, { count }));
    setText(this.summary, parts.join(" · "));
  }

  #notice() {
    const { sessions, role } = this.context;
    const isEmpty = sessions.isKnown && !sessions.byId.size;
    this.legend.hidden = !sessions.byId.size;
    const { error, isComplete } = sessions;
    const key = `${isEmpty} ${error?.message} ${isComplete}`;
    if (key === this.noticed) return;
    this.noticed = key;
    fill(
      this.notices,
      error &&
        h(
          "p",
          { class: "notice critical" },
          error.status ? t("error.detail", { detail: error.message }) : t("error.network"),
        ),
      !isComplete && h("p", { class: "notice warning" }, t("live.incomplete")),
      isEmpty &&
        h(
          "div",
          { class: "empty stack" },
          h("h2", {}, t("live.empty")),
          h("p", {}, role === "admin" ? t("live.empty.admin") : t("live.empty.watch")),
          role === "admin" &&
            h("div", {}, h("a", { class: "button", href: "#invite" }, t("live.invite"))),
          h("p", { class: "soft small" }, t("live.empty.command"), " ", [
            h("code", { dir: "ltr" }, `gapless stream --server ${location.origin}`),
          ]),
        ),
    );
  }

  /** @param {import("api").components["schemas"]["RecordingCompletedEvent"]} recording */
  #completed({ session, recording, seconds, ended_at }) {
    const name = this.context.sessions.names.get(session ?? "") || t("session.unnamed");
    this.lately.hidden = false;
    this.ended.prepend(
      h(
        "li",
        { class: "row" },
        h("bdi", { class: "name" }, name),
        h("span", { class: "figures" }, t("live.recorded", { time: duration(seconds) })),
        h("time", { class: "soft small", datetime: ended_at }, timeOfDay(ended_at)),
        h(
          "a",
          { class: "button", href: `#recordings?id=${encodeURIComponent(recording)}` },
          t("live.open"),
        ),
      ),
    );
    while (this.ended.childElementCount > MOST_ENDED) this.ended.lastElementChild?.remove();
    const text = t("live.ended", { name, time: duration(seconds) });
    this.context.announcer.say(text);
  }
}

/** A room and the cards of its sessions. */
class Room {
  /** @param {string} name */
  constructor(name) {
    this.count = h("span", { class: "soft small" });
    const shown = name ? h("bdi", { title: name }, name) : t("live.no_room");
    this.title = h("div", { class: "row room-title" }, h("h2", {}, shown), this.count);
    this.list = h("ul", { class: "cards" });
    this.element = h("section", { class: "stack tight" }, this.title, this.list);
  }
}

/**
 * Sessions without a room come last.
 *
 * @param {string} one
 * @param {string} other
 */
function byRoom(one, other) {
  if (!one || !other) return Number(!one) - Number(!other);
  return one.localeCompare(other);
}

/**
 * Puts an element where it belongs, unless it is there.
 *
 * @param {HTMLElement} parent
 * @param {HTMLElement} child
 * @param {number} index
 */
function place(parent, child, index) {
  const there = parent.children[index] ?? null;
  if (there !== child) parent.insertBefore(child, there);
}
