// One spool: takes blocks of sound, and tells what of it can be sent.

import { Axis } from "./axis.js";
import { read as readJournal, written } from "./journal.js";
import { Ranges } from "./ranges.js";
import { Sha256 } from "./sha256.js";
import { Stalls } from "./stalls.js";
import { wavHeader } from "./wav.js";

/** @typedef {import("./terms.js").Block} Block */
/** @typedef {import("./ranges.js").Range} Range */
/** @typedef {import("./journal.js").Line} Line */
/** @typedef {import("./journal.js").Noted} Noted */
/** @typedef {import("./store.js").Store} Store */

const BYTES = 2; // of a sample
/** Sound is written this often, in seconds of it, and flushed every fourth time. */
const WRITE_S = 0.1;
const WRITES_A_FLUSH = 4;
/** How much is hashed at once. */
const HASH_BYTES = 1024 * 1024;
/** A server takes no more: an hour, and ten times what was captured. */
const MISSED_S = 3600;
const MISSED_TIMES = 10;
/** Ranges that a server takes, less some for the end. */
const MAX_MISSED_RANGES = 9_900;
/** Changes of the clock against the samples that are worth a line. */
const BASE_S = 0.02;
const MAX_EVENTS = 500;

/** What a spool has, and how it grows. */
export class Kept {
  #store;
  #axis = new Axis();
  #stalls;
  #known;
  /** @type {Int16Array<ArrayBuffer>[]} blocks that are not written yet */
  #waiting = [];
  #waitingFrames = 0;
  #writes = 0;
  /** @type {number | null} the frame that should come next, in the context's count */
  #nextFrame = null;
  #notedBase;
  #hash = new Sha256();
  #hashed = 0;
  #eventCount = 0;
  #isJournalFull = false;

  /** @type {"" | "full" | "missing"} why no more is kept */
  ended = "";
  /** What the server has confirmed. */
  confirmed = new Ranges();
  /** @type {(stall: Noted & { seconds: number }) => void} */
  onstall = () => {};

  /**
   * @param {Store} store
   * @throws {Error} if its journal does not say what it is
   */
  constructor(store) {
    const journal = store.journal();
    const known = readJournal(journal);
    if (!known) throw new Error("the spool has not begun");
    // a line that was cut off is not to spoil the next one
    if (!journal.endsWith("\n")) store.note("\n");
    this.#store = store;
    this.#known = known;
    const { channels, sampleRate } = known.begun;
    this.#axis.captured = Math.floor(store.size / BYTES / channels);
    for (const [at, length] of known.missed)
      if (at <= this.#axis.length) this.#axis.miss(at, length);
    this.confirmed = new Ranges(known.confirmed);
    const begun = store.size ? Date.parse(known.begun.startedAt) / 1000 : null;
    this.#stalls = new Stalls(sampleRate, known.base ?? begun);
    this.#notedBase = known.base;
    this.#eventCount = known.events.length;
  }

  get description() {
    return this.#known.begun;
  }

  get session() {
    return this.#known.session;
  }

  get isEnded() {
    return this.#known.ended;
  }

  get isDelivered() {
    return this.#known.delivered;
  }

  /** "disk" or "memory". */
  get kept() {
    return this.#store.kept;
  }

  /** When position 0 was captured, RFC 3339. */
  get startedAt() {
    const { base } = this.#stalls;
    return base === null ? this.description.startedAt : new Date(base * 1000).toISOString();
  }

  /** Samples per channel until now, with what is missing for sure. */
  get length() {
    return this.#axis.length + this.#waitingFrames;
  }

  /**
   * Returns how much was captured or missed until a moment, by the clock.
   *
   * @param {number} nowS
   */
  lengthAt(nowS) {
    const { base } = this.#stalls;
    if (base === null || this.isEnded) return this.length;
    return Math.max(this.length, Math.round((nowS - base) * this.description.sampleRate));
  }

  /** Before this, positions are final and sound can be read. */
  get settled() {
    return Math.min(this.#axis.length, this.#stalls.unsettledFrom);
  }

  /** @returns {Range[]} what was missed */
  get missing() {
    return this.#axis.missing;
  }

  /** What was captured, as far as it is settled. */
  get captured() {
    const captured = new Ranges();
    let position = 0;
    for (const { start, length } of this.missing) {
      captured.add(position, Math.min(start, this.settled));
      position = start + length;
    }
    captured.add(position, this.settled);
    return captured;
  }

  /** The server has confirmed all before this. */
  get safe() {
    const known = new Ranges([...this.confirmed, ...this.missing]);
    const [first] = known;
    return first?.start === 0 ? Math.min(first.length, this.settled) : 0;
  }

  /** Samples that were captured and not confirmed. */
  get owed() {
    const owed = this.captured;
    for (const { start, length } of this.confirmed) owed.remove(start, start + length);
    const unsettled = this.#axis.length - Math.min(this.settled, this.#axis.length);
    return owed.total + unsettled + this.#waitingFrames;
  }

  /**
   * Takes a block. What cannot be kept is not: see `ended`.
   *
   * @param {Block} block
   */
  add({ frame, at, pcm }) {
    if (this.ended) return;
    const { channels, sampleRate } = this.description;
    const length = pcm.length / channels;
    const lost = this.#nextFrame === null ? 0 : frame - this.#nextFrame;
    this.#nextFrame = frame + length;
    if (lost > 0) {
      this.#write();
      this.#miss({ position: this.#axis.length, samples: lost });
    }
    const start = this.#axis.length + this.#waitingFrames;
    const stall = this.#stalls.add(start, length, at / 1000);
    if (stall) {
      this.#write();
      this.#miss(stall);
    }
    if (this.ended) return;
    this.#waiting.push(pcm);
    this.#waitingFrames += length;
    if (this.#waitingFrames >= WRITE_S * sampleRate) this.#write();
  }

  /** Writes what is left: no more comes. */
  end() {
    this.#write();
    const stall = this.ended ? null : this.#stalls.settle();
    if (stall) this.#miss(stall);
    if (!this.isEnded) this.note({ ended: true });
    this.#known.ended = true;
    this.#flush();
  }

  /** Goes on with a spool that was ended. */
  begin() {
    if (!this.isEnded) return;
    this.note({ ended: false });
    this.#known.ended = false;
  }

  /**
   * Writes a line of the journal. Where the disk is full it is known to this page only.
   *
   * @param {Line} line
   */
  note(line) {
    try {
      this.#store.note(written(line));
    } catch {
      this.#isJournalFull = true;
    }
  }

  /** Whether a later page would find all that this one knows. */
  get isJournalled() {
    return !this.#isJournalFull;
  }

  /** @param {{ id: string, secret: string }} session which has nothing yet */
  renew({ id, secret }) {
    this.#known.session = { id, secret };
    this.confirmed = new Ranges();
    this.note({ session: this.#known.session, confirmed: [] });
  }

  /** @returns {Noted[]} events that the server has not been told */
  get events() {
    return this.#known.events;
  }

  /**
   * Notes what has happened to the microphone, as far as there are not too many events.
   *
   * @param {Omit<Noted, "position">} event
   * @param {number} [position] now, if it is not given
   */
  noteEvent(event, position = this.lengthAt(Date.now() / 1000)) {
    if (++this.#eventCount > MAX_EVENTS) return;
    const noted = { ...event, position };
    this.events.push(noted);
    this.note({ event: noted });
  }

  /** @param {number} count of the first events, which the server has now */
  noteTold(count) {
    this.events.splice(0, count);
    this.note({ told: count });
  }

  noteConfirmed() {
    this.note({ confirmed: [...this.confirmed].map(({ start, length }) => [start, length]) });
  }

  noteDelivered() {
    this.#known.delivered = true;
    this.note({ delivered: true });
  }

  /**
   * Returns sound that was captured; a frame has one sample per channel.
   *
   * @param {Range} range
   * @returns {Int16Array<ArrayBuffer>}
   */
  read({ start, length }) {
    const frameBytes = this.description.channels * BYTES;
    const pcm = new Uint8Array(length * frameBytes);
    for (const part of this.#axis.parts(start, start + length))
      if (part.offset !== null)
        pcm.set(
          this.#store.read(part.offset * frameBytes, part.length * frameBytes),
          (part.start - start) * frameBytes,
        );
    return new Int16Array(pcm.buffer);
  }

  /**
   * Hashes more of what is settled; call it until it returns true.
   *
   * @returns {boolean} whether all of it is hashed
   */
  hash() {
    const frameBytes = this.description.channels * BYTES;
    const end = Math.min(this.settled, this.#hashed + Math.floor(HASH_BYTES / frameBytes));
    for (const { offset, length } of this.#axis.parts(this.#hashed, end)) {
      if (offset === null) this.#hash.zeros(length * frameBytes);
      else this.#hash.update(this.#store.read(offset * frameBytes, length * frameBytes));
    }
    this.#hashed = Math.max(this.#hashed, end);
    return this.#hashed >= this.settled;
  }

  /** The hash of what is hashed until now, in 64 hexadecimal digits. */
  get sha256() {
    return this.#hash.hex();
  }

  /**
   * Returns all of it as a WAV.
   *
   * @returns {Promise<Blob>}
   */
  async wav() {
    const { channels, sampleRate } = this.description;
    const frameBytes = channels * BYTES;
    const slice = await this.#store.slices();
    const length = this.#axis.length;
    /** @type {BlobPart[]} */
    const parts = [wavHeader(length * frameBytes, sampleRate, channels)];
    const second = new Blob([new Uint8Array(sampleRate * frameBytes)]);
    for (const { offset, length: count } of this.#axis.parts(0, length)) {
      if (offset !== null) {
        parts.push(slice(offset * frameBytes, count * frameBytes));
        continue;
      }
      for (let left = count; left > 0; left -= sampleRate)
        parts.push(second.slice(0, Math.min(left, sampleRate) * frameBytes));
    }
    return new Blob(parts, { type: "audio/wav" });
  }

  /**
   * Returns how many seconds more can be kept, about; null if it is not known.
   *
   * @returns {Promise<number | null>}
   */
  async leftS() {
    const { channels, sampleRate } = this.description;
    const second = sampleRate * channels * BYTES;
    const room = this.ended ? 0 : await this.#store.room();
    return room === null ? null : room / second;
  }

  close() {
    this.#write();
    this.#flush();
    this.#store.close();
  }

  #write() {
    if (!this.#waiting.length) return;
    const pcm = new Int16Array(this.#waiting.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const block of this.#waiting) {
      pcm.set(block, at);
      at += block.length;
    }
    const frames = this.#waitingFrames;
    this.#waiting = [];
    this.#waitingFrames = 0;
    try {
      this.#store.append(new Uint8Array(pcm.buffer));
    } catch {
      this.ended = "full";
      return;
    }
    this.#axis.captured += frames;
    if (++this.#writes % WRITES_A_FLUSH === 0) this.#flush();
  }

  #flush() {
    try {
      this.#store.flush();
    } catch {
      this.ended ||= "full";
    }
    const { base } = this.#stalls;
    if (base !== null && Math.abs(base - (this.#notedBase ?? -Infinity)) > BASE_S) {
      this.#notedBase = base;
      this.note({ base });
    }
  }

  /** @param {{ position: number, samples: number }} stall */
  #miss({ position, samples }) {
    const { sampleRate } = this.description;
    const most = MISSED_S * sampleRate + MISSED_TIMES * this.#axis.captured;
    if (this.#axis.missed + samples > most || this.missing.length >= MAX_MISSED_RANGES) {
      this.ended = "missing";
      return;
    }
    this.note({ missed: [position, samples] });
    this.#axis.miss(position, samples);
    const event = {
      type: "stall",
      at: new Date().toISOString(),
      seconds: samples / sampleRate,
    };
    this.noteEvent(event, position);
    this.onstall({ ...event, position });
  }
}
