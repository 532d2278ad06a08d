// The sessions that there are now, as all views see them.

import { ApiError, ask } from "../shared/api.js";

/** @typedef {import("api").components["schemas"]["Session"]} Session */
/** @typedef {import("./events.js").Events} Events */

/** What changes the list, or what it says of a session. */
const CHANGES = [
  "anew",
  "session.opened",
  "session.changed",
  "session.resumed",
  "session.ended",
  "session.failed",
  "connection.added",
  "recording.started",
  "recording.format_changed",
  "recording.failed",
  "storage.delayed",
  "storage.writable",
];

/** Keeps the list current: it is asked for when something has happened, once at a time. */
export class Sessions {
  /** @param {Events} events */
  constructor(events) {
    /** @type {Map<string, Session>} */
    this.byId = new Map();
    /** Whether all workers of the server have answered. */
    this.isComplete = true;
    /** @type {ApiError | null} why the list could not be had */
    this.error = null;
    this.isKnown = false;
    /** @type {Map<string, string>} names, also of sessions that have ended since */
    this.names = new Map();
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    /** @type {Promise<void> | null} */
    this.asking = null;
    this.isStale = false;
    this.askedAt = -Infinity;
    this.stopping = new AbortController();
    for (const type of CHANGES) events.on(type, () => void this.refresh());
    events.on("session.ended", ({ session }) => {
      if (this.byId.delete(session)) this.#tell();
    });
  }

  /**
   * Calls a function when the list has changed; returns what ends that.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Asks for the list. What happens meanwhile makes it ask once more. */
  refresh() {
    this.isStale = true;
    this.asking ??= this.#ask().finally(() => {
      this.asking = null;
    });
    return this.asking;
  }

  /** Asks for the list, unless that was done a moment ago. */
  refreshSoon() {
    if (!this.asking && performance.now() - this.askedAt > SOON_MS) void this.refresh();
  }

  /**
   * Puts in a session that was asked for alone.
   *
   * @param {Session} session
   */
  put(session) {
    if (this.byId.has(session.id)) this.byId.set(session.id, session);
  }

  stop() {
    this.stopping.abort();
    this.listeners.clear();
  }

  async #ask() {
    const { signal } = this.stopping;
    while (this.isStale && !signal.aborted) {
      this.isStale = false;
      this.askedAt = performance.now();
      try {
        const list = await ask("GET", "/api/sessions", undefined, { signal });
        this.byId = new Map(list.sessions.map((/** @type {Session} */ one) => [one.id, one]));
        for (const { id, name } of list.sessions) this.#name(id, name);
        this.isComplete = list.is_complete;
        this.isKnown = true;
        this.error = null;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        this.error = error;
      }
      this.#tell();
    }
  }

  /**
   * @param {string} id
   * @param {string} name
   */
  #name(id, name) {
    this.names.delete(id);
    this.names.set(id, name);
    for (const oldest of this.names.keys()) {
      if (this.names.size <= MAX_NAMES) break;
      this.names.delete(oldest);
    }
  }

  #tell() {
    for (const listener of [...this.listeners]) listener();
  }
}

const MAX_NAMES = 2000;
const SOON_MS = 2000;
