// Sends a spool: beside the live sound as the path allows, and the rest after the end.

import { Backoff, Refused, Unreachable, ask } from "./asking.js";
import { encode } from "./flac.js";
import { Pacer } from "./pacing.js";
import { Pauses } from "./pauses.js";
import { PiecePlan, REQUEST_BYTES } from "./pieces.js";
import { Ranges } from "./ranges.js";
import { Sha256 } from "./sha256.js";
import { Telling } from "./telling.js";

/** @typedef {import("./kept.js").Kept} Kept */
/** @typedef {import("./ranges.js").Range} Range */
/** @typedef {import("./terms.js").Finished} Finished */
/** @typedef {import("./terms.js").Progress} Progress */

/** How often a server is asked what it wants while the session lives. */
const ASK_S = 3;
/** How long an answer and a piece may take. */
const ANSWER_S = 20;
const PIECE_S = 60;
/** How often what the server has is noted. */
const NOTE_S = 5;
/** How often a server is told what was captured of a session that has ended there, but not here. */
const TELL_S = 20;
/** So much at the end is held back until then: with all of it, the recording would be complete. */
const HELD_BACK_S = 1;
/** Of so many ranges an answer may not have told all. */
const MAX_RANGES = 1000;
/** How long a server may say that it wants what it was sent. */
const PATIENCE_S = 60;
/** How a server answers that knows nothing of a session. */
const FORGOTTEN = 401;
/** States in which a server wants nothing any more. */
const LAST = ["complete", "expired", "off"];

/** Sends one spool to the session that is noted in it. */
export class Uploads {
  /** @type {Progress["state"]} */
  state = "capturing";
  reason = "";
  isReachable = true;
  /** @type {() => void} called when any of this, or what is confirmed, has changed */
  onchange = () => {};

  #kept;
  #plan;
  #pacer = new Pacer(nowS());
  #backoff = new Backoff();
  #closing = new AbortController();
  #isFinishing = false;
  #pauses = new Pauses();
  #notedAt = -Infinity;
  #toldAt = -Infinity;
  /** What the server was told is captured, while more is. */
  #told = Infinity;
  #telling;
  #isPacing = false;
  /** Whether the server does not know the session any more. */
  #isForgotten = false;
  /** @type {Promise<Finished | null> | null} */
  #running = null;

  /** @param {Kept} kept */
  constructor(kept) {
    const { sampleRate, channels } = kept.description;
    this.#kept = kept;
    this.#plan = new PiecePlan(sampleRate, channels * 2);
    this.#telling = new Telling(kept);
    addEventListener("online", () => this.hurry(), { signal: this.#closing.signal });
  }

  /** Begins to send, once there is a session; it ends by `finish` or `close`. */
  begin() {
    if (this.#kept.session) this.#running ??= this.#run();
  }

  /**
   * Sends the rest; nothing is captured any more. Without a session that is refused; it may be tried
   * again with one.
   *
   * @returns {Promise<Finished>}
   */
  async finish() {
    this.#isFinishing = true;
    this.hurry();
    if (!this.#kept.session) {
      this.#become("refused", "the server has never had a session of it");
      return await this.#ended();
    }
    // what was refused may not be any more: not by the server, or of another session
    if (this.state === "refused") this.#running = null;
    if (!this.#running || this.state === "capturing") this.#become("sending", "");
    this.begin();
    const finished = await this.#running;
    return finished ?? (await this.#ended());
  }

  /** Ends a pause: something has changed. */
  hurry() {
    this.#pauses.end();
  }

  /** @param {{ roundTripS: number | null, lost: number } | null} report as of `Spool.network` */
  network(report) {
    if (report) this.#pacer.reported(report, nowS());
    else this.#pacer.gone();
    if (this.#isPacing) this.hurry();
  }

  close() {
    this.#closing.abort(new DOMException("the spool was closed", "AbortError"));
    this.hurry();
  }

  /** @returns {Promise<Finished | null>} null if it was ended before it was finished */
  async #run() {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const finished = this.#isFinishing ? await this.#finish() : await this.#sendBeside();
        if (finished) return finished;
      } catch (error) {
        if (signal.aborted) return null;
        if (error instanceof Unreachable) {
          this.#reached(false, error.message);
          await this.#pauses.wait(this.#backoff.next(error.retryAfterS));
        } else if (error instanceof Refused) {
          this.#isForgotten = error.status === FORGOTTEN;
          this.#become("refused", error.message);
          return null;
        } else {
          this.#become("failed", error instanceof Error ? error.message : String(error));
          return null;
        }
      }
    }
    return null;
  }

  // -- beside live sound ----------------------------------------------------------------------

  async #sendBeside() {
    const askedAt = nowS();
    await this.#telling.tell((events) => this.#ask("POST", "capture-events", { events }));
    await this.#pace(REQUEST_BYTES);
    if (this.#isFinishing) return null;
    const { body } = await this.#ask("GET", "wanted");
    const { ranges, held = [], state } = body;
    for (const { start, length } of held) this.#kept.confirmed.add(start, start + length);
    this.#notHeld(ranges);
    if (state === "waiting" && askedAt - this.#toldAt > TELL_S) {
      await this.#tellCaptured();
      return null;
    }
    await this.#send(ranges);
    // notes are told at once: `hurry` ends this
    if (!this.#isFinishing) await this.#pauses.wait(ASK_S - (nowS() - askedAt));
    return null;
  }

  /**
   * The session has ended at the server, and the microphone goes on: tells what there is, so that
   * the server wants that, too. It waits for what is held back of it.
   */
  async #tellCaptured() {
    this.#toldAt = nowS();
    const captured = await this.#captured();
    this.#told = captured.length;
    await this.#ask("POST", "captured", captured);
  }

  /**
   * Sends what is wanted; what was begun beside live sound ends when nothing is captured any more.
   *
   * @param {Range[]} ranges
   */
  async #send(ranges) {
    const { captured, description } = this.#kept;
    const isBeside = !this.#isFinishing;
    if (isBeside) captured.remove(this.#told - HELD_BACK_S * description.sampleRate, Infinity);
    const wanted = new Ranges(ranges);
    for (const piece of this.#plan.pieces(ranges, captured)) {
      await this.#put(piece);
      for (const { start, length } of wanted.within(piece.start, piece.start + piece.length))
        this.#kept.confirmed.add(start, start + length);
      if (nowS() - this.#notedAt > NOTE_S) {
        this.#notedAt = nowS();
        this.#kept.noteConfirmed();
      }
      this.onchange();
      if (isBeside && this.#isFinishing) return;
    }
  }

  /**
   * What the server wants it has not, or not any more.
   *
   * @param {Range[]} ranges
   */
  #notHeld(ranges) {
    for (const { start, length } of ranges) this.#kept.confirmed.remove(start, start + length);
    this.onchange();
  }

  /**
   * Waits until bytes may be sent.
   *
   * @param {number} size
   */
  async #pace(size) {
    for (;;) {
      const now = nowS();
      const hasLive = !this.#isFinishing && this.#pacer.hasLive(now);
      this.#plan.limit = hasLive ? this.#pacer.rate : null;
      const waitS = hasLive ? this.#pacer.waitS(now) : 0;
      if (!waitS) {
        this.#pacer.granted(size, now);
        return;
      }
      this.#isPacing = true;
      await this.#pauses.wait(waitS);
      this.#isPacing = false;
      this.#closing.signal.throwIfAborted();
    }
  }

  // -- after the end --------------------------------------------------------------------------

  /** @returns {Promise<Finished>} */
  async #finish() {
    await this.#telling.tell((events) => this.#ask("POST", "capture-events", { events }));
    const captured = await this.#captured();
    let patientUntil = nowS() + PATIENCE_S;
    let before = "";
    let isRepeated = false;
    const backoff = new Backoff();
    for (;;) {
      let answer;
      try {
        answer = await this.#ask("POST", "captured", captured);
      } catch (error) {
        // when it is told the same again, a server asks for the sound again: a piece may be wrong
        if (!(error instanceof Refused) || error.status !== 422 || isRepeated) throw error;
        isRepeated = true;
        continue;
      }
      const { state, sha256 = null, ranges = [] } = answer.body;
      if (LAST.includes(state)) return await this.#ended(state, sha256);
      if (state === "live") this.#notHeld(ranges);
      else this.#confirm(ranges);
      const news = JSON.stringify(ranges);
      if ((ranges.length && news !== before) || state !== "waiting")
        patientUntil = nowS() + PATIENCE_S;
      else if (nowS() > patientUntil)
        throw new Refused(409, "the server does not take what it wants of the sound");
      if (!ranges.length || news === before) await this.#pauses.wait(backoff.next());
      else backoff.reset();
      this.#closing.signal.throwIfAborted();
      before = news;
      await this.#send(ranges);
    }
  }

  async #captured() {
    while (!this.#kept.hash()) await this.#pauses.wait(0);
    const { settled: length, sha256, missing } = this.#kept;
    return { length, sha256, ...(missing.length ? { missing } : {}) };
  }

  /**
   * The server has told all that it wants: what it does not want it has.
   *
   * @param {Range[]} ranges
   */
  #confirm(ranges) {
    const { confirmed, length } = this.#kept;
    const last = ranges.at(-1);
    confirmed.add(0, last && ranges.length >= MAX_RANGES ? last.start : length);
    this.#notHeld(ranges);
  }

  /**
   * @param {"complete" | "expired" | "off"} [state] that the server has told
   * @param {string | null} [theirs] hash of the recording
   * @returns {Promise<Finished>}
   */
  async #ended(state, theirs = null) {
    let sha256 = "";
    try {
      while (!this.#kept.hash()) await this.#pauses.wait(0);
      ({ sha256 } = this.#kept);
    } catch (error) {
      if (!state) this.#become("failed", error instanceof Error ? error.message : String(error));
    }
    const { length } = this.#kept;
    const isSame = sha256 !== "" && sha256 === theirs;
    if (state === "complete") {
      this.#kept.confirmed.add(0, length);
      this.#kept.noteConfirmed();
      // the server has compared what it got with the hash; its recording may have more than that
      this.#kept.noteDelivered();
    }
    if (state) this.#become(state, "");
    const last = /** @type {Finished["state"]} */ (this.state);
    // a recording that has been deleted is not to come back: of one that never was, nothing is held
    const isForgotten = this.#isForgotten && !this.#kept.confirmed.total;
    return { state: last, reason: this.reason, sha256, length, isSame, isForgotten };
  }

  // -- requests -------------------------------------------------------------------------------

  /** @param {Range} piece */
  async #put(piece) {
    const { sampleRate, channels } = this.#kept.description;
    const flac = encode(this.#kept.read(piece), sampleRate, channels);
    await this.#pace(REQUEST_BYTES + flac.length);
    const hash = new Sha256();
    hash.update(flac);
    const began = nowS();
    try {
      const { status } = await this.#request("PUT", `sound/${piece.start}`, PIECE_S, flac, {
        "Content-Type": "audio/flac",
        "Content-Digest": `sha-256=:${btoa(String.fromCharCode(...hash.digest()))}:`,
      });
      if (status !== 204) throw new Unreachable(`a piece was answered with ${status}`);
    } catch (error) {
      if (error instanceof Unreachable) this.#plan.failed();
      throw error;
    }
    this.#plan.sent(piece.length, flac.length, nowS() - began);
  }

  /**
   * @param {string} method
   * @param {string} what
   * @param {object} [body]
   */
  async #ask(method, what, body) {
    const answer = await (body
      ? this.#request(method, what, ANSWER_S, JSON.stringify(body), {
          "Content-Type": "application/json",
        })
      : this.#request(method, what, ANSWER_S));
    if (what !== "capture-events" && !answer.body) throw new Unreachable("the answer is empty");
    return answer;
  }

  /**
   * @param {string} method
   * @param {string} what
   * @param {number} timeoutS
   * @param {BodyInit} [body]
   * @param {Record<string, string>} [headers]
   */
  async #request(method, what, timeoutS, body, headers) {
    const session = this.#kept.session;
    if (!session) throw new Refused(404, "the server has never had a session of it");
    const path = `/sessions/${encodeURIComponent(session.id)}/${what}`;
    const { signal } = this.#closing;
    const { secret } = session;
    const answer = await ask(method, path, { secret, body, headers, signal, timeoutS });
    this.#backoff.reset();
    this.#reached(true, "");
    return answer;
  }

  /**
   * @param {boolean} isReachable
   * @param {string} reason
   */
  #reached(isReachable, reason) {
    if (this.isReachable === isReachable && this.reason === reason) return;
    this.isReachable = isReachable;
    this.reason = reason;
    this.onchange();
  }

  /**
   * @param {Progress["state"]} state
   * @param {string} reason
   */
  #become(state, reason) {
    this.state = state;
    this.reason = reason;
    this.onchange();
  }
}

function nowS() {
  return performance.now() / 1000;
}
