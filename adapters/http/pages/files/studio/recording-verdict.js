// Whether a recording is good, in words: its verdict, its shares, how far it is restored.

import { ApiError, ask } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { duration, number, percent } from "../shared/format.js";
import { KINDS } from "../shared/kinds.js";
import { t } from "../shared/text.js";
import { samplesByKind } from "./happenings.js";
import { reason } from "./words.js";

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */
/** @typedef {import("api").components["schemas"]["Ledger"]} Ledger */
/** @typedef {import("../shared/kinds.js").Kind} Kind */

/** Longer recordings are checked when somebody asks for it: the server reads the whole file. */
const AT_ONCE_S = 1800;

/** @type {Record<Kind, () => string>} */
const KIND_NAMES = {
  received: () => t("kind.received"),
  recovered: () => t("kind.recovered"),
  restored: () => t("kind.restored"),
  concealed: () => t("kind.concealed"),
  silence: () => t("kind.silence"),
  dtx: () => t("kind.dtx"),
};

/**
 * Returns what a kind of samples is called.
 *
 * @param {Kind} kind
 */
export function kindName(kind) {
  return KIND_NAMES[kind]?.() ?? kind;
}

/**
 * Returns the legend of a waveform: which colour is which kind, and how much there is of it.
 *
 * @param {Ledger} ledger
 * @param {Recording} recording
 */
export function shares(ledger, recording) {
  const samples = samplesByKind(ledger);
  const total = Object.values(samples).reduce((sum, one) => sum + one, 0);
  const found = KINDS.filter((kind) => samples[kind]);
  return h(
    "ul",
    { class: "legend", "aria-label": t("shares.label") },
    found.map((kind) => {
      const count = samples[kind] ?? 0;
      const seconds = count / recording.sample_rate_hz;
      const values = { kind: kindName(kind), share: percent(count / total), time: span(seconds) };
      return h("li", {}, h("span", { class: `kind-${kind}` }, h("b", {}, t("shares.one", values))));
    }),
  );
}

/**
 * Writes how long something is: short times in milliseconds.
 *
 * @param {number} seconds
 */
export function span(seconds) {
  if (seconds >= 60) return duration(seconds);
  if (seconds >= 1) return `${number(seconds, { maximumFractionDigits: 1 })} s`;
  const digits = seconds < 0.01 ? 1 : 0;
  return `${number(seconds * 1000, { maximumFractionDigits: digits })} ms`;
}

/** @type {Record<string, (values: { wanted: string, restored: string }) => string>} */
const RESTORE = {
  live: (values) => t("restore.live", values),
  waiting: (values) => t("restore.waiting", values),
  restoring: (values) => t("restore.restoring", values),
  complete: (values) => t("restore.complete", values),
  expired: (values) => t("restore.expired", values),
  off: () => t("restore.off"),
};

/**
 * Returns how far a recording is restored, in words; empty if its client has no spool.
 *
 * @param {Ledger} ledger
 * @param {Recording} recording
 */
export function restoreWords(ledger, recording) {
  const restore = /** @type {any} */ (ledger).restore;
  if (!restore || typeof restore !== "object") return "";
  const words = RESTORE[String(restore.state)];
  if (!words) return String(restore.state);
  return words({
    wanted: span(Number(restore.wanted) / recording.sample_rate_hz),
    restored: span(Number(restore.restored) / recording.sample_rate_hz),
  });
}

/** Asks for the verdict of a recording, and shows it. */
export class VerdictPanel {
  /** @param {Recording} recording */
  constructor(recording) {
    this.recording = recording;
    this.stop = new AbortController();
    this.element = h("div", { class: "stack tight", "aria-live": "polite" });
    if (recording.state === "live")
      fill(this.element, h("p", { class: "soft" }, t("verdict.live")));
    else if (recording.seconds <= AT_ONCE_S) void this.#ask();
    else {
      const check = h("button", { type: "button", onClick: () => this.#ask() }, t("verdict.check"));
      fill(this.element, h("p", { class: "soft" }, t("verdict.long")), h("div", {}, check));
    }
  }

  close() {
    this.stop.abort();
  }

  async #ask() {
    fill(this.element, h("p", { class: "soft" }, t("verdict.checking")));
    const path = `/api/recordings/${encodeURIComponent(this.recording.id)}/verdict`;
    try {
      this.#show(await ask("GET", path, undefined, { signal: this.stop.signal }));
    } catch (error) {
      if (this.stop.signal.aborted) return;
      const isBusy = error instanceof ApiError && [409, 503].includes(error.status);
      fill(
        this.element,
        h("p", {}, isBusy ? t("verdict.busy") : reason(error)),
        h(
          "div",
          {},
          h("button", { type: "button", onClick: () => this.#ask() }, t("action.retry")),
        ),
      );
    }
  }

  /** @param {import("api").components["schemas"]["Verdict"]} verdict */
  #show({ verdict, problems, parts }) {
    const isSound = verdict === "sound";
    const rate = this.recording.sample_rate_hz;
    const gap = Math.max(0, ...parts.map((part) => part.longest_gap_samples)) / rate;
    fill(
      this.element,
      h(
        "p",
        {},
        h(
          "span",
          { class: `mark ${isSound ? "good" : "critical"}` },
          isSound ? t("verdict.sound") : t("verdict.unsound"),
        ),
      ),
      h(
        "p",
        {},
        isSound ? t("verdict.soundMeans") : t("verdict.unsoundMeans", { count: problems.length }),
      ),
      problems.length > 0 &&
        h(
          "ul",
          { class: "problems" },
          problems.map((problem) => h("li", { lang: "en", dir: "auto" }, problem)),
        ),
      h("p", { class: "soft" }, gap ? t("verdict.gap", { time: span(gap) }) : t("verdict.noGap")),
    );
  }
}
