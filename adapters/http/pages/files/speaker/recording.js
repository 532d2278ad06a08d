// One recording of the page: its microphone, its copy, its connection; from the button to the end.

import { listen } from "./messages.js";
import { connectionFor, sessionFor } from "./publish.js";
import { endSession } from "./whip.js";

/** @typedef {import("./capture.js").Capture} Capture */
/** @typedef {import("./capture.js").CaptureEvent} CaptureEvent */
/** @typedef {import("./spool.js").Spool} Spool */
/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Outcome} Outcome */
/** @typedef {import("./whip.js").Session} Session */

/** How often the live sound is looked at: there is no event for it. */
const FIGURES_MS = 1000;
/** More messages than anybody reads again. */
const MAX_MESSAGES = 20;

/** Records until it is stopped, whatever the network does. */
export class Recording {
  /**
   * @param {object} parts
   * @param {Capture} parts.capture
   * @param {Spool | null} parts.spool null where the browser can keep nothing
   * @param {import("./sdp.js").Mode} parts.mode
   * @param {import("./invitation.js").Invitation} parts.invitation
   * @param {(changes: Partial<State>) => void} parts.show
   */
  constructor({ capture, spool, mode, invitation, show }) {
    this.capture = capture;
    this.spool = spool;
    this.token = invitation.token;
    this.show = show;
    this.startedAt = performance.now();
    this.elapsedS = 0;
    /** @type {import("./messages.js").Message[]} */
    this.messages = [];
    /** @type {string | undefined} the microphone that was taken away last */
    this.gone = undefined;
    this.ending = new AbortController();
    this.published = {
      mode,
      token: invitation.token,
      // what the token says of them counts, and only it
      name: invitation.token ? "" : invitation.name,
      room: invitation.token ? "" : invitation.room,
      spool: async () => (spool ? await spool.offer() : null),
    };
    this.connection = connectionFor({ ...this.published, stream: capture.stream });
    /** @type {Promise<Session | null>} null if the server refuses, or is never reached */
    this.opened = Promise.resolve(null);
  }

  /**
   * Begins. The sound is kept from now on, whether the server can be reached or not.
   *
   * @param {Session | null} session the one to go on with
   */
  async start(session) {
    const { capture, spool, connection } = this;
    if (spool) {
      spool.onprogress = (progress) => this.#progressed(progress);
      spool.onevent = (event) => this.happened(event);
      await capture.keep(spool.port);
    }
    connection.onchange = (condition) => {
      this.show({ connection: condition });
      if (condition.state !== "live") spool?.network(null);
    };
    this.opened = new Promise((resolve) => {
      const known = (/** @type {Session} */ found) => {
        resolve(found);
        this.#sessionKnown(found);
      };
      if (session) known(session);
      else connection.onsession = known;
      this.ran = connection.run(session).then(() => resolve(connection.session));
    });
    this.timer = setInterval(() => this.#look(), FIGURES_MS);
  }

  /**
   * The reason why the server has never let it begin; null if it has, or may yet. What was said
   * while the server could not be asked is not thrown away, whatever it answers then.
   */
  get refusal() {
    const { condition, session, offers } = this.connection;
    const { state, status = 0, detail = "" } = condition;
    const isKept = this.spool !== null && offers > 1;
    return state === "refused" && !session && !isKept ? { status, detail } : null;
  }

  /**
   * Shows and keeps what has happened to the microphone.
   *
   * @param {CaptureEvent} event
   * @param {{ isWanted?: boolean }} [options] whether the speaker has done that
   */
  happened(event, { isWanted = false } = {}) {
    // the spool has noted its own already
    if (event.type !== "stall") this.spool?.note(event);
    const { text, seconds } = event;
    const byPage = event.type === "mute" && text !== undefined;
    if (isWanted) this.show({ incident: null });
    else if (event.type === "ended") {
      this.gone = text;
      this.show({ incident: { type: "ended", text } });
    } else if (event.type === "microphone" && text === this.gone)
      this.show({ incident: { type: "back" } });
    else if (event.type === "mute" && !byPage) this.show({ incident: { type: "mute" } });
    else if (event.type === "interrupted") this.show({ incident: { type: "interrupted" } });
    else if (event.type === "microphone") this.show({ incident: { type: "other", text } });
    else if (event.type === "stall") this.show({ incident: { type: "stall", seconds } });
    else if (event.type === "unmute" && text === undefined) this.show({ incident: null });
    else if (event.type === "resumed")
      this.show({ incident: seconds && seconds >= 1 ? { type: "stall", seconds } : null });
  }

  /** @param {string} id */
  dismiss(id) {
    this.messages = this.messages.filter((message) => message.id !== id);
    this.show({ messages: this.messages });
  }

  /**
   * Stops capturing, and sends what the server does not have yet, for as long as that takes.
   *
   * @returns {Promise<Outcome>}
   */
  async stop() {
    const { capture, connection, spool } = this;
    clearInterval(this.timer);
    const isReached = connection.session !== null;
    // the last words may still be on their way through the browser; a broken worker knows of none
    await spool?.heard().catch(() => {});
    // nothing is sent live that the copy has not: the end of both is that of the recording
    if (spool && isReached) {
      connection.close();
      await this.ran;
    }
    await capture.keep(null);
    if (spool || !isReached) await capture.close();
    if (!spool && !isReached) connection.close();
    // without a session nobody takes the rest: wait until the server can be reached
    const session = await this.opened;
    if (session) await endSession(session, this.token);
    await this.#close();
    spool?.network(null);
    if (spool && session) return await outcomeOf(spool, this.published);
    // refused without a session; what it has is written to its end
    await spool?.finish();
    const state = spool ? "owed" : session ? "live" : "lost";
    const { detail } = connection.condition;
    return { state, seconds: this.elapsedS, sha256: null, detail };
  }

  /** Lets go of everything, and throws the copy away: nothing has begun. */
  async cancel() {
    await this.#close();
    await this.spool?.close();
  }

  async #close() {
    clearInterval(this.timer);
    this.ending.abort();
    this.connection.close();
    await this.ran;
    await this.capture.close();
  }

  /** @param {Session} session */
  #sessionKnown(session) {
    // without its id the server takes no pieces, and has no messages
    if (!session.id) return;
    this.spool?.attach(session).catch((error) => console.error(error));
    const hear = (/** @type {import("./messages.js").Message} */ message) => {
      this.messages = [...this.messages, message].slice(-MAX_MESSAGES);
      this.show({ messages: this.messages });
    };
    // a session that is over has no messages: browsers take some seconds to notice its end
    const { signal } = this.ending;
    listen(session, hear, signal)
      .then(() => signal.aborted || this.connection.doubt())
      .catch((error) => console.error(error));
  }

  /** @param {import("./spool.js").Progress} progress */
  #progressed({ capturedS, safeS, owedS, state, kept, ended, reason }) {
    this.elapsedS = capturedS;
    this.show({
      elapsedS: capturedS,
      safeS,
      owedS,
      keeping: ended || state === "off" ? "none" : kept,
    });
    if (ended === "full") this.show({ incident: { type: "full" } });
    else if (state === "failed") this.show({ incident: { type: "quiet", text: reason } });
  }

  async #look() {
    const { connection, spool } = this;
    if (!spool) {
      this.elapsedS = (performance.now() - this.startedAt) / 1000;
      this.show({ elapsedS: this.elapsedS });
    }
    const link = /** @type {import("./whip.js").Publication | null} */ (connection.link);
    if (!link || connection.condition.state !== "live") return;
    const { roundTripS, lost } = await link.figures();
    spool?.network({ roundTripS, lost: lost ?? 0 });
  }
}

/**
 * Sends what is owed of a spool, and says how that has ended. If the server has forgotten its session
 * (it waits for ten minutes for one without any sound), another one takes all of it.
 *
 * @param {Spool} spool
 * @param {Omit<import("./whip.js").Published, "stream"> | null} published null if none may be opened
 * @returns {Promise<Outcome>}
 */
export async function outcomeOf(spool, published) {
  let finished = await spool.finish();
  const session = finished.isForgotten && published ? await sessionFor(published) : null;
  if (session) {
    await spool.renew(session);
    finished = await spool.finish();
  }
  const { state, reason, sha256, length, isSame } = finished;
  const seconds = length / spool.sampleRate;
  if (state === "off") return { state: "live", seconds, sha256: null };
  if (state !== "complete") return { state: "owed", seconds, sha256: null, detail: reason };
  return { state: "safe", seconds, sha256: isSame ? sha256 : null };
}
