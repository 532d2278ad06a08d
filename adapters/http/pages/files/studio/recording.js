// One recording: its waveform, what is in it, what happened, and its files.

import { ApiError, ask } from "../shared/api.js";
import { fill, h, setText } from "../shared/dom.js";
import { dateTime, duration, number, size } from "../shared/format.js";
import { t } from "../shared/text.js";
import { Axis } from "./axis.js";
import { deleteSoon } from "./deleting.js";
import { happeningsOf } from "./happenings.js";
import { HappeningList } from "./happening-list.js";
import { Lane } from "./lane.js";
import { Playback } from "./playback.js";
import { listen } from "./recording-events.js";
import { Timeline } from "./timeline.js";
import { VerdictPanel, restoreWords, shares } from "./recording-verdict.js";
import { liveMark, nameOf, reason, trouble } from "./words.js";

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */

/** How much a live recording grows before its waveform is asked for again, in seconds. */
const GROW_S = 2;

/**
 * Shows a recording until it is closed.
 *
 * @param {HTMLElement} root
 * @param {import("./main.js").Context & { id: string }} context
 * @returns {Promise<() => void>}
 */
export async function openRecording(root, { id, role, events, sessions }) {
  const stop = new AbortController();
  const path = `/api/recordings/${encodeURIComponent(id)}`;
  const back = h("p", {}, h("a", { href: "#recordings", class: "back" }, t("recording.back")));
  const place = h("div", { class: "stack" });
  fill(root, back, place);
  let close = () => {};

  const load = async () => {
    try {
      /** @type {Recording} */
      const recording = await ask("GET", path, undefined, { signal: stop.signal });
      close();
      close = show(place, recording, role, sessions);
    } catch (error) {
      if (stop.signal.aborted) return;
      close();
      close = () => {};
      if (error instanceof ApiError && error.status === 404)
        fill(place, h("h1", { class: "notice" }, t("recording.gone")));
      else
        fill(
          place,
          trouble(error, () => void load()),
        );
    }
  };
  const stopListening = listen(events, {
    changed: (recording) => {
      if (recording.id === id) void load();
    },
    removed: (gone) => {
      if (gone === id) void load();
    },
    missed: () => void load(),
    idsOf: (session) => (session === place.dataset.session ? [id] : []),
    grown: (of, track, samples) => {
      if (of === place.dataset.session && String(track) === place.dataset.track)
        place.dispatchEvent(new CustomEvent("grown", { detail: samples }));
    },
  });
  await load();
  return () => {
    stop.abort();
    stopListening();
    close();
  };
}

/**
 * @param {HTMLElement} root
 * @param {Recording} recording
 * @param {"watch" | "admin"} role
 * @param {import("./sessions.js").Sessions} sessions
 * @returns {() => void}
 */
function show(root, recording, role, sessions) {
  const { id } = recording;
  const path = `/api/recordings/${encodeURIComponent(id)}`;
  const isLive = recording.state === "live";
  const stop = new AbortController();
  const axis = new Axis(recording.seconds);
  const problem = h("div", { class: "slot" });
  const playback = new Playback({
    moved: (seconds) => {
      timeline.moveTo(seconds, { isTold: !playback.isPlaying });
      setText(clock, duration(seconds, { tenths: true }));
      if (playback.isPlaying) axis.reveal(seconds);
    },
    changed: () => setText(play, playback.isPlaying ? t("play.pause") : t("play.play")),
    failed: (isUnknown) =>
      fill(
        problem,
        h(
          "p",
          { class: "notice warning", role: "alert" },
          isUnknown && recording.container === "opus" ? t("play.unknown") : t("play.failed"),
        ),
      ),
  });
  const begin = (/** @type {number} */ seconds) => {
    fill(problem);
    axis.reveal(seconds);
    playback.play(id, seconds);
  };
  const toggle = () => {
    if (playback.isPlaying) playback.pause();
    else begin(timeline.at >= axis.total - 0.01 ? 0 : timeline.at);
  };
  const timeline = new Timeline(axis, {
    label: t("timeline.label"),
    pick: begin,
    move: (seconds) => playback.seek(id, seconds),
    toggle,
  });
  const lane = new Lane(axis, recording, {
    failed: (error) =>
      fill(problem, h("p", { class: "notice critical", role: "alert" }, reason(error))),
  });
  const stage = h("div", { class: "lane-stage tall" }, lane.canvas);
  timeline.follow(stage);
  timeline.lanes.append(stage);
  const play = h(
    "button",
    { type: "button", class: "primary play", onClick: toggle },
    t("play.play"),
  );
  const clock = h(
    "output",
    { class: "figures clock", "aria-live": "off" },
    duration(0, { tenths: true }),
  );

  const legend = h("div", { class: "slot" });
  const restore = h("p", { hidden: true });
  const verdict = new VerdictPanel(recording);
  const happenings = new HappeningList((seconds) => begin(seconds));
  const ledger = async () => {
    try {
      const found = await ask("GET", `${path}/ledger`, undefined, { signal: stop.signal });
      fill(legend, shares(found, recording));
      const words = restoreWords(found, recording);
      restore.hidden = !words;
      setText(restore, words);
      const all = happeningsOf(found, recording.sample_rate_hz);
      timeline.mark(all.filter((one) => one.kind === null).map((one) => one.at));
      happenings.show(all);
    } catch (error) {
      if (stop.signal.aborted) return;
      happenings.fail(error, () => void ledger());
    }
  };
  void ledger();

  root.dataset.session = recording.session;
  root.dataset.track = String(recording.track);
  const grown = (/** @type {Event} */ event) => {
    const samples = /** @type {CustomEvent<number>} */ (event).detail;
    const seconds = samples / recording.sample_rate_hz;
    if (seconds < axis.total + GROW_S) return;
    lane.grow(seconds);
    axis.resize(seconds);
    setText(length, duration(seconds));
  };
  if (isLive) root.addEventListener("grown", grown);
  const mark = isLive ? liveMark(sessions, recording) : null;

  const length = h("dd", {}, duration(recording.seconds));
  fill(
    root,
    h(
      "div",
      { class: "recording-title" },
      h("h1", {}, h("bdi", {}, nameOf(recording))),
      mark?.element,
    ),
    h("dl", { class: "figures facts" }, facts(recording, length)),
    h(
      "section",
      { class: "panel stack", "aria-label": t("recording.sound") },
      h("div", { class: "row spread" }, h("div", { class: "row" }, play, clock), timeline.controls),
      timeline.element,
      playback.audio,
      timeline.help,
      problem,
      legend,
      restore,
    ),
    h(
      "div",
      { class: "recording-columns" },
      h(
        "section",
        { class: "panel stack tight", "aria-labelledby": "verdict-title" },
        h("h2", { id: "verdict-title" }, t("verdict.title")),
        verdict.element,
      ),
      h(
        "section",
        { class: "panel stack tight", "aria-labelledby": "files-title" },
        h("h2", { id: "files-title" }, t("files.title")),
        files(recording, path),
        role === "admin" && !isLive && deleteButton(recording),
      ),
    ),
    h(
      "section",
      { class: "panel stack tight", "aria-labelledby": "happenings-title" },
      h("h2", { id: "happenings-title" }, t("happenings.title")),
      happenings.element,
    ),
  );
  return () => {
    root.removeEventListener("grown", grown);
    mark?.close();
    stop.abort();
    verdict.close();
    playback.close();
    lane.close();
    timeline.close();
  };
}

/**
 * @param {Recording} recording
 * @param {Node} length
 */
function facts(recording, length) {
  const fact = (
    /** @type {string} */ name,
    /** @type {import("../shared/dom.js").Child} */ value,
  ) =>
    h(
      "div",
      {},
      h("dt", {}, name),
      value instanceof HTMLElement && value.tagName === "DD" ? value : h("dd", {}, value),
    );
  const room = recording.room;
  return [
    room &&
      fact(
        t("list.room"),
        h("a", { href: `#rooms?room=${encodeURIComponent(room)}` }, h("bdi", {}, room)),
      ),
    fact(t("list.started"), h("time", {}, dateTime(recording.started_at))),
    fact(t("list.length"), length),
    fact(t("list.size"), size(recording.size_bytes)),
    fact(
      t("recording.format"),
      t("recording.formatOf", {
        rate: number(recording.sample_rate_hz / 1000),
        channels: channels(recording.channels),
        codec: recording.codec,
      }),
    ),
    recording.parts.length > 1 && fact(t("recording.parts"), number(recording.parts.length)),
  ];
}

/** @param {number} count */
function channels(count) {
  if (count === 1) return t("recording.mono");
  return count === 2 ? t("recording.stereo") : t("recording.channels", { count });
}

/**
 * @param {Recording} recording
 * @param {string} path
 */
function files(recording, path) {
  const link = (
    /** @type {string} */ text,
    /** @type {string} */ from,
    /** @type {string} */ ending,
  ) =>
    h(
      "a",
      { class: "button", href: `${path}/${from}`, download: `${recording.name}.${ending}` },
      text,
    );
  const audio = (/** @type {string} */ text, /** @type {string} */ format) =>
    link(text, `audio?format=${format}`, format);
  return h(
    "div",
    { class: "row" },
    audio("WAV", "wav"),
    audio("FLAC", "flac"),
    audio("Opus", "opus"),
    audio("MP3", "mp3"),
    link(t("files.ledger"), "ledger", "json"),
  );
}

/** @param {Recording} recording */
function deleteButton(recording) {
  const act = () => {
    deleteSoon(recording);
    location.hash = "#recordings";
  };
  return h(
    "div",
    { class: "row" },
    h("button", { type: "button", class: "danger", onClick: act }, t("delete.delete")),
  );
}
