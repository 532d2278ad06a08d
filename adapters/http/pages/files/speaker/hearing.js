// Judges what a microphone hears: whether it is silent, too loud, or hardly to be heard.

/**
 * @typedef {"listening" | "good" | "silent" | "clips" | "low"} Verdict listening: not long enough yet
 */

/**
 * @typedef {object} Level
 * @property {number | null} peak_dbfs null for digital silence
 * @property {number | null} rms_dbfs
 * @property {boolean | number} clipped
 */

/** Below this it is a room in which nobody speaks, or a microphone that is switched off. */
const SILENT_DBFS = -55;
/** The peaks of a voice near a microphone are above this. */
const LOW_DBFS = -36;
const CLIPPED_S = 4;
const MEMORY_S = 5;

/** Virtual devices, which bring what the computer plays and not what somebody says. */
const VIRTUAL =
  /monitor of|\bmonitor\b|virtual|loopback|stereo ?mix|what u hear|blackhole|soundflower|vb-?(audio|cable)|cable output|voicemeeter/i;

/** Remembers the last seconds of one microphone. */
export class Hearing {
  /** @param {{ silentS?: number }} [options] how long nothing is heard before that is said */
  constructor({ silentS = 3 } = {}) {
    this.silentS = silentS;
    /** @type {{ at: number, peak: number }[]} */
    this.peaks = [];
    /** @type {number | null} */
    this.since = null;
    this.heardAt = -Infinity;
    this.clippedAt = -Infinity;
  }

  /**
   * @param {Level[]} channels
   * @param {number} at seconds of any clock
   * @returns {Verdict}
   */
  note(channels, at) {
    this.since ??= at;
    const peak = Math.max(-Infinity, ...channels.map((one) => one.peak_dbfs ?? -Infinity));
    this.peaks = this.peaks.filter((one) => one.at > at - MEMORY_S);
    this.peaks.push({ at, peak });
    if (peak > SILENT_DBFS) this.heardAt = at;
    if (channels.some((one) => one.clipped)) this.clippedAt = at;
    if (at - this.clippedAt < CLIPPED_S) return "clips";
    if (at - Math.max(this.heardAt, this.since) >= this.silentS) return "silent";
    const loudest = Math.max(...this.peaks.map((one) => one.peak));
    if (loudest > LOW_DBFS) return "good";
    return at - this.since >= MEMORY_S && loudest > SILENT_DBFS ? "low" : "listening";
  }
}

/**
 * Returns whether a device is probably no microphone, by its name.
 *
 * @param {string} label
 */
export function isVirtual(label) {
  return VIRTUAL.test(label);
}
