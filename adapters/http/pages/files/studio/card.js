// One session, as the live view shows it.

import { fill, h, setText } from "../shared/dom.js";
import { duration, percent, timeOfDay } from "../shared/format.js";
import { hasText, t } from "../shared/text.js";
import { askToEnd } from "./ending.js";
import { Figures } from "./figures.js";
import { Talk } from "./talk.js";
import { Microphone } from "./microphone.js";
import { TrackView } from "./track-view.js";
import { judge } from "./verdict.js";
import { microphoneText } from "./words.js";

/** @typedef {import("api").components["schemas"]} Schemas */
/** @typedef {Schemas["Session"]} Session */

const MARKS = { good: "good", look: "warning", bad: "critical", waiting: "quiet" };

/** What is known of a session. Figures and pictures are made only while somebody can see them. */
export class Card {
  /**
   * @param {Session} session
   * @param {import("./main.js").Context} context
   * @param {import("./listener.js").Listener} listener
   */
  constructor(session, context, listener) {
    this.context = context;
    this.listener = listener;
    this.session = session;
    this.isSeen = false;
    /** @type {Map<number, TrackView>} */
    this.tracks = new Map();
    /** @type {Schemas["Alarm"][]} */
    this.alarms = [];
    this.microphone = new Microphone();
    this.verdict = judge(session, [], []);
    /** Whether the page still says something else; so it is written for those who cannot see, too. */
    this.isChanged = true;
    const name = session.name || t("session.unnamed");
    this.name = name;
    const label = `session-${session.id}`;
    this.mark = h("span", { class: "mark" });
    this.time = h("span", { class: "figures", role: "timer", "aria-live": "off" });
    this.why = h("p", { class: "small soft why" });
    this.happened = h("p", { class: "small soft happened", dir: "auto", hidden: true });
    this.trackList = h("div", { class: "stack tight" });
    this.actions = h("div", { class: "row actions" });
    this.figures = new Figures(session.id, context);
    this.element = h(
      "li",
      { class: "card panel", "aria-labelledby": label, dataset: { session: session.id } },
      h(
        "div",
        { class: "card-head" },
        h("h3", { id: label }, h("bdi", { title: name }, name)),
        this.mark,
        this.time,
      ),
      this.why,
      this.trackList,
      this.happened,
      this.actions,
    );
    if (context.role === "admin") {
      this.talk = new Talk(session.id, context);
      this.element.append(this.talk.element);
    }
    this.element.append(this.figures.element);
    this.off = listener.onChange(() => this.#showListening());
    this.update(session);
  }

  close() {
    this.off();
    this.figures.close();
  }

  /** @param {Session} session as the server tells of it now */
  update(session) {
    this.session = session;
    const before = this.tracks.size;
    for (const track of session.tracks) {
      if (!track.recording) continue;
      const view = this.tracks.get(track.number);
      if (view?.rate === track.sample_rate_hz) {
        view.track = track;
        continue;
      }
      const made = new TrackView(track, this.name);
      if (view) view.element.replaceWith(made.element);
      else this.trackList.append(made.element);
      this.tracks.set(track.number, made);
    }
    if (this.tracks.size !== before || !this.actions.firstChild) this.#act();
    this.#judge();
    this.figures.show(session);
  }

  /** @param {Schemas["SessionLevels"]} levels */
  told({ tracks }) {
    for (const told of tracks) this.tracks.get(told.track)?.told(told);
    this.#judge();
    this.figures.refresh();
  }

  /** @param {Schemas["Alarm"][]} alarms those of the session that are on */
  judge(alarms) {
    this.alarms = alarms;
    this.#judge();
  }

  /** @param {import("./microphone.js").CaptureEvent} event what its page tells of the microphone */
  happen(event) {
    const { microphone } = this;
    microphone.add(event);
    this.#judge();
    const what = microphoneText(event);
    if (!what) return;
    this.happened.hidden = false;
    setText(this.happened, t("mic.at", { at: timeOfDay(event.at), what }));
    if (microphone.obstacle) this.context.announcer.say(`${this.name}: ${what}`);
  }

  #judge() {
    const shares = [...this.tracks.values()].map((track) => track.shares);
    const { word, why } = this.verdict;
    this.verdict = judge(this.session, this.alarms, shares, this.microphone.obstacle);
    this.isChanged ||= this.verdict.word !== word || this.verdict.why !== why;
  }

  /** Writes what has changed. */
  write() {
    this.isChanged = false;
    const { word, why, share = 0 } = this.verdict;
    const className = `mark ${MARKS[word]}`;
    if (this.mark.className !== className) this.mark.className = className;
    setText(this.mark, t(`verdict.${word}`));
    const key = why.startsWith("mic.") ? why : `why.${why}`;
    // an alarm of a kind that the studio does not know has words of its own
    const text = hasText(key) ? t(key, { share: percent(share) }) : (this.alarms[0]?.text ?? "");
    setText(this.why, text);
    const longest = Math.max(0, ...[...this.tracks.values()].map((track) => track.seconds));
    setText(this.time, duration(longest));
  }

  /** Draws the waveforms and meters. */
  draw() {
    for (const track of this.tracks.values()) track.draw();
  }

  /** Fills in what may be done. A watcher sees nothing that it may not do. */
  #act() {
    const tracks = [...this.tracks.keys()].sort((one, other) => one - other);
    /** @type {Map<number, HTMLButtonElement>} */
    this.listens = new Map();
    for (const track of tracks) {
      const text = tracks.length > 1 ? t("listen.track", { track }) : t("listen.start");
      const toggle = () =>
        void this.listener.toggle({ session: this.session.id, track }, this.name);
      this.listens.set(track, h("button", { "aria-pressed": "false", onclick: toggle }, text));
    }
    fill(
      this.actions,
      ...this.listens.values(),
      this.talk?.button,
      this.context.role === "admin" &&
        h("button", { class: "danger end", onclick: () => this.#end() }, t("end.button")),
    );
    this.#showListening();
  }

  #end() {
    askToEnd(this.session.id, this.name, this.context.announcer);
  }

  #showListening() {
    for (const [track, button] of this.listens ?? []) {
      const isOn = this.listener.isOn({ session: this.session.id, track });
      button.setAttribute("aria-pressed", String(isOn));
    }
  }
}
