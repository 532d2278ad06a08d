// The microphone: what is kept and what is sent are the same samples, of one clock.
//
//   microphone → gain (mute, pause) → worklet (levels; blocks to a spool)
//                                   → stream for the peer connection

import { scriptUrl } from "../shared/trusted.js";
import { channelsOf, contextFor, openMicrophone, RATE_HZ, stop } from "./opening.js";

/** @typedef {"voice" | "music"} Mode voice: one channel, as the browser improves it; music: as it is */

/**
 * @typedef {object} Level of one channel over about 50 ms
 * @property {number} peak_dbfs -120 is silence
 * @property {number} rms_dbfs
 * @property {number} clipped samples at the end of the scale
 */

/**
 * What has happened to the microphone.
 *
 * - `mute`, `unmute`: by the browser or the system; by the page itself with `text`
 * - `ended`: the device is gone, or the permission
 * - `microphone`: another one is used from now on, or the same one again; `text` is its name
 * - `devicechange`: devices came or went
 * - `interrupted`, `resumed`: the browser stopped the sound, and goes on (`seconds` later)
 * - `rate`: the sound has another rate than 48,000 Hz; `text` is the rate
 * - `hidden`, `visible`: the page
 * - `stall`: `seconds` were not captured (told by the spool)
 *
 * @typedef {"mute" | "unmute" | "ended" | "microphone" | "devicechange" | "interrupted" | "resumed" |
 *   "rate" | "hidden" | "visible" | "stall"} CaptureEventType
 * @typedef {{ type: CaptureEventType, at: string, seconds?: number, text?: string }} CaptureEvent
 *   `at`: RFC 3339
 */

/**
 * @typedef {object} Options
 * @property {string} [deviceId] the browser's default if it is not given
 * @property {Mode} [mode]
 * @property {AudioContextLatencyCategory} [latencyHint]
 * @property {import("./opening.js").Shape} [like] sound that is gone on with: the same channels, and
 *   the same rate where the browser can
 */

/** How long a change of the gain takes: without it, it clicks. */
const FADE_S = 0.01;
const LAST_BLOCK_MS = 1000;

/** An open microphone. */
export class Capture {
  /** @type {(levels: Level[]) => void} called about 20 times a second, with one level a channel */
  onlevel = () => {};
  /** @type {(event: CaptureEvent) => void} */
  onevent = () => {};

  #context;
  #mode;
  #channels;
  #gain;
  #worklet;
  #destination;
  #closing = new AbortController();
  /** @type {MediaStream | null} */
  #microphone = null;
  /** @type {MediaStreamAudioSourceNode | null} */
  #source = null;
  /** The device that is meant, also while another one stands in for it. */
  #deviceId = "";
  #isMuted = false;
  #isPaused = false;
  /** @type {number | null} when the browser stopped the sound */
  #interruptedAt = null;
  /** @type {(() => void) | null} called when the worklet has passed on all that it had */
  #kept = null;
  /** @type {Promise<void>} one change of microphones at a time */
  #changing = Promise.resolve();

  /**
   * Opens a microphone; asks the user for it if need be.
   *
   * @param {Options} [options]
   * @returns {Promise<Capture>}
   * @throws {DOMException} as `getUserMedia`: NotAllowedError, NotFoundError, NotReadableError …
   */
  static async open({ deviceId = "", mode = "voice", latencyHint = "balanced", like } = {}) {
    const microphone = await openMicrophone(mode, deviceId);
    try {
      const { context, source } = contextFor(microphone, latencyHint, like?.sampleRate);
      try {
        await context.audioWorklet.addModule(scriptUrl("/pages/worker/capture.js"));
        const channels = like?.channels ?? channelsOf(microphone, mode);
        return new Capture(context, source, microphone, mode, channels);
      } catch (error) {
        await context.close();
        throw error;
      }
    } catch (error) {
      stop(microphone);
      throw error;
    }
  }

  /**
   * @param {AudioContext} context
   * @param {MediaStreamAudioSourceNode} source
   * @param {MediaStream} microphone
   * @param {Mode} mode
   * @param {number} channels
   */
  constructor(context, source, microphone, mode, channels) {
    this.#context = context;
    this.#mode = mode;
    this.#channels = channels;
    const shape = /** @type {const} */ ({
      channelCount: this.#channels,
      channelCountMode: "explicit",
      channelInterpretation: "speakers",
    });
    this.#gain = new GainNode(context, shape);
    this.#worklet = new AudioWorkletNode(context, "capture", {
      ...shape,
      numberOfOutputs: 0,
      processorOptions: { channels: this.#channels },
    });
    this.#destination = new MediaStreamAudioDestinationNode(context, shape);
    this.#gain.connect(this.#worklet);
    this.#gain.connect(this.#destination);
    this.#worklet.port.onmessage = ({ data }) => this.#heard(data);
    this.#use(microphone, source);
    this.#deviceId = this.deviceId;
    this.#listen();
    this.#resume();
  }

  /** What a peer connection sends; it stays the same, whichever microphone is used. */
  get stream() {
    return this.#destination.stream;
  }

  /** In Hz; of what is kept and sent. */
  get sampleRate() {
    return this.#context.sampleRate;
  }

  get channels() {
    return this.#channels;
  }

  /** The name of the microphone, in the browser's words. */
  get label() {
    return this.#track?.label ?? "";
  }

  get deviceId() {
    return this.#track?.getSettings().deviceId ?? "";
  }

  /** Whether the browser lets the sound run. Some wait for a touch or a key. */
  get isRunning() {
    return this.#context.state === "running";
  }

  /**
   * Sends what is captured to a spool from now on; null ends that. Resolves when the worklet has
   * passed on what it had: the spool may be finished then.
   *
   * @param {MessagePort | null} port `Spool.port`
   */
  async keep(port) {
    if (port) {
      this.#worklet.port.postMessage({ keep: port }, [port]);
      return;
    }
    await new Promise((resolve) => {
      this.#kept = () => resolve(undefined);
      // a browser that does not let the sound run may not let the worklet answer either
      setTimeout(this.#kept, LAST_BLOCK_MS);
      this.#worklet.port.postMessage({ keep: null });
    });
  }

  /** @param {boolean} isMuted silence from now on, until it is false */
  mute(isMuted) {
    if (isMuted === this.#isMuted) return;
    this.#isMuted = isMuted;
    this.#setGain();
    this.#tell(isMuted ? "mute" : "unmute", { text: "by the speaker" });
  }

  /** @param {boolean} isPaused as `mute`; told as a pause */
  pause(isPaused) {
    if (isPaused === this.#isPaused) return;
    this.#isPaused = isPaused;
    this.#setGain();
    this.#tell(isPaused ? "mute" : "unmute", { text: isPaused ? "paused" : "continued" });
  }

  /**
   * Uses another microphone: same stream, same clock, also in mid-recording. The old one stays if
   * the other cannot be opened.
   *
   * @param {string} deviceId
   * @throws {DOMException} as `open`
   */
  async use(deviceId) {
    await this.#next(() => this.#change(deviceId));
    this.#deviceId = this.deviceId;
  }

  /** Lets go of the microphone. */
  async close() {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#worklet.port.postMessage({ keep: null });
    this.#worklet.port.postMessage({ close: true });
    if (this.#microphone) stop(this.#microphone);
    stop(this.stream);
    await this.#context.close();
    this.#kept?.();
  }

  get #track() {
    return this.#microphone?.getAudioTracks()[0];
  }

  /** @param {{ levels?: Level[], kept?: boolean }} message of the worklet */
  #heard({ levels, kept }) {
    if (levels) this.onlevel(levels);
    if (kept) this.#kept?.();
  }

  #listen() {
    const { signal } = this.#closing;
    this.#context.addEventListener("statechange", () => this.#stateChanged(), { signal });
    navigator.mediaDevices.addEventListener("devicechange", () => this.#devicesChanged(), {
      signal,
    });
    document.addEventListener(
      "visibilitychange",
      () => {
        this.#tell(document.hidden ? "hidden" : "visible");
        this.#resume();
      },
      { signal },
    );
    // a browser that did not let the sound run lets it after these
    for (const type of ["pointerup", "keydown", "focus", "pageshow"])
      addEventListener(type, () => this.#resume(), { signal });
    if (this.sampleRate !== RATE_HZ)
      queueMicrotask(() => this.#tell("rate", { text: `${this.sampleRate} Hz` }));
  }

  #stateChanged() {
    if (this.#closing.signal.aborted) return;
    if (this.isRunning) {
      if (this.#interruptedAt !== null)
        this.#tell("resumed", { seconds: (Date.now() - this.#interruptedAt) / 1000 });
      this.#interruptedAt = null;
    } else {
      if (this.#interruptedAt === null) this.#tell("interrupted");
      this.#interruptedAt ??= Date.now();
      this.#resume();
    }
  }

  /** Lets the sound run, if the browser allows it now. */
  #resume() {
    if (this.#closing.signal.aborted || this.isRunning) return;
    // a refusal changes nothing: there are other occasions
    this.#context.resume().catch(() => {});
  }

  async #devicesChanged() {
    this.#tell("devicechange");
    await this.#recover();
  }

  /** Returns to the device that is meant if it is there, or takes another if there is none. */
  async #recover() {
    await this.#next(async () => {
      const devices = await navigator.mediaDevices.enumerateDevices();
      const inputs = devices.filter((device) => device.kind === "audioinput");
      const isLive = this.#track?.readyState === "live";
      const isThere = inputs.some((device) => device.deviceId === this.#deviceId);
      if (isLive && (!isThere || this.deviceId === this.#deviceId)) return;
      if (inputs.length) await this.#change(isThere ? this.#deviceId : "");
    }).catch(() => {
      // it is there but cannot be opened yet: the next `devicechange` is another occasion
    });
  }

  /**
   * Does one thing after the other.
   *
   * @param {() => Promise<void>} change
   */
  #next(change) {
    const changed = this.#changing.then(() =>
      this.#closing.signal.aborted ? undefined : change(),
    );
    this.#changing = changed.catch(() => {});
    return changed;
  }

  /** @param {string} deviceId */
  async #change(deviceId) {
    const microphone = await openMicrophone(this.#mode, deviceId);
    try {
      this.#closing.signal.throwIfAborted();
      this.#use(microphone, this.#context.createMediaStreamSource(microphone));
    } catch (error) {
      stop(microphone);
      throw error;
    }
    this.#tell("microphone", { text: this.label });
  }

  /**
   * @param {MediaStream} microphone
   * @param {MediaStreamAudioSourceNode} source
   */
  #use(microphone, source) {
    this.#source?.disconnect();
    if (this.#microphone) stop(this.#microphone);
    this.#microphone = microphone;
    this.#source = source;
    source.connect(this.#gain);
    const track = microphone.getAudioTracks()[0];
    const { signal } = this.#closing;
    track.addEventListener("mute", () => this.#tell("mute"), { signal });
    track.addEventListener("unmute", () => this.#tell("unmute"), { signal });
    // stopping a track does not fire `ended`: only the browser and the system do
    track.addEventListener(
      "ended",
      () => {
        this.#tell("ended", { text: track.label });
        this.#recover();
      },
      { signal },
    );
  }

  #setGain() {
    const { gain } = this.#gain;
    const now = this.#context.currentTime;
    gain.cancelScheduledValues(now);
    gain.setValueAtTime(gain.value, now);
    gain.linearRampToValueAtTime(this.#isMuted || this.#isPaused ? 0 : 1, now + FADE_S);
  }

  /**
   * @param {CaptureEventType} type
   * @param {{ seconds?: number, text?: string }} [details]
   */
  #tell(type, details) {
    this.onevent({ type, at: new Date().toISOString(), ...details });
  }
}
