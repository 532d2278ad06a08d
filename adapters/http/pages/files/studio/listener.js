// Listens to one session at a time, as it is recorded.

import { scriptUrl } from "../shared/trusted.js";

/**
 * A track of a session.
 *
 * @typedef {{ session: string, track: number }} Source
 */

/** @typedef {"connecting" | "playing" | "blocked" | "ended" | "lost"} State */

const HEADER_BYTES = 16;
/** A message has no samples: all are zero. */
const WITHOUT_SAMPLES = 1;
const USUAL_RATE_HZ = 48_000;

/** Plays what a session's microphone sends; what is missing in it is silent, and counted. */
export class Listener {
  constructor() {
    /** @type {Source | null} */
    this.source = null;
    this.name = "";
    /** @type {State} */
    this.state = "ended";
    /** What the player has told last; see `worker/player.js`. */
    this.told = { played_s: 0, queued_s: 0, dry: 0, skipped_s: 0, missed_s: 0 };
    this.volume = 1;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {AudioContext | null} */
    this.audio = null;
    /** @type {AudioWorkletNode | null} */
    this.player = null;
    /** @type {GainNode | null} */
    this.gain = null;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
  }

  /**
   * Calls a function when something has changed; returns what ends that.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** @param {Source} source */
  isOn({ session, track }) {
    return this.source?.session === session && this.source.track === track;
  }

  /**
   * Listens to a track, or no more if it was listened to. Call it from a press: browsers let no
   * other page make sounds.
   *
   * @param {Source} source
   * @param {string} name of its session
   */
  async toggle(source, name) {
    const wasOn = this.isOn(source);
    this.stop();
    if (wasOn) return;
    this.source = source;
    this.name = name;
    this.state = "connecting";
    this.told = { played_s: 0, queued_s: 0, dry: 0, skipped_s: 0, missed_s: 0 };
    this.#tell();
    // made within the press; its rate is nearly always the right one
    this.audio = new AudioContext({ sampleRate: USUAL_RATE_HZ });
    this.#connect(source);
  }

  /** Ends listening. */
  stop() {
    if (!this.source) return;
    this.source = null;
    this.state = "ended";
    this.#release();
    this.#tell();
  }

  /** Goes on where the browser has not let the page make sounds. */
  async resume() {
    await this.audio?.resume();
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.volume = volume;
    // a loudness that falls evenly under the hand
    if (this.gain) this.gain.gain.value = volume ** 2;
  }

  close() {
    this.stop();
    this.listeners.clear();
  }

  /** @param {Source} source */
  #connect({ session, track }) {
    const origin = location.origin.replace(/^http/, "ws");
    const path = `/api/sessions/${encodeURIComponent(session)}/pcm?track=${track}`;
    const socket = new WebSocket(origin + path);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    // messages in order, although the player has to be made first
    let before = Promise.resolve();
    socket.onmessage = ({ data }) => {
      before = before.then(() => {
        if (socket === this.socket) return this.#take(data);
      });
    };
    socket.onclose = () => {
      before = before.then(() => {
        if (socket !== this.socket) return;
        this.#release();
        if (this.state !== "ended") this.state = "lost";
        this.#tell();
      });
    };
  }

  /** @param {ArrayBuffer | string} data */
  async #take(data) {
    if (typeof data !== "string") {
      this.#sound(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "hello") await this.#begin(message.sample_rate_hz);
    else if (message.type === "missed") this.player?.port.postMessage({ missed: message.samples });
    else if (message.type === "end") {
      this.state = "ended";
      this.#tell();
    }
  }

  /** @param {number} rate samples of a channel in a second */
  async #begin(rate) {
    const { socket } = this;
    if (this.audio?.sampleRate !== rate) {
      void this.audio?.close();
      this.audio = new AudioContext({ sampleRate: rate });
    }
    const { audio } = this;
    await audio.audioWorklet.addModule(scriptUrl("/pages/worker/player.js"));
    if (socket !== this.socket) return;
    const player = new AudioWorkletNode(audio, "player", { outputChannelCount: [2] });
    player.port.onmessage = ({ data: told }) => {
      this.told = told;
      this.#tell();
    };
    this.gain = new GainNode(audio);
    this.setVolume(this.volume);
    player.connect(this.gain).connect(audio.destination);
    this.player = player;
    audio.onstatechange = () => this.#running();
    this.#running();
  }

  #running() {
    if (!this.audio || this.state === "ended") return;
    this.state = this.audio.state === "running" ? "playing" : "blocked";
    this.#tell();
  }

  /** @param {ArrayBuffer} data a header and samples, see docs/api.md */
  #sound(data) {
    const view = new DataView(data);
    const length = view.getUint32(8, true);
    const channels = view.getUint8(13);
    const isEmpty = (view.getUint16(14, true) & WITHOUT_SAMPLES) !== 0;
    if (isEmpty) this.player?.port.postMessage({ silence: length });
    else {
      const samples = new Int16Array(data, HEADER_BYTES, length * channels);
      this.player?.port.postMessage({ samples, channels }, [data]);
    }
  }

  #release() {
    this.socket?.close();
    this.socket = null;
    this.player?.disconnect();
    this.player?.port.close();
    this.player = null;
    this.gain = null;
    if (this.audio) {
      this.audio.onstatechange = null;
      void this.audio.close();
    }
    this.audio = null;
  }

  #tell() {
    for (const listener of [...this.listeners]) listener();
  }
}
