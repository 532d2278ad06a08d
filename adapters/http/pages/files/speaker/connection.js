// Keeps a stream published, whatever the network does.
//
// A lost connection is first given another path (an ICE restart), then replaced by a new one that
// goes on with the session. Only a refusal of the server ends that.

import { ApiError } from "../shared/api.js";

/** @typedef {import("./whip.js").Session} Session */

/**
 * How the live sound gets to the server:
 * - connecting: for the first time
 * - live: it does
 * - restarting: the connection was lost, another path is looked for
 * - waiting: the server cannot be reached, or asks to wait; the next attempt is at `retryAt`
 * - offline: the same, and the browser says that there is no network
 * - blocked: the server is reached, but no sound gets through (UDP is blocked). If there is no
 *   `retryAt`, the server has ended the session for that; it takes the sound all the same
 * - over: the session has ended at the server; it takes no more live sound
 * - refused: the server refuses, for the reason `detail`
 * - closed: the page has ended it
 *
 * @typedef {"connecting" | "live" | "restarting" | "waiting" | "offline" | "blocked" | "over" |
 *   "refused" | "closed"} State
 */

/**
 * @typedef {object} Condition
 * @property {State} state
 * @property {number} [status] of HTTP, of a refusal or of an answer that asks to wait
 * @property {string} [detail] the server's words
 * @property {number} [retryAt] of the clock, in ms
 */

/**
 * What `Publication` has, as far as it is needed here.
 *
 * @typedef {object} Link
 * @property {RTCPeerConnectionState} state
 * @property {(state: RTCPeerConnectionState) => void} onstate
 * @property {Session} session
 * @property {(signal?: AbortSignal) => Promise<void>} restart
 * @property {() => void} abandon
 */

/**
 * What the connection knows of the world.
 *
 * @typedef {object} World
 * @property {() => number} now in ms
 * @property {(run: () => void, ms: number) => () => void} after calls later; returns what cancels it
 * @property {() => number} random 0 to 1
 * @property {() => boolean} isOnline
 * @property {(hear: () => void) => () => void} onNetwork hears of changes; returns what ends that
 */

const CONNECT_MS = 10_000;
const RESTART_MS = 5_000;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 8_000;
/** Statuses of a server that is busy, full or restarting; of others a repetition changes nothing. */
const TEMPORARY = [408, 409, 425, 429];

/** A refusal that ends all attempts. */
class Final extends Error {
  /** @param {Condition} condition */
  constructor(condition) {
    super(condition.state);
    this.condition = condition;
  }
}

/** Keeps one session connected, from `run` to `close`. */
export class Connection {
  /**
   * @param {(session: Session | null, signal: AbortSignal) => Promise<Link>} open offers the stream;
   *   raises ApiError
   * @param {World} [world]
   */
  constructor(open, world = BROWSER) {
    this.open = open;
    this.world = world;
    /** @type {(condition: Condition) => void} */
    this.onchange = () => {};
    /** @type {(session: Session) => void} called once: a session stays the same */
    this.onsession = () => {};
    /** @type {Condition} */
    this.condition = { state: "connecting" };
    /** @type {Session | null} */
    this.session = null;
    /** @type {Link | null} */
    this.link = null;
    /** @type {ApiError | null} why the last offer got no answer; null if it did */
    this.trouble = null;
    /** How many offers were made. */
    this.offers = 0;
    /** How many were answered since sound got through. */
    this.unconnected = 0;
    this.closing = new AbortController();
    this.hurried = false;
    this.isDoubted = false;
    /** @type {Set<() => void>} */
    this.waiting = new Set();
  }

  /**
   * Connects and keeps connected, until the session is over, refused or closed.
   *
   * @param {Session | null} [session] the one to go on with
   */
  async run(session = null) {
    this.session = session;
    const ignore = this.world.onNetwork(() => this.#hurry());
    try {
      await this.#keep();
    } catch (error) {
      if (!(error instanceof Final)) throw error;
      this.#tell(error.condition);
    } finally {
      ignore();
      this.link?.abandon();
      this.link = null;
    }
  }

  /** Ends all attempts, and the connection. The session at the server is not ended. */
  close() {
    this.closing.abort();
    this.#wake();
  }

  /** Asks the server at once whether the session is still there: something hints at its end. */
  doubt() {
    this.isDoubted = true;
    this.#wake();
  }

  async #keep() {
    let delay = FIRST_DELAY_MS;
    for (;;) {
      if ((!this.isDoubted && this.#isConnected()) || (await this.#dialled())) {
        delay = FIRST_DELAY_MS;
        this.unconnected = 0;
        do {
          this.#tell({ state: "live" });
          await this.#until(() => this.isDoubted || this.#isLost());
          this.#tell({ state: "restarting" });
        } while (!this.isDoubted && (await this.#restarted()));
        continue;
      }
      const pause = delay * (0.5 + this.world.random() / 2);
      delay = Math.min(2 * delay, MAX_DELAY_MS);
      this.#tellWaiting(this.world.now() + pause);
      // a connection that was lost may come back by itself
      await this.#until(() => this.hurried || this.#isConnected(), pause);
      if (this.hurried) delay = FIRST_DELAY_MS;
    }
  }

  /** Makes a new connection; returns whether it came about. */
  async #dialled() {
    this.hurried = false;
    this.isDoubted = false;
    /** @type {Link} */
    let link;
    this.offers += 1;
    try {
      link = await this.open(this.session, this.closing.signal);
    } catch (error) {
      this.#raiseIfFinal(error);
      this.trouble = error instanceof ApiError ? error : new ApiError(0, String(error));
      return false;
    }
    this.trouble = null;
    this.unconnected += 1;
    // not earlier: a session whose only connection is closed is over
    this.link?.abandon();
    this.link = link;
    link.onstate = () => this.#wake();
    if (!this.session) {
      this.session = link.session;
      this.onsession(link.session);
    }
    await this.#until(() => ["connected", "failed", "closed"].includes(link.state), CONNECT_MS);
    return this.#isConnected();
  }

  /** Looks for another path for the connection; returns whether there is one. */
  async #restarted() {
    const link = this.link;
    if (!link || link.state === "closed") return false;
    const giveUp = new AbortController();
    let hasFailed = false;
    link.restart(AbortSignal.any([giveUp.signal, this.closing.signal])).catch(() => {
      // whether that is a refusal, the next offer tells
      hasFailed = true;
      this.#wake();
    });
    await this.#until(() => hasFailed || this.#isConnected(), RESTART_MS);
    if (this.#isConnected()) return true;
    giveUp.abort();
    return false;
  }

  /** @param {unknown} error */
  #raiseIfFinal(error) {
    if (!(error instanceof ApiError)) return;
    const { status, message: detail } = error;
    if (status < 400 || status >= 500 || TEMPORARY.includes(status)) return;
    const isOver = this.session !== null && (status === 404 || status === 410);
    if (isOver && this.unconnected) throw new Final({ state: "blocked", status, detail });
    throw new Final({ state: isOver ? "over" : "refused", status, detail });
  }

  /** @param {number} retryAt */
  #tellWaiting(retryAt) {
    if (this.trouble === null) this.#tell({ state: "blocked", retryAt });
    else if (this.trouble?.status)
      this.#tell({
        state: "waiting",
        retryAt,
        status: this.trouble.status,
        detail: this.trouble.message,
      });
    else this.#tell({ state: this.world.isOnline() ? "waiting" : "offline", retryAt });
  }

  #isConnected() {
    return this.link?.state === "connected";
  }

  #isLost() {
    return !this.link || ["disconnected", "failed", "closed"].includes(this.link.state);
  }

  #hurry() {
    this.hurried = this.world.isOnline();
    this.#wake();
  }

  #wake() {
    for (const resolve of this.waiting) resolve();
    this.waiting.clear();
  }

  /**
   * Waits until something is so, for some time at most.
   *
   * @param {() => boolean} isSo
   * @param {number} [ms]
   * @throws {Final} when the connection is closed
   */
  async #until(isSo, ms) {
    let isLate = false;
    const cancel =
      ms === undefined
        ? () => {}
        : this.world.after(() => {
            isLate = true;
            this.#wake();
          }, ms);
    try {
      while (!isLate && !isSo()) {
        this.#raiseIfClosed();
        await new Promise((resolve) => this.waiting.add(() => resolve(undefined)));
      }
      this.#raiseIfClosed();
    } finally {
      cancel();
    }
  }

  #raiseIfClosed() {
    if (this.closing.signal.aborted) throw new Final({ state: "closed" });
  }

  /** @param {Condition} condition */
  #tell(condition) {
    this.condition = condition;
    this.onchange(condition);
  }
}

/** @type {World} */
const BROWSER = {
  now: () => Date.now(),
  after: (run, ms) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  random: Math.random,
  isOnline: () => navigator.onLine,
  onNetwork: (hear) => {
    addEventListener("online", hear);
    addEventListener("offline", hear);
    return () => {
      removeEventListener("online", hear);
      removeEventListener("offline", hear);
    };
  },
};
