// Requests of a spool to its server.

/** Statuses of a server or gateway that is busy, full or restarting. */
const TEMPORARY = [408, 425, 429, 500, 502, 503, 504, 507];
const FIRST_S = 0.5;
const LONGEST_S = 8;
/** A server may be asked to be left alone for so long, and not longer. */
const LONGEST_ASKED_S = 120;

/** The server was not reached, or cannot answer now: it may do so later. */
export class Unreachable extends Error {
  /**
   * @param {string} reason
   * @param {number} [retryAfterS] what the server asks for
   */
  constructor(reason, retryAfterS = 0) {
    super(reason);
    this.retryAfterS = retryAfterS;
  }
}

/** The server does not want what it was asked, also later. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} reason in the server's words
   */
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/**
 * Sends a request. Answers 2xx, and 409, are returned with their JSON (null if they have none).
 *
 * @param {string} method
 * @param {string} path
 * @param {{ secret: string, headers?: Record<string, string>, body?: BodyInit, signal: AbortSignal,
 *   timeoutS: number }} options
 * @returns {Promise<{ status: number, body: any }>}
 * @throws {Unreachable}
 * @throws {Refused}
 */
export async function ask(method, path, { secret, headers = {}, body, signal, timeoutS }) {
  const timeout = AbortSignal.timeout(timeoutS * 1000);
  /** @type {Response} */
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { Authorization: `Bearer ${secret}`, ...headers },
      credentials: "omit",
      cache: "no-store",
      // browsers without `any` end a request that nobody waits for when its time is over
      signal: AbortSignal.any?.([signal, timeout]) ?? timeout,
    });
    text = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    throw new Unreachable(error instanceof Error ? error.message : String(error));
  }
  const { status } = response;
  const found = parsed(text);
  if (response.ok || status === 409) {
    // a login page of a network answers everything
    if (text && found === null) throw new Unreachable("the answer is not the server's");
    return { status, body: found };
  }
  const reason = String(found?.error ?? found?.detail ?? `status ${status}`);
  if (status >= 400 && status < 500 && !TEMPORARY.includes(status))
    throw new Refused(status, reason);
  throw new Unreachable(reason, retryAfter(response));
}

/** Delays between repetitions. */
export class Backoff {
  #next = FIRST_S;

  /**
   * Returns seconds to wait: what the server asks for, and more, so that clients that were told the
   * same do not come back all at once.
   *
   * @param {number} [askedS]
   */
  next(askedS = 0) {
    const delay = this.#next * (0.5 + 0.45 * Math.random());
    this.#next = Math.min(this.#next * 2, LONGEST_S);
    return Math.min(askedS, LONGEST_ASKED_S) + delay;
  }

  reset() {
    this.#next = FIRST_S;
  }
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {Response} response */
function retryAfter(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? 0);
  return Number.isFinite(seconds) && seconds > 0 ? seconds : 0;
}
