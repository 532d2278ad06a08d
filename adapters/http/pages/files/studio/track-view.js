// A track of a live session: its level, and its last minute as a waveform.

import { h } from "../shared/dom.js";
import { Meter } from "../shared/meter.js";
import { t } from "../shared/text.js";
import { drawWaveform } from "../shared/waveform.js";
import { History } from "./history.js";

/** @typedef {import("api").components["schemas"]} Schemas */

/** Events of levels without one, after which the meter falls to nothing. */
const MOST_WITHOUT_LEVEL = 4;

/** Shows a track that is being recorded. */
export class TrackView {
  /**
   * @param {Schemas["Track"]} track
   * @param {string} name of its session
   */
  constructor(track, name) {
    this.track = track;
    this.rate = track.sample_rate_hz;
    this.history = new History(this.rate);
    this.history.end = track.length;
    this.shares = track.recent_shares;
    /** Whether what was recorded before is known, or cannot be had. */
    this.isFilled = false;
    this.attempts = 0;
    /** @type {Schemas["ChannelLevels"][]} */
    this.channels = [];
    this.withoutLevel = 0;
    this.canvas = h("canvas", {
      class: "waveform",
      role: "img",
      "aria-label": t("track.waveform", { name }),
    });
    this.meter = new Meter(t("track.level", { name }));
    // packets that are stored undecoded have no level
    this.meter.element.hidden = true;
    this.element = h("div", { class: "stack track" }, this.canvas, this.meter.element);
    this.isDrawn = false;
  }

  get seconds() {
    return this.history.end / this.rate;
  }

  /** @param {Schemas["TrackLevels"]} told */
  told(told) {
    this.history.add(told);
    this.shares = told.shares;
    this.isDrawn = false;
    if (told.channels.length) {
      this.channels = told.channels;
      this.withoutLevel = 0;
      this.meter.element.hidden = false;
      return;
    }
    // the recorder waits for what was lost: nothing is recorded for a moment, and then more at once
    this.withoutLevel += 1;
    if (this.withoutLevel > MOST_WITHOUT_LEVEL) this.channels = [];
  }

  draw() {
    if (this.isDrawn) return;
    this.isDrawn = true;
    const { intervals, from, to } = this.history.shown();
    drawWaveform(this.canvas, intervals, { from, to });
    if (!this.meter.element.hidden) this.meter.show(this.channels);
  }
}
