// Keeps what is captured and sends it; see ../speaker/spool.js for what it is asked.

import { heard } from "./heard.js";
import { read as readJournal, written } from "./journal.js";
import { Kept } from "./kept.js";
import { SpoolBusy, listStores, openStore, removeStore } from "./store.js";
import { Uploads } from "./uploads.js";

/** @typedef {import("./terms.js").Owed} Owed */
/** @typedef {import("./terms.js").Progress} Progress */
/** @typedef {import("./terms.js").Description} Description */
/** @typedef {import("./terms.js").Block} Block */

const PROGRESS_MS = 250;
/** How often the browser is asked how much room there is. */
const ROOM_MS = 10_000;
/** How long the last block may take that the worklet has sent. */
const LAST_BLOCK_MS = 1000;
/** How long a browser may take to let go of the files of a page that was killed. */
const GOING_S = 2;

/** @type {Kept | null} */
let kept = null;
/** @type {Uploads | null} */
let uploads = null;
/** @type {MessagePort | null} */
let port = null;
let soundEnds = withResolver();
/** @type {number | null} */
let leftS = null;
let askedRoomAt = -Infinity;
let toldAt = -Infinity;

/** What may be asked, by name. @type {Record<string, (value: any) => unknown>} */
const TASKS = {
  async begin({ port, ...description }) {
    const id = newId();
    const store = await openStore(id, { isNew: true });
    store.note(written({ begun: { id, startedAt: new Date().toISOString(), ...description } }));
    return start(new Kept(store), port);
  },
  async resume({ id, port }) {
    const spool = await open(id);
    spool.begin();
    return start(spool, port);
  },
  async send({ id }) {
    return start(await open(id), null);
  },
  ready() {},
  offer() {
    const { description, startedAt } = here();
    return {
      position: here().lengthAt(Date.now() / 1000),
      sample_rate_hz: description.sampleRate,
      channels: description.channels,
      sample_format: "s16",
      restore: "all",
      started_at: startedAt,
    };
  },
  attach(session) {
    if (!here().session) here().renew(session);
    uploads?.begin();
  },
  renew(session) {
    here().renew(session);
  },
  note({ type, at, seconds, text }) {
    kept?.noteEvent({ type, at, seconds, text });
    uploads?.hurry();
  },
  network(report) {
    uploads?.network(report);
  },
  heard: ({ untilMs }) => heard(here(), untilMs / 1000),
  async finish() {
    if (port) {
      await Promise.race([soundEnds.promise, wait(LAST_BLOCK_MS)]);
      port.close();
      port = null;
    }
    here().end();
    return await /** @type {Uploads} */ (uploads).finish();
  },
  async close() {
    port?.close();
    uploads?.close();
    const spool = kept;
    kept = null;
    spool?.close();
    if (spool?.isDelivered && spool.kept === "disk") await removeStore(spool.description.id);
  },
  owed,
  async export(value) {
    if (!value) return await here().wav();
    const spool = await open(value.id);
    const wav = await spool.wav();
    spool.close();
    return wav;
  },
  discard: ({ id }) => removeStore(id),
};

addEventListener("message", async ({ data: { asks, what, value } }) => {
  try {
    const answer = await TASKS[what](value);
    if (asks !== undefined) postMessage({ answers: asks, value: answer });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (asks !== undefined) postMessage({ answers: asks, error: reason });
  }
});

/**
 * @param {Kept} spool
 * @param {MessagePort | null} sound
 */
function start(spool, sound) {
  kept = spool;
  kept.onstall = ({ type, at, seconds }) =>
    postMessage({ told: "event", value: { type, at, seconds } });
  uploads = new Uploads(kept);
  uploads.onchange = () => tell(true);
  port = sound;
  if (port)
    port.onmessage = ({ data }) => {
      if (data.end) soundEnds.resolve();
      else take(data);
    };
  uploads.begin();
  tell(true);
  const { description, session } = kept;
  return { ...description, startedAt: kept.startedAt, session };
}

/** @param {Block} block */
function take(block) {
  const spool = here();
  const { ended } = spool;
  spool.add(block);
  try {
    // a little at a time: at the end, not much is left to be hashed
    spool.hash();
  } catch {
    // what cannot be read is told at the end
  }
  tell(spool.ended !== ended);
}

/** @param {string} id */
async function open(id) {
  const store = await openStore(id);
  try {
    return new Kept(store);
  } catch (error) {
    store.close();
    throw error;
  }
}

function here() {
  if (!kept) throw new Error("there is no spool here");
  return kept;
}

/** @param {boolean} isNews something else than that time has passed */
function tell(isNews) {
  if (!kept || !uploads) return;
  const now = performance.now();
  if (now - toldAt < PROGRESS_MS && !isNews) return;
  toldAt = now;
  if (now - askedRoomAt > ROOM_MS) {
    askedRoomAt = now;
    kept.leftS().then((seconds) => (leftS = seconds));
  }
  const rate = kept.description.sampleRate;
  /** @type {Progress} */
  const value = {
    capturedS: kept.length / rate,
    safeS: kept.safe / rate,
    owedS: kept.owed / rate,
    state: uploads.state,
    reason: uploads.reason,
    isReachable: uploads.isReachable,
    kept: kept.kept,
    ended: kept.ended,
    leftS,
  };
  postMessage({ told: "progress", value });
}

/** @returns {Promise<Owed[]>} */
async function owed() {
  const found = await Promise.all((await listStores()).map(left));
  return found.filter((one) => one !== null);
}

/**
 * Returns what is owed of a spool; null if there is nothing, or another page has it.
 *
 * @param {string} id
 * @returns {Promise<Owed | null>}
 */
async function left(id) {
  try {
    const store = await openStore(id, { patienceS: GOING_S });
    const known = readJournal(store.journal());
    if (!known || !store.size || known.delivered) {
      store.close();
      await removeStore(id);
      return null;
    }
    const spool = new Kept(store);
    const { description, session, startedAt, isEnded, length, owed } = spool;
    spool.close();
    const { sampleRate: rate } = description;
    return {
      ...description,
      startedAt,
      seconds: length / rate,
      owedS: owed / rate,
      session,
      isEnded,
    };
  } catch (error) {
    // of others than busy ones, the next may be read all the same
    if (!(error instanceof SpoolBusy)) console.warn(`the spool ${id} cannot be read`, error);
    return null;
  }
}

/** An id that sorts by time. */
function newId() {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  return `${time}-${crypto.randomUUID().slice(0, 8)}`;
}

/** @param {number} ms */
function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function withResolver() {
  /** @type {() => void} */
  let resolve = () => {};
  const promise = new Promise((resolved) => (resolve = () => resolved(undefined)));
  return { promise, resolve };
}
