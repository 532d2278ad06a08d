// The recordings of a list: pages of the API as they are needed, and what events change.

import { ask } from "../shared/api.js";

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */

/**
 * What is looked for, and in which order.
 *
 * @typedef {object} Wanted
 * @property {string} name
 * @property {string} room
 * @property {"" | "live" | "complete"} state
 * @property {"newest" | "oldest" | "longest" | "largest" | "name"} sort
 */

const PAGE = 200;
/** Recordings that are kept at most: 20,000 take 20 MB. */
export const MAX_KEPT = 20_000;

const newest = (/** @type {Recording} */ one, /** @type {Recording} */ other) =>
  Date.parse(other.started_at) - Date.parse(one.started_at);

const called = (/** @type {Recording} */ one) => one.title || one.client_name;

/** @type {Record<Wanted["sort"], (one: Recording, other: Recording) => number>} */
const ORDERS = {
  newest,
  oldest: (one, other) => -newest(one, other),
  longest: (one, other) => other.seconds - one.seconds,
  largest: (one, other) => other.size_bytes - one.size_bytes,
  name: (one, other) => called(one).localeCompare(called(other)) || newest(one, other),
};

/** Asks for recordings: the live ones first, then the complete ones. */
export class Source {
  /**
   * @param {Wanted} wanted
   * @param {() => void} changed called after each change
   */
  constructor(wanted, changed) {
    this.wanted = wanted;
    this.changed = changed;
    /** @type {Recording[]} */
    this.live = [];
    /** @type {Recording[]} */
    this.complete = [];
    /** @type {string | null | undefined} undefined before the first page, null after the last */
    this.next = wanted.state === "live" ? null : undefined;
    this.isLiveKnown = wanted.state === "complete";
    /** @type {unknown} */
    this.error = null;
    this.isAsking = false;
    this.stop = new AbortController();
  }

  /** Whether there may be more than `items` has. */
  get hasMore() {
    return !this.isLiveKnown || this.next !== null;
  }

  /** Whether recordings have to be sorted here: the API has the newest first. */
  get needsAll() {
    return this.wanted.sort !== "newest";
  }

  get isFull() {
    return this.complete.length >= MAX_KEPT;
  }

  /** All that is there by now, in its order. */
  get items() {
    return [...this.live, ...this.complete];
  }

  /**
   * Asks for more until there are so many recordings, or no more.
   *
   * @param {number} count
   */
  async load(count) {
    const goal = this.needsAll ? MAX_KEPT : Math.min(count, MAX_KEPT);
    if (this.isAsking) return;
    this.isAsking = true;
    this.error = null;
    try {
      while (this.hasMore && this.live.length + this.complete.length < goal) await this.#page();
    } catch (error) {
      if (this.stop.signal.aborted) return;
      this.error = error;
    } finally {
      this.isAsking = false;
    }
    this.changed();
  }

  /**
   * Takes a recording as it is now: a new one, or one that has changed.
   *
   * @param {Recording} recording
   */
  put(recording) {
    this.#take(recording.id);
    if (!this.#matches(recording)) return this.changed();
    const isLive = recording.state === "live";
    const list = isLive ? this.live : this.complete;
    const order = isLive ? newest : ORDERS[this.wanted.sort];
    const index = list.findIndex((other) => order(recording, other) <= 0);
    // behind the last one that was loaded, it comes with its page
    if (index >= 0) list.splice(index, 0, recording);
    else if (isLive || this.next === null) list.push(recording);
    this.changed();
  }

  /** @param {string} id */
  remove(id) {
    if (this.#take(id)) this.changed();
  }

  close() {
    this.stop.abort();
  }

  async #page() {
    const isLive = !this.isLiveKnown;
    const query = new URLSearchParams({
      limit: String(PAGE),
      state: isLive ? "live" : "complete",
    });
    if (this.wanted.name) query.set("name", this.wanted.name);
    if (this.wanted.room) query.set("room", this.wanted.room);
    if (!isLive && this.next) query.set("before", this.next);
    const options = { signal: this.stop.signal };
    const page = await ask("GET", `/api/recordings?${query}`, undefined, options);
    /** @type {Recording[]} */
    const found = page.recordings;
    if (isLive) {
      this.live = found;
      this.isLiveKnown = true;
    } else {
      // what an event has brought is there already
      const known = new Set(this.complete.map((one) => one.id));
      this.complete = [...this.complete, ...found.filter((one) => !known.has(one.id))];
      this.next = page.next;
      if (this.needsAll) this.complete.sort(ORDERS[this.wanted.sort]);
    }
    this.changed();
  }

  /** @param {string} id */
  #take(id) {
    for (const list of [this.live, this.complete]) {
      const index = list.findIndex((one) => one.id === id);
      if (index >= 0) return list.splice(index, 1).length > 0;
    }
    return false;
  }

  /** @param {Recording} recording */
  #matches(recording) {
    const { name, room, state } = this.wanted;
    return (
      (!state || state === recording.state) &&
      [recording.name, recording.title].some((text) => plain(text).includes(plain(name))) &&
      (!room || plain(recording.room ?? "") === plain(room))
    );
  }
}

/**
 * Returns a text as it is compared: without case and accents.
 *
 * @param {string} text
 */
function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

/**
 * Asks for all recordings that match, page by page.
 *
 * @param {Record<string, string>} query
 * @param {{ signal: AbortSignal, told?: (count: number) => void }} options
 * @returns {Promise<Recording[]>} at most MAX_KEPT, the newest first
 */
export async function allRecordings(query, { signal, told = () => {} }) {
  /** @type {Recording[]} */
  const found = [];
  let before = "";
  do {
    const asked = new URLSearchParams({ ...query, limit: String(PAGE) });
    if (before) asked.set("before", before);
    const page = await ask("GET", `/api/recordings?${asked}`, undefined, { signal });
    found.push(...page.recordings);
    before = page.next ?? "";
    told(found.length);
  } while (before && found.length < MAX_KEPT);
  return found;
}
