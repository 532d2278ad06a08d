// The server's events, over one connection that all views share.

import { ApiError, ask } from "../shared/api.js";

const ADDRESS = "/api/events?levels=true";
/** How long no levels may come, where some came before, until the server is asked whether it works. */
const QUIET_MS = 5000;
/** When the server is asked again after it has refused the events, as a full one does. */
const AGAIN_MS = 3000;

/** Types that the server does not have. */
const OWN = ["anew", "connection", "busy", "refused"];

/**
 * Tells listeners what happens. Beside the types of the API there are these:
 *
 * - `anew`: something may have been missed, so that all that is known has to be asked for again;
 * - `connection`: whether the server can be reached now (a boolean);
 * - `busy`: the server can be reached, but has no place for another watcher;
 * - `refused`: nobody is signed in any more.
 */
export class Events {
  constructor() {
    /** Whether events come now. */
    this.isConnected = false;
    /** @type {Map<string, Set<(data: any) => void>>} */
    this.listeners = new Map();
    /** @type {EventSource | null} */
    this.source = null;
    this.wasOpened = false;
    this.heardAt = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.again = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.watch = undefined;
    this.stopping = new AbortController();
  }

  /**
   * Calls a function for each event of a type, with its data; returns what ends that.
   *
   * @param {string} type
   * @param {(data: any) => void} listener
   * @returns {() => void}
   */
  on(type, listener) {
    let listeners = this.listeners.get(type);
    if (!listeners) {
      listeners = new Set();
      this.listeners.set(type, listeners);
      if (this.source) this.#hear(this.source, type);
    }
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /**
   * Begins; returns when events come, or when it is clear that they do not yet. Whoever asks the
   * server after that misses nothing.
   *
   * @returns {Promise<void>}
   */
  start() {
    const { signal } = this.stopping;
    // a server on this machine or in this house may still be there
    addEventListener("offline", () => void this.#check(), { signal });
    addEventListener("online", () => this.#open(), { signal });
    this.on("levels", () => this.#heard());
    this.on("missed", () => this.#tell("anew", null));
    return new Promise((resolve) => {
      const off = this.on("connection", () => {
        off();
        resolve();
      });
      this.#open();
    });
  }

  /** Ends it for good. */
  stop() {
    this.stopping.abort();
    clearTimeout(this.again);
    clearTimeout(this.watch);
    this.source?.close();
    this.source = null;
    this.listeners.clear();
  }

  #open() {
    clearTimeout(this.again);
    if (this.stopping.signal.aborted) return;
    this.source?.close();
    const source = new EventSource(ADDRESS);
    this.source = source;
    let isFirst = true;
    source.addEventListener("open", () => {
      // a source that comes back by itself says which event was its latest; a new one cannot
      const isGap = isFirst && this.wasOpened;
      isFirst = false;
      this.wasOpened = true;
      this.isConnected = true;
      this.#tell("connection", true);
      if (isGap) this.#tell("anew", null);
    });
    source.addEventListener("error", () => {
      this.wasOpened ||= !isFirst;
      this.#lose();
      if (source.readyState === EventSource.CLOSED) void this.#refused();
    });
    for (const type of this.listeners.keys()) this.#hear(source, type);
  }

  /**
   * @param {EventSource} source
   * @param {string} type
   */
  #hear(source, type) {
    if (OWN.includes(type)) return;
    source.addEventListener(type, (event) => this.#tell(type, JSON.parse(event.data)));
  }

  /**
   * @param {string} type
   * @param {any} data
   */
  #tell(type, data) {
    for (const listener of [...(this.listeners.get(type) ?? [])]) listener(data);
  }

  #lose() {
    clearTimeout(this.watch);
    this.watch = undefined;
    // what happens until the first connection is missed, too
    this.wasOpened = true;
    this.isConnected = false;
    this.#tell("connection", false);
  }

  /** The server has refused the events: because nobody is signed in, or because it is busy. */
  async #refused() {
    try {
      await ask("GET", "/api/sign-in", undefined, { signal: this.stopping.signal });
      this.#tell("busy", null);
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      if (error instanceof ApiError && [401, 403].includes(error.status)) {
        this.#tell("refused", null);
        return;
      }
    }
    clearTimeout(this.again);
    this.again = setTimeout(() => this.#open(), AGAIN_MS);
  }

  /** A connection may be dead without an error: while there are sessions, levels tell. */
  #heard() {
    this.heardAt = performance.now();
    this.watch ??= setTimeout(() => void this.#look(), QUIET_MS);
  }

  async #look() {
    this.watch = undefined;
    const quiet = performance.now() - this.heardAt;
    if (quiet < QUIET_MS) {
      this.watch = setTimeout(() => void this.#look(), QUIET_MS - quiet);
      return;
    }
    await this.#check();
  }

  /** Asks whether the server is there; if it is not, looks for it until it is. */
  async #check() {
    try {
      await ask("GET", "/api/sign-in", undefined, { signal: AbortSignal.timeout(QUIET_MS) });
    } catch {
      if (this.stopping.signal.aborted) return;
      this.#lose();
      this.#open();
    }
  }
}
