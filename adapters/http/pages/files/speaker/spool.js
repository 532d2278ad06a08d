// The page's side of a spool: what is captured, kept by the browser until the server has it. The
// work is done in a worker: ../worker/spool.js.

import { scriptUrl } from "../shared/trusted.js";

/** @typedef {import("./capture.js").CaptureEvent} CaptureEvent */
/** @typedef {import("../worker/terms.js").Session} Session */
/** @typedef {import("../worker/terms.js").Offer} Offer */
/** @typedef {import("../worker/terms.js").Progress} Progress */
/** @typedef {import("../worker/terms.js").Finished} Finished */
/** @typedef {import("../worker/terms.js").Owed} Owed */
/** @typedef {import("../worker/terms.js").Description} Description */

/** Keeps what one recording captures, and sends it. */
export class Spool {
  /** @type {(progress: Progress) => void} called at most a few times a second */
  onprogress = () => {};
  /** @type {(event: CaptureEvent) => void} `stall`s; the spool has noted them already */
  onevent = () => {};

  #worker;
  /** @type {Description & { id: string, startedAt: string, session: Session | null }} */
  #description;
  /** @type {Promise<Finished> | null} */
  #finished = null;

  /** Loads what a spool needs, so that one can begin while the network is away. */
  static async prepare() {
    if (!spare || spare.isBroken) spare = new Service();
    // any answer shows that it is loaded; what cannot be loaded now may be when it is needed
    await spare.ask("ready").catch(() => {});
  }

  /**
   * Begins a spool. Where the browser keeps no files (private windows), it is kept in memory.
   *
   * @param {Description} description of the `Capture`, and of the recording
   * @returns {Promise<Spool>}
   */
  static async begin({ sampleRate, channels, name, room }) {
    // the answer is not waited for: some browsers ask the user, who may not answer
    navigator.storage?.persist?.().catch(() => {});
    return await Spool.#open("begin", { sampleRate, channels, name, room });
  }

  /**
   * Returns what earlier pages have left and no other page is sending, the oldest first.
   *
   * @returns {Promise<Owed[]>}
   */
  static async owed() {
    return await once("owed");
  }

  /**
   * Goes on with a spool: what is captured from now on comes behind the time that nobody captured.
   * `Capture` has to have the rate and the channels of the spool (see `Spool.owed`).
   *
   * @param {string} id
   * @returns {Promise<Spool>} with `session`, if it had one
   * @throws {Error} if there is no such spool, or another page has it
   */
  static async resume(id) {
    return await Spool.#open("resume", { id });
  }

  /**
   * Sends what is owed, without capturing. `finish` tells how that ends. A spool that never had a
   * session needs one first: `attach`.
   *
   * @param {string} id
   * @returns {Promise<Spool>}
   * @throws {Error} as `resume`
   */
  static async send(id) {
    const spool = await Spool.#open("send", { id });
    if (spool.session) spool.finish();
    return spool;
  }

  /**
   * Returns all of a spool as a WAV, with silence for what was missed. It stays a file until it is
   * read: take it when nothing is captured any more.
   *
   * @param {string} id
   * @returns {Promise<Blob>}
   * @throws {Error} if there is no such spool, or it is being captured
   */
  static async export(id) {
    return await once("export", { id });
  }

  /**
   * Throws a spool away, whatever is owed of it.
   *
   * @param {string} id
   * @throws {Error} if another page has it
   */
  static async discard(id) {
    await once("discard", { id });
  }

  /**
   * @param {"begin" | "resume" | "send"} how
   * @param {object} what
   */
  static async #open(how, what) {
    const worker = spare && !spare.isBroken ? spare : new Service();
    spare = null;
    try {
      const sound = new MessageChannel();
      const description = await worker.ask(how, { ...what, port: sound.port1 }, [sound.port1]);
      return new Spool(worker, sound.port2, description);
    } catch (error) {
      worker.end();
      throw error;
    }
  }

  /**
   * @param {Service} worker
   * @param {MessagePort} port
   * @param {Description & { id: string, startedAt: string, session: Session | null }} description
   */
  constructor(worker, port, description) {
    this.#worker = worker;
    this.#description = description;
    /** Where the sound comes in: for `Capture.keep`, which takes it away. */
    this.port = port;
    worker.ontold = (kind, value) => {
      if (kind === "progress") this.onprogress(value);
      if (kind === "event") this.onevent(value);
    };
  }

  get id() {
    return this.#description.id;
  }

  get sampleRate() {
    return this.#description.sampleRate;
  }

  get channels() {
    return this.#description.channels;
  }

  /** The session that it belongs to; null before `attach`. */
  get session() {
    return this.#description.session;
  }

  /**
   * Returns what an offer says of the spool, as it is at this moment.
   *
   * @returns {Promise<Offer>}
   */
  async offer() {
    return await this.#worker.ask("offer");
  }

  /**
   * Sends what is captured to the recording of a session from now on. The browser keeps it, so that
   * a page after a reload finds it. A spool has one session: only the first call counts.
   *
   * @param {Session} session
   */
  async attach(session) {
    this.#description.session ??= session;
    await this.#worker.ask("attach", this.#description.session);
  }

  /**
   * Sends all of it to the recording of another session: the server has forgotten the one it had.
   * Call `finish` again after that.
   *
   * @param {Session} session
   */
  async renew(session) {
    this.#description.session = session;
    this.#finished = null;
    await this.#worker.ask("renew", session);
  }

  /**
   * Notes what has happened to the microphone; the server gets it when it can be reached.
   *
   * @param {CaptureEvent} event
   */
  note(event) {
    this.#worker.tell("note", event);
  }

  /**
   * Tells how the live sound gets through, at least once a second: what is sent beside it gives way.
   * Null if there is no live sound: all of the network may be used then.
   *
   * @param {{ roundTripS: number | null, lost: number } | null} report `lost`: fraction of the
   *   packets since the last report
   */
  network(report) {
    this.#worker.tell("network", report);
  }

  /**
   * Resolves when the sound until now has come: a browser holds some of it back. Call it before
   * `Capture.keep(null)`. Where the sound has stopped, it is not waited for.
   */
  async heard() {
    await this.#worker.ask("heard", { untilMs: Date.now() });
  }

  /**
   * Sends the rest when nothing is captured any more, for as long as it takes: also while the
   * network is away. Before it, end the session at the server, and then `Capture.keep(null)`: what
   * was received and not kept would be left at the end of the recording.
   *
   * @returns {Promise<Finished>}
   */
  finish() {
    // without a session it is refused, and may be tried again with one
    if (!this.session) return this.#worker.ask("finish");
    this.#finished ??= this.#worker.ask("finish");
    return this.#finished;
  }

  /**
   * Returns all of this spool as a WAV, once it is finished or is being sent.
   *
   * @returns {Promise<Blob>}
   */
  async export() {
    return await this.#worker.ask("export");
  }

  /** Lets go of the spool. What is owed stays, for a later page; what the server has is removed. */
  async close() {
    this.port.close();
    await this.#worker.ask("close").catch(() => {});
    this.#worker.end();
  }
}

/** @type {Service | null} a worker that is loaded already, for the spool that comes next */
let spare = null;

/** The worker, as functions. */
class Service {
  /** @type {(kind: string, value: any) => void} */
  ontold = () => {};
  /** Whether it answers nothing more. */
  isBroken = false;
  #worker = new Worker(scriptUrl("/pages/worker/spool.js"), { type: "module" });
  /** @type {Map<number, { promise: Promise<any>, resolve(value: any): void, reject(error: Error): void }>} */
  #asked = new Map();
  #next = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { answers, value, error, told } }) => {
      if (told !== undefined) this.ontold(told, value);
      const asked = this.#asked.get(answers);
      this.#asked.delete(answers);
      if (error === undefined) asked?.resolve(value);
      else asked?.reject(new Error(error));
    };
    this.#worker.onerror = (event) => this.#fail(event.message ?? "the worker cannot be loaded");
  }

  /**
   * @param {string} what
   * @param {object} [value]
   * @param {Transferable[]} [transferred]
   * @returns {Promise<any>}
   */
  ask(what, value, transferred = []) {
    const asked = withResolvers();
    this.#asked.set(++this.#next, asked);
    this.#worker.postMessage({ asks: this.#next, what, value }, transferred);
    return asked.promise;
  }

  /**
   * @param {string} what
   * @param {object | null} value
   */
  tell(what, value) {
    this.#worker.postMessage({ what, value });
  }

  end() {
    this.#worker.terminate();
    this.#fail("the spool was closed");
  }

  /** @param {string} reason */
  #fail(reason) {
    this.isBroken = true;
    for (const asked of this.#asked.values()) asked.reject(new Error(reason));
    this.#asked.clear();
  }
}

/**
 * Asks a worker of its own for one thing.
 *
 * @param {string} what
 * @param {object} [value]
 */
async function once(what, value) {
  const worker = new Service();
  try {
    return await worker.ask(what, value);
  } finally {
    worker.end();
  }
}

/** `Promise.withResolvers`, which is younger than other things that are needed. */
function withResolvers() {
  /** @type {any} */
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  // who asks may have gone
  made.promise.catch(() => {});
  return made;
}
