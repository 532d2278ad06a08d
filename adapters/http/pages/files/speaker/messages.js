// Messages from the studio: server-sent events, read by fetch because they need the secret.

import { ApiError, send } from "../shared/api.js";

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {string} text
 * @property {string} at RFC 3339
 */

const FIRST_DELAY_MS = 1000;
const MAX_DELAY_MS = 8000;
/** The server sends at least a comment every 15 s: a stream that is quiet for longer is dead. */
const QUIET_MS = 45_000;
/** More than any event has. */
const MAX_CHARACTERS = 100_000;

/**
 * Listens until the session is over.
 *
 * @param {import("./whip.js").Session} session
 * @param {(message: Message) => void} hear
 * @param {AbortSignal} signal ends it
 */
export async function listen(session, hear, signal) {
  let latest = "";
  let delay = FIRST_DELAY_MS;
  while (!signal.aborted) {
    try {
      await stream(session, latest, signal, (message) => {
        latest = message.id;
        hear(message);
      });
      delay = FIRST_DELAY_MS;
    } catch (error) {
      const status = error instanceof ApiError ? error.status : 0;
      if (signal.aborted || status === 401 || status === 403 || status === 404) return;
      delay = Math.min(2 * delay, MAX_DELAY_MS);
    }
    await pause(delay * (0.5 + Math.random() / 2), signal);
  }
}

/**
 * @param {import("./whip.js").Session} session
 * @param {string} latest the id of the last message
 * @param {AbortSignal} signal
 * @param {(message: Message) => void} hear
 */
async function stream(session, latest, signal, hear) {
  const quiet = new AbortController();
  let timer = setTimeout(() => quiet.abort(), QUIET_MS);
  try {
    const response = await send("GET", `/sessions/${encodeURIComponent(session.id)}/messages`, {
      token: session.secret,
      headers: latest ? { "Last-Event-ID": latest } : {},
      signal: AbortSignal.any([signal, quiet.signal]),
    });
    if (!response.body) return;
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => quiet.abort(), QUIET_MS);
      for (const message of messagesIn(parser.push(value))) hear(message);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Takes server-sent events out of text that comes in any pieces. */
export class EventParser {
  constructor() {
    this.rest = "";
  }

  /**
   * @param {string} text
   * @returns {{ id: string, event: string, data: string }[]}
   */
  push(text) {
    const blocks = (this.rest + text).split(/\r?\n\r?\n/);
    this.rest = (blocks.pop() ?? "").slice(-MAX_CHARACTERS);
    const events = [];
    for (const block of blocks) {
      const fields = { id: "", event: "message", data: "" };
      for (const line of block.split(/\r?\n/)) {
        const [, name, value] = /^(id|event|data): ?(.*)$/.exec(line) ?? [];
        if (name === "data") fields.data += (fields.data && "\n") + value;
        else if (name === "id" || name === "event") fields[name] = value;
      }
      if (fields.data) events.push(fields);
    }
    return events;
  }
}

/**
 * @param {{ id: string, event: string, data: string }[]} events
 * @returns {Message[]}
 */
function messagesIn(events) {
  const found = [];
  for (const { id, event, data } of events) {
    if (event !== "message") continue;
    const { text, at } = JSON.parse(data);
    found.push({ id, text: String(text), at: String(at) });
  }
  return found;
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
