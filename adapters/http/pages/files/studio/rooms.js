// Rooms: what belongs together by name, on one time axis (`#rooms?room=…`).

import { fill, h, setText } from "../shared/dom.js";
import { dateTime, duration, timeOfDay } from "../shared/format.js";
import { KINDS } from "../shared/kinds.js";
import { t } from "../shared/text.js";
import { Axis } from "./axis.js";
import { isLeaving } from "./deleting.js";
import { Lane } from "./lane.js";
import { Playback } from "./playback.js";
import { listen } from "./recording-events.js";
import { kindName } from "./recording-verdict.js";
import { roomsOf, sittingsOf } from "./sittings.js";
import { allRecordings } from "./source.js";
import { Timeline } from "./timeline.js";
import { attempt, liveMark, nameOf, stateMark } from "./words.js";

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */
/** @typedef {import("./sittings.js").Sitting} Sitting */

/** How much a live recording grows before its waveform is asked for again, in seconds. */
const GROW_S = 2;

/** @type {import("./main.js").View} */
export function open(root, { query, events, sessions }) {
  const room = query.get("room");
  return room ? openRoom(root, room, events, sessions) : openRooms(root, events);
}

/**
 * Shows which rooms there are.
 *
 * @param {HTMLElement} root
 * @param {import("./recording-events.js").Events} events
 */
async function openRooms(root, events) {
  const stop = new AbortController();
  /** @type {Map<string, Recording>} */
  const known = new Map();
  const status = h("p", { class: "soft small", role: "status" });
  const list = h("ul", { class: "panel room-list", hidden: true });
  const place = h("div", { class: "slot" });
  fill(root, h("h1", {}, t("nav.rooms")), status, place, list);

  function show() {
    const rooms = roomsOf([...known.values()]);
    list.hidden = !rooms.length;
    setText(status, rooms.length ? t("rooms.count", { count: rooms.length }) : t("rooms.empty"));
    fill(
      list,
      rooms.map(({ name, count, latest, isLive }) =>
        h(
          "li",
          {},
          h("a", { href: `#rooms?room=${encodeURIComponent(name)}` }, h("bdi", {}, name)),
          h("span", { class: "soft small" }, t("rooms.recordings", { count })),
          h("time", { class: "soft small" }, dateTime(new Date(latest))),
          isLive && stateMark("recording"),
        ),
      ),
    );
  }

  const load = () =>
    attempt(place, stop.signal, async () => {
      const told = (/** @type {number} */ count) => setText(status, t("rooms.loading", { count }));
      const found = await allRecordings({}, { signal: stop.signal, told });
      known.clear();
      for (const one of found) known.set(one.id, one);
      fill(place);
      show();
    });
  const stopListening = listen(events, {
    changed: (recording) => {
      known.set(recording.id, recording);
      show();
    },
    removed: (id) => {
      if (known.delete(id)) show();
    },
    missed: () => void load(),
  });
  await load();
  return () => {
    stop.abort();
    stopListening();
  };
}

/**
 * Shows one room: its latest sitting, or another one.
 *
 * @param {HTMLElement} root
 * @param {string} room
 * @param {import("./recording-events.js").Events} events
 * @param {import("./sessions.js").Sessions} sessions
 */
async function openRoom(root, room, events, sessions) {
  const stop = new AbortController();
  const place = h("div", { class: "stack" });
  const choice = h("select", { onChange: () => showSitting() });
  const chooser = h(
    "label",
    { class: "field sitting", hidden: true },
    h("span", {}, t("rooms.sitting")),
    choice,
  );
  /** @type {Sitting[]} */
  let sittings = [];
  /** @type {SittingView | null} */
  let view = null;
  fill(
    root,
    h("p", {}, h("a", { href: "#rooms", class: "back" }, t("rooms.back"))),
    h("div", { class: "row spread" }, h("h1", {}, h("bdi", {}, room)), chooser),
    place,
  );

  function showSitting() {
    const at = view?.playback.isPlaying ? null : view?.timeline.at;
    view?.close();
    view = null;
    const sitting = sittings[Number(choice.value)] ?? sittings[0];
    if (!sitting) return fill(place, h("p", { class: "panel soft" }, t("rooms.none")));
    view = new SittingView(place, sitting, sessions);
    if (at && at < sitting.seconds) view.timeline.moveTo(at);
  }

  const load = () =>
    attempt(place, stop.signal, async () => {
      const found = await allRecordings({ room }, { signal: stop.signal });
      const chosen = sittings[Number(choice.value)]?.start;
      sittings = sittingsOf(found.filter((one) => !isLeaving(one.id)));
      fill(
        choice,
        sittings.map(({ start, lanes }, index) => {
          const values = { time: dateTime(new Date(start)), count: lanes.length };
          return h("option", { value: index }, t("rooms.sittingOf", values));
        }),
      );
      const index = sittings.findIndex(({ start }) => start === chosen);
      choice.value = String(Math.max(0, index));
      chooser.hidden = sittings.length < 2;
      showSitting();
    });
  const stopListening = listen(events, {
    changed: (recording) => {
      if (recording.room?.toLowerCase() === room.toLowerCase()) void load();
    },
    removed: (id) => {
      if (sittings.some(({ lanes }) => lanes.some((lane) => lane.recording.id === id))) void load();
    },
    missed: () => void load(),
    idsOf: (session) =>
      sittings
        .flatMap(({ lanes }) => lanes.map((lane) => lane.recording))
        .filter((recording) => recording.session === session)
        .map((recording) => recording.id),
    grown: (session, track, samples) => view?.grow(session, track, samples),
  });
  await load();
  return () => {
    stop.abort();
    stopListening();
    view?.close();
  };
}

/** The lanes of a sitting, with one cursor over all of them. */
class SittingView {
  /**
   * @param {HTMLElement} root
   * @param {Sitting} sitting
   * @param {import("./sessions.js").Sessions} sessions
   */
  constructor(root, sitting, sessions) {
    this.sessions = sessions;
    this.axis = new Axis(sitting.seconds);
    this.problem = h("div", { class: "slot" });
    /** @type {import("./sittings.js").Sitting["lanes"][number] | null} what plays */
    this.solo = null;
    this.playback = new Playback({
      moved: (seconds) => this.#move(seconds + (this.solo?.start ?? 0)),
      changed: () => this.#marks(),
      failed: () =>
        fill(this.problem, h("p", { class: "notice warning", role: "alert" }, t("play.failed"))),
    });
    this.timeline = new Timeline(this.axis, {
      label: t("rooms.timeline"),
      pick: (seconds) => this.#pick(seconds),
      move: (seconds) => this.#pick(seconds),
      toggle: () => this.#toggle(this.solo ?? this.#laneAt(this.timeline.at)),
    });
    this.clock = h("output", { class: "figures clock", "aria-live": "off" });
    this.start = sitting.start;
    this.lanes = sitting.lanes.map((placed) => this.#lane(placed));
    const kinds = KINDS.map((kind) =>
      h("li", {}, h("span", { class: `kind-${kind}` }, h("b", {}, kindName(kind)))),
    );
    fill(
      root,
      h(
        "section",
        { class: "panel stack", "aria-label": t("rooms.timeline") },
        h("div", { class: "row spread" }, this.clock, this.timeline.controls),
        this.timeline.element,
        this.playback.audio,
        this.timeline.help,
        this.problem,
        h("ul", { class: "legend" }, kinds),
      ),
    );
    this.#move(0);
    this.#marks();
  }

  /**
   * Takes the length of a live recording.
   *
   * @param {string} session
   * @param {number} track
   * @param {number} samples
   */
  grow(session, track, samples) {
    for (const { placed, lane } of this.lanes) {
      const { recording, start } = placed;
      if (recording.session !== session || recording.track !== track) continue;
      const seconds = samples / recording.sample_rate_hz;
      if (recording.state !== "live" || seconds < lane.seconds + GROW_S) continue;
      lane.grow(seconds);
      if (start + seconds > this.axis.total) this.axis.resize(start + seconds);
    }
  }

  close() {
    this.playback.close();
    this.timeline.close();
    for (const { lane, mark } of this.lanes) {
      lane.close();
      mark?.close();
    }
  }

  /** @param {Sitting["lanes"][number]} placed */
  #lane(placed) {
    const { recording, start } = placed;
    const failed = () => {}; // its lane stays empty; what it is says the page of the recording
    const lane = new Lane(this.axis, recording, { start, failed });
    const play = h("button", { type: "button", onClick: () => this.#toggle(placed) });
    const stage = h("div", { class: "lane-stage" }, lane.canvas);
    this.timeline.follow(stage);
    const name = nameOf(recording);
    const mark = recording.state === "live" ? liveMark(this.sessions, recording) : null;
    const href = `#recordings?id=${encodeURIComponent(recording.id)}`;
    this.timeline.lanes.append(
      h(
        "div",
        { class: "lane-head" },
        play,
        h(
          "div",
          {},
          h("a", { href, title: recording.name }, h("bdi", {}, name)),
          h(
            "div",
            { class: "row soft small figures" },
            recording.track > 1 && h("span", {}, t("rooms.track", { number: recording.track })),
            h("span", {}, timeOfDay(recording.started_at)),
            mark?.element ?? h("span", {}, duration(recording.seconds)),
          ),
        ),
      ),
      stage,
    );
    return { placed, lane, play, name, mark };
  }

  /** @param {number} seconds on the axis */
  #move(seconds) {
    this.timeline.moveTo(seconds, { isTold: !this.playback.isPlaying });
    const time = new Date(this.start + seconds * 1000);
    setText(this.clock, `${duration(seconds, { tenths: true })} · ${timeOfDay(time)}`);
    if (this.playback.isPlaying) this.axis.reveal(seconds);
  }

  #marks() {
    for (const { placed, play, name } of this.lanes) {
      const isOn = this.solo === placed && this.playback.isPlaying;
      setText(play, isOn ? t("play.pause") : t("play.play"));
      play.setAttribute(
        "aria-label",
        isOn ? t("rooms.pause", { name }) : t("rooms.play", { name }),
      );
    }
  }

  /** @param {number} seconds on the axis */
  #pick(seconds) {
    const solo = this.solo;
    const within = solo && seconds >= solo.start && seconds < solo.start + solo.recording.seconds;
    if (within) this.playback.seek(solo.recording.id, seconds - solo.start);
    else {
      this.playback.pause();
      this.#move(seconds);
    }
  }

  /**
   * Returns the first lane that has sound at a time, or the first of all.
   *
   * @param {number} seconds
   */
  #laneAt(seconds) {
    const all = this.lanes.map(({ placed }) => placed);
    return (
      all.find(({ start, recording }) => seconds >= start && seconds < start + recording.seconds) ??
      all[0]
    );
  }

  /** @param {Sitting["lanes"][number]} placed plays this one alone, from the cursor */
  #toggle(placed) {
    if (this.solo === placed && this.playback.isPlaying) return this.playback.pause();
    fill(this.problem);
    this.playback.pause();
    this.solo = placed;
    const at = this.timeline.at - placed.start;
    const isThere = at >= 0 && at < placed.recording.seconds - 0.01;
    this.playback.play(placed.recording.id, isThere ? at : 0);
    this.#marks();
  }
}
