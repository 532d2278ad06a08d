// Plays samples as they come over the network, in the AudioWorklet.

/** So much waits before it begins, and after it has run dry: what comes late has this time. */
const TARGET_S = 0.3;
/** When more waits, as after a break of the network, what is oldest is left out. */
const MOST_S = 1.5;
/** A gap of the network is as long as this at most; the rest of it is only counted. */
const GAP_S = 0.2;
const TELL_S = 0.25;

/**
 * What waits to be played: samples of all channels together, or silence.
 *
 * @typedef {{ samples: Int16Array | null, channels: number, length: number, at: number }} Piece
 */

/**
 * Takes `{samples, channels}`, `{silence}` and `{missed}` (numbers of samples) from its port, and
 * tells there what it has played.
 */
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    /** @type {Piece[]} */
    this.pieces = [];
    this.queued = 0;
    this.isFilling = true;
    this.played = 0;
    this.dry = 0;
    this.skipped = 0;
    this.missed = 0;
    this.toldAt = 0;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  /** @param {{ samples?: Int16Array, channels?: number, silence?: number, missed?: number }} told */
  take({ samples, channels = 1, silence = 0, missed = 0 }) {
    if (samples) this.add(samples, channels, samples.length / channels);
    else if (silence) this.add(null, 1, silence);
    else if (missed) {
      this.missed += missed;
      this.add(null, 1, Math.min(missed, Math.round(GAP_S * sampleRate)));
    }
    if (this.queued > MOST_S * sampleRate) {
      const most = this.queued - Math.round(TARGET_S * sampleRate);
      this.skipped += most;
      this.drop(most);
    }
  }

  /**
   * @param {Int16Array | null} samples
   * @param {number} channels
   * @param {number} length
   */
  add(samples, channels, length) {
    this.pieces.push({ samples, channels, length, at: 0 });
    this.queued += length;
  }

  /** @param {number} length */
  drop(length) {
    this.queued -= length;
    while (length > 0) {
      const [piece] = this.pieces;
      const count = Math.min(length, piece.length - piece.at);
      piece.at += count;
      length -= count;
      if (piece.at === piece.length) this.pieces.shift();
    }
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   * @returns {boolean}
   */
  process(_inputs, outputs) {
    const [output] = outputs;
    const wanted = output[0].length;
    if (this.isFilling && this.queued >= TARGET_S * sampleRate) this.begin();
    let done = 0;
    while (!this.isFilling && done < wanted) {
      const [piece] = this.pieces;
      if (!piece) {
        this.isFilling = true;
        this.dry += 1;
        break;
      }
      const count = Math.min(wanted - done, piece.length - piece.at);
      this.copy(piece, output, done, count);
      this.drop(count);
      this.played += count;
      done += count;
    }
    if (currentTime - this.toldAt >= TELL_S) this.tell();
    return true;
  }

  begin() {
    this.isFilling = false;
    // what came while the browser was getting ready would only make all of it late
    if (!this.played) this.drop(this.queued - Math.round(TARGET_S * sampleRate));
  }

  /**
   * @param {Piece} piece
   * @param {Float32Array[]} output
   * @param {number} from
   * @param {number} count
   */
  copy({ samples, channels, at }, output, from, count) {
    if (!samples) return; // outputs begin as silence
    for (const [index, channel] of output.entries()) {
      const source = Math.min(index, channels - 1);
      for (let each = 0; each < count; each += 1)
        channel[from + each] = samples[(at + each) * channels + source] / 32768;
    }
  }

  tell() {
    this.toldAt = currentTime;
    this.port.postMessage({
      played_s: this.played / sampleRate,
      queued_s: this.queued / sampleRate,
      dry: this.dry,
      skipped_s: this.skipped / sampleRate,
      missed_s: this.missed / sampleRate,
    });
  }
}

registerProcessor("player", Player);
