// The figures behind a verdict, behind one click.

import { ApiError, ask } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { dateTime, duration, number, percent } from "../shared/format.js";
import { KINDS } from "../shared/kinds.js";
import { t } from "../shared/text.js";

/** @typedef {import("api").components["schemas"]} Schemas */

/** How often they are asked for while they are shown. */
const EVERY_MS = 1000;

/** Asks for the figures of a session as long as somebody looks at them. */
export class Figures {
  /**
   * @param {string} id
   * @param {import("./main.js").Context} context
   */
  constructor(id, context) {
    this.id = id;
    this.context = context;
    this.askedAt = -Infinity;
    this.isAsking = false;
    this.written = "";
    this.closing = new AbortController();
    /** @type {Schemas["Session"] | null} */
    this.session = null;
    this.list = h("dl", { class: "figures" });
    this.element = h(
      "details",
      { ontoggle: () => this.#toggled() },
      h("summary", { class: "small" }, t("figures.title")),
      this.list,
    );
  }

  close() {
    this.closing.abort();
  }

  /** @param {Schemas["Session"]} session */
  show(session) {
    this.session = session;
    if (this.element.open) this.#write(session);
  }

  /** Asks again, if they are shown and a second has passed. */
  refresh() {
    if (!this.element.open || this.isAsking) return;
    if (performance.now() - this.askedAt >= EVERY_MS) void this.#ask();
  }

  #toggled() {
    if (!this.element.open) return;
    if (this.session) this.#write(this.session);
    if (!this.isAsking) void this.#ask();
  }

  async #ask() {
    this.isAsking = true;
    this.askedAt = performance.now();
    const { signal } = this.closing;
    try {
      const path = `/api/sessions/${encodeURIComponent(this.id)}`;
      const session = await ask("GET", path, undefined, { signal });
      this.context.sessions.put(session);
      this.show(session);
    } catch (error) {
      // a session that has just ended is told of elsewhere
      if (!(error instanceof ApiError) && !signal.aborted) throw error;
    } finally {
      this.isAsking = false;
    }
  }

  /** @param {Schemas["Session"]} session */
  #write(session) {
    const rows = [...ofSession(session), ...session.tracks.flatMap(ofTrack)];
    const key = JSON.stringify(rows);
    if (key === this.written) return;
    this.written = key;
    fill(
      this.list,
      rows.flatMap(([name, value, language]) => [
        h("dt", {}, name),
        h("dd", { lang: language, dir: "auto" }, value),
      ]),
    );
  }
}

/** @typedef {[string, string, string?]} Row name, value, and the language of the value */

/**
 * @param {Schemas["Session"]} session
 * @returns {Row[]}
 */
function ofSession({ id, opened_at, state, waits_for, silent_s, round_trip_s, room }) {
  /** @type {Row[]} */
  const rows = [
    [t("figures.state"), t(`state.${state}`)],
    [t("figures.opened"), dateTime(opened_at)],
    [t("figures.round_trip"), milliseconds(round_trip_s)],
    [t("figures.silent"), seconds(silent_s)],
  ];
  if (waits_for) rows.splice(1, 0, [t("figures.waits_for"), waits_for, "en"]);
  if (room) rows.push([t("figures.room"), room]);
  rows.push([t("figures.session"), id]);
  return rows;
}

/**
 * @param {Schemas["Track"]} track
 * @param {number} _index
 * @param {Schemas["Track"][]} all
 * @returns {Row[]}
 */
function ofTrack(track, _index, all) {
  const rate = track.sample_rate_hz;
  const of = (/** @type {string} */ name) =>
    all.length > 1 ? t("figures.of_track", { name, track: track.number }) : name;
  if (!track.recording || !rate) return [[of(t("figures.recorded")), t("figures.nothing")]];
  const lost = track.expected ? track.lost / track.expected : 0;
  const kinds = KINDS.filter((kind) => track.shares[kind] > 0);
  const shares = kinds.map((kind) => `${t(`kind.${kind}`)} ${percent(track.shares[kind])}`);
  /** @type {Row[]} */
  const rows = [
    [of(t("figures.recorded")), duration(track.length / rate)],
    [
      of(t("figures.format")),
      t("figures.format.value", {
        codec: track.codec ?? "–",
        rate: number(rate / 1000),
        channels: track.channels,
      }),
    ],
    [of(t("figures.shares")), shares.join(", ") || "–"],
    [
      of(t("figures.lost")),
      t("figures.lost.value", {
        lost: number(track.lost),
        expected: number(track.expected),
        share: percent(lost),
      }),
    ],
    [of(t("figures.jitter")), milliseconds(track.jitter_s)],
    [
      of(t("figures.clock")),
      track.clock_ppm === null
        ? t("figures.unknown")
        : `${number(track.clock_ppm, { signDisplay: "exceptZero" })} ppm`,
    ],
    [of(t("figures.stalls")), number(track.stalls)],
    [of(t("figures.wanted")), seconds(track.wanted / rate)],
  ];
  if (track.fault) rows.unshift([of(t("figures.fault")), track.fault, "en"]);
  return rows;
}

/** @param {number | null} value in seconds */
function milliseconds(value) {
  if (value === null) return t("figures.unknown");
  return `${number(value * 1000, { maximumFractionDigits: 1 })} ms`;
}

/** @param {number} value */
function seconds(value) {
  return `${number(value, { maximumFractionDigits: 1 })} s`;
}
