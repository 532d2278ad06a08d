// How fast captured sound may be sent beside live sound, over the same path: the live sound comes
// first. The rate follows the delay of the queue before the bottleneck, as in LEDBAT (RFC 6817).

// all rates are bytes a second
const FIRST_RATE = 8_000;
const LOWEST_RATE = 250;
/** Five times the sound of a microphone as FLAC. */
const HIGHEST_RATE = 250_000;
/** By how much the rate grows in a second: at first, later, and close to a queue or a loss. */
const FIRST_GROWTH = 0.5;
const GROWTH = 0.2;
const SLOW_GROWTH = 0.04;
const CLOSE = 0.8;
const REDUCTION = 0.7;
/** More delay than this in the last `AGREEING` reports, or this much in one, is a queue. */
const QUEUE_S = 0.03;
const AGREEING = 3;
const LONG_QUEUE_S = 0.1;
/** How long nothing is sent after a queue or a loss, so that the queue can drain. */
const PAUSE_S = 1;
/** Nothing is sent for so long, again and again: reports show then what the path is without it. */
const LISTENING_S = 2;
const SENDING_S = 30;
/** Without reports for so long, nothing is sent; and after so long, there is no live sound. */
const FRESH_S = 3;
const GONE_S = 10;
const PACKETS_S = 50;
const USUAL_REPORTS = 8;
/** A path that loses more than this anyway is bad: nothing is sent beside the live sound. */
const MOST_LOSS = 0.3;
const BASE_S = 10;
const KEPT_BASES = 18;

/** Tells when bytes may be sent. All times are seconds of one clock. */
export class Pacer {
  rate = FIRST_RATE;

  #limit = Infinity; // the rate at which there was a queue or a loss
  /** @type {{ since: number, least: number }[]} the least round trips of the last minutes */
  #bases = [];
  /** @type {number[]} */
  #delays = [];
  #usualLoss = 0; // while nothing was sent
  #usualReports = 0;
  #reportedAt;
  #hasLive = true;
  #freeAt = -Infinity; // when what was granted has been sent at this rate
  #grantedAt = -Infinity;
  #granted = 0; // bytes since the last report
  #closedUntil = -Infinity;
  #listensAt = -Infinity;

  /** @param {number} now */
  constructor(now) {
    this.#reportedAt = now;
    this.#listen(now);
  }

  /** There is no live sound, and so no reason to wait. */
  gone() {
    this.#hasLive = false;
  }

  /**
   * Whether there is live sound that must not be held up.
   *
   * @param {number} now
   */
  hasLive(now) {
    return this.#hasLive && now - this.#reportedAt <= GONE_S;
  }

  /**
   * Takes a report on the live sound into account.
   *
   * @param {{ roundTripS: number | null, lost: number }} report
   * @param {number} now
   */
  reported({ roundTripS, lost }, now) {
    const passed = now - this.#reportedAt;
    if (!this.#hasLive || passed > FRESH_S) this.#begin(now);
    const wasSilent = this.#grantedAt < this.#reportedAt - PAUSE_S / 2;
    const wasUsed = this.#granted > (this.rate * passed) / 2;
    this.#hasLive = true;
    this.#reportedAt = now;
    this.#granted = 0;
    const isLossy = this.#isLossy(lost, wasSilent, passed);
    if (roundTripS !== null) {
      this.#delays.push(roundTripS - this.#base(roundTripS, now));
      if (this.#delays.length > AGREEING) this.#delays.shift();
    }
    const delay = this.#delays.at(-1) ?? 0;
    if (isLossy || this.#isQueued) {
      if (now >= this.#closedUntil) {
        // else it is about what was sent before the pause
        this.#limit = this.rate;
        this.rate = Math.max(LOWEST_RATE, this.rate * REDUCTION);
      }
      this.#close(now + PAUSE_S);
    } else if (wasUsed && delay <= QUEUE_S) {
      const isKnown = this.#limit < Infinity;
      const isClose = this.rate > CLOSE * this.#limit;
      const growth = isClose ? SLOW_GROWTH : isKnown ? GROWTH : FIRST_GROWTH;
      this.rate = Math.min(HIGHEST_RATE, this.rate * (1 + growth * Math.min(passed, 1)));
    }
    if (now >= this.#listensAt) this.#listen(now);
  }

  /**
   * Returns for how long nothing may be sent; with a path that is not known, or a bad one, until the
   * next report, at most for the seconds after which there is no live sound.
   *
   * @param {number} now
   */
  waitS(now) {
    if (!this.hasLive(now)) return 0;
    if (now - this.#reportedAt > FRESH_S || this.#usualLoss > MOST_LOSS) return GONE_S;
    return Math.max(0, this.#closedUntil - now, this.#freeAt - now);
  }

  /**
   * Notes that bytes are sent.
   *
   * @param {number} size
   * @param {number} now
   */
  granted(size, now) {
    this.#freeAt = Math.max(this.#freeAt, now) + size / this.rate;
    this.#granted += size;
    this.#grantedAt = now;
  }

  /** @param {number} now */
  #begin(now) {
    this.rate = Math.min(this.rate, FIRST_RATE);
    this.#limit = Infinity;
    this.#delays = [];
    this.#listen(now);
  }

  /** @param {number} now */
  #listen(now) {
    this.#close(now + LISTENING_S);
    this.#listensAt = now + LISTENING_S + SENDING_S;
  }

  /** @param {number} until */
  #close(until) {
    this.#closedUntil = Math.max(this.#closedUntil, until);
  }

  /**
   * Returns whether more is lost than without what is sent, and than chance explains.
   *
   * @param {number} lost
   * @param {boolean} wasSilent
   * @param {number} seconds of the report
   */
  #isLossy(lost, wasSilent, seconds) {
    const usual = this.#usualLoss;
    if (wasSilent) {
      this.#usualReports = Math.min(this.#usualReports + 1, USUAL_REPORTS);
      this.#usualLoss += (lost - usual) / this.#usualReports;
      return false;
    }
    const packets = PACKETS_S * Math.max(0.2, seconds);
    return lost > usual + 3 * Math.sqrt((usual * (1 - usual)) / packets);
  }

  get #isQueued() {
    const last = this.#delays.at(-1) ?? 0;
    const agree = this.#delays.length === AGREEING && Math.min(...this.#delays) > QUEUE_S;
    return agree || last > LONG_QUEUE_S;
  }

  /**
   * @param {number} roundTripS
   * @param {number} now
   */
  #base(roundTripS, now) {
    const bases = this.#bases;
    const last = bases.at(-1);
    if (!last || now - last.since > BASE_S) bases.push({ since: now, least: roundTripS });
    else last.least = Math.min(last.least, roundTripS);
    while (now - bases[0].since > BASE_S * KEPT_BASES) bases.shift();
    return Math.min(...bases.map(({ least }) => least));
  }
}
