// Passes on what is captured, in the AudioWorklet: levels to the page, and sound to a spool.

const BLOCK_FRAMES = 1024;
const LEVELS_S = 0.05;
/** What is this high has met the end of the scale, in 16 bits. */
const FULL_SCALE = 32767 / 32768;

/**
 * Converts what it hears to 16 bits and sends it to a spool, once it has got a port to one.
 *
 * Messages to it: `{ keep: port | null }`. With a port it keeps from the next frame on; with null it
 * sends what is left, then `{ end: true }`, and answers `{ kept: true }` to the page.
 */
class Capture extends AudioWorkletProcessor {
  /** @param {{ processorOptions: { channels: number } }} options */
  constructor({ processorOptions }) {
    super();
    this.channels = processorOptions.channels;
    /** @type {MessagePort | null} */
    this.spool = null;
    this.first = 0;
    this.filled = 0;
    this.block = this.empty();
    this.levels = Array.from({ length: this.channels }, () => ({ peak: 0, sum: 0, clipped: 0 }));
    this.measured = 0;
    this.isClosed = false;
    this.port.onmessage = ({ data }) => this.told(data);
  }

  /** @param {{ keep?: MessagePort | null, close?: boolean }} message */
  told(message) {
    if (message.keep !== undefined) {
      if (this.spool) {
        this.send();
        this.spool.postMessage({ end: true });
      }
      this.spool = message.keep;
      this.filled = 0;
      if (!this.spool) this.port.postMessage({ kept: true });
    }
    this.isClosed ||= Boolean(message.close);
  }

  /**
   * @param {Float32Array[][]} inputs
   * @returns {boolean}
   */
  process([input]) {
    if (this.isClosed) return false;
    // an input without a source has no channels: that is silence
    const frames = input[0]?.length ?? 128;
    this.measure(input, frames);
    if (this.spool) this.keep(input, frames);
    return true;
  }

  /**
   * @param {Float32Array[]} input
   * @param {number} frames
   */
  keep(input, frames) {
    const { channels } = this;
    // a block is without a gap, and ends where the next would not fit
    const isNext = currentFrame === this.first + this.filled;
    if (!isNext || this.filled + frames > BLOCK_FRAMES) this.send();
    if (!this.filled) this.first = currentFrame;
    for (let channel = 0; channel < channels; channel++) {
      const samples = input[channel];
      let to = this.filled * channels + channel;
      for (let n = 0; n < frames; n++, to += channels) {
        const value = samples ? Math.round(samples[n] * 32768) : 0;
        this.block[to] = value > 32767 ? 32767 : value < -32768 ? -32768 : value;
      }
    }
    this.filled += frames;
    if (this.filled === BLOCK_FRAMES) this.send();
  }

  send() {
    if (!this.filled || !this.spool) return;
    const pcm =
      this.filled === BLOCK_FRAMES ? this.block : this.block.slice(0, this.filled * this.channels);
    this.spool.postMessage({ frame: this.first, at: Date.now(), pcm }, [pcm.buffer]);
    this.block = this.empty();
    this.filled = 0;
  }

  /**
   * @param {Float32Array[]} input
   * @param {number} frames
   */
  measure(input, frames) {
    this.levels.forEach((level, channel) => {
      const samples = input[channel];
      if (!samples) return;
      for (let n = 0; n < frames; n++) {
        const value = Math.abs(samples[n]);
        level.sum += value * value;
        if (value > level.peak) level.peak = value;
        if (value >= FULL_SCALE) level.clipped++;
      }
    });
    this.measured += frames;
    if (this.measured < LEVELS_S * sampleRate) return;
    const levels = this.levels.map(({ peak, sum, clipped }) => ({
      peak_dbfs: dbfs(peak),
      rms_dbfs: dbfs(Math.sqrt(sum / this.measured)),
      clipped,
    }));
    this.port.postMessage({ levels });
    for (const level of this.levels) level.peak = level.sum = level.clipped = 0;
    this.measured = 0;
  }

  /** @returns {Int16Array<ArrayBuffer>} */
  empty() {
    return new Int16Array(BLOCK_FRAMES * this.channels);
  }
}

/**
 * The level of an amplitude. -120 stands for silence: less is not to be told in 16 bits.
 *
 * @param {number} amplitude
 */
function dbfs(amplitude) {
  return amplitude > 1e-6 ? 20 * Math.log10(amplitude) : -120;
}

registerProcessor("capture", Capture);
